"""Lloyd's steps against the slow judge, against scikit-learn from the same start, and in awkward corners."""

from __future__ import annotations

import itertools

import naive
import numpy as np
import pytest
import sklearn.cluster
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from nbgrid.kmeans import KMeans


def fit(X, start, **options):
    return KMeans(len(start), init=start, n_init=1, tol=0, **options).fit(X)


def problem(seed):
    """A random problem of *seed*: data, start and weights (or None); distinct rows, both kernels."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 80)), int(rng.integers(1, 14))
    k = int(rng.integers(1, min(n, 8) + 1))
    X = rng.standard_normal((n, d)) * rng.uniform(0.1, 10, d) + rng.uniform(-100, 100)
    weight = rng.uniform(0.1, 3, n) if seed % 2 else None
    return X, X[rng.choice(n, k, replace=False)].copy(), weight


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize(("n", "d", "k"), [(3000, 2, 7), (3000, 8, 5), (3000, 9, 5), (2000, 40, 30), (20000, 20, 3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_lloyd__agrees_with_scikit_learn_from_the_same_start(rng, n, d, k, dtype, weighted):
    """
    Centres and inertia agree to 1e-9 (float64) and 1e-5 (float32) after as many steps.
    """
    X = (rng.standard_normal((n, d)) + 4 * rng.integers(0, 3, (n, 1)) + 30).astype(dtype)
    weight = rng.uniform(0, 2, n) if weighted else None
    options = {"init": X[:k].copy(), "n_init": 1, "max_iter": 15}
    theirs = sklearn.cluster.KMeans(k, **options).fit(X, sample_weight=weight)
    ours = KMeans(k, **options).fit(X, sample_weight=weight)
    assert ours.converged_ or theirs.n_iter_ == 15
    tolerance = 1e-9 if dtype == "f8" else 1e-5
    assert theirs.inertia_ == pytest.approx(ours.inertia_, rel=tolerance)
    if dtype == "f8":
        assert theirs.n_iter_ == ours.n_iter_
        assert np.array_equal(theirs.labels_, ours.labels_)
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=tolerance)
    else:  # float32 ties can go either way at a border; the centres may differ by what a row or two moves them
        assert (theirs.labels_ != ours.labels_).mean() < 2e-3
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=2e-3)
    assert theirs.labels_.dtype == ours.labels_.dtype
    assert theirs.cluster_centers_.dtype == ours.cluster_centers_.dtype


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=naive.EXAMPLES, deadline=None)
@given(st.integers(0, 10**6))
def test_km_24__lloyd_agrees_with_the_slow_judge(seed):
    """
    On random problems the labels are the judge's and the inertia is within 1e-10 of his.
    """
    X, start, weight = problem(seed)
    centers, labels, inertias = naive.lloyd(X, start, weight=weight)
    model = KMeans(len(start), init=start, n_init=1, tol=0).fit(X, sample_weight=weight)
    assert np.array_equal(labels, model.labels_)
    assert inertias[-1] == pytest.approx(model.inertia_, rel=1e-10, abs=1e-20)
    np.testing.assert_allclose(model.cluster_centers_, centers, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=naive.EXAMPLES, deadline=None)
@given(st.integers(0, 10**6))
def test_km_23__inertia_never_rises_and_permuted_rows_permute_labels(seed):
    """
    From step to step inertia does not rise, labels are the nearest centres, and the order of rows does not matter.
    """
    X, start, weight = problem(seed)
    steps = [
        KMeans(len(start), init=start, n_init=1, tol=0, max_iter=m).fit(X, sample_weight=weight) for m in (1, 2, 4, 9)
    ]
    inertias = [model.inertia_ for model in steps]
    assert all(after <= before * (1 + 1e-12) + 1e-18 for before, after in itertools.pairwise(inertias))
    last = steps[-1]
    assert np.array_equal(naive.sq_distances(X, last.cluster_centers_).argmin(axis=1), last.labels_)
    order = np.random.default_rng(seed).permutation(len(X))
    permuted = KMeans(len(start), init=start, n_init=1, tol=0, max_iter=9).fit(
        X[order], sample_weight=None if weight is None else weight[order]
    )
    assert np.array_equal(last.labels_[order], permuted.labels_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=naive.EXAMPLES, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_lloyd__of_few_rows_in_one_kernel_changes_no_bit(seed, lattice):
    """
    The loop in one kernel gives what the loop step by step gives (a limit of time asks for that one), empty clusters included.
    """
    X, start, _ = problem(seed)
    if lattice:
        X, start = np.rint(X / 4), np.rint(start / 4)
    whole, stepwise = (fit(X, start, max_iter=12, max_time=limit) for limit in (None, 1e6))
    assert whole.cluster_centers_.tobytes() == stepwise.cluster_centers_.tobytes()
    assert whole.labels_.tobytes() == stepwise.labels_.tobytes()
    assert (whole.inertia_, whole.n_iter_, whole.converged_) == (
        stepwise.inertia_,
        stepwise.n_iter_,
        stepwise.converged_,
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=naive.EXAMPLES, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 12]))
def test_km_24__duplicates_and_k_near_n_end_well(seed, d):
    """
    Rows on a small lattice, many of them equal, and almost as many clusters: labels are nearest, inertia is theirs.
    """
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, (int(rng.integers(4, 30)), d)).astype("f8")
    k = len(X) - int(rng.integers(0, 3))
    model = KMeans(k, random_state=seed).fit(X)
    distances = naive.sq_distances(X, model.cluster_centers_)
    assert np.array_equal(model.labels_, model.predict(X))
    np.testing.assert_allclose(distances[np.arange(len(X)), model.labels_], distances.min(axis=1), atol=1e-12)
    assert naive.inertia(X, model.cluster_centers_, model.labels_) == pytest.approx(model.inertia_, abs=1e-12)


@pytest.mark.parametrize("d", [3, 30])
def test_km_03__one_cluster_is_the_mean_and_n_clusters_are_the_rows(rng, d):
    """
    k = 1 gives the mean to 1e-12, k = n an inertia of 0.
    """
    X = rng.standard_normal((200, d)) + 5
    np.testing.assert_allclose(KMeans(1).fit(X).cluster_centers_[0], X.mean(axis=0), rtol=1e-12)
    assert KMeans(len(X), random_state=0).fit(X).inertia_ <= 1e-25 * (X**2).sum()


@pytest.mark.parametrize("d", [2, 20])
def test_km_05__an_empty_cluster_is_moved_to_the_farthest_row(rng, d):
    """
    A start that empties clusters ends as scikit-learn's does, with labels and inertia of the final centres.
    """
    X = rng.standard_normal((500, d)) + 10
    start = np.vstack([X[:2], np.full((3, d), 1e3) + np.arange(3)[:, None]])
    theirs = sklearn.cluster.KMeans(5, init=start, n_init=1, tol=0).fit(X)
    ours = fit(X, start)
    assert theirs.inertia_ == pytest.approx(ours.inertia_, rel=1e-9)
    assert theirs.n_iter_ == ours.n_iter_
    assert len(set(ours.labels_)) == 5
    assert np.array_equal(ours.labels_, ours.predict(X))
    assert naive.inertia(X, ours.cluster_centers_, ours.labels_) == pytest.approx(ours.inertia_, rel=1e-12)


def test_km_05__a_row_without_weight_is_not_what_an_empty_cluster_gets(rng):
    """
    The farthest row has no weight: the empty cluster goes to a row that counts.
    """
    X = rng.standard_normal((50, 2))
    X[7] = 1e3
    weight = np.ones(50)
    weight[7] = 0
    model = KMeans(2, init=[[0.0, 0.0], [5e3, -5e3]], n_init=1).fit(X, sample_weight=weight)
    assert np.abs(model.cluster_centers_).max() < 10


@pytest.mark.parametrize("X", [np.full((40, 3), 7.3), np.zeros((40, 20)), np.full((40, 2), 0.1, "f4")])
def test_km_06__rows_that_are_all_equal_have_inertia_0(X):
    """
    Equal rows divide nothing by zero: inertia 0, finite centres, and one warning about distinct clusters.
    """
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(1\)"):
        model = KMeans(3, random_state=0).fit(X)
    assert model.inertia_ == 0
    assert np.array_equal(np.repeat(X[:1], 3, axis=0), model.cluster_centers_)


def test_km_06__a_constant_feature_does_no_harm(blobs):
    """
    A feature of equal values changes no label.
    """
    wide = np.hstack([blobs, np.full((len(blobs), 1), 3.0)])
    assert np.array_equal(KMeans(6, random_state=0).fit(blobs).labels_, KMeans(6, random_state=0).fit(wide).labels_)


@pytest.mark.parametrize("scale", [1e20, 1e-25])
@pytest.mark.parametrize("d", [2, 20])
def test_km_08__float32_that_squares_out_of_range_is_computed_in_float64(rng, scale, d):
    """
    Labels at 1e20 and at 1e-25 are those at 1, the inertia is finite and the centres are float64.
    """
    X = (rng.standard_normal((300, d)) + 6 * rng.integers(0, 3, (300, 1))).astype("f4")
    large = (X.astype("f8") * scale).astype("f4")
    model = fit(large, large[:3].copy())
    assert np.float64 == model.cluster_centers_.dtype
    assert np.array_equal(fit(X, X[:3].copy()).labels_, model.labels_)
    assert np.array_equal(model.labels_, model.predict(large))
    assert 0 < model.inertia_ < np.inf


def test_km_08__float64_that_squares_out_of_range_is_refused(rng):
    """
    Values near 1e160 and near 1e308 are a ValueError, in fit and in predict.
    """
    X = rng.standard_normal((50, 3))
    model = KMeans(2, random_state=0).fit(X)
    for bad in (X * 1e160, X / np.abs(X).max() * 1.7e308):
        for call in (KMeans(2).fit, model.predict):
            with pytest.raises(ValueError, match="so large"):
                call(bad)


@pytest.mark.parametrize("d", [2, 12])
def test_km_18__ties_on_a_lattice_come_to_an_end(d):
    """
    With tol=0 and rows that tie between centres the labels settle well before the cap.
    """
    X = np.stack(np.meshgrid(*[np.arange(8.0)] * 2), axis=-1).reshape(-1, 2) @ np.eye(2, d)
    model = KMeans(4, tol=0, random_state=0).fit(X)
    assert model.converged_
    assert model.n_iter_ < 100


def test_km_19__of_equal_runs_the_first_wins(rng, blobs):
    """
    Ten starts end in the same clustering under other names; the first is kept, and more starts are never worse.
    """
    X = blobs[:300]
    one = KMeans(3, init="random", n_init=1, random_state=1).fit(X)
    ten = KMeans(3, init="random", n_init=10, random_state=1).fit(X)
    assert ten.inertia_ <= one.inertia_
    far = np.vstack([rng.standard_normal((50, 2)), rng.standard_normal((50, 2)) + 1e3])
    first = KMeans(2, n_init=1, random_state=5).fit(far)
    assert np.array_equal(first.labels_, KMeans(2, n_init=10, random_state=5).fit(far).labels_)


@pytest.mark.parametrize("d", [2, 20])
def test_offset__far_from_the_origin_labels_stay_right(rng, d):
    """
    Clusters a unit wide, a hundred million away from the origin, are told apart; predict agrees.
    """
    truth = rng.integers(0, 3, 900)
    X = rng.standard_normal((900, d)) * 0.1 + truth[:, None] * 5 + 1e8
    model = KMeans(3, random_state=0).fit(X)
    assert len(set(zip(truth, model.labels_, strict=True))) == 3
    assert np.array_equal(model.labels_, model.predict(X))


def test_weights__count_like_repeated_rows(rng):
    """
    A row of weight 3 is three rows, and a row of weight 0 is none.
    """
    X, times = rng.standard_normal((200, 4)), rng.integers(0, 4, 200)
    start = X[:5].copy()
    expected = fit(np.repeat(X, times, axis=0), start)
    model = KMeans(5, init=start, n_init=1, tol=0).fit(X, sample_weight=times)
    assert expected.inertia_ == pytest.approx(model.inertia_, rel=1e-12)
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=1e-10)
