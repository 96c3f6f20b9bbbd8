"""
`choose_k`: what several rules say about the number of clusters, and how sure each is of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from nbgrid.kmeans._choice import Answer, Choice
from nbgrid.kmeans._rules import RULES, Curves, shortened, verdict
from nbgrid.kmeans._typing import Float64s

if TYPE_CHECKING:
    from nbgrid.kmeans._gap import Box
    from nbgrid.kmeans._resample import Rows
    from nbgrid.kmeans._sweep import Sweep
    from nbgrid.kmeans._threads import Workers

# Reference sets of the gap statistic: the paper's B.
REFERENCES = 10

# With more features no box is laid along the principal axes: finding these would take longer than all the rest.
MOST_FEATURES = 1000

# Shorter ranges have so many k at least: a knee needs three.
SHORTEST = 3


def choose_k(sweep: Sweep, *, n_resamples: int = 10, random_state: Any = None) -> Choice:
    """
    Return what several rules say of *sweep*, each with how often it says so of resamples: a `Choice`.

    The rules are the silhouette (Rousseeuw 1987; of a stratified sample where there are many rows), Davies–Bouldin,
    Caliński–Harabasz, the knee of the inertia (`nbgrid.knee`), BIC, and the gap statistic with a box along the
    features and one along the principal axes (Tibshirani, Walther & Hastie 2001). A resample is four fifths of the
    rows, but at most some thousands, swept anew from seeds of its own; so the time hardly grows with the rows.
    Raises ValueError where the sweep has one k or *n_resamples* is no whole number from 1.
    """
    resamples = _checked(n_resamples)
    if len(sweep) < 2:
        raise ValueError(f"the sweep has one k, {sweep.n_clusters[0]}; sweep over several to choose among them.")
    from nbgrid.kmeans._resample import Rows, curves_of, resample
    from nbgrid.kmeans._threads import Workers

    generator = check_random_state(random_state)
    rows = Rows(X=sweep._rows, weight=sweep._weight, ks=sweep.n_clusters)
    size, seeds = rows.resampled(), _seeds(generator, resamples)
    with Workers() as workers:
        whole, silhouettes = curves_of(rows, list(sweep._fits.values()), generator, workers)
        parts = workers.map(lambda i, *_: resample(rows, size, seeds[i]), np.arange(len(seeds) + 1))
        whole, parts = _with_gaps(rows, whole, parts, generator, workers)
    answers = {rule: _answer(rule, rows.ks, whole, parts) for rule in RULES if rule in {*whole, "knee"}}
    return Choice(
        answers=answers,
        n_clusters=rows.ks,
        n_resamples=len(parts),
        n_rows=size,
        curves=whole,
        silhouettes=silhouettes,
    )


def _checked(n_resamples: Any) -> int:
    if isinstance(n_resamples, bool) or not isinstance(n_resamples, Integral) or n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples!r} should be a whole number from 1.")
    return int(n_resamples)


def _with_gaps(
    rows: Rows, whole: Curves, parts: list[Curves], random_state: np.random.RandomState, workers: Workers
) -> tuple[Curves, list[Curves]]:
    """
    Return the curves with the gaps besides.

    The references have as many rows as a resample may have, and serve all: each resample sees a bootstrap sample of
    them. Where it has fewer rows itself, all its gaps are larger by the same, which the rule does not see.
    """
    from nbgrid.kmeans._gap import box, gaps
    from nbgrid.kmeans._resample import inertias

    like = rows.draw(rows.most(), random_state)
    own = whole["inertia"] if like is rows else inertias(like.swept(random_state, workers))
    boxes = {"gap": box(like.X, aligned=False)}
    if 1 < rows.X.shape[1] <= MOST_FEATURES:
        boxes["gap_pca"] = box(like.X, aligned=True)
    for name, around in boxes.items():
        found = _references(around, like, random_state, workers)
        whole = _joined(whole, name, gaps(own, found))
        seen = [found[random_state.choice(REFERENCES, REFERENCES)] for _ in parts]
        parts = [_joined(part, name, gaps(part["inertia"], some)) for part, some in zip(parts, seen)]
    return whole, parts


def _references(around: Box, like: Rows, random_state: np.random.RandomState, workers: Workers) -> Float64s:
    """Return the inertias of the references, (b, k)."""
    from nbgrid.kmeans._resample import reference

    seeds = _seeds(random_state, REFERENCES)
    return np.array(workers.map(lambda i, *_: reference(around, like, seeds[i]), np.arange(REFERENCES + 1)))


def _joined(curves: Curves, name: str, gap: tuple[Float64s, Float64s]) -> Curves:
    return {**curves, name: gap[0], f"{name}_error": gap[1]}


def _seeds(random_state: np.random.RandomState, count: int) -> list[int]:
    seeds: list[int] = random_state.randint(np.iinfo(np.int32).max, size=count).tolist()
    return seeds


def _answer(rule: str, ks: list[int], whole: Curves, parts: Sequence[Curves]) -> Answer:
    """Return what *rule* says of the curves *whole*, and how stable that is over *parts* and shorter ranges."""
    k, reason = verdict(rule, ks, whole)
    votes = Counter(verdict(rule, ks, part).k for part in parts)
    # A range that stops at k itself could name nothing beyond it.
    counts = [count for count in range(SHORTEST, len(ks)) if k is None or ks[count - 1] > k]
    told = {count: verdict(rule, ks[:count], shortened(whole, count)).k for count in counts}
    agreed = [
        verdict(rule, ks[:count], shortened(part, count)).k == k for part in parts for count in [*counts, len(ks)]
    ]
    return Answer(
        k=k,
        stability=float(np.mean(agreed)),
        votes={other: count for other, count in sorted(votes.items(), key=str) if other is not None},
        shorter={ks[count - 1]: other for count, other in told.items() if other != k},
        reason=reason,
    )
