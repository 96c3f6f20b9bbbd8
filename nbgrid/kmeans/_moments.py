"""Kernels: the mean and the spread of the data, in one pass over memory."""

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._typing import Float64s, Floats


@kernel
def moments(X: Floats, mean: Float64s, start: int, stop: int) -> float:  # IN, OUT
    """
    Set *mean* to the mean of rows *start* to *stop* and return the sum of their squared distances from it.

    The rows are read twice, the second time from cache. Anything not finite makes the result not finite.
    """
    d = X.shape[1]
    mean[:] = 0.0
    for i in range(start, stop):
        for f in range(d):
            mean[f] += X[i, f]
    mean /= stop - start
    spread = 0.0
    for i in range(start, stop):
        for f in range(d):
            difference = np.float64(X[i, f]) - mean[f]
            spread += difference * difference
    return spread
