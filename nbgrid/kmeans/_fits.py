"""
The fits of a sweep, without what would be large: a clustering by its centres and sizes, not by its labels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nbgrid.kmeans import _measures
from nbgrid.kmeans._data import Data, measure
from nbgrid.kmeans._iterate import Clustering, Passes, lloyd
from nbgrid.kmeans._path import solve
from nbgrid.kmeans._threads import Workers
from nbgrid.kmeans._typing import Float64s, Floats, Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One k of a sweep."""

    centers: Floats
    """(k, d), in the dtype of the data."""

    inertia: float
    n_iter: int
    converged: bool
    shift: Float64s
    """(d,): what distances were taken from."""

    sizes: Indices
    """(k,): how many rows each cluster has."""

    weights: Float64s
    """(k,): and their weight."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every fit of a sweep is told."""

    max_iter: int
    tol: float
    """In units of the variance, as scikit-learn has it."""


def fits(
    X: Floats,
    weight: Float64s,
    ks: list[int],
    settings: Settings,
    random_state: np.random.RandomState,
    workers: Workers,
) -> Iterator[Fit]:
    """
    Yield the `Fit` of each of *ks*, which ascend; its seconds are those since the last one.
    """
    started = time.perf_counter()
    data, shift = measured(X, weight, workers)
    path = solve(data, ks, max_iter=settings.max_iter, tol=settings.tol, random_state=random_state, workers=workers)
    for _, clustering in path:
        ended = time.perf_counter()
        fit = _fit(data, clustering, shift, ended - started)
        # Its labels are as large as a feature in float32: they must not lie there while the next k is fitted.
        del clustering
        yield fit
        started = ended


def refit(X: Floats, weight: Float64s, start: Floats, settings: Settings, workers: Workers) -> Fit:
    """
    Return the `Fit` from the centres *start*.
    """
    started = time.perf_counter()
    data, shift = measured(X, weight, workers)
    passes = Passes(data=data, shift=shift, n_clusters=len(start), workers=workers)
    clustering = lloyd(passes, start, max_iter=settings.max_iter, tol=settings.tol * data.variance)
    return _fit(data, clustering, shift, time.perf_counter() - started)


def measured(X: Floats, weight: Float64s, workers: Workers) -> tuple[Data, Float64s]:
    """Return the `Data` of *X*, and what distances are taken from: its mean, as the data's dtype has it."""
    data = measure(X, weight, workers)
    return data, data.mean.astype(data.X.dtype).astype(np.float64)


def spread(X: Floats, weight: Float64s, workers: Workers) -> float:
    """
    Return the inertia of *X* about its weighted mean.
    """
    data, shift = measured(X, weight, workers)
    if not weight.size:
        return data.spread
    passes = Passes(data=data, shift=shift, n_clusters=1, workers=workers)
    return lloyd(passes, data.mean[np.newaxis].astype(data.X.dtype), max_iter=2, tol=0).inertia


def _fit(data: Data, clustering: Clustering, shift: Float64s, seconds: float) -> Fit:
    sizes, weights = _measures.sizes(clustering.labels, data.weight, len(clustering.centers))
    return Fit(
        centers=clustering.centers,
        inertia=clustering.inertia,
        n_iter=clustering.n_iter,
        converged=clustering.converged,
        shift=shift,
        sizes=sizes,
        weights=weights,
        seconds=seconds,
    )
