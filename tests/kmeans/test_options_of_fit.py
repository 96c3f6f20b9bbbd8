"""warm_start, max_time, algorithm, and the warnings that say what to do next."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from nbgrid.kmeans import KMeans, _estimator, _iterate


def fitted(X, **options):
    """A fit whose ConvergenceWarnings do not matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(**options).fit(X)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_warm_start__goes_on_where_the_last_fit_ended(rng, dtype):
    """
    Five iterations and then five more end where ten end.
    """
    X = rng.standard_normal((3000, 4)).astype(dtype)
    options = {"n_clusters": 8, "init": X[:8], "n_init": 1, "tol": 0}
    whole = fitted(X, max_iter=10, **options)
    model = fitted(X, max_iter=5, warm_start=True, **options)
    with pytest.warns(ConvergenceWarning, match="max_iter=5"):
        model.fit(X)
    np.testing.assert_allclose(model.cluster_centers_, whole.cluster_centers_, rtol=1e-10 if dtype == "f8" else 1e-4)
    assert whole.inertia_ == pytest.approx(model.inertia_, rel=1e-6)
    assert np.array_equal(model.labels_, model.predict(X))


def test_warm_start__of_a_fit_that_converged_is_over_at_once(blobs):
    """
    A second fit of the same rows needs one iteration and changes no label; without warm_start it starts anew.
    """
    model = KMeans(6, random_state=0, n_init=3, warm_start=True, tol=0).fit(blobs)
    labels, iterations = model.labels_, model.n_iter_
    assert model.fit(blobs).n_iter_ == 1
    assert np.array_equal(labels, model.labels_)
    assert iterations == model.set_params(warm_start=False).fit(blobs).n_iter_


def test_warm_start__asks_neither_init_nor_random_state(blobs):
    """
    A callable init is asked by the first fit alone, and a generator is drawn from by the first fit alone.
    """
    asked = []

    def init(X, k, random_state):
        asked.append(k)
        return X[:k]

    model = KMeans(6, init=init, n_init=2, warm_start=True).fit(blobs).fit(blobs * 1.01)
    assert asked == [6, 6]
    generator = np.random.RandomState(0)
    model = KMeans(6, random_state=generator, warm_start=True).fit(blobs)
    state = generator.get_state()[2]
    assert state == model.fit(blobs).random_state.get_state()[2]


def test_warm_start__refuses_another_number_of_clusters_or_features(blobs):
    """
    Centres that do not fit are a ValueError that says what to set, and the model stays as it was.
    """
    model = KMeans(3, random_state=0, warm_start=True).fit(blobs)
    labels = model.predict(blobs)
    with pytest.raises(
        ValueError, match=r"the 3 centers of the last fit, but n_clusters=5; set n_clusters=3, or warm_st"
    ):
        model.set_params(n_clusters=5).fit(blobs)
    with pytest.raises(ValueError, match="2 features, but KMeans is expecting 5"):
        model.set_params(n_clusters=3).fit(blobs[:, :2].copy())
    assert np.array_equal(labels, model.predict(blobs))


@pytest.mark.parametrize("dtypes", [("f8", "f4"), ("f4", "f8")])
def test_warm_start__takes_data_of_another_precision(blobs, dtypes):
    """
    Centres follow the dtype of the data that is fitted last.
    """
    model = KMeans(6, random_state=0, warm_start=True)
    for dtype in dtypes:
        model.fit(blobs.astype(dtype))
        assert dtype == model.cluster_centers_.dtype.str[1:]
    assert np.array_equal(model.labels_, model.predict(blobs.astype(dtypes[-1])))


def test_max_time__ends_a_fit_after_the_iteration_that_passes_it(rng):
    """
    With a billionth of a second there is one iteration, labels of its centres, and a warning that names max_time.
    """
    X = rng.standard_normal((3000, 4))
    with pytest.warns(ConvergenceWarning, match=r"within max_time=1e-09 s, in 1 iterations; .* warm_start=True"):
        model = KMeans(8, random_state=0, max_time=1e-9, tol=0).fit(X)
    assert not model.converged_
    assert model.n_iter_ == 1
    assert np.array_equal(model.labels_, model.predict(X))
    assert model.inertia_ == pytest.approx(model.measure(X), rel=1e-12)


def test_max_time__that_is_not_reached_changes_no_bit(blobs):
    """
    A fit with a million seconds is the fit without a limit.
    """
    expected, model = (KMeans(6, random_state=0, n_init=2, max_time=limit).fit(blobs) for limit in (None, 1e6))
    assert expected.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
    assert model.converged_


def test_max_time__begins_no_further_start_and_says_how_many_there_were(blobs, monkeypatch):
    """
    Where the time ends between two starts, the best so far is kept and a warning counts the starts.
    """
    now = time.perf_counter()
    # Told the start of the fit first; by the estimator's clock, not by that of the iterations, it is late from then on.
    readings = iter([now])
    monkeypatch.setattr(_estimator, "perf_counter", lambda: next(readings, now + 1e9))
    with pytest.warns(ConvergenceWarning, match=r"max_time=1000000.0 s had passed after 1 of n_init=10 starts"):
        model = KMeans(6, init="random", random_state=0, max_time=1e6).fit(blobs)
    assert model.converged_
    assert KMeans(6, init="random", random_state=0, n_init=1).fit(blobs).inertia_ == model.inertia_


@pytest.mark.parametrize("algorithm", ["auto", "lloyd", "hamerly", "elkan"])
def test_algorithm__changes_no_bit(rng, algorithm):
    """
    All algorithms are exact: centres, labels, inertia and iterations are the same.
    """
    X = rng.standard_normal((3000, 10)) + 6 * rng.integers(0, 5, (3000, 1))
    expected, model = (fitted(X, n_clusters=40, init=X[:40], n_init=1, algorithm=a) for a in ("lloyd", algorithm))
    assert expected.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
    assert np.array_equal(expected.labels_, model.labels_)
    assert (expected.inertia_, expected.n_iter_) == (model.inertia_, model.n_iter_)


def test_convergence_warning__says_what_to_do_next(rng):
    """
    At max_iter it names warm_start and tol; for too few distinct rows, fewer clusters; it points to the caller's line.
    """
    X = rng.standard_normal((500, 4))
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2; .* warm_start=True and fit again, or raise tol") as told:
        KMeans(8, random_state=0, max_iter=2, tol=0).fit(X)
    assert [__file__] == [warning.filename for warning in told]
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\).* ask for fewer clusters"):
        KMeans(3, random_state=0).fit([[0.0], [0.0], [1.0]])


def test_verbose__is_silent_unless_asked(blobs, capsys):
    """
    Without verbose nothing is printed; with it, each iteration of each start is one line.
    """
    KMeans(6, random_state=0).fit(blobs)
    assert capsys.readouterr().out == ""
    KMeans(6, init="random", n_init=3, verbose=True, random_state=0, max_time=1e6).fit(blobs)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("Iteration 1,") for line in lines) == 3


def test_max_time__that_ends_the_last_start_is_told_though_the_best_converged(blobs, monkeypatch):
    """
    A start that was cut short counts as none, also when it was the last one and an earlier one is kept.
    """
    limits = iter([None, 0.0])
    whole = _iterate.lloyd

    def cut(*args, deadline, **options):
        return whole(*args, deadline=next(limits), **options)

    monkeypatch.setattr(_iterate, "lloyd", cut)
    with pytest.warns(ConvergenceWarning, match="after 1 of n_init=2 starts"):
        model = KMeans(6, n_init=2, random_state=0, max_time=1e6, tol=0).fit(blobs)
    assert model.converged_
