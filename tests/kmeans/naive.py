"""The slow judge: k-means as the textbook has it, plain loops and float64, to test the fast kernels against."""

from __future__ import annotations

import os

import numpy as np

EXAMPLES = int(os.environ.get("NBGRID_EXAMPLES", "50"))
"""Random problems for each property of KM-23 and KM-24; a soak asks for 500 (docs/explanation/kmeans.md)."""


def sq_distances(X, centers):
    """Return the squared distance of each row from each centre, (n, k), from differences."""
    X, centers = np.asarray(X, dtype=np.float64), np.asarray(centers, dtype=np.float64)
    return np.array([[((x - c) ** 2).sum() for c in centers] for x in X])


def inertia(X, centers, labels, weight=None):
    """Return the weighted sum of squared distances of rows from their own centres."""
    weight = np.ones(len(X)) if weight is None else weight
    X, centers = np.asarray(X, dtype=np.float64), np.asarray(centers, dtype=np.float64)
    return float(sum(w * ((x - centers[j]) ** 2).sum() for x, j, w in zip(X, labels, weight, strict=True)))


def lloyd(X, start, *, weight=None, max_iter=300):
    """Return (centers, labels, inertia of each step) of Lloyd's algorithm; a cluster that empties stays where it is."""
    weight = np.ones(len(X)) if weight is None else weight
    centers = np.array(start, dtype=np.float64)
    labels, inertias = None, []
    for _ in range(max_iter):
        before, labels = labels, sq_distances(X, centers).argmin(axis=1)
        inertias.append(inertia(X, centers, labels, weight))
        if before is not None and (before == labels).all():
            break
        for j in range(len(centers)):
            members = labels == j
            if weight[members].sum() > 0:
                centers[j] = np.average(np.asarray(X, dtype=np.float64)[members], axis=0, weights=weight[members])
    return centers, labels, inertias


def potential(X, seeds, weight=None):
    """Return the weighted sum of squared distances from the nearest seed: what k-means++ samples from."""
    weight = np.ones(len(X)) if weight is None else weight
    return float((sq_distances(X, seeds).min(axis=1) * weight).sum())
