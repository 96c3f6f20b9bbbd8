"""
What callers give, checked before anything is computed. Messages name the parameter, what it is and what it may be.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import _check_sample_weight

from nbgrid.kmeans._typing import Float64s, Floats


def checked_n_clusters(n_clusters: Any) -> int:
    """Return *n_clusters* as an int; ValueError unless it is a whole number from 1."""
    return _whole("n_clusters", n_clusters)


def checked_n_init(n_init: Any, *, several: bool) -> int:
    """Return how often to start: 'auto' means 10 where the starts are poor (*several*) and 1 where they are good."""
    if isinstance(n_init, str) and n_init == "auto":
        return 10 if several else 1
    return _whole("n_init", n_init, or_else=" or 'auto'")


def checked_max_iter(max_iter: Any) -> int:
    """Return *max_iter* as an int; ValueError unless it is a whole number from 1."""
    return _whole("max_iter", max_iter)


def checked_tol(tol: Any) -> float:
    """Return *tol* as a float; ValueError unless it is finite and not negative."""
    if isinstance(tol, bool) or not isinstance(tol, Real) or not 0 <= float(tol) < np.inf:
        raise ValueError(f"tol={tol!r} should be a number from 0.")
    return float(tol)


def checked_algorithm(algorithm: Any) -> None:
    """ValueError unless *algorithm* is one of scikit-learn's."""
    if algorithm not in {"lloyd", "elkan"}:
        raise ValueError(f"algorithm={algorithm!r} should be 'lloyd' or 'elkan'.")


def enough_rows(X: Floats, n_clusters: int) -> None:
    """ValueError when *X* has fewer rows than there are clusters to make."""
    if len(X) < n_clusters:
        raise ValueError(f"n_samples={len(X)} should be >= n_clusters={n_clusters}.")


def refuse_times(X: Any) -> None:
    """TypeError when *X* holds dates or durations, which NumPy would silently count in whatever unit they have."""
    for dtype in [getattr(X, "dtype", None), *getattr(X, "dtypes", ())]:
        if getattr(dtype, "kind", None) in ("M", "m"):
            raise TypeError(f"Input X holds values of dtype {dtype}; turn dates and durations into numbers first.")


def checked_weight(sample_weight: ArrayLike | None, X: Floats) -> Float64s:
    """
    Return the weights in float64, shape (n,); or shape (0,) when all rows weigh 1.

    Raises ValueError for another length, for values that are negative or not finite, and when all are 0.
    """
    if sample_weight is None:
        return np.empty(0)
    weight: Float64s = np.ascontiguousarray(_check_sample_weight(sample_weight, X, dtype=np.float64))
    if (weight < 0).any():
        raise ValueError(f"sample_weight has {int((weight < 0).sum())} negative values; weights start at 0.")
    if not weight.any():
        raise ValueError("sample_weight is 0 for every row; at least one must be positive.")
    return np.empty(0) if (weight == 1).all() else weight


def checked_centers(centers: Floats, n_clusters: int, n_features: int) -> Floats:
    """Return *centers*; ValueError unless their shape is (n_clusters, n_features)."""
    if centers.shape != (n_clusters, n_features):
        raise ValueError(
            f"The shape of the initial centers {centers.shape} does not match n_clusters={n_clusters} and "
            f"the number of features of the data {n_features}."
        )
    return centers


def _whole(name: str, value: Any, or_else: str = "") -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r} should be a whole number from 1{or_else}.")
    return int(value)
