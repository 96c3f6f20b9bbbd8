"""
`KMeans`: scikit-learn's estimator, with nbgrid's kernels beneath.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from nbgrid.kmeans import _checks
from nbgrid.kmeans._typing import Floats, Labels

# A later start must be better by more than rounding, so that equal clusterings do not take turns at winning.
CLEARLY_BETTER = 1 - 1e-10


class KMeans(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn ships no types
    TransformerMixin,  # type: ignore[misc]
    ClusterMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """
    k-means clustering with scikit-learn's parameters, attributes and methods.

    Parameters mean what they mean in `sklearn.cluster.KMeans`, except for these: X is neither copied nor modified
    whatever *copy_x* is; *algorithm* 'elkan' gives the same result by Lloyd's steps; a callable *init* is given X
    itself, not X less its mean. Sparse data is refused with a TypeError. Integers and float16 are computed in
    float64; so is float32 whose squared distances float32 cannot hold, and then the centres are float64 too.

    For one *random_state* the result is the same bits whatever the number of threads, which is numba's
    (NUMBA_NUM_THREADS, `numba.set_num_threads`). ``labels_ == predict(X)`` always, and ``inertia_`` is that of
    ``cluster_centers_``. ``converged_`` says whether the best run ended before *max_iter*; a `ConvergenceWarning`
    says so too.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> KMeans:
        """
        Cluster the rows of *X* and return self; *y* is ignored.

        X is (n, d), *sample_weight* (n,) of numbers from 0. Raises ValueError when either does not make sense or
        there are fewer rows than clusters, TypeError when X is sparse; warns with `ConvergenceWarning` when fewer
        distinct clusters than *n_clusters* were found or *max_iter* was reached.
        """
        from nbgrid.kmeans._data import measure
        from nbgrid.kmeans._iterate import Passes, lloyd
        from nbgrid.kmeans._threads import Workers

        n_clusters = _checks.checked_n_clusters(self.n_clusters)
        max_iter, tol = _checks.checked_max_iter(self.max_iter), _checks.checked_tol(self.tol)
        _checks.checked_algorithm(self.algorithm)
        _checks.refuse_times(X)
        rows = validate_data(self, X, dtype=[np.float64, np.float32], order="C", ensure_all_finite=False)
        _checks.enough_rows(rows, n_clusters)
        weight = _checks.checked_weight(sample_weight, rows)
        n_init = self._runs()
        random_state = check_random_state(self.random_state)
        best = None
        with Workers() as workers:
            data = measure(rows, weight, workers)
            shift = data.mean.astype(data.X.dtype).astype(np.float64)
            passes = Passes(data=data, shift=shift, n_clusters=n_clusters, workers=workers)
            for _ in range(n_init):
                start = self._start(passes, random_state)
                run = lloyd(passes, start, max_iter=max_iter, tol=tol * data.variance, verbose=bool(self.verbose))
                if best is None or run.inertia < best.inertia * CLEARLY_BETTER:
                    best = run
        assert best is not None
        self.cluster_centers_, self.labels_, self.inertia_ = best.centers, best.labels, best.inertia
        self.n_iter_, self.converged_ = best.n_iter, best.converged
        self._shift = shift
        self._n_features_out = n_clusters
        self._warn()
        return self

    def fit_predict(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Labels:
        """Return ``fit(X, sample_weight=sample_weight).labels_``."""
        labels: Labels = self.fit(X, sample_weight=sample_weight).labels_
        return labels

    def fit_transform(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Any:
        """Return ``fit(X, sample_weight=sample_weight).transform(X)``."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def predict(self, X: ArrayLike) -> Labels:
        """
        Return the index of the nearest centre for each row of *X*, int32, shape (n,); ties go to the lower index.
        """
        labels, _ = self._assign(X, None)
        return labels

    def score(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Return minus the inertia of *X* about the centres."""
        _, inertia = self._assign(X, sample_weight)
        return -inertia

    def transform(self, X: ArrayLike) -> Any:
        """Return the distance (not squared) of each row of *X* from each centre, shape (n, n_clusters)."""
        check_is_fitted(self)
        rows = self._rows(X, finite=True)
        shift = self._shift.astype(rows.dtype)
        # Distances do not change under a shift, but euclidean_distances is more accurate near the origin.
        return euclidean_distances(rows - shift, (self.cluster_centers_ - self._shift).astype(rows.dtype))

    def _rows(self, X: ArrayLike, *, finite: bool = False) -> Floats:
        _checks.refuse_times(X)
        rows = validate_data(self, X, reset=False, dtype=[np.float64, np.float32], order="C", ensure_all_finite=finite)
        wide: Floats = rows.astype(np.result_type(rows, self.cluster_centers_), copy=False)
        return wide

    def _assign(self, X: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Labels, float]:
        check_is_fitted(self)
        from nbgrid.kmeans._data import measure
        from nbgrid.kmeans._iterate import Passes
        from nbgrid.kmeans._threads import Workers

        rows = self._rows(X)
        weight = _checks.checked_weight(sample_weight, rows)
        with Workers() as workers:
            data = measure(rows, weight, workers, origin=self._shift)
            passes = Passes(data=data, shift=self._shift, n_clusters=len(self.cluster_centers_), workers=workers)
            return passes.assign(self.cluster_centers_)

    def _runs(self) -> int:
        poor = callable(self.init) or (isinstance(self.init, str) and self.init == "random")
        runs = _checks.checked_n_init(self.n_init, several=poor)
        if runs > 1 and not callable(self.init) and not isinstance(self.init, str):
            warnings.warn(
                f"Explicit initial centers passed: performing only one init instead of n_init={runs}.",
                RuntimeWarning,
                stacklevel=3,
            )
            return 1
        return runs

    def _start(self, passes: Any, random_state: np.random.RandomState) -> Floats:
        """
        Return the centres to start from, (k, d), as *init* says.
        """
        from nbgrid.kmeans._samples import starting_centers

        X, k = passes.data.X, passes.n_clusters
        chosen: Floats
        if isinstance(self.init, str):
            if self.init == "k-means++":
                chosen = starting_centers(passes.data, k, self.tol, random_state, passes.workers)
            elif self.init == "random":
                weight = passes.data.weight_of_rows
                chosen = X[random_state.choice(len(X), size=k, replace=False, p=weight / weight.sum())]
            else:
                raise ValueError(f"init={self.init!r} should be 'k-means++', 'random', an array or a callable.")
        else:
            given = self.init(X, k, random_state=random_state) if callable(self.init) else self.init
            chosen = check_array(given, dtype=X.dtype, order="C", input_name="init")
            _checks.checked_centers(chosen, k, X.shape[1])
        return chosen

    def _warn(self) -> None:
        distinct = np.count_nonzero(np.bincount(self.labels_))
        if distinct < len(self.cluster_centers_):
            warnings.warn(
                f"Number of distinct clusters ({distinct}) found smaller than n_clusters "
                f"({len(self.cluster_centers_)}). Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=3,
            )
        if not self.converged_:
            warnings.warn(
                f"k-means did not converge within max_iter={self.n_iter_}; labels_ are those of the last centers.",
                ConvergenceWarning,
                stacklevel=3,
            )
