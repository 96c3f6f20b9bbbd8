"""
Kernels: one step of Lloyd's algorithm (Lloyd 1982).

*X* is read where it lies; distances are taken from rows less *shift* (the mean of the fitted data), scikit-learn's
centring without its copy of the data. A step changes the clusters' sums only by the rows whose label changed, in
float64 and in the order of the rows, so that which rows were passed over leaves no trace in a single bit.
Arguments are marked as in scikit-learn: IN, OUT, INOUT.

Rounding: where ½‖c‖² − c·x leaves the two nearest centres closer together than rounding can tell (*slack*), the row is
compared once more by differences in float64. Labels are therefore those of exact arithmetic, or as good as: float32
data gives no other labels than the same data in float64, whichever way they were found.
"""

# Kernels take their arrays by position: numba would compile again for keywords. In the loops over rows no slice is taken
# of an array that threads share: each would count references, and the threads would wait for each other's counts.

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._bounds import DOWN, PREFIX, UP, by_prefix, compare_prefixes, crossed, tightened
from nbgrid.kmeans._compare import BLOCK, compare, nearest
from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._tiles import TILE_FLOAT32, TILE_FLOAT64, take_turn
from nbgrid.kmeans._typing import Float64s, Floats, Indices, Labels

NO_BOUNDS, NEW_BOUNDS, BOUNDS = 0, 1, 2

# The inertia follows from the clusters' sums, unless so little of the spread is left that rounding would show.
SPREAD_LEFT = 1e-4


