"""
Kernels: bounds that let rows be passed over (Hamerly 2010), and prefixes of ranked centres.

Bounds, two float32 a row: *upper* is at least the distance to the row's own centre, *lower* at most that to any other.
A centre that moved by m may be nearer by m. Hamerly lets all centres count as moved by the farthest move of any; here
the centres are ranked by their moves, and a row is compared with those alone that may have come near enough, a prefix
of the ranking. Rows with prefixes of like length share tiles.

Arguments that are not marked are as in `step`.
"""

# Kernels take their arrays by position: numba would compile again for keywords. In the loops over rows no slice is taken
# of an array that threads share: each would count references, and the threads would wait for each other's counts.

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._compare import compare
from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._typing import Float64s, Floats, Indices, Labels

# Centres in a step of a prefix.
PREFIX = 8

# float32 bounds are rounded outwards by this.
UP, DOWN = 1 + 2.0**-22, 1 - 2.0**-22


@kernel
def crossed(
    labels: Labels,
    upper: Floats,
    lower: Floats,
    moves: Float64s,
    ranked_moves: Float64s,
    limits: Float64s,
    first: int,
    last: int,
    todo: Indices,
) -> int:
    """
    Let the bounds of rows *first* to *last* follow the centres; set *todo* to the rows whose bounds cross.

    Their *lower* stays what it was, for the prefixes.
    """
    farthest = ranked_moves[0]
    count = 0
    for i in range(first, last):
        u = np.float64(upper[i]) * UP + moves[labels[i]]
        low = np.float64(lower[i]) * DOWN - farthest
        upper[i] = u
        if low > u:
            lower[i] = low
        else:
            todo[count] = i
            count += 1
    return count


@kernel
def tightened(
    X: Floats,
    shift: Floats,
    negative: Floats,
    labels: Labels,
    upper: Floats,
    lower: Floats,
    ranked_moves: Float64s,
    limits: Float64s,
    todo: Indices,
    prefix: Labels,
    count: int,
) -> int:
    """
    Make *upper* the distance itself for the *count* rows of *todo*, and keep those that must still be compared.

    *prefix* is set to how many centres of the ranking, a multiple of PREFIX or all, may be nearer to each.
    """
    centers = negative.shape[0]
    kept = 0
    for t in range(count):
        i = todo[t]
        square = distance(X, i, shift, negative, labels[i])
        u = np.sqrt(square * (1.0 + limits[0])) * UP
        low = np.float64(lower[i]) * DOWN
        upper[i] = u
        # Centres that moved less than the room between the bounds cannot have come nearer than the row's own.
        nearer = before(ranked_moves, low - u * UP)
        if nearer == 0:
            lower[i] = low - ranked_moves[0]
            continue
        nearer = -(-nearer // PREFIX) * PREFIX
        todo[kept] = i
        prefix[kept] = centers if 4 * nearer > 3 * centers else nearer
        kept += 1
    return kept


@kernel
def distance(X: Floats, i: int, shift: Floats, negative: Floats, j: int) -> float:
    """
    Return the squared distance of a row, less *shift*, from a centre that is given as its negative.
    """
    square = X.dtype.type(0)
    for f in range(X.shape[1]):
        difference = (X[i, f] - shift[f]) + negative[j, f]
        square += difference * difference
    return np.float64(square)


@kernel
def before(ranked_moves: Float64s, room: float) -> int:
    """
    Return how many of the moves, the largest first, are at least *room*.
    """
    low, high = 0, ranked_moves.size
    while low < high:
        middle = (low + high) // 2
        if ranked_moves[middle] >= room:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def by_prefix(prefix: Labels, count: int, starts: Indices, order: Indices) -> None:
    """
    Set *order* to 0 … *count* - 1 sorted by *prefix*, stably: a counting sort.
    """
    starts[:] = 0
    for r in range(count):
        starts[-(-prefix[r] // PREFIX) + 1] += 1
    for b in range(1, starts.size):
        starts[b] += starts[b - 1]
    for r in range(count):
        b = -(-prefix[r] // PREFIX)
        order[starts[b]] = r
        starts[b] += 1


@kernel
def compare_prefixes(
    X: Floats,
    shift: Floats,
    ranked: Floats,
    ranked_half: Floats,
    ranking: Labels,
    ranked_moves: Float64s,
    limits: Float64s,
    labels: Labels,
    upper: Floats,
    lower: Floats,
    tile: Floats,
    found: Floats,
    label: Labels,
    todo: Indices,
    new: Labels,
    count: int,
) -> None:
    """
    Compare rows with their prefixes of the ranking, the shortest first, and settle what that settles.
    """
    prefix, order, rows = new[1], todo[1], tile.shape[1]
    at = 0
    while at < count and prefix[order[at]] < ranking.size:
        size = min(rows, count - at)
        while prefix[order[at + size - 1]] >= ranking.size:
            size -= 1
        for r in range(size):
            todo[2, r] = todo[0, order[at + r]]
        width = int(prefix[order[at + size - 1]])
        compare(X, shift, ranked, ranked_half, width, tile, found, label, todo[2], size)
        settle(found, label, ranking, ranked_moves, width, limits, labels, upper, lower, todo, at, size, new)
        at += size


@kernel
def settle(
    found: Floats,
    label: Labels,
    ranking: Labels,
    ranked_moves: Float64s,
    width: int,
    limits: Float64s,
    labels: Labels,
    upper: Floats,
    lower: Floats,
    todo: Indices,
    at: int,
    size: int,
    new: Labels,
) -> None:
    """
    Decide, for a tile that was compared with the first *width* centres of the ranking, what can be decided.

    A row keeps its label, or takes the nearest of the prefix, where that is the nearest of all by more than rounding;
    what is left gets the prefix of all centres.
    """
    for r in range(size):
        i, place = todo[2, r], todo[1, at + r]
        norm = np.float64(found[0, r])
        error = limits[0] * (norm + limits[1])
        nearest = ranking[label[r]]
        best = max(2.0 * found[1, r] + norm, 0.0)
        second = 2.0 * found[2, r] + norm
        # The distance from the present centre was just computed: from above, and from below.
        own = np.float64(upper[i]) ** 2
        least = own * (DOWN**3 - limits[0])
        # Nobody outside the prefix is nearer than this.
        rest = np.float64(lower[i]) * DOWN - ranked_moves[width]
        rest *= abs(rest)
        other = min(second if nearest == labels[i] else best, rest)
        runner_up = min(second, rest, least)
        new[1, place] = 0
        if other - error > own * UP:
            new[0, place] = labels[i]
            lower[i] = np.sqrt(other - error) * DOWN
        elif nearest != labels[i] and best + error < runner_up - error:
            new[0, place] = nearest
            upper[i] = np.sqrt(best + error) * UP
            lower[i] = np.sqrt(runner_up - error) * DOWN
        else:
            new[1, place] = ranking.size
