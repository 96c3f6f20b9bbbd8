"""
Lloyd's iterations over slabs: what a step needs besides its kernels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nbgrid.kmeans._data import Data
from nbgrid.kmeans._lloyd import BOUNDS, NEW_BOUNDS, NO_BOUNDS, SPREAD_LEFT, gather, move, residuals, step
from nbgrid.kmeans._small import iterate
from nbgrid.kmeans._threads import Workers, slabs
from nbgrid.kmeans._typing import Float64s, Floats, Indices, Labels

# Prefixes of ranked centres from here on (50 000 x 100, k=500: 1.1 times as fast): of fewer, a row is compared with all in
# less time than it takes to find with which it need not be (300 000 x 16, k=64: 0.6 times as fast).
PREFIXES_FROM = 256

# Bounds cost 8 bytes a row, which may be a fifth of the data at most, and a look at every row's in every step, which
# must be little beside comparing it.
BOUNDS_SHARE = 5
BOUNDS_FROM = 256

# Keeping a row's bounds takes as long as so many multiplications (95 at 300 000 x 32, k=16; 220 at 300 000 x 16, k=64), so a
# step must save more by them. The first do not, while centres move far; but when so many in a row did not, bounds are left
# alone for two steps, and then, after each further one that did not, for twice as many.
PRICE_OF_BOUNDS = 150
PATIENCE = 3
LONGEST_REST = 8

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


class Slabs:
    """
    The clusters' sums, and how each slab of rows changes them.
    """

    def __init__(self, edges: Indices, n_clusters: int, n_features: int) -> None:
        count = len(edges) - 1
        self.edges = edges
        self.turns = np.zeros(1, dtype=np.intp)
        self.tally = np.zeros((count, 2), dtype=np.intp)
        wanted = count if n_clusters else 0
        self.changes = (
            np.zeros((wanted, n_clusters, n_features)),
            np.zeros((wanted, n_clusters)),
            np.zeros((wanted, n_clusters), dtype=np.intp),
        )
        self.sums = np.zeros((n_clusters, n_features))
        self.totals = np.zeros(n_clusters)
        self.counts = np.zeros(n_clusters, dtype=np.intp)

    def gather(self) -> None:
        """Add the slabs' changes, in order, whichever thread computed them."""
        gather(*self.changes, self.tally, self.sums, self.totals, self.counts)


