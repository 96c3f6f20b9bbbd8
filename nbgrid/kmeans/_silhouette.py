"""
The silhouette: of all rows where that is affordable, else of a sample in which every cluster has its part.

A sample drawn without regard to clusters can miss small ones altogether (scikit-learn#11676). Here rows are drawn by
stratum, the clusters of one clustering, and weighted back. There are two samples: the rows whose silhouettes are
computed, and many more, those among them, that stand for all neighbours. The standard error counts the first alone,
so the second must be so much larger that what it adds may be left out (NEIGHBOURS).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nbgrid.kmeans._data import Data
from nbgrid.kmeans._distances import silhouettes
from nbgrid.kmeans._iterate import Passes
from nbgrid.kmeans._threads import MOST_SLABS, Workers
from nbgrid.kmeans._typing import Float64s, Floats, Indices, Labels

# Distances, in units of a quarter of a nanosecond (see `affordable`), that are computed unless less is asked for: some
# two seconds on two cores, and enough for all of nearly 50 000 rows of few features.
AFFORDABLE = 2**34

# Neighbours to each row whose silhouette is computed: their sampling adds a twentieth to the variance.
NEIGHBOURS = 20

# Rows of each stratum at least, where it has so many: for a variance within it, and for a mean distance from it.
FEWEST, FEWEST_NEIGHBOURS = 10, 100

# Rows whose strata are held at once.
BLOCK = 65536

NO_WEIGHT: Float64s = np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silhouette:
    """The mean silhouette of a clustering, after Rousseeuw (1987)."""

    value: float
    """From -1 to 1; NaN where there is one cluster."""

    standard_error: float
    """What sampling may have changed; 0 where it is exact."""

    n_rows: int
    """How many rows' silhouettes were averaged."""

    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Rows that stand for all rows, and which of them are asked for their silhouettes."""

    rows: Floats
    """(m, d)"""

    weight: Float64s
    """(m,): how much of the data each row stands for."""

    labels: Labels
    """(m, l): by each of the clusterings; the last one's clusters are the strata."""

    totals: Float64s
    """(l, k): the weight of each clustering's clusters."""

    asked: Indices
    """The numbers of the rows that are."""

    sizes: Float64s
    """How many rows of the data each stratum has."""

    weights: Float64s
    """And their weight."""

    complete: bool
    """Whether it is all rows."""


def sample_of(
    data: Data,
    clusterings: Sequence[Floats],
    shift: Float64s,
    random_state: np.random.RandomState,
    workers: Workers,
    *,
    work: float = AFFORDABLE,
) -> Sample:
    """
    Return all rows of *data*, or as large a `Sample` of them as *work* allows.

    *clusterings* are arrays of centres; the last must be the finest.
    """
    asked = affordable(len(data.X), data.X.shape[1], len(clusterings), work)
    if asked == len(data.X):
        return _everything(data, clusterings, shift, workers)
    return _drawn(data, clusterings, shift, asked, random_state, workers)


