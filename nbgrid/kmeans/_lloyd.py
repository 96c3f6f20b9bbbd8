"""
Kernels: one step of Lloyd's algorithm (Lloyd 1982), nearest centres and sums fused, block by block.

*X* is read where it lies. Each block of rows is copied less *shift* (the mean of the fitted data) into a buffer that
stays in cache: scikit-learn's centring, without its copy of the data. Centres are given less *shift* too.
Sums are float64 whatever the data. Arguments are marked as in scikit-learn: IN, OUT, INOUT.
"""

# kernels take their arrays by position: numba would compile again for keywords

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._typing import Float64s, Floats, Labels

# Rows in a block. Measured on 2 cores of a Xeon with AVX-512: with GEMM 64, 128, 256, 512 rows took 4.9, 4.6, 9.2,
# 9.5 ms a step at 100 000 x 100 float64, k=5, and were within 8 % of each other at 200 000 x 128 float32, k=200.
# Blocks are always computed whole, so a row's result does not depend on how many rows follow it.
BLOCK = 128


@kernel
def step_direct(
    X: Floats,  # IN (n, d)
    weight: Float64s,  # IN (n,), or (0,) when every row weighs 1
    shift: Floats,  # IN (d,)
    centers: Floats,  # IN (k, d), less shift
    labels: Labels,  # INOUT (n,)
    sums: Float64s,  # INOUT (k, d), or (0, 0) when only labels are wanted
    totals: Float64s,  # INOUT (k,): weight in each cluster
    start: int,
    stop: int,
) -> int:
    """
    Label rows *start* to *stop* by squared differences, add them to *sums* and return how many labels changed.

    The buffer is transposed and vectors run over rows, so that two features fill a register as well as eight do.
    """
    d = X.shape[1]
    rows = np.zeros((d, BLOCK), X.dtype)
    distance = np.empty(BLOCK, X.dtype)
    best = np.empty(BLOCK, X.dtype)
    nearest = np.empty(BLOCK, np.int32)
    changed = 0
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        for i in range(first, last):
            for f in range(d):
                rows[f, i - first] = X[i, f] - shift[f]
        best[:] = np.inf
        nearest[:] = 0
        for j in range(centers.shape[0]):
            distance[:] = 0
            for f in range(d):
                row = rows[f]
                center = centers[j, f]
                for r in range(BLOCK):
                    distance[r] += (row[r] - center) * (row[r] - center)
            keep_nearer(distance, X.dtype.type(0), j, best, nearest)
        changed += relabel(nearest, labels, first, last)
        if sums.shape[0]:
            accumulate(X, weight, shift, labels, sums, totals, first, last)
    return changed


@kernel
def step_gemm(
    X: Floats,
    weight: Float64s,
    shift: Floats,
    centers: Floats,
    labels: Labels,
    sums: Float64s,
    totals: Float64s,
    start: int,
    stop: int,
) -> int:
    """
    Do what `step_direct` does, with ‖x−c‖² − ‖x‖² = ‖c‖² − 2c·x, whose products BLAS computes.

    The product is laid out (k, rows), so that the search for the nearest centre is vectorised over rows: the layout
    of oneDAL's Lloyd.
    """
    k, d = centers.shape
    rows = np.zeros((BLOCK, d), X.dtype)
    product = np.empty((k, BLOCK), X.dtype)
    best = np.empty(BLOCK, X.dtype)
    nearest = np.empty(BLOCK, np.int32)
    minus_two = centers * X.dtype.type(-2)
    norm = np.empty(k, X.dtype)
    for j in range(k):
        square = 0.0
        for f in range(d):
            square += np.float64(centers[j, f]) * centers[j, f]
        norm[j] = square
    changed = 0
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        for i in range(first, last):
            for f in range(d):
                rows[i - first, f] = X[i, f] - shift[f]
        np.dot(minus_two, rows.T, product)
        best[:] = np.inf
        nearest[:] = 0
        for j in range(k):
            keep_nearer(product[j], norm[j], j, best, nearest)
        changed += relabel(nearest, labels, first, last)
        if sums.shape[0]:
            accumulate(X, weight, shift, labels, sums, totals, first, last)
    return changed


@kernel
def keep_nearer(distance: Floats, constant: float, j: int, best: Floats, nearest: Labels) -> None:
    """
    Where *distance* + *constant* is below *best*, make it the best and *j* the nearest; ties keep the lower centre.
    """
    for r in range(BLOCK):
        value = distance[r] + constant
        if value < best[r]:
            best[r] = value
            nearest[r] = j


@kernel
def relabel(nearest: Labels, labels: Labels, first: int, last: int) -> int:
    """
    Copy a block's *nearest* into *labels* and return how many changed.
    """
    changed = 0
    for i in range(first, last):
        changed += labels[i] != nearest[i - first]
        labels[i] = nearest[i - first]
    return changed


@kernel
def accumulate(
    X: Floats,
    weight: Float64s,
    shift: Floats,
    labels: Labels,  # IN
    sums: Float64s,  # INOUT (k, d)
    totals: Float64s,  # INOUT (k,)
    start: int,
    stop: int,
) -> None:
    """
    Add each row from *start* to *stop*, less *shift* and times its weight, to the sums of its cluster.
    """
    d = X.shape[1]
    for i in range(start, stop):
        j = labels[i]
        if weight.size:
            w = weight[i]
            totals[j] += w
            for f in range(d):
                sums[j, f] += w * (X[i, f] - shift[f])
        else:
            totals[j] += 1.0
            for f in range(d):
                sums[j, f] += X[i, f] - shift[f]


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
        center = centers[labels[i]]
        square = 0.0
        for f in range(d):
            difference = np.float64(X[i, f]) - shift[f] - center[f]
            square += difference * difference
        if distances.size:
            distances[i] = square
        inertia += weight[i] * square if weight.size else square
    return inertia
