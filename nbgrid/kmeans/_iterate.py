"""
Lloyd's iterations over slabs: what a step needs besides its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbgrid.kmeans._data import Data
from nbgrid.kmeans._lloyd import accumulate, residuals, step_direct, step_gemm
from nbgrid.kmeans._threads import Workers, single_threaded_blas, slabs
from nbgrid.kmeans._typing import Float64s, Floats, Labels

# Up to here squared differences are taken directly, beyond it BLAS multiplies. Measured on 2 cores of a Xeon with
# AVX-512, one step: 1e6 x 2 float64, k=8: 4.3 ms direct, 5.8 GEMM; 1e6 x 8 float32, k=16: 10.2 and 9.6;
# 500 000 x 26 float32, k=12: 10.9 and 9.6; 100 000 x 100 float64, k=5: 12.2 and 7.3; k=50: 28.1 and 16.4.
# The choice rests on the features alone, so that a model predicts one row as it predicted a million.
DIRECT_FEATURES = 8

NO_SUMS: Float64s = np.empty((0, 0))
NO_TOTALS: Float64s = np.empty(0)
NO_DISTANCES: Float64s = np.empty(0)


@dataclass(frozen=True, slots=True)
class Clustering:
    """Where a run of Lloyd's algorithm ended."""

    centers: Floats
    """(k, d), in the dtype of the data."""

    labels: Labels
    inertia: float
    n_iter: int
    converged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The passes over one `Data` that k-means consists of; *shift* is what distances are taken from."""

    data: Data
    shift: Float64s
    n_clusters: int
    workers: Workers

    def _ranges(self) -> list[tuple[int, int]]:
        return slabs(len(self.data.X), self.n_clusters, self.data.X.shape[1])

    def step(self, centers: Float64s, labels: Labels, *, sums: bool) -> tuple[int, Float64s, Float64s]:
        """
        Label every row by the nearest of *centers* (less shift) and return how many labels changed, the sums and the
        weights of the clusters; the last two are empty unless *sums*.
        """
        X, weight = self.data.X, self.data.weight
        ranges = self._ranges()
        parts = [self._zeros() if sums else (NO_SUMS, NO_TOTALS) for _ in ranges]
        near, shift = centers.astype(X.dtype), self.shift.astype(X.dtype)

        def direct(s: int, start: int, stop: int) -> int:
            return step_direct(X, weight, shift, near, labels, *parts[s], start, stop)

        def gemm(s: int, start: int, stop: int) -> int:
            return step_gemm(X, weight, shift, near, labels, *parts[s], start, stop)

        if X.shape[1] <= DIRECT_FEATURES:
            changed = sum(self.workers.map(direct, ranges))
        else:
            with single_threaded_blas():
                changed = sum(self.workers.map(gemm, ranges))
        return changed, *_added(parts)

    def sums(self, labels: Labels) -> tuple[Float64s, Float64s]:
        """Return the sums and the weights of the clusters that *labels* makes."""
        X, weight, shift = self.data.X, self.data.weight, self.shift.astype(self.data.X.dtype)
        ranges = self._ranges()
        parts = [self._zeros() for _ in ranges]
        self.workers.map(lambda s, start, stop: accumulate(X, weight, shift, labels, *parts[s], start, stop), ranges)
        return _added(parts)

    def inertia(
        self, centers: Float64s, labels: Labels, *, shift: Float64s, distances: Float64s = NO_DISTANCES
    ) -> float:
        """Return the inertia about *centers* (less *shift*), and set *distances* to each row's where it is given."""
        X, weight = self.data.X, self.data.weight

        def task(_: int, start: int, stop: int) -> float:
            return residuals(X, weight, shift, centers, labels, distances, start, stop)

        return float(sum(self.workers.map(task, self._ranges())))

    def assign(self, centers: Floats) -> tuple[Labels, float]:
        """Return the labels that *centers* (as published, not shifted) give, and the inertia."""
        public = centers.astype(np.float64)
        labels = np.full(len(self.data.X), -1, dtype=np.int32)
        self.step(public - self.shift, labels, sums=False)
        return labels, self.inertia(public, labels, shift=np.zeros_like(self.shift))

    def _zeros(self) -> tuple[Float64s, Float64s]:
        return np.zeros((self.n_clusters, self.data.X.shape[1])), np.zeros(self.n_clusters)


def lloyd(passes: Passes, start: Floats, *, max_iter: int, tol: float, verbose: bool = False) -> Clustering:
    """
    Return where Lloyd's algorithm comes to from the centres *start*.

    It ends when no label changes, when the centres move by no more than *tol* (squared, summed), or after *max_iter*
    steps, as in scikit-learn. Labels and inertia are then computed anew from the centres that are returned.
    """
    shift = passes.shift
    centers: Float64s = start.astype(np.float64) - shift
    labels = np.full(len(passes.data.X), -1, dtype=np.int32)
    converged = False
    n_iter = 0
    while n_iter < max_iter and not converged:
        n_iter += 1
        changed, sums, totals = passes.step(centers, labels, sums=True)
        moved = _means(*_relocated(passes, centers, labels, sums, totals))
        converged = changed == 0 or float(((moved - centers) ** 2).sum()) <= tol
        centers = moved
        if verbose:
            inertia = passes.inertia(centers, labels, shift=shift)
            print(f"Iteration {n_iter}, inertia {inertia}, {changed} labels changed.")  # noqa: T201  # asked for
    public: Floats = (centers + shift).astype(passes.data.X.dtype)
    labels, inertia = passes.assign(public)
    return Clustering(public, labels, inertia, n_iter, converged)


def _added(parts: list[tuple[Float64s, Float64s]]) -> tuple[Float64s, Float64s]:
    # In the order of the slabs, whichever thread computed them.
    sums, totals = parts[0]
    for more_sums, more_totals in parts[1:]:
        sums += more_sums
        totals += more_totals
    return sums, totals


def _relocated(
    passes: Passes, centers: Float64s, labels: Labels, sums: Float64s, totals: Float64s
) -> tuple[Float64s, Float64s]:
    """
    Return *sums* and *totals* with every empty cluster given one of the rows that are farthest from their centres.

    As scikit-learn does it; but the sums are made anew and not subtracted from, so that a cluster that gives its last
    row away is empty and not a rounding error, and a row without weight is never chosen.
    """
    empty = np.flatnonzero(totals == 0)
    if not len(empty):
        return sums, totals
    distances = np.empty(len(labels))
    passes.inertia(centers, labels, shift=passes.shift, distances=distances)
    if passes.data.weight.size:
        distances[passes.data.weight == 0] = 0
    farthest = np.argpartition(distances, -len(empty))[: -len(empty) - 1 : -1]
    useful = distances[farthest] > 0  # else there are more clusters than distinct rows
    if not useful.any():
        return sums, totals
    relocated = labels.copy()
    relocated[farthest[useful]] = empty[useful]
    return passes.sums(relocated)


def _means(sums: Float64s, totals: Float64s) -> Float64s:
    # A cluster that stays empty is put upon the heaviest, as in scikit-learn: it must be somewhere.
    centers: Float64s = sums / np.where(totals > 0, totals, 1.0)[:, np.newaxis]
    centers[totals == 0] = centers[np.argmax(totals)]
    return centers
