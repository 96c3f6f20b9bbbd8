"""
Kernels: the D² sampling of k-means++ (Arthur & Vassilvitskii 2007, section 2.2).

Distances are taken from differences, never from norms and products: a row that is chosen, and each of its
duplicates, is then at distance 0 exactly and is not drawn again. The pass is bound by memory, so that costs nothing.
"""

# kernels take their arrays by position: numba would compile again for keywords

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._typing import Float64s, Floats, Indices


@kernel
def try_candidates(
    X: Floats,  # IN (n, d)
    weight: Float64s,  # IN (n,), or (0,) when every row weighs 1
    candidates: Floats,  # IN (trials, d)
    closest: Floats,  # INOUT (trials + 1, n): D² to the nearest seed, now and if a candidate joined them
    place: Indices,  # IN (trials + 1,): the row of *closest* that is the present, then those of the candidates
    potential: Float64s,  # OUT (trials,)
    start: int,
    stop: int,
) -> None:
    """
    Fill, for rows *start* to *stop*, each candidate's row of *closest* and the weighted sum of it.

    Four candidates share one reading of a row; the last stands in for those that are missing.
    """
    d = X.shape[1]
    last = candidates.shape[0] - 1
    now = closest[place[0]]
    zero = X.dtype.type(0)
    for i in range(start, stop):
        for j in range(0, last + 1, 4):
            j1, j2, j3 = min(j + 1, last), min(j + 2, last), min(j + 3, last)
            s0, s1, s2, s3 = zero, zero, zero, zero
            for f in range(d):
                # No slices: the threads that share X would wait for each other's counts of references.
                x = X[i, f]
                t0, t1 = x - candidates[j, f], x - candidates[j1, f]
                t2, t3 = x - candidates[j2, f], x - candidates[j3, f]
                s0 += t0 * t0
                s1 += t1 * t1
                s2 += t2 * t2
                s3 += t3 * t3
            closest[place[j + 1], i] = min(s0, now[i])
            closest[place[j1 + 1], i] = min(s1, now[i])
            closest[place[j2 + 1], i] = min(s2, now[i])
            closest[place[j3 + 1], i] = min(s3, now[i])
    for j in range(last + 1):
        potential[j] = total(closest[place[j + 1]], weight, start, stop)


@kernel
def total(values: Floats, weight: Float64s, start: int, stop: int) -> float:
    """
    Return the weighted sum of *values* from *start* to *stop*, in float64.
    """
    result = 0.0
    if weight.size:
        for i in range(start, stop):
            result += weight[i] * values[i]
    else:
        for i in range(start, stop):
            result += values[i]
    return result


@kernel
def pick(values: Floats, weight: Float64s, target: float, start: int, stop: int) -> int:
    """
    Return the first row from *start* to *stop* at which the running weighted sum of *values* exceeds *target*.

    A row that adds nothing is never returned; where rounding leaves the sum below *target*, the last row that adds
    something is, and -1 where none does.
    """
    found = -1
    running = 0.0
    for i in range(start, stop):
        value = np.float64(values[i])
        if weight.size:
            value *= weight[i]
        if value > 0.0:
            found = i
            running += value
            if running > target:
                break
    return found


@kernel
def draw_all(
    X: Floats,  # IN (n, d)
    weight: Float64s,  # IN (n,) or (0,)
    first: int,  # IN: the first seed
    uniforms: Float64s,  # IN (k - 1, trials)
    closest: Floats,  # INOUT (trials + 1, n), infinite
    place: Indices,  # INOUT (trials + 1,): 0, 1, 2, …
    indices: Indices,  # OUT (k,)
) -> None:
    """
    Draw all seeds of data of one slab, where a call takes longer than what it computes.
    """
    n, trials = X.shape[0], uniforms.shape[1]
    chosen = np.empty(trials, np.int64)
    chosen[:] = first
    potential = np.empty(trials)
    winner = 0
    for c in range(indices.size):
        if c:
            for t in range(trials):
                row = pick(closest[place[0]], weight, uniforms[c - 1, t] * potential[winner], 0, n)
                chosen[t] = row if row >= 0 else (np.argmax(weight) if weight.size else 0)
        tried = trials if c else 1
        # Every trial is computed alike, so that which of equal ones wins does not depend on its place.
        try_candidates(X, weight, X[chosen[:tried]], closest, place[: tried + 1], potential[:tried], 0, n)
        winner = int(np.argmin(potential[:tried]))
        place[0], place[winner + 1] = place[winner + 1], place[0]
        indices[c] = chosen[winner]
