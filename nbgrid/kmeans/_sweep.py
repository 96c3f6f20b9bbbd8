"""
`sweep`: k-means over many k at once, and what its curve holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from nbgrid.kmeans import _checks, _estimator
from nbgrid.kmeans._swept import KMeans
from nbgrid.kmeans._typing import Float64s, Floats, Indices

if TYPE_CHECKING:
    import pandas as pd

    from nbgrid.kmeans._fits import Fit, Settings
    from nbgrid.kmeans._quality import Separation
    from nbgrid.kmeans._silhouette import Silhouette

Measure: TypeAlias = Literal[
    "inertia",
    "msd",
    "mean_distance",
    "calinski_harabasz",
    "davies_bouldin",
    "simplified_silhouette",
    "bic",
    "largest_share",
]
MEASURES: tuple[Measure, ...] = get_args(Measure)

# Those that take another pass over the data.
SEPARATION = {"mean_distance", "davies_bouldin", "simplified_silhouette"}

# What a sweep shows of itself, and of how many k at most.
SHOWN = ("k", "inertia", "msd", "iterations", "seconds", "largest")
MOST_SHOWN = 30


def sweep(
    X: ArrayLike,
    n_clusters: Iterable[int],
    *,
    sample_weight: ArrayLike | None = None,
    max_iter: int = 300,
    tol: float = 1e-4,
    random_state: Any = None,
    callback: Callable[[KMeans], object] | None = None,
    client: Any = None,
) -> Sweep:
    """
    Fit k-means for every one of *n_clusters* and return the `Sweep` that holds them.

    X is (n, d), *sample_weight* (n,) of numbers from 0; *max_iter* and *tol* are those of `KMeans`. One seeding serves
    all k, and each k is also started from where the one before it ended; the better is kept, so that inertia never
    rises with k by more than rounding. *callback* is called with the fitted `KMeans` of each k, in ascending order, as
    soon as it is known. With a `distributed.Client` as *client* each k is fitted by tasks of its own on the workers.

    X must stay as it is while the sweep is used: its labels and most of its measures are computed when first asked
    for. Raises ValueError when data or numbers do not make sense, TypeError when X is sparse; warns once, with
    `ConvergenceWarning`, of every k that *max_iter* ended or that found fewer distinct clusters.
    """
    from nbgrid.kmeans._fits import Settings

    ks = _checked_ks(n_clusters)
    settings = Settings(max_iter=_checks.checked_max_iter(max_iter), tol=_checks.checked_tol(tol))
    like = _estimator.KMeans(max_iter=settings.max_iter, tol=settings.tol, random_state=random_state)
    rows = _checks.checked_rows(like, X, reset=True)
    _checks.enough_rows(rows, ks[-1])
    weight = _checks.checked_weight(sample_weight, rows)
    parameters = like.get_params(deep=False)
    features = {name: value for name, value in vars(like).items() if name not in parameters}
    result = Sweep(rows, weight)
    with closing(_fits(rows, weight, ks, settings, check_random_state(random_state), client)) as found:
        for fit in found:
            k = len(fit.centers)
            result._fits[k], result._models[k] = fit, KMeans.of(fit, rows, parameters, features)
            if callback is not None:
                callback(result[k])
    _warn(result._fits, settings.max_iter)
    return result


class Sweep:
    """
    The fitted models of a sweep, in ascending order of k: iterate over it, or take one by its k as ``sweep[5]``.
    """

    def __init__(self, rows: Floats, weight: Float64s) -> None:
        self._rows, self._weight = rows, weight
        self._models: dict[int, KMeans] = {}
        self._fits: dict[int, Fit] = {}
        self._separations: dict[int, Separation] = {}
        self._spread: float | None = None

    def __iter__(self) -> Iterator[KMeans]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def __getitem__(self, k: int) -> KMeans:
        self._check(k)
        return self._models[k]

    @property
    def n_clusters(self) -> list[int]:
        """Every k, ascending."""
        return list(self._models)

    @property
    def inertias(self) -> Float64s:
        """The inertia of each k."""
        return self.curve("inertia")

    @property
    def sizes(self) -> dict[int, Indices]:
        """For each k, how many rows each cluster has."""
        return {k: fit.sizes for k, fit in self._fits.items()}

    @property
    def seconds(self) -> dict[int, float]:
        """For each k, how long it took; the seeding, which serves all, counts for the first."""
        return {k: fit.seconds for k, fit in self._fits.items()}

    def curve(self, measure: Measure) -> Float64s:
        """
        Return *measure* for each k; NaN where it is not defined, as most are for one cluster.

        'inertia', 'msd' (mean squared distance), 'calinski_harabasz', 'bic' and 'largest_share' (of the rows' weight
        in one cluster) cost nothing; 'mean_distance', 'davies_bouldin' and 'simplified_silhouette' take one more pass
        over the data for each k, the first time that any of the three is asked for. Weights count as repetitions.
        """
        if measure not in MEASURES:
            raise ValueError(f"measure={measure!r} should be one of {_checks.listed(MEASURES)}.")
        if measure in SEPARATION:
            self._separate()
        return np.array([self._value(measure, k, fit) for k, fit in self._fits.items()])

    def silhouette(self, k: int, *, random_state: Any = None) -> Silhouette:
        """
        Return the mean silhouette of the *k* clusters, with its standard error: exact for up to some 50 000 rows.

        Of more rows a sample is taken in which every cluster has its part; *random_state* draws it. Unlike the
        simplified silhouette, which looks at distances from centres, it compares every row with every other.
        """
        from nbgrid.kmeans._fits import measured
        from nbgrid.kmeans._silhouette import measure_silhouettes, sample_of
        from nbgrid.kmeans._threads import Workers

        self._check(k)
        fit = self._fits[k]
        with Workers() as workers:
            data, _ = measured(self._rows, self._weight, workers)
            sample = sample_of(data, [fit.centers], fit.shift, check_random_state(random_state), workers)
            return measure_silhouettes(sample, workers)[0]

    def to_frame(self) -> pd.DataFrame:
        """
        Return a frame with a row for each k and all measures; those that are not known yet are computed.
        """
        import pandas as pd

        fits = self._fits.values()
        columns: dict[str, Any] = {"n_clusters": self.n_clusters}
        columns |= {name: self.curve(name) for name in ("inertia", "msd", "mean_distance")}
        columns |= {name: [getattr(fit, name) for fit in fits] for name in ("n_iter", "converged", "seconds")}
        columns |= {name: self.curve(name) for name in MEASURES[3:]}
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        rows = ("".join(f"{cell:>14}" for cell in row) for row in [SHOWN, *self._table()])
        return "\n".join([self._title(), *rows])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in SHOWN)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in self._table())
        return f"<table><caption>{self._title()}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _title(self) -> str:
        n, d = self._rows.shape
        return f"Sweep of {n} rows × {d} features: {len(self)} k in {sum(self.seconds.values()):.3g} s"

    def _table(self) -> list[tuple[str, ...]]:
        """Return the cells of what is known without another pass over the data."""
        msd, largest = self.curve("msd"), self.curve("largest_share")
        cells: list[tuple[str, ...]] = [
            (str(k), f"{fit.inertia:.6g}", f"{msd[i]:.6g}", _iterations(fit), f"{fit.seconds:.3g}", f"{largest[i]:.1%}")
            for i, (k, fit) in enumerate(self._fits.items())
        ]
        if len(cells) <= MOST_SHOWN:
            return cells
        return [*cells[: MOST_SHOWN // 2], ("…",) * len(SHOWN), *cells[-(MOST_SHOWN // 2) :]]

    def _check(self, k: int) -> None:
        if k not in self._fits:
            raise KeyError(f"this sweep has no k = {k!r}; it has {', '.join(map(str, self.n_clusters))}")

    def _value(self, measure: Measure, k: int, fit: Fit) -> float:
        from nbgrid.kmeans._quality import bic, calinski_harabasz

        weight = float(fit.weights.sum())
        match measure:
            case "inertia":
                return fit.inertia
            case "msd":
                return fit.inertia / weight
            case "largest_share":
                return float(fit.weights.max()) / weight
            case "bic":
                return bic(fit.inertia, fit.weights, self._rows.shape[1])
            case "calinski_harabasz":
                return calinski_harabasz(self._whole(), fit.inertia, weight, k)
            case _:
                return float(getattr(self._separations[k], measure))

    def _whole(self) -> float:
        """Return the inertia of one cluster."""
        if self._spread is None:
            from nbgrid.kmeans._fits import spread
            from nbgrid.kmeans._threads import Workers

            with Workers() as workers:
                self._spread = spread(self._rows, self._weight, workers)
        return self._spread

    def _separate(self) -> None:
        """Take the passes that some measures need, where that has not been done."""
        missing = self._fits.keys() - self._separations.keys()
        if not missing:
            return
        from nbgrid.kmeans._fits import measured
        from nbgrid.kmeans._quality import separation
        from nbgrid.kmeans._threads import Workers

        with Workers() as workers:
            data, _ = measured(self._rows, self._weight, workers)
            for k in missing:
                self._separations[k] = separation(data, self._fits[k].centers, workers)


def _iterations(fit: Fit) -> str:
    return f"{fit.n_iter}{'' if fit.converged else ', cut'}"


def _checked_ks(n_clusters: Any) -> list[int]:
    """Return the numbers sorted, each once."""
    if isinstance(n_clusters, str | bytes) or not isinstance(n_clusters, Iterable):
        raise ValueError(f"n_clusters={n_clusters!r} should be several whole numbers, such as range(1, 11).")
    ks = sorted({_checks.checked_n_clusters(k) for k in n_clusters})
    if not ks:
        raise ValueError("n_clusters is empty; it should be several whole numbers, such as range(1, 11).")
    return ks


def _fits(
    rows: Floats, weight: Float64s, ks: list[int], settings: Settings, random_state: Any, client: Any
) -> Generator[Fit]:
    """Yield the `Fit` of each k, computed here or, if there is a *client*, on its workers."""
    if client is not None:
        from nbgrid.kmeans._fanout import fan_out

        yield from fan_out(client, rows, weight, ks, settings, random_state)
        return
    from nbgrid.kmeans._fits import fits
    from nbgrid.kmeans._threads import Workers

    with Workers() as workers:
        yield from fits(rows, weight, ks, settings, random_state, workers)


def _warn(fits: dict[int, Fit], max_iter: int) -> None:
    cut = [k for k, fit in fits.items() if not fit.converged]
    few = [k for k, fit in fits.items() if (fit.sizes == 0).any()]
    if cut:
        warnings.warn(
            f"k-means did not converge within max_iter={max_iter} for n_clusters {', '.join(map(str, cut))}.",
            ConvergenceWarning,
            stacklevel=3,
        )
    if few:
        warnings.warn(
            f"Fewer distinct clusters than n_clusters were found for n_clusters {', '.join(map(str, few))}. Possibly "
            "due to duplicate points in X.",
            ConvergenceWarning,
            stacklevel=3,
        )
