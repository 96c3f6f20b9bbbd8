"""
Kernels: the comparison of rows with centres, in tiles, and what makes a near-tie exact.

Arguments are marked as in scikit-learn: IN, OUT, INOUT.
"""

# Kernels take their arrays by position: numba would compile again for keywords. In the loops over rows no slice is taken
# of an array that threads share: each would count references, and the threads would wait for each other's counts.

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._tiles import TILE_FLOAT32, TILE_FLOAT64, fill_tile, nearest_two
from nbgrid.kmeans._typing import Floats, Indices, Labels

# Rows among which survivors of the bounds are collected: enough to fill tiles when one row in twenty survives, few enough
# that the block is still in the L2 cache when survivors are gathered (1.6 MB at 400 float32 features).
BLOCK = 1024


@kernel
def compare(
    X: Floats,
    shift: Floats,
    centers: Floats,  # IN: as their negatives
    half: Floats,
    width: int,
    tile: Floats,
    found: Floats,  # OUT (3, count or more)
    label: Labels,  # OUT (count or more,)
    numbers: Indices,  # INOUT (count and a tile more,)
    count: int,
) -> None:
    """
    Compare the *count* rows *numbers* with the first *width* centres.
    """
    rows = tile.shape[1]
    for at in range(0, count, rows):
        for r in range(count, at + rows):
            # A tile is always computed whole: the last row stands in for those that are missing.
            numbers[r] = numbers[count - 1]
        stop = at + rows
        fill_tile(X, numbers[at:stop], shift, tile, found[0, at:stop])
        nearest_two(tile, centers, half, width, found[1, at:stop], found[2, at:stop], label[at:stop])


@kernel
def nearest(X: Floats, i: int, public: Floats) -> tuple[int, float, float]:
    """
    Return the number of the centre nearest to row *i*, of several the lowest, its squared distance and the second
    one's: from differences in float64.
    """
    best = second = np.inf
    label = 0
    for j in range(public.shape[0]):
        square = 0.0
        for f in range(X.shape[1]):
            difference = np.float64(X[i, f]) - public[j, f]
            square += difference * difference
        if square < best:
            best, second = square, best
            label = j
        elif square < second:
            second = square
    return label, best, second


@kernel
def squared_distances(
    X: Floats,
    shift: Floats,
    negative: Floats,
    half: Floats,
    nearest: Floats,  # INOUT (n,)
    start: int,
    stop: int,
) -> None:
    """
    Lower *nearest* to each row's squared distance from the nearest of some centres, as exact as the data's dtype is.
    """
    rows = TILE_FLOAT32 if X.itemsize == 4 else TILE_FLOAT64
    tile = np.empty((X.shape[1], rows), X.dtype)
    found = np.empty((3, BLOCK + rows), X.dtype)
    label = np.empty(BLOCK + rows, np.int32)
    numbers = np.empty(BLOCK + rows, np.int64)
    zero = X.dtype.type(0)
    for first in range(start, stop, BLOCK):
        count = min(BLOCK, stop - first)
        for r in range(count):
            numbers[r] = first + r
        compare(X, shift, negative, half, negative.shape[0], tile, found, label, numbers, count)
        for r in range(count):
            square = max(found[1, r] + found[1, r] + found[0, r], zero)
            nearest[first + r] = min(nearest[first + r], square)
