"""k-means++: that it draws what it should, from the generator that it is given."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import sklearn.cluster

from nbgrid.kmeans import KMeans, kmeans_plusplus
from nbgrid.kmeans._plusplus import seed
from nbgrid.kmeans._threads import Workers


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), [(50, 1, 50), (3000, 2, 20), (40000, 20, 9)])
def test_seeds__are_those_of_scikit_learn_from_the_same_random_state(rng, n, d, k, weighted):
    """
    In float64 one random_state gives scikit-learn's rows.
    """
    X = rng.standard_normal((n, d)) * 3
    weight = rng.uniform(0.1, 2, n) if weighted else None
    _, theirs = sklearn.cluster.kmeans_plusplus(X, k, sample_weight=weight, random_state=4)
    centers, ours = kmeans_plusplus(X, k, sample_weight=weight, random_state=4)
    assert np.array_equal(theirs, ours)
    assert np.array_equal(X[ours], centers)


@pytest.mark.parametrize("j", [1, 2, 7, 19])
def test_seeds__are_nested(rng, j):
    """
    The first j of 20 seeds are the j seeds of the same random state and number of trials: a draw for j clusters.
    """
    X = rng.standard_normal((2000, 6))
    many, few = (kmeans_plusplus(X, k, random_state=5, n_local_trials=4)[1] for k in (20, j))
    assert np.array_equal(many[:j], few)


def test_seeds__have_a_potential_no_worse_than_scikit_learn_in_float32(rng):
    """
    In float32, where rounding decides some draws, the mean potential is scikit-learn's within 5 %.
    """
    X = rng.standard_normal((400, 5)).astype("f4")
    ours = [naive.potential(X, kmeans_plusplus(X, 8, random_state=s)[0]) for s in range(15)]
    theirs = [naive.potential(X, sklearn.cluster.kmeans_plusplus(X, 8, random_state=s)[0]) for s in range(15)]
    assert np.mean(theirs) == pytest.approx(np.mean(ours), rel=0.05)


def test_greedy_trials__lower_the_potential(rng):
    """
    More trials a seed leave less potential, on the mean.
    """
    X = rng.standard_normal((300, 3))
    one, many = (
        np.mean([naive.potential(X, kmeans_plusplus(X, 10, n_local_trials=t, random_state=s)[0]) for s in range(15)])
        for t in (1, 6)
    )
    assert many < one


def test_seeds__are_distinct_while_rows_are(rng):
    """
    A row, and any duplicate of a seed, is drawn again only when nothing else is left; rows without weight never.
    """
    X = np.repeat(rng.standard_normal((20, 3)), 5, axis=0)
    centers, _ = kmeans_plusplus(X, 20, random_state=0)
    assert len(np.unique(centers, axis=0)) == 20
    weight = np.zeros(100)
    weight[50:80] = 1
    _, indices = kmeans_plusplus(X, 10, sample_weight=weight, random_state=0)
    assert all(50 <= i < 80 for i in indices)


class Stub:
    """A generator whose every number is *value*."""

    def __init__(self, value):
        self.value = value

    def uniform(self, size=None):
        return self.value if size is None else np.full(size, self.value)


@pytest.mark.parametrize("value", [0.0, np.nextafter(1, 0), 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_km_15__a_generator_at_its_ends_stays_in_range(rng, value, weighted):
    """
    Numbers that are 0, just below 1 or exactly 1 draw rows that exist and have weight.
    """
    X = rng.standard_normal((30000, 40))
    weight = np.where(np.arange(30000) % 3 == 1, 0.7, 0.0) if weighted else np.empty(0)
    with Workers() as workers:
        indices = seed(X, weight, 6, Stub(value), workers)
    assert len(set(indices)) == 6
    assert all(0 <= i < 30000 and (not weighted or weight[i]) for i in indices)


@pytest.mark.parametrize("trials", [0, -1])
def test_trials__start_at_one(rng, trials):
    """
    n_local_trials below 1 is a ValueError.
    """
    with pytest.raises(ValueError, match="n_local_trials"):
        kmeans_plusplus(rng.standard_normal((10, 2)), 2, n_local_trials=trials)


def test_fit__starts_from_kmeans_plusplus_with_its_random_state(blobs):
    """
    The default fit is the fit from kmeans_plusplus's centres.
    """
    start, _ = kmeans_plusplus(blobs, 6, random_state=9)
    expected = KMeans(6, init=start, n_init=1).fit(blobs)
    model = KMeans(6, random_state=9).fit(blobs)
    assert expected.inertia_ == model.inertia_
