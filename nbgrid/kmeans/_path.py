"""
The whole path of solutions: k-means for many numbers of clusters, from one set of samples and one tree.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbgrid.kmeans._data import Data
from nbgrid.kmeans._iterate import Clustering, lloyd
from nbgrid.kmeans._plusplus import seed
from nbgrid.kmeans._samples import MAX_ITER, passes_over, samples, settled
from nbgrid.kmeans._threads import Workers
from nbgrid.kmeans._tree import grow
from nbgrid.kmeans._typing import Floats

# Fewer rows make no small clusters to speak of: seeds alone serve them.
LEAST_FOR_TREE = 64


def solve(
    data: Data,
    ks: list[int],
    *,
    max_iter: int,
    tol: float,
    random_state: np.random.RandomState,
    workers: Workers,
) -> Iterator[tuple[int, Clustering]]:
    """
    Yield (k, clustering) for each of *ks*, which ascend; the inertia never rises from one to the next.

    The smallest sample decides where each k starts: from a cut of Ward's tree, from the first k seeds of one run of
    greedy k-means++ to the largest k, or from the solution before and one more centre, whichever ends best there.
    Larger samples and then all rows refine it. A fit ends as scikit-learn's does (*tol* is relative to the variance),
    or when a step lowers the inertia by less than *tol* of it: on a curve over k such steps cannot be seen.
    """
    levels = [draw() for draw in samples(data, ks[-1], random_state, workers)]
    first = levels[0] if levels else data
    tree = grow(first, ks[-1], random_state, workers) if len(first.X) >= max(LEAST_FOR_TREE, 2 * ks[-1]) else None
    seeds = seed(first.X, first.weight, ks[-1], random_state, workers)
    limit = MAX_ITER if levels else max_iter
    coarse: Clustering | None = None
    found: Clustering | None = None
    for k in ks:
        starts = [first.X[seeds[:k]]]
        if tree is not None:
            starts.append(tree.cut(k))
        if coarse is not None:
            starts.append(_extended(first, coarse, k, random_state, workers))
        ends = [settled(first, start, tol, workers, gain=tol, max_iter=limit) for start in starts]
        coarse = min(ends, key=lambda end: end.inertia)
        centers = coarse.centers
        for level in levels[1:]:
            centers = settled(level, centers, tol, workers, gain=tol).centers
        passes = passes_over(data, k, workers)
        now = coarse
        if levels:
            now = lloyd(passes, centers, max_iter=max_iter, tol=tol * data.variance, gain=tol)
        if found is not None and now.inertia > found.inertia:
            start = _extended(data, found, k, random_state, workers)
            now = lloyd(passes, start, max_iter=max_iter, tol=tol * data.variance, gain=tol)
        found = now
        yield k, found


def _extended(
    data: Data, found: Clustering, n_clusters: int, random_state: np.random.RandomState, workers: Workers
) -> Floats:
    """
    Return the centres of *found* and as many rows more as are wanted, drawn by their squared distance from them.
    """
    more = n_clusters - len(found.centers)
    passes = passes_over(data, len(found.centers), workers)
    distances = np.empty(len(data.X))
    passes.inertia(
        found.centers.astype(np.float64), found.labels, shift=np.zeros_like(passes.shift), distances=distances
    )
    edges = np.cumsum(distances * data.weight if data.weight.size else distances)
    places = random_state.uniform(size=more) * edges[-1]
    rows = np.minimum(np.searchsorted(edges, places, side="right"), len(data.X) - 1)
    extended: Floats = np.concatenate([found.centers, data.X[rows]])
    return extended