class Centers:
    """
    Centres, and everything about them that the kernels ask for.
    """

    def __init__(self, public: Floats, shift: Floats, *, prefixes: bool) -> None:
        k, d = public.shape
        dtype = shift.dtype
        self.shift = shift
        self.public = np.array(public, dtype=dtype, order="C")
        self.negative = np.zeros((k, d), dtype)
        self.half = np.empty(k, dtype)
        self.moves = np.zeros(k)
        self.ranked = np.empty((k if prefixes else 0, d), dtype)
        self.ranked_half = self.half
        self.ranking = np.zeros(k, dtype=np.int32)
        self.ranked_moves = self.moves
        # Times ‖x‖² + ‖c‖², more than rounding makes of the difference of two squared distances, each of d + 1
        # multiply-adds: at most 2 (d + 8) ε, and with all but certainty 4 (√d + 4) ε (Higham & Mary 2019, theorem 2.4).
        self.limits = np.array([min(2 * (d + 8), 4 * (np.sqrt(d) + 4)) * np.finfo(dtype).eps, 0.0])
        self.move(np.zeros((k, d)), np.zeros(k))

    def move(self, sums: Float64s, totals: Float64s) -> float:
        """Put the centres on the means of their clusters, and return the sum of their squared moves."""
        total, self.limits[1] = move(sums, totals, self.shift, self.public, self.negative, self.half, self.moves)
        if len(self.ranked):
            order = np.argsort(-self.moves, kind="stable")
            self.ranking = order.astype(np.int32)
            self.ranked, self.ranked_half = self.negative[order], self.half[order]
            self.ranked_moves = self.moves[order]
        else:
            self.ranked_moves = np.sort(self.moves)[::-1].copy()
        return float(total)

    def wide(self) -> Float64s:
        """Return the public centres in float64, less shift."""
        wide: Float64s = self.public.astype(np.float64) - self.shift
        return wide


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The passes over one `Data` that k-means consists of; *shift* is what distances are taken from."""

    data: Data
    shift: Float64s
    n_clusters: int
    workers: Workers

    def edges(self) -> Indices:
        """Return where the slabs start and end."""
        X = self.data.X
        return slabs(len(X), self.n_clusters, X.shape[1], X.itemsize)

    def step(self, centers: Centers, state: _State) -> None:
        """Label every row by the nearest of *centers*; *state* follows."""
        X, weight = self.data.X, self.data.weight
        parts = state.slabs
        parts.turns[0] = 0

        def work() -> None:
            step(
                X, weight, centers.shift, centers.public, centers.negative, centers.half, centers.ranked, centers.ranked_half,
                centers.ranking, centers.moves, centers.ranked_moves, centers.limits, state.bounds, state.labels,
                state.upper, state.lower, *parts.changes, parts.edges, parts.tally, parts.turns,
            )  # fmt: skip

        self.workers.together(work, len(parts.tally))
        if len(parts.sums):
            parts.gather()

    def iterate(
        self, centers: Centers, state: _State, max_iter: int, tol: float, gain: float
    ) -> tuple[int, bool, bool]:
        """Do as `iterate` says; *centers* and *state* follow."""
        parts = state.slabs
        return iterate(
            self.data.X, self.data.weight, centers.shift, centers.public, centers.negative, centers.half, centers.ranking,
            centers.moves, centers.limits, state.labels, state.upper, *parts.changes, parts.edges, parts.tally,
            parts.turns, parts.sums, parts.totals, parts.counts, max_iter, tol, gain, state.whole,
        )  # fmt: skip

    def inertia(
        self, centers: Float64s, labels: Labels, *, shift: Float64s, distances: Float64s = NO_DISTANCES
    ) -> float:
        """
        Return the inertia about *centers* (less *shift*), and set *distances* to each row's squared one if given.
        """
        X, weight = self.data.X, self.data.weight

        def task(_: int, start: int, stop: int) -> float:
            return residuals(X, weight, shift, centers, labels, distances, start, stop)

        return float(sum(self.workers.map(task, self.edges())))

    def assign(self, centers: Floats) -> tuple[Labels, float]:
        """Return the labels that *centers* (as published, not shifted) give, and the inertia."""
        state = _State(self, bounds=False, sums=False)
        self.step(Centers(centers, self.shift.astype(self.data.X.dtype), prefixes=False), state)
        public = centers.astype(np.float64)
        return state.labels, self.inertia(public, state.labels, shift=np.zeros_like(self.shift))


class _State:
    """
    The labels of a run, their bounds, and the sums that they make.
    """

    def __init__(self, passes: Passes, *, bounds: bool, sums: bool = True, always: bool = False) -> None:
        n, d = passes.data.X.shape
        self.slabs = Slabs(passes.edges(), passes.n_clusters if sums else 0, d)
        self.labels: Labels = np.full(n, -1, dtype=np.int32)
        self.bounds = NEW_BOUNDS if bounds else NO_BOUNDS
        self.upper = np.empty(n if bounds else 0, dtype=np.float32)
        self.lower = np.empty(n if bounds else 0, dtype=np.float32)
        self._passes = passes
        self._always = always
        self._rest, self._next_rest, self._patience = 0, 2, PATIENCE

    def decide(self) -> None:
        """Decide, after a step, what the next one does with bounds."""
        if not self.upper.size:
            return
        if self.bounds == NEW_BOUNDS:
            self.bounds = BOUNDS
        elif self.bounds == NO_BOUNDS:
            self._rest -= 1
            self.bounds = NO_BOUNDS if self._rest else NEW_BOUNDS
        elif self._always or self._pays():
            self._next_rest, self._patience = 2, PATIENCE
        elif self._patience > 1:
            self._patience -= 1
        else:
            self.bounds, self._rest = NO_BOUNDS, self._next_rest
            self._next_rest = min(2 * self._rest, LONGEST_REST)

    def _pays(self) -> bool:
        rows, features = self._passes.data.X.shape
        saved = (rows - self.compared) * self._passes.n_clusters * features
        return bool(saved > PRICE_OF_BOUNDS * rows)

    @cached_property
    def whole(self) -> float:
        """The inertia about the shift, of all rows as one cluster."""
        data, shift = self._passes.data, self._passes.shift
        if not data.weight.size:
            return data.spread + len(data.X) * float(((data.mean - shift) ** 2).sum())
        origin = np.zeros((1, len(shift)))
        return self._passes.inertia(origin, np.zeros(len(data.X), dtype=np.int32), shift=shift)

    @property
    def alone(self) -> bool:
        """Whether one slab without bounds is all there is."""
        return len(self.slabs.tally) == 1 and not self.upper.size

    @property
    def changed(self) -> int:
        """How many labels the last step changed."""
        return int(self.slabs.tally[:, 0].sum())

    @property
    def compared(self) -> int:
        """How many rows the last step compared with centres."""
        return int(self.slabs.tally[:, 1].sum())


def bounded(X: Floats, n_clusters: int, algorithm: str) -> bool:
    """
    Return whether a run keeps bounds: where they cost little beside the data and may save more than they cost.
    """
    if algorithm in {"lloyd", "hamerly"}:
        return algorithm == "hamerly"
    d = X.shape[1]
    return n_clusters > 1 and d * X.itemsize >= 8 * BOUNDS_SHARE and n_clusters * d >= BOUNDS_FROM


def lloyd(
    passes: Passes,
    start: Floats,
    *,
    max_iter: int,
    tol: float,
    verbose: bool = False,
    gain: float = 0.0,
    deadline: float | None = None,
    algorithm: str = "auto",
) -> Clustering:
    """
    Return where Lloyd's algorithm comes to from the centres *start*.

    It ends when no label changes, when the centres move by no more than *tol* (squared, summed), after *max_iter*
    steps, as in scikit-learn; also when a step lowers the inertia by less than *gain* of it, and after the step in
    which `time.perf_counter` passes *deadline*. Labels and inertia are those of the centres that are returned.
    """
    data = passes.data
    bounds = bounded(data.X, passes.n_clusters, algorithm)
    prefixes = bounds and passes.n_clusters >= PREFIXES_FROM
    centers = Centers(start, passes.shift.astype(data.X.dtype), prefixes=prefixes)
    # With prefixes even a step that compares every row compares it with few centres.
    state = _State(passes, bounds=bounds, always=prefixes or algorithm == "hamerly")
    if verbose:
        _say(f"{'Bounds on' if bounds else 'No bounds on'} {len(data.X)} rows{', prefixes' if prefixes else ''}.")
    converged = stale = late = False
    n_iter = 0
    before = np.inf
    quick = state.alone and deadline is None and not verbose
    while n_iter < max_iter and not converged and not late:
        if quick:
            steps, converged, stale = passes.iterate(centers, state, max_iter - n_iter, tol, gain)
            n_iter += steps
            if converged or stale:
                continue
        else:
            n_iter += 1
            passes.step(centers, state)
            state.decide()
        sums, totals = _filled(passes, centers, state)
        still = state.changed == 0 and sums is state.slabs.sums
        moved = 0.0 if still else centers.move(sums, totals)
        stale = moved > 0
        converged = state.changed == 0 or moved <= tol
        late = deadline is not None and time.perf_counter() > deadline
        if verbose or gain:
            inertia = _inertia(passes, centers, state)
            converged = converged or before - inertia < gain * inertia
            before = inertia
        if verbose:
            _say(
                f"Iteration {n_iter}, inertia {inertia}, {state.changed} labels changed, {state.compared} rows compared."
            )
    if stale:
        passes.step(centers, state)
    return Clustering(centers.public, state.labels, _inertia(passes, centers, state), n_iter, converged)


def _say(line: str) -> None:
    print(line)  # noqa: T201  # asked for


def _inertia(passes: Passes, centers: Centers, state: _State) -> float:
    """Return the inertia as `remaining` does, every row of which by all threads."""
    wide, slabs = centers.wide(), state.slabs
    rest = state.whole - 2 * float((wide * slabs.sums).sum()) + float(slabs.totals @ (wide**2).sum(axis=1))
    if rest > SPREAD_LEFT * state.whole:
        return rest
    return passes.inertia(wide, state.labels, shift=passes.shift)


def _filled(passes: Passes, centers: Centers, state: _State) -> tuple[Float64s, Float64s]:
    """
    Return the clusters' sums and weights with every empty cluster given one of the rows farthest from their centres.

    As scikit-learn does it; but a cluster that gives its last row away is empty and not a rounding error, and a row
    without weight is never chosen. The state itself keeps what its labels make.
    """
    slabs = state.slabs
    empty = np.flatnonzero(slabs.counts == 0)
    if not len(empty):
        return slabs.sums, slabs.totals
    data, labels = passes.data, state.labels
    distances = np.empty(len(labels))
    passes.inertia(centers.wide(), labels, shift=passes.shift, distances=distances)
    if data.weight.size:
        distances[data.weight == 0] = 0
    farthest = np.argpartition(distances, -len(empty))[: -len(empty) - 1 : -1]
    useful = distances[farthest] > 0  # else there are more clusters than distinct rows
    sums, totals, counts = slabs.sums.copy(), slabs.totals.copy(), slabs.counts.copy()
    for row, j in zip(farthest[useful], empty[useful], strict=True):
        weight = data.weight[row] if data.weight.size else 1.0
        value = weight * (data.X[row].astype(np.float64) - passes.shift)
        for cluster, sign in ((labels[row], -1), (j, 1)):
            sums[cluster] += sign * value
            totals[cluster] += sign * weight
            counts[cluster] += sign
    gone = counts == 0
    # A cluster that stays empty is put upon the heaviest, as in scikit-learn: it must be somewhere.
    heaviest = int(np.argmax(np.where(gone, 0, totals)))
    sums[gone], totals[gone] = sums[heaviest], totals[heaviest]
    return sums, totals
