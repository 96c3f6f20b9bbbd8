"""
Measures of a clustering's quality, from what a fit knows and from one more pass over its rows.

Weights count as repetitions: a row of weight 3 is three rows. A measure that is not defined (most are not for one
cluster) is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nbgrid.kmeans._data import Data
from nbgrid.kmeans._distances import separate
from nbgrid.kmeans._threads import Workers, slabs
from nbgrid.kmeans._typing import Float64s, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """What one pass over the rows tells of a clustering besides its inertia."""

    mean_distance: float
    """The mean distance, not squared, of the rows from their own centres."""

    davies_bouldin: float
    simplified_silhouette: float


def calinski_harabasz(spread: float, inertia: float, weight: float, n_clusters: int) -> float:
    """
    Return how far the clusters lie apart for how wide they are: Caliński & Harabasz (1974), their variance ratio.

    *spread* is the inertia of one cluster, *weight* the sum of the weights. The centres are taken for the means of
    their clusters, which they are up to the tolerance of the fit. Higher is better.
    """
    if n_clusters < 2 or weight <= n_clusters:
        return math.nan
    between, within = max(spread - inertia, 0.0), max(inertia, 0.0)
    if within == 0:
        return math.inf if between > 0 else math.nan
    return between / within * (weight - n_clusters) / (n_clusters - 1)


def bic(inertia: float, weights: Float64s, n_features: int) -> float:
    """
    Return the Bayesian information criterion of spherical normal clusters of one variance; higher is better.

    With R rows, of which R_j are in cluster j, M features and K clusters it is
    Σ R_j log R_j − R log R − R M/2 log(2πσ²) − M (R − K)/2 − p/2 log R, where p = (K − 1) + M K + 1: Pelleg & Moore
    (2000), section 3.2, but for the variance σ² = inertia / (M (R − K)). The paper leaves M out of it, and its last
    term is then K's alone: "Notes on Bayesian Information Criterion Calculation for X-Means Clustering", equations 8
    and 15 (goxmeans, doc/BIC_notes). NaN where the inertia is 0 or there are no more rows than clusters.
    """
    k, total = len(weights), float(weights.sum())
    if total <= k or inertia <= 0:
        return math.nan
    variance = inertia / (n_features * (total - k))
    present = weights[weights > 0]
    likelihood = float((present * np.log(present / total)).sum())
    likelihood -= n_features / 2 * (total * math.log(2 * math.pi * variance) + total - k)
    return likelihood - (k - 1 + n_features * k + 1) / 2 * math.log(total)


def davies_bouldin(centers: Floats, widths: Float64s) -> float:
    """
    Return the mean over clusters of how wide a pair is for how far apart, its worst pair: Davies & Bouldin (1979).

    *widths* are the mean distances of the rows from their centres, NaN for a cluster without rows. Lower is better;
    0 where all widths are 0, and centres that lie upon each other count as infinitely far apart, as in scikit-learn.
    """
    present = ~np.isnan(widths)
    points, wide = centers[present].astype(np.float64), widths[present]
    if len(wide) < 2:
        return math.nan
    worst = np.zeros(len(wide))
    for j, point in enumerate(points):
        apart = np.sqrt(((points - point) ** 2).sum(axis=1))
        apart[apart == 0] = np.inf
        worst[j] = ((wide + wide[j]) / apart).max()
    return float(worst.mean())


def separation(data: Data, centers: Floats, workers: Workers) -> Separation:
    """
    Return the `Separation` of *data* by *centers*, (k, d), in one pass and O(k) memory a thread.

    A row's simplified silhouette is (b − a) / max(a, b) for its distances a from its own and b from the nearest other
    centre: Hruschka, de Castro & Campello (2004). Higher is better.
    """
    X, k = data.X, len(centers)
    edges = slabs(len(X), k, X.shape[1], X.itemsize)
    parts = np.empty((len(edges) - 1, k, 3))
    near = np.ascontiguousarray(centers, dtype=X.dtype)
    workers.map(lambda s, start, stop: separate(X, data.weight, near, parts[s], start, stop), edges)
    distances, closeness, weights = parts.sum(axis=0).T
    total = weights.sum()
    widths = np.divide(distances, weights, out=np.full(k, np.nan), where=weights > 0)
    return Separation(
        mean_distance=float(distances.sum() / total),
        davies_bouldin=davies_bouldin(centers, widths),
        simplified_silhouette=float(closeness.sum() / total) if k > 1 else math.nan,
    )
