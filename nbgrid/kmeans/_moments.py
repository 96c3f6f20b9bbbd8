"""Kernels: the mean and the spread of the data, in one pass over memory."""

# kernels take their arrays by position: numba would compile again for keywords

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._typing import Float64s, Floats

# Bytes of rows that are read twice in a row: they stay in the L2 cache.
BLOCK_BYTES = 2**18

# Numbers in an inner loop at least, so that few features fill vectors as well as many do.
STRIDE = 128


@kernel
def moments(X: Floats, mean: Float64s, start: int, stop: int) -> float:  # IN, OUT
    """
    Set *mean* to the mean of rows *start* to *stop* and return the sum of their squared distances from it.

    Blocks are put together as in Chan, Golub & LeVeque (1983). Anything not finite makes the result not finite.
    """
    d = X.shape[1]
    several = max(1, STRIDE // d)
    rows = max(1, BLOCK_BYTES // (X.itemsize * d * several)) * several
    means = np.empty(several * d)
    mean[:] = 0.0
    spread = 0.0
    for first in range(start, stop, rows):
        last = min(first + rows, stop)
        spread += block_moments(X, means, several, first, last)
        before, count = float(first - start), float(last - first)
        for f in range(d):
            difference = means[f] - mean[f]
            mean[f] += difference * count / (before + count)
            spread += difference * difference * before * count / (before + count)
    return spread


@kernel
def block_moments(X: Floats, means: Float64s, several: int, first: int, last: int) -> float:
    """
    Set *means* to the mean of rows *first* to *last*, *several* times over, and return their spread.
    """
    d = X.shape[1]
    flat = X.reshape(X.size)
    stride = several * d
    whole = first + (last - first) // several * several
    means[:] = 0.0
    for i in range(first * d, whole * d, stride):
        values = flat[i : i + stride]  # an index that starts at 0 is what LLVM vectorises
        for j in range(stride):
            means[j] += values[j]
    for j in range((last - whole) * d):
        means[j] += flat[whole * d + j]
    for s in range(1, several):
        for f in range(d):
            means[f] += means[s * d + f]
    for f in range(d):
        means[f] /= last - first
    for s in range(1, several):
        for f in range(d):
            means[s * d + f] = means[f]
    spread = 0.0
    for i in range(first * d, whole * d, stride):
        values = flat[i : i + stride]
        for j in range(stride):
            difference = np.float64(values[j]) - means[j]
            spread += difference * difference
    for j in range((last - whole) * d):
        difference = np.float64(flat[whole * d + j]) - means[j]
        spread += difference * difference
    return spread
