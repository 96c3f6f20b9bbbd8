"""
Rules that choose k from curves: pure functions of what was measured for each k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from nbgrid.kmeans._typing import Float64s
from nbgrid.knee import knee

Curves: TypeAlias = Mapping[str, Float64s]
"""What was measured, by name: one value for each k, which ascend."""


class Verdict(NamedTuple):
    """What a rule says of some curves."""

    k: int | None
    reason: str = ""
    """Why there is no k, or what to mind about it."""


Rule: TypeAlias = Callable[[list[int], Curves], Verdict]


def verdict(rule: str, ks: list[int], curves: Curves) -> Verdict:
    """Return what *rule* says of the curves over *ks*."""
    return RULES[rule](ks, curves)


def shortened(curves: Curves, count: int) -> Curves:
    """Return the first *count* points of the curves."""
    return {name: values[:count] for name, values in curves.items()}


def _knee(ks: list[int], curves: Curves) -> Verdict:
    if len(ks) < 3:
        return Verdict(None, "a knee needs three k")
    found = knee(ks, curves["inertia"])
    return Verdict(None, "the inertia has no knee") if found is None else Verdict(int(found))


def _extreme(name: str, sign: int) -> Rule:
    """Return the rule that takes the highest (*sign* 1) or lowest (-1) value of a curve; of several the first."""

    def rule(ks: list[int], curves: Curves) -> Verdict:
        values = sign * curves[name]
        defined = ~np.isnan(values)
        if not defined.any():
            return Verdict(None, "not defined for these k")
        k = ks[int(np.argmax(np.where(defined, values, -np.inf)))]
        return Verdict(k, f"k = {k} is the last of the range" if k == ks[-1] else "")

    return rule


def _gap(name: str) -> Rule:
    """
    Return the rule that takes the first k whose gap is within a standard error of the next one's.

    Tibshirani, Walther & Hastie (2001), section 3, step 3.
    """

    def rule(ks: list[int], curves: Curves) -> Verdict:
        gaps, errors = curves[name], curves[f"{name}_error"]
        for i, k in enumerate(ks[:-1]):
            if gaps[i] >= gaps[i + 1] - errors[i + 1]:
                return Verdict(k)
        return Verdict(None, f"the gap still grows at k = {ks[-1]}")

    return rule


RULES: dict[str, Rule] = {
    "silhouette": _extreme("silhouette", 1),
    "davies_bouldin": _extreme("davies_bouldin", -1),
    "calinski_harabasz": _extreme("calinski_harabasz", 1),
    "knee": _knee,
    "gap": _gap("gap"),
    "gap_pca": _gap("gap_pca"),
    "bic": _extreme("bic", 1),
}
