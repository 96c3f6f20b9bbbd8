"""KMeans as an estimator: scikit-learn's contract, its validation, its shapes and types."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.cluster
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from nbgrid.kmeans import KMeans, _checks, kmeans_plusplus

# As in scikit-learn's own list for its KMeans: the check shuffles the weighted rows, and the draws of k-means++ and of
# 'random' go by the order of rows. From equal starts it holds: test_lloyd.py, test_weights__count_like_repeated_rows.
DRAWS_GO_BY_ROW_ORDER = {"check_sample_weight_equivalence_on_dense_data": "seeds are drawn by the order of rows"}


# The checks fit with few iterations on purpose, and one array API check is skipped where its library is missing.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [KMeans(), KMeans(n_clusters=2, init="random", n_init=2)], expected_failed_checks=lambda _: DRAWS_GO_BY_ROW_ORDER
)
def test_estimator__passes_every_check_of_scikit_learn(estimator, check):
    """
    Every one of scikit-learn's estimator checks passes, but the one that scikit-learn's own KMeans fails too.
    """
    check(estimator)


def test_parameters__are_those_of_scikit_learn():
    """
    The constructor has scikit-learn's parameters with its defaults but for the algorithm, and two of its own.
    """
    theirs = sklearn.cluster.KMeans().get_params()
    assert {**theirs, "algorithm": "auto", "warm_start": False, "max_time": None} == KMeans().get_params()


def test_clone_and_pickle__keep_parameters_and_predictions(blobs):
    """
    A clone has the parameters, a pickled model also the predictions, bit for bit.
    """
    model = KMeans(6, random_state=0).fit(blobs)
    assert model.get_params() == clone(model).get_params()
    assert model.predict(blobs).tobytes() == pickle.loads(pickle.dumps(model)).predict(blobs).tobytes()


def test_frames__give_feature_names_in_and_out(blobs):
    """
    A frame's column names are remembered, and set_output gives a frame back.
    """
    frame = pd.DataFrame(blobs, columns=list("abcde"))
    model = KMeans(3, random_state=0).set_output(transform="pandas").fit(frame)
    assert list("abcde") == list(model.feature_names_in_)
    assert ["kmeans0", "kmeans1", "kmeans2"] == list(model.get_feature_names_out()) == list(model.transform(frame))


def test_grid_search__over_a_pipeline_finds_the_most_clusters(blobs):
    """
    In a Pipeline below GridSearchCV the score is minus the inertia of rows held out, so six blobs win over two.
    """
    pipeline = Pipeline([("scale", StandardScaler()), ("kmeans", KMeans(random_state=0))])
    search = GridSearchCV(pipeline, {"kmeans__n_clusters": [2, 6], "kmeans__max_time": [None, 60.0]}, cv=3).fit(blobs)
    assert search.best_params_["kmeans__n_clusters"] == 6
    assert len(blobs) == len(search.predict(blobs))


def test_transform_and_score__agree_with_predict_and_inertia(blobs):
    """
    The nearest column of transform is the label, and score on the fitted data is minus the inertia.
    """
    weight = np.arange(len(blobs)) % 3.0
    model = KMeans(6, random_state=0).fit(blobs, sample_weight=weight)
    assert np.array_equal(model.labels_, model.transform(blobs).argmin(axis=1))
    assert -model.inertia_ == pytest.approx(model.score(blobs, sample_weight=weight), rel=1e-12)
    assert np.array_equal(model.labels_, clone(model).fit_predict(blobs, sample_weight=weight))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (599, 4), (300, 2)])
def test_km_01__a_value_that_is_not_finite_is_refused_with_its_place(blobs, value, place):
    """
    NaN and ±inf are a ValueError that names row and column, in fit, predict and score.
    """
    bad = blobs.copy()
    bad[place] = value
    model = KMeans(2, random_state=0).fit(blobs)
    for call in (KMeans(2).fit, model.predict, model.score):
        with pytest.raises(ValueError, match=f"row {place[0]}, column {place[1]}"):
            call(bad)
    with pytest.raises(ValueError, match=r"NaN|inf"):
        model.transform(bad)


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "3", None])
def test_km_02__a_number_of_clusters_that_is_none_is_refused(blobs, k):
    """
    n_clusters must be a whole number from 1, for the estimator and for the seeding.
    """
    for call in (lambda: KMeans(k).fit(blobs), lambda: kmeans_plusplus(blobs, k)):
        with pytest.raises(ValueError, match=f"n_clusters={k!r}"):
            call()


def test_km_02__more_clusters_than_rows_are_refused_with_both_numbers(blobs):
    """
    With more clusters than rows the message names n and k.
    """
    with pytest.raises(ValueError, match="n_samples=4 should be >= n_clusters=5"):
        KMeans(5).fit(blobs[:4])


@pytest.mark.parametrize(
    "options",
    [
        {"max_iter": 0}, {"tol": -1.0}, {"tol": np.nan}, {"n_init": 0}, {"n_init": "many"}, {"init": "best"},
        {"init": [[0.0] * 5]}, {"init": [[0.0] * 4] * 2}, {"algorithm": "full"},
        {"algorithm": None}, {"algorithm": ["auto"]}, {"max_time": 0}, {"max_time": -1.0}, {"max_time": np.nan},
        {"max_time": np.inf}, {"max_time": True}, {"max_time": "1 s"},
    ],
)  # fmt: skip
def test_parameters__that_make_no_sense_are_refused_by_name(blobs, options):
    """
    Each parameter out of range is a ValueError that names it.
    """
    name = "initial centers" if isinstance(options.get("init"), list) else next(iter(options))
    with pytest.raises(ValueError, match=name):
        KMeans(2, **options).fit(blobs)


@pytest.mark.parametrize("weight", [[1.0], [-1.0] * 600, [0.0] * 600, [np.nan] * 600])
def test_sample_weight__that_makes_no_sense_is_refused(blobs, weight):
    """
    Weights of another length, negative, not finite or all zero are a ValueError.
    """
    with pytest.raises(ValueError, match=r"[Ss]ample.weight"):
        KMeans(2).fit(blobs, sample_weight=weight)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", "O", ">f8"])
def test_km_09__numbers_of_any_type_are_cast_and_do_not_wrap(dtype):
    """
    Sums of small integers do not wrap: every numeric type gives what float64 gives.
    """
    numbers = np.random.default_rng(0).integers(0, 120, (300, 3))
    expected = KMeans(4, random_state=0).fit(numbers.astype("f8"))
    model = KMeans(4, random_state=0).fit(numbers.astype(dtype))
    assert np.allclose(expected.cluster_centers_, model.cluster_centers_, rtol=1e-5)
    assert model.cluster_centers_.dtype == (np.float32 if dtype == "f4" else np.float64)


def test_km_09__booleans_are_numbers_and_the_rest_is_refused():
    """
    Booleans are clustered as 0 and 1; complex numbers, words and dates are refused.
    """
    model = KMeans(2, random_state=0).fit(np.array([[True], [False], [True]]))
    assert sorted(model.cluster_centers_.ravel()) == [0.0, 1.0]
    for bad in (np.ones((3, 1)) * 1j, np.array([["a"], ["b"]]), np.array([["2020-01-01"]] * 3, dtype="M8[D]")):
        with pytest.raises((TypeError, ValueError)):
            KMeans(2).fit(bad)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones(5), "[Rr]eshape"), (np.ones((2, 2, 2)), "dim"), (np.empty((0, 3)), "0 sample"),
        (np.empty((3, 0)), "0 feature"), ([[1.0, 2.0], [3.0]], "sequence|inhomogeneous"),
    ],
)  # fmt: skip
def test_km_11__data_of_another_shape_is_refused(blobs, X, message):
    """
    One or three dimensions, no rows, no features and ragged rows are a ValueError, in fit and predict.
    """
    model = KMeans(2, random_state=0).fit(blobs)
    for call in (KMeans(2).fit, model.predict):
        with pytest.raises(ValueError, match=message):
            call(X)


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_km_12__sparse_data_is_one_clear_type_error(blobs, form):
    """
    Sparse data is refused by name and never made dense silently.
    """
    sparse = scipy.sparse.random(50, 5, density=0.3, format=form, random_state=0)
    model = KMeans(2, random_state=0).fit(blobs)
    for call in (KMeans(2).fit, model.predict, lambda X: kmeans_plusplus(X, 2)):
        with pytest.raises(TypeError, match=r"[Ss]parse"):
            call(sparse)


def test_km_17__one_iteration_warns_and_still_agrees_with_predict(blobs):
    """
    With max_iter=1 the fit says that it did not converge, and its labels are those of its centres.
    """
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        model = KMeans(5, init="random", n_init=1, max_iter=1, random_state=0).fit(blobs)
    assert not model.converged_
    assert np.array_equal(model.labels_, model.predict(blobs))
    assert model.inertia_ == pytest.approx(-model.score(blobs), rel=1e-12)


def test_km_20__prediction_needs_a_fit_and_the_same_features(blobs):
    """
    An unfitted model, another number of features and an empty batch are errors; the centres stay as they are.
    """
    with pytest.raises(NotFittedError):
        KMeans(2).predict(blobs)
    model = KMeans(2, random_state=0).fit(blobs)
    before = model.cluster_centers_.copy()
    with pytest.raises(ValueError, match="features"):
        model.predict(blobs[:, :3])
    with pytest.raises(ValueError, match="0 sample"):
        model.predict(blobs[:0])
    assert np.array_equal(model.labels_, model.predict(blobs.astype("f4")))
    assert np.array_equal(before, model.cluster_centers_)


def test_data__is_left_alone_and_may_be_read_only(blobs):
    """
    X is never written to, whatever copy_x says, and read-only or Fortran-ordered data gives the same result.
    """
    expected = KMeans(6, random_state=0).fit(blobs.copy())
    frozen = blobs.copy()
    frozen.flags.writeable = False
    for X in (frozen, np.asfortranarray(blobs)):
        model = KMeans(6, random_state=0, copy_x=False).fit(X)
        assert expected.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
    assert np.array_equal(blobs, frozen)


FORMS = {
    "list": np.ndarray.tolist,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "unaligned": lambda X: np.frombuffer(b"." + X.tobytes(), dtype="u1")[1:].view(X.dtype).reshape(X.shape),
    "subclass": lambda X: X.view(np.memmap),
    "swapped": lambda X: X.astype(X.dtype.newbyteorder()),
}


@pytest.mark.parametrize("form", FORMS)
def test_plain_arrays__get_what_any_other_form_of_the_data_gets(blobs, form):
    """
    Plain arrays pass scikit-learn's validation by; whatever has to go through it ends in the same bits.
    """
    other = FORMS[form](blobs)
    expected, model = (KMeans(6, init=X[:6], n_init=1).fit(X) for X in (blobs, other))
    assert expected.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
    assert expected.n_features_in_ == model.n_features_in_ == 5
    assert np.array_equal(expected.predict(blobs), model.predict(other))
    assert expected.score(blobs) == model.score(other)


def test_plain_arrays__are_not_validated_twice(blobs, monkeypatch):
    """
    A fit, a prediction and a score of plain arrays do without scikit-learn's validation, and other data does not.
    """

    def refuse(*args, **options):
        raise AssertionError("validated")

    monkeypatch.setattr(_checks, "validate_data", refuse)
    monkeypatch.setattr(_checks, "check_array", refuse)
    for X in (blobs, blobs.astype("f4")):
        model = KMeans(6, init=X[:6], n_init=1).fit(X)
        assert model.score(X) == pytest.approx(-model.inertia_)
    with pytest.raises(AssertionError, match="validated"):
        KMeans(6).fit(blobs.tolist())


def test_plain_arrays__are_told_apart_from_the_frame_that_a_model_was_fitted_with(blobs):
    """
    A model with feature names warns at an array as scikit-learn does, and forgets the names when it is fitted anew.
    """
    model = KMeans(3, random_state=0).fit(pd.DataFrame(blobs, columns=list("abcde")))
    with pytest.warns(UserWarning, match="valid feature names"):
        model.predict(blobs)
    assert not hasattr(model.fit(blobs), "feature_names_in_")
    assert len(blobs) == len(model.predict(blobs))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_init__that_is_not_finite_is_refused(blobs, value):
    """
    Starting centres with NaN or infinity are a ValueError that names init, given as plain arrays or not.
    """
    start = blobs[:6].copy()
    start[2, 1] = value
    for init in (start, start.tolist(), lambda X, k, random_state: start):
        with pytest.raises(ValueError, match=r"init contains|Input init"):
            KMeans(6, init=init, n_init=1).fit(blobs)


def test_unfitted__stays_unfitted_when_a_fit_fails(blobs):
    """
    After a fit that raised, the model is not taken for a fitted one.
    """
    model = KMeans(2)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full((9, 2), np.nan))
    with pytest.raises(NotFittedError):
        model.predict(blobs)


def test_init__given_as_a_callable_is_asked_with_the_data_itself(blobs):
    """
    A callable is given X, n_clusters and the random state; its centres are where X is.
    """
    expected = KMeans(6, init=blobs[:6], n_init=1).fit(blobs)
    model = KMeans(6, init=lambda X, k, random_state: X[:k], n_init=1).fit(blobs)
    assert expected.inertia_ == model.inertia_
    with pytest.warns(RuntimeWarning, match="only one init"):
        KMeans(6, init=blobs[:6], n_init=3).fit(blobs)


def test_verbose__prints_each_step(blobs, capsys):
    """
    With verbose=1 each step is a line with its inertia.
    """
    model = KMeans(6, verbose=1, random_state=0).fit(blobs)
    assert model.n_iter_ == capsys.readouterr().out.count("Iteration")
