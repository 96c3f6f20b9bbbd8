"""Starts from samples, and Ward's tree that seeds any number of clusters."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from nbgrid.kmeans import KMeans, _samples
from nbgrid.kmeans._data import measure
from nbgrid.kmeans._iterate import lloyd
from nbgrid.kmeans._samples import GROWTH, LARGEST, samples, starting_centers
from nbgrid.kmeans._threads import Workers
from nbgrid.kmeans._tree import grow
from nbgrid.kmeans._ward import ward

EMPTY = np.empty(0)


def data_of(X, weight=EMPTY):
    with Workers(1) as workers:
        return measure(X, weight, workers)


def partition(pairs, heights, count, k):
    labels = np.arange(count)
    for first, second in pairs[np.argsort(heights, kind="stable")][: count - k]:
        labels[labels == labels[second]] = labels[first]
    return {tuple(np.flatnonzero(labels == label)) for label in np.unique(labels)}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_ward__gives_the_tree_of_scipy(seed):
    """
    Cut anywhere, the tree makes the clusters that SciPy's linkage makes, at the same heights.
    """
    rng = np.random.default_rng(seed)
    m, d = int(rng.integers(2, 40)), int(rng.integers(1, 6))
    points = rng.standard_normal((m, d))
    pairs, heights = np.empty((m - 1, 2), dtype=np.intp), np.empty(m - 1)
    ward(points.copy(), np.ones(m), pairs, heights)
    tree = linkage(points, "ward")
    assert np.sort(heights) == pytest.approx(tree[:, 2] ** 2 / 2, rel=1e-9)
    k = int(rng.integers(1, m + 1))
    theirs = fcluster(tree, k, "maxclust")
    assert partition(pairs, heights, m, k) == {tuple(np.flatnonzero(theirs == label)) for label in np.unique(theirs)}


def test_tree__finds_every_one_of_many_clusters(rng):
    """
    Of 300 separated clusters none is missed and none is split, where greedy k-means++ misses some.
    """
    mu = rng.uniform(-10, 10, (300, 30))
    X = mu[np.repeat(np.arange(300), 40)] + rng.standard_normal((12000, 30))
    with Workers() as workers:
        centers = grow(data_of(X), 300, np.random.RandomState(0), workers).cut(300)
    assert len(np.unique(naive.sq_distances(centers, mu).argmin(axis=1))) == 300


@pytest.mark.parametrize("k", [1, 2, 29, 30])
def test_tree__is_cut_into_as_many_clusters_as_are_asked_for(rng, k):
    """
    Also of duplicates, and with as many clusters as distinct rows.
    """
    X = np.repeat(rng.standard_normal((30, 2)), 20, axis=0)
    with Workers() as workers:
        centers = grow(data_of(X), 30, np.random.RandomState(0), workers).cut(k)
    assert centers.shape == (k, 2)
    assert np.isfinite(centers).all()


def test_samples__grow_and_stay_a_small_part_of_the_data(rng):
    """
    Sizes grow from one sample to the next up to a part of the data; small data has none.
    """
    X = rng.standard_normal((400_000, 2))
    with Workers() as workers:
        sizes = [len(draw().X) for draw in samples(data_of(X), 5, np.random.RandomState(0), workers)]
        assert not samples(data_of(X[:10_000]), 5, np.random.RandomState(0), workers)
    assert sizes == [50_000 // GROWTH**2, 50_000 // GROWTH, 400_000 // LARGEST]


def test_samples__follow_the_weights(rng):
    """
    Rows without weight are never drawn, and a row is drawn as often as its weight says.
    """
    X = np.arange(100_000, dtype=np.float64)[:, np.newaxis]
    weight = np.zeros(100_000)
    weight[[10, 20]] = 3, 1
    with Workers() as workers:
        level = samples(data_of(X, weight), 2, np.random.RandomState(0), workers)[-1]()
    values, counts = np.unique(level.X, return_counts=True)
    assert values.tolist() == [10, 20]
    assert counts[0] / counts.sum() == pytest.approx(0.75, abs=0.001)


@pytest.mark.parametrize(("k", "spread"), [(8, 1.5), (20, 6.0)])
def test_fit__loses_nothing_by_starting_from_samples(rng, k, spread):
    """
    Over ten seeds the mean inertia is at most a thousandth above that of seeds drawn from all rows.
    """
    from sklearn.cluster import KMeans as Theirs

    mu = rng.uniform(-10, 10, (k, 6))
    X = mu[rng.integers(0, k, 40_000)] + spread * rng.standard_normal((40_000, 6))
    ours = np.mean([KMeans(k, random_state=seed).fit(X).inertia_ for seed in range(10)])
    theirs = np.mean([Theirs(k, random_state=seed).fit(X).inertia_ for seed in range(10)])
    assert ours <= 1.001 * theirs


def test_starting_centers__depend_on_the_seed_alone(rng):
    """
    The same random state gives the same start whatever the number of threads.
    """
    X = rng.standard_normal((60_000, 4))
    starts = set()
    for threads in (1, 2, 4):
        with Workers(threads) as workers:
            found = starting_centers(data_of(X), 6, 1e-4, np.random.RandomState(3), workers)
        starts.add(found.tobytes())
    assert len(starts) == 1


def test_starting_centers__take_one_step_on_each_sample_when_the_time_is_over(rng, monkeypatch):
    """
    A deadline that has passed leaves Ward's start, one step on each sample, and no start by k-means++.
    """
    X = rng.standard_normal((60_000, 4))
    steps = []

    def counted(*arguments, **options):
        found = lloyd(*arguments, **options)
        steps.append(found.n_iter)
        return found

    monkeypatch.setattr(_samples, "lloyd", counted)
    with Workers() as workers:
        data = data_of(X)
        levels = len(samples(data, 6, np.random.RandomState(3), workers))
        starting_centers(data, 6, 0.0, np.random.RandomState(3), workers, deadline=0.0)
    assert steps == [1] * levels
