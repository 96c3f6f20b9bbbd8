"""Inertia, msd and mean distance: each is what its name says, and none is called by another's."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from nbgrid.kmeans import KMeans
from nbgrid.kmeans._measures import MEASURES


def judged(X, centers, weight):
    """The three measures from the judge's distances."""
    weight = np.ones(len(X)) if weight is None else weight
    squared = naive.sq_distances(X, centers).min(axis=1)
    return {
        "inertia": (weight * squared).sum(),
        "msd": (weight * squared).sum() / weight.sum(),
        "mean_distance": (weight * np.sqrt(squared)).sum() / weight.sum(),
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_measure__agrees_with_the_slow_judge(blobs, rng, dtype, weighted):
    """
    Each measure of rows that were not fitted is the judge's, with weights and without.
    """
    model = KMeans(4, random_state=0).fit(blobs.astype(dtype))
    X = rng.uniform(-10, 10, (300, 5)).astype(dtype)
    weight = rng.integers(0, 4, 300).astype(float) if weighted else None
    for name, expected in judged(X, model.cluster_centers_, weight).items():
        assert expected == pytest.approx(model.measure(X, name, sample_weight=weight), rel=1e-9)


def test_measures__of_four_rows_on_a_line():
    """
    Rows 0, 1, 2 and 9 about the centres 1 and 9: inertia 2, msd 0.5, mean distance 0.5.
    """
    X = np.array([[0.0], [1.0], [2.0], [9.0]])
    model = KMeans(2, init=[[1.0], [9.0]], n_init=1).fit(X)
    assert [model.measure(X, name) for name in MEASURES] == [2.0, 0.5, 0.5]
    assert model.msd_ == 0.5


@pytest.mark.parametrize("weighted", [False, True])
def test_msd__of_a_fit_is_its_inertia_over_the_weight_of_all_rows(blobs, weighted):
    """
    msd_ times the total weight is inertia_, and both are what measure finds in the fitted rows.
    """
    weight = np.arange(len(blobs)) % 3.0 if weighted else None
    model = KMeans(6, random_state=0).fit(blobs, sample_weight=weight)
    assert model.msd_ == model.inertia_ / (len(blobs) if weight is None else weight.sum())
    assert model.inertia_ == pytest.approx(model.measure(blobs, sample_weight=weight), rel=1e-12)
    assert model.msd_ == pytest.approx(model.measure(blobs, "msd", weight), rel=1e-12)
    assert model.score(blobs, sample_weight=weight) == -model.measure(blobs, "inertia", weight)


def test_measures__are_0_when_every_row_is_a_center(rng):
    """
    With as many clusters as rows nothing is left to measure.
    """
    X = rng.standard_normal((20, 3))
    model = KMeans(20, init=X, n_init=1).fit(X)
    assert [model.measure(X, name) for name in MEASURES] == pytest.approx([0.0] * 3, abs=1e-12)


def test_mean_distance__of_float32_that_squares_out_of_range_is_finite(rng):
    """
    float32 rows near 1e20 have a mean distance near 1e20.
    """
    X = (rng.standard_normal((300, 3)) * 1e20).astype("f4")
    model = KMeans(2, random_state=0).fit(X)
    assert 1e19 < model.measure(X, "mean_distance") < 1e21


@pytest.mark.parametrize("name", ["rmse", "Inertia", "", None, 1, ["msd"]])
def test_measure__of_another_name_is_refused_with_the_names_there_are(blobs, name):
    """
    What is no measure is a ValueError that lists the three, whatever the data.
    """
    with pytest.raises(ValueError, match=r"should be 'inertia', 'msd' or 'mean_distance'"):
        KMeans(2, random_state=0).fit(blobs).measure(None, name)


def test_measure__refuses_what_predict_refuses(blobs):
    """
    A model without a fit, other features, values that are not finite and weights that make no sense are errors.
    """
    with pytest.raises(NotFittedError):
        KMeans(2).measure(blobs)
    model = KMeans(2, random_state=0).fit(blobs)
    with pytest.raises(ValueError, match="features"):
        model.measure(blobs[:, :3], "msd")
    with pytest.raises(ValueError, match="row 1, column 0"):
        model.measure([[0.0] * 5, [np.inf] * 5], "mean_distance")
    with pytest.raises(ValueError, match="negative"):
        model.measure(blobs, "msd", -np.ones(len(blobs)))
