"""
The gap statistic's references: data without clusters, and how well k-means does on them.

Tibshirani, Walther & Hastie (2001): a clustering's log inertia is compared with what rows drawn uniformly from a box
around the data would give, (a) a box along the features, or (b) one along the principal components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbgrid.kmeans._typing import Float64s, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Where references are drawn from."""

    low: Float64s
    high: Float64s
    axes: Float64s | None
    """(d, d): the directions of its edges, in columns; None where they are the features'."""

    middle: Float64s
    """What they pass through."""

    def draw(self, n: int, random_state: np.random.RandomState) -> Float64s:
        """Return *n* rows, each point of the box as likely as any other."""
        inside: Float64s = random_state.uniform(self.low, self.high, size=(n, len(self.low)))
        return self.middle + (inside if self.axes is None else inside @ self.axes.T)


def box(X: Floats, *, aligned: bool) -> Box:
    """
    Return the smallest box around the rows of *X* along its features, or, *aligned*, along its principal components.
    """
    middle: Float64s = X.mean(axis=0, dtype=np.float64)
    inside, axes = X - middle, None
    if aligned:
        _, axes = np.linalg.eigh(inside.T @ inside)
        inside = inside @ axes
    return Box(low=inside.min(axis=0), high=inside.max(axis=0), axes=axes, middle=middle)


def gaps(inertias: Float64s, references: Float64s) -> tuple[Float64s, Float64s]:
    """
    Return the gap for each k, and the standard error that the rule allows, from the references' inertias, (b, k).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(references)
        gap: Float64s = logs.mean(axis=0) - np.log(inertias)
        # Section 3, step 3: the simulation's own error is counted in.
        error: Float64s = logs.std(axis=0) * np.sqrt(1 + 1 / len(logs))
    return gap, error
