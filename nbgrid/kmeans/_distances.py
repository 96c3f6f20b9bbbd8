"""
Kernels: distances of rows from centres and from each other, for the measures of a clustering's quality.

Distances are taken from differences, never from norms and products: a measure of rows that lie close together, far
from the origin, is then as good as the data. Rows are taken in tiles, transposed so that vectors run across them.
Arguments are marked as in scikit-learn: IN, OUT, INOUT.
"""

# kernels take their arrays by position: numba would compile again for keywords

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._typing import Float64s, Floats, Indices, Labels

# Rows in a tile: several vectors of any width, and few enough that a tile of a thousand features stays in the L2 cache.
TILE = 64

# Numbers that the running sums of a block of queries may hold: they share the L2 cache with the tile.
SUMS = 2**15


@kernel
def fill(X: Floats, first: int, count: int, tile: Floats) -> None:  # IN, IN, IN, OUT (d, TILE)
    """
    Set the first *count* columns of *tile* to the rows of *X* from *first* on.
    """
    for r in range(count):
        for f in range(X.shape[1]):
            tile[f, r] = X[first + r, f]


@kernel
def separate(
    X: Floats,  # IN (n, d)
    weight: Float64s,  # IN (n,), or (0,) when every row weighs 1
    centers: Floats,  # IN (k, d), in the dtype of X
    sums: Float64s,  # OUT (k, 3): see below
    start: int,
    stop: int,
) -> None:
    """
    Add up, for rows *start* to *stop* and by nearest centre: distances, simplified silhouettes, weights.

    With a and b a row's distances from the nearest and the second nearest centre, its simplified silhouette is
    (b - a) / b, and 0 where both are 0: Hruschka, de Castro & Campello (2004), section 3.
    """
    zero, infinity = X.dtype.type(0), X.dtype.type(np.inf)
    tile = np.zeros((X.shape[1], TILE), X.dtype)
    square, best, second = np.empty(TILE, X.dtype), np.empty(TILE, X.dtype), np.empty(TILE, X.dtype)
    label = np.empty(TILE, np.int32)
    sums[:] = 0.0
    for first in range(start, stop, TILE):
        count = min(TILE, stop - first)
        fill(X, first, count, tile)
        best[:] = infinity
        second[:] = infinity
        for j in range(centers.shape[0]):
            square[:] = zero
            for f in range(X.shape[1]):
                column, value = tile[f], centers[j, f]
                for r in range(TILE):
                    difference = column[r] - value
                    square[r] += difference * difference
            for r in range(TILE):
                lower = square[r] < best[r]
                other = best[r] if lower else square[r]
                second[r] = other if other < second[r] else second[r]
                best[r] = square[r] if lower else best[r]
                label[r] = j if lower else label[r]
        for r in range(count):
            w = weight[first + r] if weight.size else 1.0
            a, b = np.sqrt(np.float64(best[r])), np.sqrt(np.float64(second[r]))
            sums[label[r], 0] += w * a
            sums[label[r], 1] += w * (1.0 - a / b) if b > 0.0 else 0.0
            sums[label[r], 2] += w


@kernel
def silhouettes(
    Y: Floats,  # IN (m, d): the neighbours
    weight: Float64s,  # IN (m,): theirs; 0 is no neighbour
    labels: Labels,  # IN (m, l): their labels in l clusterings
    totals: Float64s,  # IN (l, k): the weight of each cluster of each clustering; 0 where there is none
    queries: Indices,  # IN: rows of Y
    result: Float64s,  # OUT (queries, l)
    start: int,
    stop: int,
) -> None:
    """
    Set *result* to the silhouettes of the queries from *start* to *stop*: Rousseeuw (1987), section 2.

    A distance is computed once for all clusterings. NaN where a row's cluster is the only one.
    """
    d, clusterings, k = Y.shape[1], totals.shape[0], totals.shape[1]
    block = max(4, min(64, SUMS // (clusterings * k)) // 4 * 4)
    sums = np.empty((block, clusterings, k))
    tile, length = np.zeros((d, TILE), Y.dtype), np.empty((4, TILE), Y.dtype)
    for at in range(start, stop, block):
        end = min(at + block, stop)
        sums[:] = 0.0
        for first in range(0, Y.shape[0], TILE):
            count = min(TILE, Y.shape[0] - first)
            fill(Y, first, count, tile)
            for q in range(at, end, 4):
                lengths(Y, queries, q, end, tile, length)
                add_up(weight, labels, length, first, count, sums[q - at : q - at + 4])
        for q in range(at, end):
            for c in range(clusterings):
                i = queries[q]
                result[q, c] = silhouette(sums[q - at, c], totals[c], labels[i, c], weight[i])


@kernel
def lengths(Y: Floats, queries: Indices, q: int, end: int, tile: Floats, length: Floats) -> None:
    """
    Set *length* to the distances of four queries from the rows of *tile*; the last stands in for those missing.
    """
    x0, x1 = Y[queries[q]], Y[queries[min(q + 1, end - 1)]]
    x2, x3 = Y[queries[min(q + 2, end - 1)]], Y[queries[min(q + 3, end - 1)]]
    s0, s1, s2, s3 = length[0], length[1], length[2], length[3]
    length[:] = Y.dtype.type(0)
    for f in range(Y.shape[1]):
        column = tile[f]
        v0, v1, v2, v3 = x0[f], x1[f], x2[f], x3[f]
        for r in range(TILE):
            x = column[r]
            t0, t1, t2, t3 = x - v0, x - v1, x - v2, x - v3
            s0[r] += t0 * t0
            s1[r] += t1 * t1
            s2[r] += t2 * t2
            s3[r] += t3 * t3
    for t in range(4):
        for r in range(TILE):
            length[t, r] = np.sqrt(length[t, r])


@kernel
def add_up(weight: Float64s, labels: Labels, length: Floats, first: int, count: int, sums: Float64s) -> None:
    """
    Add the weighted distances of four queries from a tile's rows to their clusters' *sums*, (4, l, k).
    """
    # Four sums at a time wait for different numbers; one alone would wait for itself where labels follow each other.
    s0, s1, s2, s3 = sums[0], sums[1], sums[2], sums[3]
    for r in range(count):
        w = weight[first + r]
        v0, v1, v2, v3 = w * length[0, r], w * length[1, r], w * length[2, r], w * length[3, r]
        for c in range(labels.shape[1]):
            j = labels[first + r, c]
            s0[c, j] += v0
            s1[c, j] += v1
            s2[c, j] += v2
            s3[c, j] += v3


@kernel
def silhouette(sums: Float64s, totals: Float64s, label: int, own: float) -> float:
    """
    Return the silhouette of a row of weight *own* from its distances' sums by cluster; 0 where it is alone in its own.
    """
    nearest = np.inf
    for j in range(totals.size):
        if j != label and totals[j] > 0.0:
            nearest = min(nearest, sums[j] / totals[j])
    if nearest == np.inf:
        return np.nan
    others = totals[label] - own
    if others <= 1e-12 * totals[label]:
        return 0.0
    within = sums[label] / others
    return (nearest - within) / max(nearest, within) if max(nearest, within) > 0.0 else 0.0
