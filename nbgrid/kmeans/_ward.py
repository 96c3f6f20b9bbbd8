"""
Kernels: Ward's tree over many small clusters.
"""

# kernels take their arrays by position: numba would compile again for keywords

from __future__ import annotations

import numpy as np

from nbgrid.kmeans._jit import kernel
from nbgrid.kmeans._typing import Float64s, Indices


@kernel
def ward(
    centroids: Float64s,  # INOUT (m, d): a merged pair's mean replaces its first member
    sizes: Float64s,  # INOUT (m,): weights, 0 for what is merged into another
    pairs: Indices,  # OUT (m - 1, 2): who is merged, the second into the first
    heights: Float64s,  # OUT (m - 1,): by how much each merger raises the inertia
) -> None:
    """
    Merge clusters until one is left, each time two that are nearest to each other in Ward's sense (1963).

    By chains of nearest neighbours (Murtagh 1983), which find the same tree as always merging the nearest pair, in
    another order; distances come from the centroids, so that memory stays linear.
    """
    count = sizes.size
    chain = np.empty(count + 1, np.int64)
    length = 0
    alive = 0
    for merger in range(count - 1):
        if length == 0:
            while sizes[alive] == 0.0:
                alive += 1
            chain[0] = alive
            length = 1
        while True:
            last = chain[length - 1]
            nearest, height = -1, np.inf
            if length > 1:
                # The one before comes first, so that ties end the chain.
                nearest = chain[length - 2]
                height = cost(centroids, sizes, last, nearest)
            for other in range(count):
                if sizes[other] > 0.0 and other != last:
                    value = cost(centroids, sizes, last, other)
                    if value < height:
                        nearest, height = other, value
            if length > 1 and nearest == chain[length - 2]:
                break
            chain[length] = nearest
            length += 1
        length -= 2
        first, second = min(last, nearest), max(last, nearest)
        whole = sizes[first] + sizes[second]
        for f in range(centroids.shape[1]):
            centroids[first, f] += (centroids[second, f] - centroids[first, f]) * (sizes[second] / whole)
        sizes[first], sizes[second] = whole, 0.0
        pairs[merger, 0], pairs[merger, 1] = first, second
        heights[merger] = height


@kernel
def cost(centroids: Float64s, sizes: Float64s, a: int, b: int) -> float:
    """
    Return by how much merging two clusters raises the inertia.
    """
    square = 0.0
    first, second = centroids[a], centroids[b]
    for f in range(centroids.shape[1]):
        difference = first[f] - second[f]
        square += difference * difference
    return float(square * (sizes[a] * sizes[b] / (sizes[a] + sizes[b])))
