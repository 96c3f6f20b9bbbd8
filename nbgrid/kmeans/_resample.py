"""
Curves of the whole data, of resamples of it, and of references without clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils.random import sample_without_replacement

from nbgrid.kmeans._fits import Fit, Settings, fits, measured, spread
from nbgrid.kmeans._gap import Box
from nbgrid.kmeans._quality import bic, calinski_harabasz, separation
from nbgrid.kmeans._rules import Curves
from nbgrid.kmeans._silhouette import AFFORDABLE, Silhouette, measure_silhouettes, sample_of
from nbgrid.kmeans._threads import Workers
from nbgrid.kmeans._typing import Float64s, Floats

# The share of the rows that a resample holds: Ben-Hur, Elisseeff & Guyon (2002), section 3.
SHARE = 0.8

# Numbers that a resample may hold; but of rows, and of rows to a cluster, so many at least.
NUMBERS, MOST, FEWEST, FEWEST_A_CLUSTER = 2**17, 3000, 1000, 20

# Resamples are as noisy as they are small: more precision would show nothing.
SETTINGS = Settings(max_iter=100, tol=1e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows, and the numbers of clusters that they are swept over."""

    X: Floats
    weight: Float64s
    ks: list[int]

    def most(self) -> int:
        """Return how many rows a resample of any data like this may have."""
        most: int = min(MOST, max(FEWEST, NUMBERS // self.X.shape[1]))
        return max(most, FEWEST_A_CLUSTER * self.ks[-1])

    def resampled(self) -> int:
        """Return how many rows a resample has."""
        return min(len(self.X), max(self.ks[-1], min(math.ceil(SHARE * len(self.X)), self.most())))

    def draw(self, size: int, random_state: np.random.RandomState) -> Rows:
        """
        Return *size* of the rows, each as likely as any other, in their order.

        Rows without weight are left out; all rows are returned where too few are left for the largest k.
        """
        present = np.flatnonzero(self.weight) if self.weight.size else None
        among = len(self.X) if present is None else len(present)
        if size >= len(self.X) or among < self.ks[-1]:
            return self
        places = np.sort(sample_without_replacement(among, min(size, among), random_state=random_state))
        if present is None:
            return replace(self, X=self.X[places])
        places = present[places]
        return replace(self, X=self.X[places], weight=self.weight[places])

    def swept(self, random_state: np.random.RandomState, workers: Workers) -> list[Fit]:
        """Return the fits of all k."""
        return list(fits(self.X, self.weight, self.ks, SETTINGS, random_state, workers))


def reference(box: Box, like: Rows, seed: int) -> Float64s:
    """Return the inertias of as many rows as *like* has, drawn from *box*."""
    random_state = np.random.RandomState(seed)
    X = box.draw(len(like.X), random_state).astype(like.X.dtype)
    with Workers(1) as workers:
        return inertias(replace(like, X=X, weight=np.empty(0)).swept(random_state, workers))


def resample(rows: Rows, size: int, seed: int) -> Curves:
    """Return the curves of *size* of the *rows*."""
    random_state = np.random.RandomState(seed)
    with Workers(1) as workers:
        drawn = rows.draw(size, random_state)
        curves, _ = curves_of(drawn, drawn.swept(random_state, workers), random_state, workers)
    return curves


def curves_of(
    rows: Rows, found: Sequence[Fit], random_state: np.random.RandomState, workers: Workers
) -> tuple[Curves, dict[int, Silhouette]]:
    """
    Return the curves that *found*, the fits of *rows*, make, all but the gaps; and the silhouettes with their errors.

    Silhouette and Davies–Bouldin are of a stratified sample where there are many rows.
    """
    whole, d = spread(rows.X, rows.weight, workers), rows.X.shape[1]
    data, shift = measured(rows.X, rows.weight, workers)
    several = [fit for fit in found if len(fit.centers) > 1]
    sample = sample_of(data, [fit.centers for fit in several], shift, random_state, workers, work=AFFORDABLE / 4)
    part = replace(data, X=sample.rows, weight=sample.weight)
    silhouettes = dict(zip((len(fit.centers) for fit in several), measure_silhouettes(sample, workers), strict=True))
    nearness = {len(fit.centers): separation(part, fit.centers, workers).davies_bouldin for fit in several}
    return {
        "inertia": inertias(found),
        "calinski_harabasz": np.array(
            [calinski_harabasz(whole, fit.inertia, float(fit.weights.sum()), len(fit.centers)) for fit in found]
        ),
        "bic": np.array([bic(fit.inertia, fit.weights, d) for fit in found]),
        "silhouette": np.array([silhouettes[k].value if k in silhouettes else math.nan for k in rows.ks]),
        "davies_bouldin": np.array([nearness.get(k, math.nan) for k in rows.ks]),
    }, silhouettes


def inertias(found: Sequence[Fit]) -> Float64s:
    """Return the inertia of each of the fits."""
    return np.array([fit.inertia for fit in found])