@kernel
def step(
    X: Floats,  # IN (n, d)
    weight: Float64s,  # IN (n,), or (0,) when every row weighs 1
    shift: Floats,  # IN (d,)
    public: Floats,  # IN (k, d): the centres
    negative: Floats,  # IN (k, d): minus the centres, less shift
    half: Floats,  # IN (k,): half their squared norms
    ranked: Floats,  # IN (k, d), the same in the order of their moves, the farthest first; or (0, d) for no prefixes
    ranked_half: Floats,  # IN (k,)
    ranking: Labels,  # IN (k,): their numbers
    moves: Float64s,  # IN (k,): how far each centre moved since the last step
    ranked_moves: Float64s,  # IN (k,)
    limits: Float64s,  # IN (2,): slack, and the largest squared norm of a centre
    bounds: int,  # IN: what upper and lower hold
    labels: Labels,  # INOUT (n,)
    upper: Floats,  # INOUT (n,) float32, or (0,)
    lower: Floats,  # INOUT (n,) float32, or (0,)
    sums: Float64s,  # INOUT (slabs, k, d), zero: how the clusters' sums change; or (0, 0, 0) when not wanted
    totals: Float64s,  # INOUT (slabs, k): and their weights
    counts: Indices,  # INOUT (slabs, k): and their numbers of rows with weight
    edges: Indices,  # IN (slabs + 1,): where slabs start and end
    tally: Indices,  # OUT (slabs, 2): labels changed, rows compared with all centres or a prefix of them
    turns: Indices,  # INOUT (1,): the next slab that nobody has taken
) -> None:
    """
    Label the rows of every slab that is still to be had: several threads may call this at once.
    """
    centers = negative.shape[0]
    rows = TILE_FLOAT32 if X.itemsize == 4 else TILE_FLOAT64
    tile = np.empty((X.shape[1], rows), X.dtype)
    found = np.empty((3, BLOCK + rows), X.dtype)  # squared norms, best, second
    label = np.empty(BLOCK + rows, np.int32)
    todo = np.empty((3, BLOCK + rows), np.int64)  # rows, order, those that are being compared
    new = np.empty((2, BLOCK), np.int32)  # labels, prefixes
    starts = np.empty(centers // PREFIX + 3, np.int64)
    while True:
        s = take_turn(turns)
        if s >= edges.size - 1:
            return
        tally[s] = 0
        for first in range(edges[s], edges[s + 1], BLOCK):
            last = min(first + BLOCK, edges[s + 1])
            count = last - first
            if bounds == BOUNDS:
                count = crossed(labels, upper, lower, moves, ranked_moves, limits, first, last, todo[0])
            if bounds != BOUNDS or 4 * count > 3 * (last - first):
                count = last - first
                for r in range(count):
                    todo[2, r] = first + r
                compare(X, shift, negative, half, centers, tile, found, label, todo[2], count)
                settle_all(X, public, found, label, limits, bounds, upper, lower, todo[2], count)
                tally[s, 1] += count
                for at in range(0, count, 64):
                    size = min(64, count - at)
                    if differ(label, labels, first, at, size):
                        tally[s, 0] += relabel(
                            X, weight, shift, todo[2, at:], label[at:], size, labels, sums, totals, counts, s
                        )
                continue
            new[1, :count] = centers
            if ranked.shape[0]:
                count = tightened(
                    X, shift, negative, labels, upper, lower, ranked_moves, limits, todo[0], new[1], count
                )
                by_prefix(new[1], count, starts, todo[1])
                compare_prefixes(
                    X, shift, ranked, ranked_half, ranking, ranked_moves, limits, labels, upper, lower, tile, found,
                    label, todo, new, count,
                )  # fmt: skip
            unsettled = with_all(new[1], todo, count, centers)
            compare(X, shift, negative, half, centers, tile, found, label, todo[2], unsettled)
            settle_all(X, public, found, label, limits, bounds, upper, lower, todo[2], unsettled)
            for r in range(unsettled):
                new[0, todo[1, r]] = label[r]
            tally[s, 0] += relabel(X, weight, shift, todo[0], new[0], count, labels, sums, totals, counts, s)
            tally[s, 1] += count


@kernel
def with_all(prefix: Labels, todo: Indices, count: int, centers: int) -> int:
    """
    Set todo[2] to the rows of todo[0] that must be compared with all centres, todo[1] to their places, and return how many.
    """
    found = 0
    for r in range(count):
        if prefix[r] >= centers:
            todo[1, found] = r
            todo[2, found] = todo[0, r]
            found += 1
    return found


@kernel
def settle_all(
    X: Floats,
    public: Floats,
    found: Floats,
    label: Labels,
    limits: Float64s,
    bounds: int,
    upper: Floats,
    lower: Floats,
    numbers: Indices,
    count: int,
) -> None:
    """
    Make *label* exact, and set the bounds if there are any, for rows that were compared with all centres.
    """
    slack, reach = found.dtype.type(limits[0] / 2), found.dtype.type(limits[1])
    close = 0
    for r in range(count):
        close += found[2, r] - found[1, r] <= slack * (found[0, r] + reach)
    if bounds != NO_BOUNDS:
        for r in range(count):
            norm = np.float64(found[0, r])
            error = limits[0] * (norm + limits[1])
            upper[numbers[r]] = np.sqrt(max(2.0 * found[1, r] + norm, 0.0) + error) * UP
            lower[numbers[r]] = np.sqrt(max(2.0 * found[2, r] + norm - error, 0.0)) * DOWN
    if close:
        for r in range(count):
            if found[2, r] - found[1, r] <= slack * (found[0, r] + reach):
                label[r], best, second = nearest(X, numbers[r], public)
                if bounds != NO_BOUNDS:
                    # `move` rounds centres and shift: the centres of bounds are that much elsewhere.
                    apart = limits[0] * np.sqrt(limits[1])
                    upper[numbers[r]] = (np.sqrt(best) + apart) * UP
                    lower[numbers[r]] = max(np.sqrt(second) - apart, 0.0) * DOWN


@kernel
def differ(label: Labels, labels: Labels, first: int, at: int, size: int) -> bool:
    """
    Return whether any of *size* labels of a block, from *at* on, is another than the row has.
    """
    bits = 0
    for r in range(at, at + size):
        bits |= label[r] ^ labels[first + r]
    return bits != 0


@kernel
def relabel(
    X: Floats,
    weight: Float64s,
    shift: Floats,
    todo: Indices,
    new: Labels,
    count: int,
    labels: Labels,
    sums: Float64s,
    totals: Float64s,
    counts: Indices,
    s: int,
) -> int:
    """
    Give *count* rows their *new* labels, move them between the sums of slab *s*, and return how many changed.
    """
    changed = 0
    for t in range(count):
        i = todo[t]
        old, now = labels[i], new[t]
        if old == now:
            continue
        changed += 1
        labels[i] = now
        if sums.shape[0] == 0:
            continue
        w = weight[i] if weight.size else 1.0
        totals[s, now] += w
        counts[s, now] += w > 0.0
        if old < 0:
            for f in range(X.shape[1]):
                sums[s, now, f] += w * (np.float64(X[i, f]) - shift[f])
            continue
        totals[s, old] -= w
        counts[s, old] -= w > 0.0
        for f in range(X.shape[1]):
            value = w * (np.float64(X[i, f]) - shift[f])
            sums[s, now, f] += value
            sums[s, old, f] -= value
    return changed


@kernel
def gather(
    sums: Float64s,  # INOUT (slabs, k, d): added to the first, and zero again
    totals: Float64s,  # INOUT (slabs, k)
    counts: Indices,  # INOUT (slabs, k)
    tally: Indices,  # IN (slabs, 2)
    all_sums: Float64s,  # INOUT (k, d)
    all_totals: Float64s,  # INOUT (k,)
    all_counts: Indices,  # INOUT (k,)
) -> None:
    """
    Add the slabs' changes, in the order of the slabs, and clear them.
    """
    for s in range(tally.shape[0]):
        if tally[s, 0]:
            all_sums += sums[s]
            all_totals += totals[s]
            all_counts += counts[s]
            sums[s] = 0.0
            totals[s] = 0.0
            counts[s] = 0
    for j in range(all_counts.size):
        if all_counts[j] == 0:
            # What is left of a cluster that gave its last row away is rounding.
            all_sums[j] = 0.0
            all_totals[j] = 0.0


@kernel
def move(
    sums: Float64s,  # IN (k, d), less shift
    totals: Float64s,  # IN (k,)
    shift: Floats,  # IN (d,)
    public: Floats,  # INOUT (k, d): the centres
    negative: Floats,  # INOUT (k, d): minus the centres less shift
    half: Floats,  # OUT (k,)
    moves: Float64s,  # OUT (k,)
) -> tuple[float, float]:
    """
    Put every centre on the mean of its rows; return the sum of the squared moves and the largest squared norm.

    The centres that are compared with rows are made from the public ones, so that a prediction compares with the same.
    """
    total = 0.0
    reach = 0.0
    for j in range(public.shape[0]):
        square = 0.0
        norm = 0.0
        for f in range(public.shape[1]):
            if totals[j] > 0.0:
                public[j, f] = sums[j, f] / totals[j] + shift[f]
            now = shift[f] - public[j, f]
            difference = np.float64(now) - negative[j, f]
            square += difference * difference
            norm += np.float64(now) * now
            negative[j, f] = now
        half[j] = 0.5 * norm
        moves[j] = np.sqrt(square)
        total += square
        reach = max(reach, norm)
    return total, reach


@kernel
def residuals(
    X: Floats,
    weight: Float64s,
    shift: Float64s,  # IN (d,)
    centers: Float64s,  # IN (k, d), less shift
    labels: Labels,  # IN
    distances: Float64s,  # OUT (n,), or (0,) when only the sum is wanted
    start: int,
    stop: int,
) -> float:
    """
    Return the weighted sum of squared distances of rows *start* to *stop* from their own centres, in float64.
    """
    d = X.shape[1]
    inertia = 0.0
    for i in range(start, stop):
        j = labels[i]
        square = 0.0
        for f in range(d):
            difference = np.float64(X[i, f]) - shift[f] - centers[j, f]
            square += difference * difference
        if distances.size:
            distances[i] = square
        inertia += weight[i] * square if weight.size else square
    return inertia


@kernel
def remaining(
    X: Floats,
    weight: Float64s,
    shift: Floats,
    public: Floats,  # IN (k, d): the centres
    labels: Labels,
    sums: Float64s,  # IN (k, d), less shift
    totals: Float64s,  # IN (k,)
    whole: float,
) -> float:
    """
    Return the inertia, from the clusters' sums where that loses nothing, and from every row where it would.

    Σ‖x−c‖² = Σ‖x−s‖² − 2 Σ c·S + Σ N‖c‖², with all of it less the shift s, S and N a cluster's sum and size, and
    Σ‖x−s‖² the *whole*.
    """
    centers = np.empty(public.shape)
    rest = whole
    for j in range(public.shape[0]):
        for f in range(public.shape[1]):
            c = np.float64(public[j, f]) - shift[f]
            centers[j, f] = c
            rest += c * (totals[j] * c - 2.0 * sums[j, f])
    if rest > SPREAD_LEFT * whole:
        return rest
    return residuals(X, weight, shift.astype(np.float64), centers, labels, np.empty(0), 0, X.shape[0])