def measure_silhouettes(sample: Sample, workers: Workers) -> list[Silhouette]:
    """
    Return the `Silhouette` of each clustering of *sample*.

    Every distance is computed once, for all of them: O(n² d) time for all of n rows, O(n) memory. A row's weight is
    that of as many neighbours, but not for itself.
    """
    result = np.empty((len(sample.asked), len(sample.totals)))

    def task(_: int, start: int, stop: int) -> None:
        silhouettes(sample.rows, sample.weight, sample.labels, sample.totals, sample.asked, result, start, stop)

    count = min(MOST_SLABS, -(-len(result) // 64))
    workers.map(task, np.linspace(0, len(result), count + 1).astype(np.intp))
    return [_mean(sample, values) for values in result.T]


def affordable(n_samples: int, n_features: int, n_clusterings: int, work: float) -> int:
    """
    Return how many rows may be asked for their silhouettes: all, or as many as *work* and their neighbours allow.
    """
    # A pair was measured to take 1.5 ns, 0.07 ns more a feature and 0.28 ns more a clustering.
    pairs = work / (6 + n_features / 4 + n_clusterings)
    if n_samples**2 <= pairs:
        return n_samples
    asked = math.sqrt(pairs / NEIGHBOURS)
    # Where nearly all rows would be neighbours, all are, and the rest of the work goes into asking more.
    return max(1, int(asked if NEIGHBOURS * asked < n_samples else pairs / n_samples))


def _everything(data: Data, clusterings: Sequence[Floats], shift: Float64s, workers: Workers) -> Sample:
    labels, weight = _labels(data, clusterings, shift, workers), data.weight_of_rows
    return Sample(
        rows=data.X,
        weight=weight,
        labels=labels,
        totals=_totals(labels, weight, clusterings),
        asked=np.flatnonzero(weight > 0),
        sizes=np.bincount(labels[:, -1]).astype(np.float64),
        weights=np.bincount(labels[:, -1], weight).astype(np.float64),
        complete=True,
    )


def _drawn(
    data: Data,
    clusterings: Sequence[Floats],
    shift: Float64s,
    asked: int,
    random_state: np.random.RandomState,
    workers: Workers,
) -> Sample:
    """
    Return a sample in which about *asked* rows are asked. The data is read twice, a block at a time.
    """
    finest, n = clusterings[-1], len(data.X)
    sizes, weights = np.zeros(len(finest)), np.zeros(len(finest))
    for block, strata in _strata(data, finest, shift, workers):
        sizes += np.bincount(strata, minlength=len(finest))
        weights += np.bincount(strata, data.weight[block] if data.weight.size else None, minlength=len(finest))
    rates = np.maximum(NEIGHBOURS * asked / n, FEWEST_NEIGHBOURS / np.maximum(sizes, 1))
    places = np.concatenate(
        [
            block.start + np.flatnonzero(random_state.uniform(size=len(strata)) < rates[strata])
            for block, strata in _strata(data, finest, shift, workers)
        ]
    )
    part = replace(data, X=data.X[places], weight=data.weight[places] if data.weight.size else data.weight)
    labels = _labels(part, clusterings, shift, workers)
    strata, weight = labels[:, -1], part.weight_of_rows
    drawn = np.bincount(strata, weight, minlength=len(finest))
    worth = weight * (weights / np.where(drawn > 0, drawn, 1))[strata]
    return Sample(
        rows=part.X,
        weight=worth,
        labels=labels,
        totals=_totals(labels, worth, clusterings),
        asked=_asked(strata, weight, np.maximum(FEWEST, sizes * asked / n), random_state),
        sizes=sizes,
        weights=weights,
        complete=False,
    )


def _strata(data: Data, centers: Floats, shift: Float64s, workers: Workers) -> Iterator[tuple[slice, Labels]]:
    """Yield blocks of rows and their labels."""
    for start in range(0, len(data.X), BLOCK):
        block = slice(start, min(start + BLOCK, len(data.X)))
        yield block, _labels(replace(data, X=data.X[block], weight=NO_WEIGHT), [centers], shift, workers)[:, 0]


def _labels(data: Data, clusterings: Sequence[Floats], shift: Float64s, workers: Workers) -> Labels:
    """Return the labels of the rows in each clustering, (n, l)."""
    labels = np.empty((len(data.X), len(clusterings)), dtype=np.int32)
    for column, centers in enumerate(clusterings):
        passes = Passes(data=data, shift=shift, n_clusters=len(centers), workers=workers)
        labels[:, column] = passes.assign(centers)[0]
    return labels


def _asked(strata: Labels, weight: Float64s, wanted: Float64s, random_state: np.random.RandomState) -> Indices:
    """
    Return rows with weight, drawn at random: of each stratum as many as *wanted*, or all.
    """
    order = random_state.permutation(len(strata))
    order = order[weight[order] > 0]
    order = order[np.argsort(strata[order], kind="stable")]
    starts = np.searchsorted(strata[order], np.arange(len(wanted)))
    turn = np.arange(len(order)) - starts[strata[order]]
    return np.sort(order[turn < np.ceil(wanted)[strata[order]]])


def _totals(labels: Labels, weight: Float64s, clusterings: Sequence[Floats]) -> Float64s:
    """Return the weight of each cluster of each clustering, (l, k)."""
    most = max(len(centers) for centers in clusterings)
    return np.array([np.bincount(column, weight, minlength=most) for column in labels.T], dtype=np.float64)


def _mean(sample: Sample, values: Float64s) -> Silhouette:
    """
    Return the mean of the *values* of the rows that are asked: Cochran (1977), "Sampling Techniques", chapter 5.
    """
    strata, weight = sample.labels[sample.asked, -1], sample.weight[sample.asked]
    many = len(sample.sizes)
    numbers, totals = np.bincount(strata, minlength=many), np.bincount(strata, weight, minlength=many)
    some = numbers > 0
    share = np.where(some, sample.weights, 0) / sample.weights[some].sum()
    divisor = np.where(some, totals, 1)
    means = np.bincount(strata, weight * values, minlength=many) / divisor
    value, error = float(share @ means), 0.0
    if not sample.complete:
        squares = np.bincount(strata, (weight * (values - means[strata])) ** 2, minlength=many) / divisor**2
        variances = squares * numbers / np.maximum(numbers - 1, 1) * (1 - numbers / np.maximum(sample.sizes, 1))
        error = math.sqrt(float(share**2 @ variances))
    return Silhouette(value=value, standard_error=error, n_rows=len(values), exact=sample.complete)
