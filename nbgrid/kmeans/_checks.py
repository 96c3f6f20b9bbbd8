"""
What callers give, checked before anything is computed. Messages name the parameter, what it is and what it may be.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight, validate_data

from nbgrid.kmeans._typing import Float64s, Floats

Algorithm = Literal["auto", "lloyd", "hamerly", "elkan"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)

DTYPES = (np.float64, np.float32)
"""What is computed in; anything else becomes the first."""


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


def checked_algorithm(algorithm: Any) -> Algorithm:
    """Return the algorithm to run: 'elkan' is scikit-learn's word, and means 'auto' here; ValueError for others."""
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm={algorithm!r} should be {listed(ALGORITHMS)}.")
    return "auto" if algorithm == "elkan" else algorithm


def checked_max_time(max_time: Any) -> float | None:
    """Return *max_time* in seconds, or None for as long as it takes; ValueError unless it is positive and finite."""
    if max_time is None:
        return None
    if isinstance(max_time, bool) or not isinstance(max_time, Real) or not 0 < float(max_time) < np.inf:
        raise ValueError(f"max_time={max_time!r} should be a number of seconds above 0, or None.")
    return float(max_time)


def listed(names: tuple[str, ...]) -> str:
    """Return *names* as a sentence has them: 'a', 'b' or 'c'."""
    *most, last = map(repr, names)
    return f"{', '.join(most)} or {last}"


def is_plain(X: Any) -> bool:
    """Return whether *X* is an array as the kernels take it: nothing to convert, nothing to refuse but its values."""
    return (
        type(X) is np.ndarray
        and X.dtype in DTYPES
        and X.ndim == 2
        and X.size > 0
        and X.flags.c_contiguous
        and X.flags.aligned
    )


def checked_rows(model: Any, X: Any, *, reset: bool, finite: bool = False) -> Floats:
    """
    Return *X* as rows of float32 or float64; set *model*'s n_features_in_ and feature names if *reset*, else check them.

    Values are looked at only if *finite*. An array that is plain skips scikit-learn's `validate_data`, which takes longer
    than a fit of some hundred rows; a model with feature names does not, since it may have to warn.
    """
    if not finite and is_plain(X) and not hasattr(model, "feature_names_in_"):
        if reset:
            model.n_features_in_ = X.shape[1]
        if X.shape[1] == model.n_features_in_:
            return X  # type: ignore[no-any-return]
    refuse_times(X)
    rows: Floats = validate_data(model, X, reset=reset, dtype=DTYPES, order="C", ensure_all_finite=finite)
    return rows


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


def checked_centers(given: Any, n_clusters: int, like: Floats) -> Floats:
    """Return the centres *given* in the dtype of *like*; ValueError unless finite and (n_clusters, features of *like*)."""
    plain = is_plain(given) and given.dtype == like.dtype and np.isfinite(given).all()
    centers: Floats = given if plain else check_array(given, dtype=like.dtype, order="C", input_name="init")
    if centers.shape != (n_clusters, like.shape[1]):
        raise ValueError(
            f"The shape of the initial centers {centers.shape} does not match n_clusters={n_clusters} and "
            f"the number of features of the data {like.shape[1]}."
        )
    return centers


def goes_on(n_clusters: int, present: int) -> None:
    """ValueError when a warm start finds another number of centres than it should make."""
    if n_clusters != present:
        raise ValueError(
            f"warm_start=True starts from the {present} centers of the last fit, but n_clusters={n_clusters}; "
            f"set n_clusters={present}, or warm_start=False to start anew."
        )


def _whole(name: str, value: Any, or_else: str = "") -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r} should be a whole number from 1{or_else}.")
    return int(value)
