"""Measures of a clustering's quality: judged by scikit-learn, by their definitions, and by what sampling may change."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import sq_distances
from sklearn.datasets import make_blobs
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_samples, silhouette_score

from nbgrid.kmeans import KMeans, sweep
from nbgrid.kmeans import _silhouette as silhouette
from nbgrid.kmeans._fits import measured
from nbgrid.kmeans._quality import bic, davies_bouldin
from nbgrid.kmeans._sweep import Measure
from nbgrid.kmeans._threads import Workers

EMPTY = np.empty(0)
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def problem(seed, *, n=None):
    """Random data of *seed*: some clusters, some spread, an offset; distinct rows."""
    rng = np.random.default_rng(seed)
    n, d = n or int(rng.integers(12, 300)), int(rng.integers(1, 12))
    mu = rng.uniform(-10, 10, (int(rng.integers(1, 6)), d))
    return mu[rng.integers(0, len(mu), n)] + rng.standard_normal((n, d)) * rng.uniform(0.1, 5) + rng.uniform(-50, 50)


def silhouettes(X, centers, *, weight=EMPTY, work=1e15, random_state=0, threads=None):
    """Return the silhouettes of X by each of *centers*."""
    with Workers(threads) as workers:
        data, shift = measured(np.ascontiguousarray(X), weight, workers)
        sample = silhouette.sample_of(data, centers, shift, np.random.RandomState(random_state), workers, work=work)
        return silhouette.measure_silhouettes(sample, workers)


def weighted_silhouette(X, labels, weight):
    """Return the mean silhouette with weights, as the definition has it: a neighbour counts as often as it weighs."""
    distances = np.sqrt(sq_distances(X, X))
    values = []
    for i, own in enumerate(labels):
        others = {j: weight * (labels == j) * (np.arange(len(X)) != i) for j in set(labels)}
        if not others[own].any():
            values.append(0.0)
            continue
        a = np.average(distances[i], weights=others.pop(own))
        b = min(np.average(distances[i], weights=part) for part in others.values() if part.any())
        values.append((b - a) / max(a, b))
    return np.average(values, weights=weight)


@quiet
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_closed_forms__are_scikit_learn_s(seed):
    """
    Calinski–Harabasz and Davies–Bouldin of a sweep that ran to its end are scikit-learn's of the same labels.
    """
    X = problem(seed)
    result = sweep(X, [2, 3, 5], tol=0, random_state=seed)
    for name, score in (("calinski_harabasz", calinski_harabasz_score), ("davies_bouldin", davies_bouldin_score)):
        expected = [score(X, model.labels_) for model in result]
        # scikit-learn takes distances from norms: a cluster of one row has a width of 1e-7.
        np.testing.assert_allclose(result.curve(name), expected, rtol=1e-6)


@quiet
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["f8", "f4"]))
def test_one_pass_measures__are_those_of_the_distances(seed, weighted, dtype):
    """
    Mean distance and simplified silhouette are what a table of all distances from all centres gives, weights counted.
    """
    X = problem(seed).astype(dtype)
    weight = np.random.default_rng(seed).integers(0, 4, len(X)).astype(float) if weighted else np.ones(len(X))
    weight[0] = 1
    result = sweep(X, [1, 2, 4], sample_weight=weight, random_state=seed)
    tolerance = 1e-9 if dtype == "f8" else 1e-4
    for i, model in enumerate(result):
        distances = np.sort(np.sqrt(sq_distances(X, model.cluster_centers_)), axis=1)
        mean = np.average(distances[:, 0], weights=weight)
        assert result.curve("mean_distance")[i] == pytest.approx(mean, rel=tolerance)
        assert result.curve("msd")[i] == pytest.approx(model.inertia_ / weight.sum(), rel=1e-12)
        if i:
            values = 1 - distances[:, 0] / distances[:, 1]
            expected = np.average(values, weights=weight)
            assert result.curve("simplified_silhouette")[i] == pytest.approx(expected, rel=tolerance, abs=tolerance)


@quiet
def test_weights__count_as_repetitions(rng, blobs):
    """
    Every measure of weighted rows is that of the rows repeated; the clusters are plain enough to be found from any seed.
    """
    times = rng.integers(0, 4, len(blobs))
    weighted = sweep(blobs, [1, 6], sample_weight=times, tol=0, random_state=0)
    repeated = sweep(np.repeat(blobs, times, axis=0), [1, 6], tol=0, random_state=0)
    for name in get_args(Measure):
        np.testing.assert_allclose(weighted.curve(name), repeated.curve(name), rtol=1e-9)


def test_bic__is_the_likelihood_of_the_rows_less_the_penalty(blobs):
    """
    The closed form is the sum over rows of the log density of their cluster's normal distribution, penalised.
    """
    model = sweep(blobs, [4], random_state=0)[4]
    (n, d), k = blobs.shape, 4
    variance = model.inertia_ / (d * (n - k))
    shares = np.bincount(model.labels_) / n
    squares = ((blobs - model.cluster_centers_[model.labels_]) ** 2).sum(axis=1)
    densities = np.log(shares[model.labels_]) - d / 2 * np.log(2 * np.pi * variance) - squares / (2 * variance)
    expected = densities.sum() - (k - 1 + d * k + 1) / 2 * np.log(n)
    assert sweep(blobs, [4], random_state=0).curve("bic")[0] == pytest.approx(expected, rel=1e-9)


def test_bic__is_highest_at_the_number_of_spherical_clusters():
    """
    Of data made from six equal spheres BIC says six.
    """
    X, _ = make_blobs(1200, centers=6, n_features=5, random_state=3)
    assert sweep(X, range(1, 13), random_state=0).curve("bic").argmax() == 5


@quiet
def test_measures__that_are_not_defined_are_nan():
    """
    One cluster has no neighbours, and rows that are all equal have no spread: NaN, or 0 where scikit-learn says 0.
    """
    one = sweep(problem(1), [1])
    for name in ("calinski_harabasz", "davies_bouldin", "simplified_silhouette"):
        assert math.isnan(one.curve(name)[0])
    assert math.isnan(one.silhouette(1).value)
    same = sweep(np.full((50, 3), 2.5), [1, 2], random_state=0)
    assert same.curve("simplified_silhouette")[1] == same.curve("mean_distance")[1] == 0
    assert np.isnan(same.curve("bic")).all()
    assert np.isnan(same.curve("calinski_harabasz")).all()
    assert math.isnan(bic(1.0, np.array([1.0, 1.0]), 3))


def test_davies_bouldin__leaves_out_what_has_no_rows():
    """
    A cluster without rows changes nothing; two centres in one place count as far apart, as in scikit-learn.
    """
    centers = np.array([[0.0, 0.0], [4.0, 0.0], [9.0, 9.0]])
    assert davies_bouldin(centers, np.array([1.0, 1.0, np.nan])) == 0.5
    assert davies_bouldin(centers[[0, 0, 1]], np.array([1.0, 1.0, 1.0])) == 0.5
    assert math.isnan(davies_bouldin(centers, np.array([1.0, np.nan, np.nan])))


@quiet
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_silhouette__of_all_rows_is_scikit_learn_s(seed):
    """
    Several clusterings at once, clusters of one row among them: each silhouette is scikit-learn's.
    """
    X = problem(seed)
    models = [KMeans(k, random_state=seed).fit(X) for k in (2, 5, 11)]
    for model, found in zip(models, silhouettes(X, [m.cluster_centers_ for m in models]), strict=True):
        assert found.exact
        assert found.standard_error == 0
        assert found.n_rows == len(X)
        assert found.value == pytest.approx(silhouette_score(X, model.labels_), rel=1e-9, abs=1e-12)


def test_silhouette__in_float32_and_far_from_the_origin_loses_nothing(rng):
    """
    float32 gives 1e-5 of scikit-learn's float64; an offset of a hundred million changes no digit that the data has.
    """
    X = problem(5, n=400)
    model = KMeans(3, random_state=0).fit(X)
    expected = silhouette_score(X, model.labels_)
    assert silhouettes(X.astype("f4"), [model.cluster_centers_.astype("f4")])[0].value == pytest.approx(
        expected, rel=1e-5
    )
    far = np.rint(X * 64) / 64
    model = KMeans(3, random_state=0).fit(far)
    near_value = silhouettes(far, [model.cluster_centers_])[0].value
    assert silhouettes(far + 2.0**27, [model.cluster_centers_ + 2.0**27])[0].value == pytest.approx(
        near_value, rel=1e-7
    )


def test_silhouette__with_weights_is_the_definition_s(rng):
    """
    A neighbour counts as often as it weighs, a row without weight not at all, and the row itself never.
    """
    X, weight = problem(8, n=80), rng.integers(0, 3, 80) * 0.7
    model = KMeans(4, random_state=0).fit(X)
    expected = weighted_silhouette(X, model.labels_, weight)
    assert silhouettes(X, [model.cluster_centers_], weight=weight)[0].value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("spread", [2.0, 8.0])
def test_silhouette__of_a_sample_is_within_its_standard_error(spread):
    """
    Over 40 samples the errors, in standard errors, have mean 0 and deviation 1; a sample asks a small part of the rows.
    """
    X, _ = make_blobs(6000, centers=5, n_features=3, cluster_std=spread, random_state=1)
    centers = KMeans(5, random_state=0).fit(X).cluster_centers_
    exact = silhouettes(X, [centers])[0].value
    found = [silhouettes(X, [centers], work=5e6, random_state=s)[0] for s in range(40)]
    assert all(not one.exact and 100 < one.n_rows < 1000 for one in found)
    errors = [(one.value - exact) / one.standard_error for one in found]
    assert abs(np.mean(errors)) < 0.5
    assert 0.7 < np.std(errors) < 1.4


def test_silhouette__of_a_sample_has_rows_of_every_cluster(rng):
    """
    Twelve rows among forty thousand are a cluster: all twelve are asked, and the value is right (scikit-learn#11676).
    """
    X = rng.standard_normal((40000, 3))
    X[:12] += 60
    centers = np.array([X[12:].mean(axis=0), X[:12].mean(axis=0)])
    with Workers() as workers:
        data, shift = measured(X, EMPTY, workers)
        sample = silhouette.sample_of(data, [centers], shift, np.random.RandomState(0), workers, work=1e7)
        found = silhouette.measure_silhouettes(sample, workers)[0]
    strata = sample.labels[sample.asked, -1]
    assert (strata == 1).sum() == silhouette.FEWEST
    assert sample.weight.sum() == pytest.approx(40000)
    assert len(sample.rows) < 20000
    few = np.concatenate([np.arange(12), np.arange(12, 3000)])
    near = silhouette_samples(X[few], few >= 12).mean()
    assert found.value == pytest.approx(near, abs=5 * found.standard_error + 1e-3)


def test_silhouette__of_a_sample_weighs_rows_by_their_weight(rng):
    """
    Clusters that overlap weigh more: the sample's value is that of all rows with weights, not that of all rows alike.
    """
    X, _ = make_blobs(
        [4000, 2000, 2000], n_features=2, centers=[[0, 0], [9, 0], [9, 6]], cluster_std=[1, 3, 3], random_state=4
    )
    weight = np.where(X[:, 0] > 5, 3.0, 0.5)
    centers = KMeans(3, random_state=0).fit(X, sample_weight=weight).cluster_centers_
    exact = silhouettes(X, [centers], weight=weight)[0].value
    found = silhouettes(X, [centers], weight=weight, work=3e7)[0]
    assert not found.exact
    assert found.value == pytest.approx(exact, abs=4 * found.standard_error)
    assert abs(silhouettes(X, [centers])[0].value - exact) > 4 * found.standard_error


def test_affordable__is_all_rows_or_what_the_work_allows():
    """
    No number of rows, features and clusterings asks for more distances than the work allows; few rows are all asked.
    """
    for n, d, count in [(200, 2, 1), (50_000, 2, 1), (60_000, 3, 19), (10**7, 8, 19), (10**6, 400, 1)]:
        asked = silhouette.affordable(n, d, count, silhouette.AFFORDABLE)
        pairs = asked * min(n, silhouette.NEIGHBOURS * asked)
        assert pairs * (6 + d / 4 + count) <= silhouette.AFFORDABLE * 1.001
    assert silhouette.affordable(45_000, 2, 1, silhouette.AFFORDABLE) == 45_000


def test_measures__are_the_same_bits_with_any_number_of_threads():
    """
    One thread and four give the same silhouettes, of all rows and of a sample.
    """
    X = problem(2, n=3000)
    centers = [KMeans(k, random_state=0).fit(X).cluster_centers_ for k in (2, 6)]
    for work in (1e15, 5e6):
        assert silhouettes(X, centers, work=work, threads=1) == silhouettes(X, centers, work=work, threads=4)
