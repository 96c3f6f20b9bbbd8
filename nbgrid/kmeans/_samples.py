"""
Starting centres from samples: k-means++ and Lloyd's algorithm on a few rows, then on more, so that few steps are left
for all rows.

Seeds drawn from a sample are worse than seeds drawn from all rows, but Lloyd's steps on the sample are so cheap that
several starts can be taken to their ends there and the best one kept: Bradley & Fayyad (1998), with samples that grow
as in nested mini-batches (Newling & Fleuret 2016).
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from nbgrid.kmeans._data import Data, measure
from nbgrid.kmeans._iterate import Clustering, Passes, lloyd
from nbgrid.kmeans._plusplus import seed
from nbgrid.kmeans._threads import Workers
from nbgrid.kmeans._tree import grow
from nbgrid.kmeans._typing import Floats, Indices

# The largest sample is this part of the data, and each smaller one this part of the next.
LARGEST, GROWTH = 8, 4

# Rows of the smallest sample at least. With 200 a cluster the clusterings end below those from greedy k-means++ on all
# rows (by 0.3 % at 470 000 x 2, k=190), with 70 on a par, with 20 up to 0.3 % above at two features and below at 400:
# few are taken where a pass over all rows costs so much (multiplications) that seeds from all of them would cost minutes.
ROWS_PER_CLUSTER, FEW_ROWS_PER_CLUSTER = 200, 20
LEAST_ROWS = 2000
DEAR = 10**10

# From so many clusters on, Ward's tree over all rows makes better starts than greedy k-means++ and makes them sooner
# (60 000 x 14, k=1006: 0.7 % less inertia, 0.4 s against 2.4 s); where there are rows enough for a tree.
TREE_FROM = 16
ROWS_OF_A_TREE = 20

# Starts by k-means++ on the smallest sample, beside Ward's: as many as together cost about four passes over all rows,
# when each costs some 40 passes over the sample.
PASSES_OF_STARTS, PASSES_OF_A_START = 4, 40
MOST_STARTS = 3

# Steps on a sample at most; what they leave is done on the next.
MAX_ITER = 100


def samples(data: Data, n_clusters: int, random_state: np.random.RandomState, workers: Workers) -> list[Data]:
    """
    Return samples of *data*, the smallest first; none where there are too few rows for samples to save anything.
    """
    dear = data.X.size * n_clusters > DEAR
    least = max(LEAST_ROWS, (FEW_ROWS_PER_CLUSTER if dear else ROWS_PER_CLUSTER) * n_clusters)
    sizes = []
    size = len(data.X) // LARGEST
    while size >= least:
        sizes.append(size)
        size //= GROWTH
    return [measure(data.X[_drawn(data, size, random_state)], np.empty(0), workers) for size in reversed(sizes)]


def _drawn(data: Data, size: int, random_state: np.random.RandomState) -> Indices:
    """
    Return *size* rows in order: systematic sampling by weight, one from each of as many equal stretches.
    """
    places = (np.arange(size) + random_state.uniform(size=size)) / size
    if not data.weight.size:
        return np.minimum((places * len(data.X)).astype(np.intp), len(data.X) - 1)
    edges = np.cumsum(data.weight)
    found = np.searchsorted(edges, places * edges[-1], side="right")
    rows: Indices = np.minimum(found, int(np.flatnonzero(data.weight)[-1])).astype(np.intp)
    return rows


def passes_over(data: Data, n_clusters: int, workers: Workers) -> Passes:
    """Return the passes over *data* with distances taken from its mean."""
    shift = data.mean.astype(data.X.dtype).astype(np.float64)
    return Passes(data=data, shift=shift, n_clusters=n_clusters, workers=workers)


def settled(
    data: Data,
    start: Floats,
    tol: float,
    workers: Workers,
    *,
    max_iter: int = MAX_ITER,
    gain: float = 0.0,
    deadline: float | None = None,
) -> Clustering:
    """
    Return where Lloyd's algorithm comes to on a sample; *tol* is relative to its variance.
    """
    passes = passes_over(data, len(start), workers)
    return lloyd(passes, start, max_iter=max_iter, tol=tol * data.variance, gain=gain, deadline=deadline)


def starting_centers(
    data: Data,
    n_clusters: int,
    tol: float,
    random_state: np.random.RandomState,
    workers: Workers,
    *,
    deadline: float | None = None,
) -> Floats:
    """
    Return centres to start from, (k, d): seeds by greedy k-means++, refined on samples where there are rows enough.

    After `time.perf_counter` has passed *deadline* each sample gets one step, and no further start is tried.
    """
    levels = samples(data, n_clusters, random_state, workers)
    if not levels and n_clusters >= TREE_FROM and len(data.X) >= ROWS_OF_A_TREE * n_clusters and not data.weight.size:
        return grow(data, n_clusters, random_state, workers).cut(n_clusters)
    if not levels:
        return data.X[seed(data.X, data.weight, n_clusters, random_state, workers)]
    first = levels[0]
    cut = grow(first, n_clusters, random_state, workers).cut(n_clusters)
    best = settled(first, cut, tol, workers, deadline=deadline)
    afford = PASSES_OF_STARTS * len(data.X) // (PASSES_OF_A_START * len(first.X))
    for _ in range(min(MOST_STARTS, afford)):
        if deadline is not None and perf_counter() > deadline:
            break
        chosen = first.X[seed(first.X, first.weight, n_clusters, random_state, workers)]
        found = settled(first, chosen, tol, workers, deadline=deadline)
        best = found if found.inertia < best.inertia else best
    centers = best.centers
    for level in levels[1:]:
        centers = settled(level, centers, tol, workers, deadline=deadline).centers
    return centers
