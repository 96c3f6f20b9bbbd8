"""
Greedy k-means++ seeding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_random_state

from nbgrid.kmeans._checks import checked_n_clusters, checked_weight, enough_rows, refuse_times
from nbgrid.kmeans._typing import Float64s, Floats, Indices


def kmeans_plusplus(
    X: ArrayLike,
    n_clusters: int,
    *,
    sample_weight: ArrayLike | None = None,
    random_state: Any = None,
    n_local_trials: int | None = None,
) -> tuple[Floats, Indices]:
    """
    Return *n_clusters* rows of *X* to start k-means from, and their indices.

    The first is drawn by weight; for each further one, *n_local_trials* rows (2 + ⌊log k⌋ if None) are drawn with
    probability proportional to weight times squared distance from the nearest seed, and the one that lowers the
    inertia most is taken: Arthur & Vassilvitskii (2007), whose conclusion proposes the trials, as in scikit-learn.
    From one *random_state* float64 data gets scikit-learn's seeds, but for draws that rounding decides.
    Raises ValueError for data or numbers that make no sense, TypeError for sparse data.
    """
    from nbgrid.kmeans._data import measure
    from nbgrid.kmeans._threads import Workers

    n_clusters = checked_n_clusters(n_clusters)
    if n_local_trials is not None and n_local_trials < 1:
        raise ValueError(f"n_local_trials={n_local_trials} should be at least 1.")
    refuse_times(X)
    rows = check_array(X, dtype=[np.float64, np.float32], order="C", ensure_all_finite=False)
    enough_rows(rows, n_clusters)
    weight = checked_weight(sample_weight, rows)
    with Workers() as workers:
        data = measure(rows, weight, workers)
        indices = seed(
            data.X, weight, n_clusters, check_random_state(random_state), workers, n_local_trials=n_local_trials
        )
    return rows[indices], indices


def seed(
    X: Floats,
    weight: Float64s,
    n_clusters: int,
    random_state: np.random.RandomState,
    workers: Any,
    *,
    n_local_trials: int | None = None,
) -> Indices:
    """
    Return the indices of *n_clusters* rows of *X*, drawn by greedy k-means++.
    """
    from nbgrid.kmeans._seeding import draw_all, pick, try_candidates
    from nbgrid.kmeans._threads import slabs

    trials = n_local_trials or 2 + int(np.log(n_clusters))
    edges_of_slabs = slabs(len(X), trials, X.shape[1])
    count = len(edges_of_slabs) - 1
    closest = np.empty((trials + 1, len(X)), dtype=X.dtype)
    closest[0] = np.inf
    place = np.arange(trials + 1)
    indices = np.empty(n_clusters, dtype=np.intp)

    best = _first(random_state, weight, len(X))
    if count == 1:
        uniforms = random_state.uniform(size=(n_clusters - 1, trials))
        draw_all(X, weight, best, uniforms, closest, place, indices)
        return indices

    def potentials(chosen: Indices) -> Float64s:
        """Return the inertia that each of *chosen* would leave in each slab: (slabs, chosen)."""
        parts = np.empty((count, len(chosen)))
        candidates, rows = X[chosen], place[: len(chosen) + 1]
        workers.map(
            lambda s, start, stop: try_candidates(X, weight, candidates, closest, rows, parts[s], start, stop),
            edges_of_slabs,
        )
        return parts

    def draw(uniform: float, edges: Float64s) -> int:
        """Return the row at *uniform* of the way through the potential, or a row with weight where that is 0."""
        target = uniform * edges[-1]
        # Rounding, or a generator that returns 1, must not lead past the last row that counts (KM-15).
        positive = np.flatnonzero(np.diff(edges, prepend=0.0) > 0)
        if not len(positive):
            return int(np.argmax(weight)) if weight.size else 0
        s = min(int(np.searchsorted(edges, target, side="right")), int(positive[-1]))
        before = edges[s - 1] if s else 0.0
        return int(pick(closest[place[0]], weight, target - before, edges_of_slabs[s], edges_of_slabs[s + 1]))

    parts = potentials(np.array([best]))[:, 0]
    place[[0, 1]] = place[[1, 0]]
    indices[0] = best
    for c in range(1, n_clusters):
        edges = np.cumsum(parts)
        chosen = np.array([draw(u, edges) for u in random_state.uniform(size=trials)])
        tried = potentials(chosen)
        winner = int(np.argmin(tried.sum(axis=0)))
        parts = tried[:, winner]
        place[[0, winner + 1]] = place[[winner + 1, 0]]
        indices[c] = chosen[winner]
    return indices


def _first(random_state: np.random.RandomState, weight: Float64s, n_samples: int) -> int:
    # RandomState.choice(n, p=...) draws one number in the same way: scikit-learn's stream is kept.
    uniform = random_state.uniform()
    if not weight.size:
        return min(int(uniform * n_samples), n_samples - 1)
    edges = np.cumsum(weight)
    found = int(np.searchsorted(edges, uniform * edges[-1], side="right"))
    return min(found, int(np.flatnonzero(weight)[-1]))
