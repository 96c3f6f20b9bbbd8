"""
Starting centres from samples: k-means++ and Lloyd's algorithm on a few rows, then on more, so that few steps are left
for all rows.

Seeds drawn from a sample are worse than seeds drawn from all rows, but Lloyd's steps on the sample are so cheap that
several starts can be taken to their ends there and the best one kept: Bradley & Fayyad (1998), with samples that grow
as in nested mini-batches (Newling & Fleuret 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

import numpy as np

from nbgrid.kmeans._data import Data, measure
from nbgrid.kmeans._iterate import Clustering, Passes, lloyd
from nbgrid.kmeans._plusplus import seed
from nbgrid.kmeans._threads import Workers
from nbgrid.kmeans._tree import grow
from nbgrid.kmeans._typing import Floats

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

# Bytes of rows and of their numbers that are drawn at once: those of a whole sample would double what it holds.
BLOCK = 2**20

# Steps on a sample at most; what they leave is done on the next.
MAX_ITER = 100


def samples(
    data: Data, n_clusters: int, random_state: np.random.RandomState, workers: Workers
) -> Sequence[Callable[[], Data]]:
    """
    Return what draws each sample of *data*, the smallest first; none where there are too few rows for samples to save anything.

    All of them together are a sixth of the data, so that whoever needs one at a time draws one at a time.
    """
    dear = data.X.size * n_clusters > DEAR
    least = max(LEAST_ROWS, (FEW_ROWS_PER_CLUSTER if dear else ROWS_PER_CLUSTER) * n_clusters)
    sizes = []
    size = len(data.X) // LARGEST
    while size >= least:
        sizes.append(size)
        size //= GROWTH
    seeds = random_state.randint(np.iinfo(np.int32).max, size=len(sizes))
    return [partial(_sample, data, size, seed, workers) for size, seed in zip(sizes, seeds, strict=True)][::-1]


def _sample(data: Data, size: int, seed: int, workers: Workers) -> Data:
    """
    Return *size* rows in order: systematic sampling by weight, one from each of as many equal stretches.
    """
    random_state = np.random.RandomState(seed)
    edges = np.cumsum(data.weight) if data.weight.size else np.empty(0)
    last = int(np.flatnonzero(data.weight)[-1]) if data.weight.size else len(data.X) - 1
    X = np.empty((size, data.X.shape[1]), dtype=data.X.dtype)
    rows = max(1, BLOCK // (X.itemsize * X.shape[1] + 24))
    for start in range(0, size, rows):
        stop = min(start + rows, size)
        places = (np.arange(start, stop) + random_state.uniform(size=stop - start)) / size
        found = np.searchsorted(edges, places * edges[-1], side="right") if edges.size else places * len(data.X)
        X[start:stop] = data.X[np.minimum(found.astype(np.intp), last)]
    return measure(X, np.empty(0), workers)


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
    draws = samples(data, n_clusters, random_state, workers)
    if not draws and n_clusters >= TREE_FROM and len(data.X) >= ROWS_OF_A_TREE * n_clusters and not data.weight.size:
        return grow(data, n_clusters, random_state, workers).cut(n_clusters)
    if not draws:
        return data.X[seed(data.X, data.weight, n_clusters, random_state, workers)]
    first = draws[0]()
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
    del first, best
    for draw in draws[1:]:
        centers = settled(draw(), centers, tol, workers, deadline=deadline).centers
    return centers
