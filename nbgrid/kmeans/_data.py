"""
The data of one fit: checked, measured, and ready for the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbgrid.kmeans._moments import moments
from nbgrid.kmeans._threads import Workers, slabs
from nbgrid.kmeans._typing import Float64s, Floats

# Squared distances are at most 4 times the spread. float32 ends at 3.4e38 and loses its precision below 1e-38.
HUGE_FOR_FLOAT32 = 1e36
TINY_FOR_FLOAT32 = 1e-24
HUGE_FOR_FLOAT64 = 1e300


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Rows to cluster and what one pass over them tells."""

    X: Floats
    """(n, d), float32 or float64, C-contiguous; never written to."""

    weight: Float64s
    """(n,), or (0,) when every row weighs 1."""

    mean: Float64s
    """(d,): the unweighted mean of the rows."""

    spread: float
    """The sum of squared distances of the rows from their mean."""

    @property
    def variance(self) -> float:
        """The mean over features of the variance."""
        return self.spread / self.X.size

    @property
    def weight_of_rows(self) -> Float64s:
        """(n,): the weight of each row, also where all weigh 1."""
        return self.weight if self.weight.size else np.ones(len(self.X))


def measure(X: Floats, weight: Float64s, workers: Workers, *, origin: Float64s | None = None) -> Data:
    """
    Return the `Data` of *X*, in float64 where float32 could not hold squared distances among its rows.

    *origin* is a point, if any, from which distances will be taken too. Raises ValueError where a value is not
    finite, with its place, and where squared distances would leave float64.
    """
    X = writeable(X)
    edges = slabs(len(X), 1, X.shape[1])
    means = np.empty((len(edges) - 1, X.shape[1]))
    spreads = np.array(workers.map(lambda s, start, stop: moments(X, means[s], start, stop), edges))
    rows = np.diff(edges).astype(np.float64)
    with np.errstate(all="ignore"):
        # Chan, Golub & LeVeque (1983): the spreads of parts, put together without cancellation.
        mean: Float64s = rows @ means / rows.sum()
        spread = float(spreads.sum() + (rows @ (means - mean) ** 2).sum())
        reach = spread if origin is None else spread + float(len(X) * ((mean - origin) ** 2).sum())
    if not reach < HUGE_FOR_FLOAT64:
        _refuse_what_is_not_finite(X)
        raise ValueError(
            "Input X has values so large or so far apart that squared distances do not fit into float64; scale it."
        )
    weight = writeable(weight)
    data = Data(X=X, weight=weight, mean=mean, spread=spread)
    if X.dtype == np.float32 and (reach > HUGE_FOR_FLOAT32 or 0 < data.variance < TINY_FOR_FLOAT32):
        return Data(X=X.astype(np.float64), weight=weight, mean=mean, spread=spread)
    return data


def writeable(array: Floats) -> Floats:
    """
    Return *array*, through a view marked writeable where it is read-only.

    No kernel writes to its data, but numba would compile every kernel again for read-only arrays (memory maps, Dask's
    and joblib's arguments), since that is part of the type.
    """
    return array if array.flags.writeable else np.asarray(_View(array))


class _View:
    """An array's memory under another flag; it keeps the array alive."""

    def __init__(self, array: Floats) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _refuse_what_is_not_finite(X: Floats) -> None:
    for start in range(0, len(X), 65536):
        places = np.argwhere(~np.isfinite(X[start : start + 65536]))
        if len(places):
            row, column = start + int(places[0, 0]), int(places[0, 1])
            value = "NaN" if np.isnan(X[row, column]) else "infinity (inf)"
            raise ValueError(f"Input X contains {value} at row {row}, column {column}.")
