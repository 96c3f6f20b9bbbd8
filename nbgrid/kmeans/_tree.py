"""
Seeds for any number of clusters: many small clusters of a sample, and Ward's tree over them.

The small clusters come from k-means‖ (Bahmani et al. 2012, algorithm 2): a few rounds, each of which draws many rows by
their squared distance from those drawn before. Where its authors cluster what was drawn by weighted k-means++, here
a few of Lloyd's steps and Ward's mergers do so, which loses less (Baldassi 2022: PNN smoothing), and one tree, cut at
several heights, seeds every number of clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbgrid.kmeans._compare import squared_distances
from nbgrid.kmeans._data import Data
from nbgrid.kmeans._iterate import Centers, Passes, lloyd
from nbgrid.kmeans._threads import Workers
from nbgrid.kmeans._typing import Float64s, Floats, Indices
from nbgrid.kmeans._ward import ward

# Rounds of drawing: Bahmani et al. find five enough.
ROUNDS = 5

# Small clusters for each that is wanted, at least in all, and rows in each at least, on the mean.
SMALL_PER_CLUSTER = 3
LEAST_SMALL = 128
ROWS_PER_SMALL = 6

# Lloyd's steps that the small clusters get: the first moves a cluster from a row to a mean, and that is most of it.
STEPS = 2


@dataclass(frozen=True, slots=True)
class Tree:
    """Ward's tree over the small clusters of a sample."""

    centers: Float64s
    """(m, d): those of the small clusters."""

    sizes: Float64s
    """(m,): their numbers of rows."""

    pairs: Indices
    """(m - 1, 2): the mergers, the least costly first."""

    dtype: np.dtype[np.floating]

    def cut(self, n_clusters: int) -> Floats:
        """Return the centres, (n_clusters, d), of the clusters that are left when so many are."""
        parent = np.arange(len(self.sizes))
        for first, second in self.pairs[: len(self.sizes) - n_clusters]:
            parent[_root(parent, second)] = _root(parent, first)
        roots = np.array([_root(parent, j) for j in range(len(parent))])
        found, member = np.unique(roots, return_inverse=True)
        sizes = np.bincount(member, weights=self.sizes)
        sums = np.zeros((len(found), self.centers.shape[1]))
        np.add.at(sums, member, self.centers * self.sizes[:, np.newaxis])
        centers: Floats = (sums / sizes[:, np.newaxis]).astype(self.dtype)
        return centers


def grow(data: Data, n_clusters: int, random_state: np.random.RandomState, workers: Workers) -> Tree:
    """
    Return the tree over a sample's small clusters, of which there are at least *n_clusters*.
    """
    wanted = min(max(SMALL_PER_CLUSTER * n_clusters, LEAST_SMALL), len(data.X) // ROWS_PER_SMALL)
    drawn = _drawn(data, max(wanted, n_clusters), random_state, workers)
    shift = data.mean.astype(data.X.dtype).astype(np.float64)
    passes = Passes(data=data, shift=shift, n_clusters=len(drawn), workers=workers)
    small = lloyd(passes, data.X[drawn], max_iter=STEPS, tol=0.0, algorithm="lloyd")
    sizes = np.bincount(small.labels, minlength=len(drawn)).astype(np.float64)
    held = sizes > 0
    if held.sum() < n_clusters:
        held[:] = True
    centers, sizes = small.centers[held].astype(np.float64), np.maximum(sizes[held], 1e-9)
    pairs = np.empty((len(sizes) - 1, 2), dtype=np.intp)
    heights = np.empty(len(sizes) - 1)
    ward(centers - shift, sizes.copy(), pairs, heights)
    return Tree(centers, sizes, pairs[np.argsort(heights, kind="stable")], data.X.dtype)


def _root(parent: Indices, j: int) -> int:
    while parent[j] != j:
        parent[j] = parent[parent[j]]
        j = int(parent[j])
    return j


def _drawn(data: Data, count: int, random_state: np.random.RandomState, workers: Workers) -> Indices:
    """
    Return the numbers of *count* different rows, drawn in ROUNDS by their squared distance from the rows before.
    """
    n = len(data.X)
    chosen = np.array([random_state.randint(n)])
    nearest = np.full(n, np.inf, dtype=data.X.dtype)
    fresh = chosen
    for left in range(ROUNDS, 0, -1):
        _nearer(data, data.X[fresh], nearest, workers)
        nearest[chosen] = 0
        edges = np.cumsum(nearest, dtype=np.float64)
        if edges[-1] <= 0:
            break
        size = -(-(count - len(chosen)) // left)
        places = (np.arange(size) + random_state.uniform(size=size)) / size * edges[-1]
        fresh = np.unique(np.minimum(np.searchsorted(edges, places, side="right"), n - 1))
        chosen = np.union1d(chosen, fresh)
    if len(chosen) < count:
        rest = np.setdiff1d(np.arange(n), chosen, assume_unique=True)
        chosen = np.union1d(chosen, random_state.choice(rest, count - len(chosen), replace=False))
    return chosen


def _nearer(data: Data, points: Floats, nearest: Floats, workers: Workers) -> None:
    """
    Lower *nearest*, each row's squared distance from the points before, to that from *points* where they are nearer.
    """
    shift = data.mean.astype(data.X.dtype)
    centers = Centers(points, shift, prefixes=False)
    passes = Passes(data=data, shift=shift.astype(np.float64), n_clusters=len(points), workers=workers)
    X, negative, half = data.X, centers.negative, centers.half
    workers.map(
        lambda _, start, stop: squared_distances(X, shift, negative, half, nearest, start, stop), passes.edges()
    )
