"""
Kernel: Lloyd's whole loop, for data of one slab, where a step takes less time than the calls that it is made of.
"""

# kernels take their arrays by position: numba would compile again for keywords

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._lloyd import NO_BOUNDS, gather, move, remaining, step
from nbgrid.kmeans._typing import Float64s, Floats, Indices, Labels


@kernel
def iterate(
    X: Floats,  # IN (n, d)
    weight: Float64s,  # IN (n,) or (0,)
    shift: Floats,  # IN (d,)
    public: Floats,  # INOUT (k, d)
    negative: Floats,  # INOUT (k, d)
    half: Floats,  # INOUT (k,)
    ranking: Labels,  # IN (k,), not read
    moves: Float64s,  # OUT (k,)
    limits: Float64s,  # INOUT (2,)
    labels: Labels,  # INOUT (n,)
    bound: Floats,  # IN (0,) float32: there are no bounds
    sums: Float64s,  # INOUT (1, k, d), zero
    totals: Float64s,  # INOUT (1, k), zero
    counts: Indices,  # INOUT (1, k), zero
    edges: Indices,  # IN (2,)
    tally: Indices,  # OUT (1, 2)
    turns: Indices,  # INOUT (1,)
    all_sums: Float64s,  # INOUT (k, d)
    all_totals: Float64s,  # INOUT (k,)
    all_counts: Indices,  # INOUT (k,)
    max_iter: int,
    tol: float,
    gain: float,
    whole: float,
) -> tuple[int, bool, bool]:
    """
    Step until labels or centres move no more, and return (steps, whether there it ended, whether centres moved last).

    It goes no further than *max_iter* steps, nor than a step that lowers the inertia, *whole* for one cluster, by less
    than *gain* of it; nor than a step that leaves a cluster empty: what is to become of it, the caller says, before
    centres move.
    """
    n_iter = 0
    before = np.inf
    while n_iter < max_iter:
        n_iter += 1
        turns[0] = 0
        step(
            X, weight, shift, public, negative, half, public[:0], half, ranking, moves, moves, limits, NO_BOUNDS, labels,
            bound, bound, sums, totals, counts, edges, tally, turns,
        )  # fmt: skip
        gather(sums, totals, counts, tally, all_sums, all_totals, all_counts)
        for j in range(all_counts.size):
            if all_counts[j] == 0:
                return n_iter, False, False
        if tally[0, 0] == 0:
            return n_iter, True, False
        moved, limits[1] = move(all_sums, all_totals, shift, public, negative, half, moves)
        done = moved <= tol
        if gain > 0.0:
            inertia = remaining(X, weight, shift, public, labels, all_sums, all_totals, whole)
            done = done or before - inertia < gain * inertia
            before = inertia
        if done:
            return n_iter, True, moved > 0.0
    return n_iter, False, True
