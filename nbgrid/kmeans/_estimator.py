"""
`KMeans`: scikit-learn's estimator, with nbgrid's kernels beneath.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from nbgrid.kmeans import _checks, _files, _measures
from nbgrid.kmeans._typing import Floats, Labels

if TYPE_CHECKING:
    from nbgrid.kmeans._iterate import Clustering, Passes

Result = TypeVar("Result")

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
    whatever *copy_x* is; a callable *init* is given X itself, not X less its mean; *algorithm* is 'auto', 'lloyd'
    (without bounds) or 'hamerly' (with them), which give the same bits, and 'elkan' means 'auto'. Sparse data is refused
    with a TypeError. Integers and float16 are computed in float64; so is float32 whose squared distances float32 cannot
    hold, and then the centres are float64 too.

    With *warm_start* a fit goes on from the centres of the last one. *max_time*, in seconds, ends a fit after the
    iteration that passes it, and no further start of *n_init* begins then.

    For one *random_state* the result is the same bits whatever the number of threads, which is numba's
    (NUMBA_NUM_THREADS, `numba.set_num_threads`), unless *max_time* ends the fit. ``labels_ == predict(X)`` always, and
    ``inertia_`` is that of ``cluster_centers_``; ``msd_`` is the inertia over the weight of all rows. ``converged_`` says
    whether the best run came to its end; a `ConvergenceWarning` says so too.
    """

    cluster_centers_: Floats
    labels_: Labels
    inertia_: float
    msd_: float
    n_iter_: int
    converged_: bool

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
        algorithm: str = "auto",
        warm_start: bool = False,
        max_time: float | None = None,
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
        self.warm_start = warm_start
        self.max_time = max_time

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """
        Cluster the rows of *X* and return self; *y* is ignored.

        X is (n, d), *sample_weight* (n,) of numbers from 0. Raises ValueError when either does not make sense or
        there are fewer rows than clusters, TypeError when X is sparse; warns with `ConvergenceWarning` when fewer
        distinct clusters than *n_clusters* were found, or *max_iter* or *max_time* was reached.
        """
        from nbgrid.kmeans._data import measure
        from nbgrid.kmeans._iterate import Passes
        from nbgrid.kmeans._threads import Workers

        max_time = _checks.checked_max_time(self.max_time)
        deadline = None if max_time is None else perf_counter() + max_time
        n_clusters = _checks.checked_n_clusters(self.n_clusters)
        warm = bool(self.warm_start) and hasattr(self, "cluster_centers_")
        if warm:
            _checks.goes_on(n_clusters, len(self.cluster_centers_))
        options = self._options()
        rows = _checks.checked_rows(self, X, reset=not warm)
        _checks.enough_rows(rows, n_clusters)
        weight = _checks.checked_weight(sample_weight, rows)
        n_init = 1 if warm else self._runs()
        with Workers() as workers:
            data = measure(rows, weight, workers)
            shift = data.mean.astype(data.X.dtype).astype(np.float64)
            passes = Passes(data=data, shift=shift, n_clusters=n_clusters, workers=workers)
            options["tol"] *= data.variance
            starts = self._starts(passes, n_init, warm=warm, deadline=deadline)
            best, done = _best(passes, starts, deadline=deadline, **options)
        self.cluster_centers_, self.labels_, self.inertia_ = best.centers, best.labels, best.inertia
        self.n_iter_, self.converged_, self.msd_ = best.n_iter, best.converged, _measures.msd(best.inertia, data)
        self._shift = shift
        self._n_features_out = n_clusters
        self._warn(n_init, done)
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
        return self._over(X, None, lambda passes: passes.assign(self.cluster_centers_)[0])

    def score(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Return minus the inertia of *X* about the centres."""
        return -self.measure(X, "inertia", sample_weight)

    def measure(
        self, X: ArrayLike, name: _measures.Measure = "inertia", sample_weight: ArrayLike | None = None
    ) -> float:
        """
        Return how far the rows of *X* lie from their nearest centres, by the measure *name*.

        'inertia' is the sum of squared distances, 'msd' their mean, 'mean_distance' the mean of the distances
        themselves; each row counts by its weight. Raises ValueError for another name.
        """
        name = _measures.checked_measure(name)
        return self._over(X, sample_weight, lambda passes: _measures.measured(name, passes, self.cluster_centers_))

    def transform(self, X: ArrayLike) -> Any:
        """Return the distance (not squared) of each row of *X* from each centre, shape (n, n_clusters)."""
        rows = self._rows(X, finite=True)
        shift = self._shift.astype(rows.dtype)
        # Distances do not change under a shift, but euclidean_distances is more accurate near the origin.
        return euclidean_distances(rows - shift, (self.cluster_centers_ - self._shift).astype(rows.dtype))

    def save(self, path: str | os.PathLike[str], *, labels: bool = True) -> None:
        """
        Write the fitted model to *path*, in one step: an .npz of arrays and JSON, without pickles.

        `labels_` is left out if *labels* is False. *path* is used as it is. Raises NotFittedError before a fit, and
        TypeError where *init* is a callable or *random_state* a generator, which a file cannot hold.
        """
        self._check_fitted()
        _files.save(self, path, labels=labels)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """
        Return the model that `save` wrote to *path*; it predicts the same bits. An array-like *init* is an array now.

        Nothing in the file is executed. Raises ValueError, with the path, for a file that is not whole or of another
        format, for a newer version, and for parts that do not fit together.
        """
        return _files.load(cls, path)

    def _check_fitted(self) -> None:
        # check_is_fitted asks for the estimator's tags, which takes as long as a small prediction.
        if not hasattr(self, "cluster_centers_"):
            check_is_fitted(self, "cluster_centers_")

    def _rows(self, X: ArrayLike, *, finite: bool = False) -> Floats:
        self._check_fitted()
        rows = _checks.checked_rows(self, X, reset=False, finite=finite)
        wide: Floats = rows.astype(np.result_type(rows, self.cluster_centers_), copy=False)
        return wide

    def _over(self, X: ArrayLike, sample_weight: ArrayLike | None, ask: Callable[[Passes], Result]) -> Result:
        """
        Return what *ask* finds in passes over the rows of *X*.
        """
        from nbgrid.kmeans._data import measure
        from nbgrid.kmeans._iterate import Passes
        from nbgrid.kmeans._threads import Workers

        rows = self._rows(X)
        weight = _checks.checked_weight(sample_weight, rows)
        with Workers() as workers:
            data = measure(rows, weight, workers, origin=self._shift)
            return ask(Passes(data=data, shift=self._shift, n_clusters=len(self.cluster_centers_), workers=workers))

    def _options(self) -> dict[str, Any]:
        """
        Return what `lloyd` is told, checked; *tol* is still relative to the variance.
        """
        return {
            "max_iter": _checks.checked_max_iter(self.max_iter),
            "tol": _checks.checked_tol(self.tol),
            "algorithm": _checks.checked_algorithm(self.algorithm),
            "verbose": bool(self.verbose),
        }

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

    def _starts(self, passes: Passes, n_init: int, *, warm: bool, deadline: float | None) -> Iterator[Floats]:
        """
        Yield the centres of each start, (k, d): those of the last fit if *warm*, else as *init* says.
        """
        X, k = passes.data.X, passes.n_clusters
        if warm or not (isinstance(self.init, str) or callable(self.init)):
            yield _checks.checked_centers(self.cluster_centers_ if warm else self.init, k, X)
            return
        random_state = check_random_state(self.random_state)
        for _ in range(n_init):
            if callable(self.init):
                yield _checks.checked_centers(self.init(X, k, random_state=random_state), k, X)
            else:
                yield _drawn(self.init, passes, self.tol, random_state, deadline)

    def _warn(self, n_init: int, done: int) -> None:
        wanted = len(self.cluster_centers_)
        found = np.count_nonzero(_measures.sizes(self.labels_, np.empty(0), wanted)[0])
        messages = []
        if found < wanted:
            messages.append(
                f"Number of distinct clusters ({found}) found smaller than n_clusters ({wanted}). "
                "Possibly due to duplicate points in X; ask for fewer clusters."
            )
        last = "labels_ are those of the last centers. To go on from them, set warm_start=True and fit again"
        if not self.converged_ and self.n_iter_ < self.max_iter:
            messages.append(
                f"k-means did not converge within max_time={self.max_time} s, in {self.n_iter_} iterations; {last}."
            )
        elif not self.converged_:
            messages.append(f"k-means did not converge within max_iter={self.n_iter_}; {last}, or raise tol.")
        elif done < n_init:
            messages.append(
                f"max_time={self.max_time} s had passed after {done} of n_init={n_init} starts, and the best run is kept. "
                "Raise max_time, or lower n_init."
            )
        for message in messages:
            warnings.warn(message, ConvergenceWarning, stacklevel=3)


def _best(passes: Passes, starts: Iterator[Floats], *, max_iter: int, **options: Any) -> tuple[Clustering, int]:
    """
    Return the best of the runs from *starts*, and how many of them the deadline did not end; after it none begins.
    """
    from nbgrid.kmeans._iterate import lloyd

    best, done = None, 0
    for start in starts:
        run = lloyd(passes, start, max_iter=max_iter, **options)
        done += run.converged or run.n_iter == max_iter
        if best is None or run.inertia < best.inertia * CLEARLY_BETTER:
            best = run
        if options["deadline"] is not None and perf_counter() > options["deadline"]:
            break
    assert best is not None
    return best, done


def _drawn(
    init: str, passes: Passes, tol: float, random_state: np.random.RandomState, deadline: float | None
) -> Floats:
    """
    Return rows, or what they lead to, as the start that *init* names.
    """
    from nbgrid.kmeans._samples import starting_centers

    data, k = passes.data, passes.n_clusters
    if init == "k-means++":
        return starting_centers(data, k, tol, random_state, passes.workers, deadline=deadline)
    if init != "random":
        raise ValueError(f"init={init!r} should be 'k-means++', 'random', an array or a callable.")
    weight = data.weight_of_rows
    chosen: Floats = data.X[random_state.choice(len(data.X), size=k, replace=False, p=weight / weight.sum())]
    return chosen
