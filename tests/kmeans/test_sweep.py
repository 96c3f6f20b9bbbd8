"""The sweep: every k at once, its models, its curves, its table; here and on Dask's workers."""

from __future__ import annotations

import copy
import itertools
import pickle
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from nbgrid.kmeans import KMeans, _fanout, sweep
from nbgrid.kmeans import _threads as threads

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def falls(result):
    """Return whether inertia never rises with k, but for rounding of what one cluster leaves."""
    values = result.inertias
    return all(after <= before + 1e-10 * values[0] for before, after in itertools.pairwise(values))


def test_sweep__holds_every_k_once_and_in_order(blobs):
    """
    Numbers come in any order and more than once; models, inertias, sizes and seconds go by k.
    """
    result = sweep(blobs, [7, 2, np.int64(5), 2], random_state=0)
    assert [2, 5, 7] == result.n_clusters == [model.n_clusters for model in result]
    assert len(result) == 3
    assert [model.inertia_ for model in result] == list(result.inertias)
    assert result[5] is list(result)[1]
    for k in result.n_clusters:
        assert np.array_equal(result.sizes[k], np.bincount(result[k].labels_, minlength=k))
        assert result.seconds[k] > 0


def test_sweep__tells_which_k_it_has(blobs):
    """
    Another k is a KeyError that lists those there are, and another measure a ValueError that lists these.
    """
    result = sweep(blobs, [2, 3], random_state=0)
    with pytest.raises(KeyError, match="no k = 4; it has 2, 3"):
        result[4]
    with pytest.raises(KeyError, match="no k = 9"):
        result.silhouette(9)
    with pytest.raises(ValueError, match="measure='silhouette' should be one of 'inertia', 'msd'"):
        result.curve("silhouette")


@pytest.mark.parametrize(
    "n_clusters", [5, "25", b"25", [], [0, 1], [2, 2.0], [True], [None], np.array([1.0, 2.0]), range(2, 2), None]
)
def test_sweep__refuses_numbers_that_are_none(blobs, n_clusters):
    """
    What is not several whole numbers from 1 is a ValueError that names n_clusters.
    """
    with pytest.raises(ValueError, match="n_clusters"):
        sweep(blobs, n_clusters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iter": 0}, "max_iter=0"),
        ({"tol": -1.0}, "tol=-1.0"),
        ({"sample_weight": [1.0]}, "sample_weight"),
        ({"X": [[np.nan, 1.0]] * 9}, "NaN at row 0, column 0"),
        ({"X": [[0.0], [1.0]]}, "n_samples=2 should be >= n_clusters=3"),
    ],
)
def test_sweep__refuses_what_a_fit_refuses(blobs, options, message):
    """
    Options and data that make no sense are refused by name, before anything is fitted.
    """
    with pytest.raises(ValueError, match=message):
        sweep(**{"X": blobs, "n_clusters": [2, 3], **options})


@quiet
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_inertia__never_rises_with_k(seed):
    """
    Duplicates, as many clusters as rows, weights, missing k: inertia falls or stays.
    """
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(5, 120)), int(rng.integers(1, 6))
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-2, 3) + 10.0 ** rng.integers(0, 4)
    if seed % 3 == 0:
        X = np.rint(X[rng.integers(0, n, n)])
    ks = rng.choice(np.arange(1, n + 1), size=min(n, 8), replace=False)
    weight = rng.integers(1, 4, n) if seed % 2 else None
    result = sweep(X, ks, sample_weight=weight, random_state=seed)
    assert falls(result)
    for model in result:
        assert model.inertia_ == pytest.approx(-model.score(X, sample_weight=weight), rel=1e-9, abs=1e-9)


@quiet
def test_inertia__is_as_low_as_that_of_ten_fits(blobs):
    """
    On the mean over k the sweep's inertia is at most a hundredth above the best of ten fits of each k.
    """
    result = sweep(blobs, range(2, 11), random_state=0)
    best = [KMeans(k, n_init=10, random_state=0).fit(blobs).inertia_ for k in result.n_clusters]
    assert np.mean(result.inertias / best) < 1.01


def test_models__predict_their_labels(blobs):
    """
    labels_ are predict's of the sweep's data, computed once; inertia, msd and measure agree.
    """
    for model in sweep(blobs, [1, 3, 6], random_state=0):
        assert "_labels" not in vars(model)
        labels = model.labels_
        assert labels.dtype == np.int32
        assert np.array_equal(labels, model.predict(blobs))
        assert model.labels_ is labels
        assert model.msd_ == pytest.approx(model.inertia_ / len(blobs))
        assert model.measure(blobs, "mean_distance") > 0


@pytest.mark.parametrize("scale", [1e20, 1e-25])
def test_models__of_float32_out_of_range_have_labels_too(rng, scale):
    """
    Data that is computed in float64 although it is float32 has the labels that predict gives, and the same measures.
    """
    X = (rng.standard_normal((300, 2)) + 6 * rng.integers(0, 3, (300, 1))).astype("f4")
    far = (X.astype("f8") * scale).astype("f4")
    near, result = sweep(X, [3], random_state=0), sweep(far, [3], random_state=0)
    assert np.array_equal(result[3].labels_, result[3].predict(far))
    for name in ("davies_bouldin", "simplified_silhouette", "calinski_harabasz"):
        assert result.curve(name)[0] == pytest.approx(near.curve(name)[0], rel=1e-4)
    assert result.silhouette(3).value == pytest.approx(near.silhouette(3).value, rel=1e-4)


def test_models__come_out_of_pickles_and_copies_as_plain_models(blobs):
    """
    A pickle and a copy are KMeans with labels and without the data; a clone is an unfitted KMeans.
    """
    model = sweep(np.tile(blobs, (40, 1)), [4], random_state=0)[4]
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert type(again) is KMeans
        assert np.array_equal(again.labels_, model.labels_)
        assert again.inertia_ == model.inertia_
        assert np.array_equal(again.predict(blobs), model.predict(blobs))
    assert len(pickle.dumps(model)) < 40 * blobs.nbytes / 5
    assert type(clone(model)) is KMeans
    assert model.get_params() == clone(model).get_params()


def test_models__can_be_saved_and_fitted_again(tmp_path, blobs):
    """
    A swept model saves and loads like another, and a fit gives it labels of its own.
    """
    model = sweep(blobs, [3], random_state=0)[3]
    model.save(tmp_path / "model.npz")
    assert np.array_equal(KMeans.load(tmp_path / "model.npz").labels_, model.labels_)
    assert len(model.fit(blobs[:50]).labels_) == 50


def test_models__know_the_features(blobs):
    """
    Of a frame's sweep, models have its column names, and name their own columns as KMeans does.
    """
    frame = pd.DataFrame(blobs, columns=list("abcde"))
    model = sweep(frame, [2, 3], random_state=0)[3]
    assert list("abcde") == list(model.feature_names_in_)
    assert list(model.get_feature_names_out()) == ["kmeans0", "kmeans1", "kmeans2"]
    assert np.array_equal(model.labels_, model.predict(frame))
    assert repr(model) == repr(KMeans(3, random_state=0))


def test_sweep__refers_to_the_data_and_holds_no_labels(rng):
    """
    X is not copied, and what ten fits keep is far less than their labels would be.
    """
    X = rng.standard_normal((200_000, 2))
    sweep(X[:2000], range(1, 11), random_state=0)
    tracemalloc.start()
    result = sweep(X, range(1, 11), max_iter=2, tol=0.1, random_state=0)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.shares_memory(result._rows, X)
    assert kept < 4 * len(X) / 4


def test_callback__is_called_with_each_model_in_order(blobs):
    """
    The callback sees every fitted model as the result has it; what it raises ends the sweep.
    """
    seen = []
    result = sweep(blobs, [3, 1, 2], random_state=0, callback=seen.append)
    assert seen == list(result)
    calls = []

    def refuse(model):
        calls.append(model.n_clusters)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(blobs, [3, 1, 2], callback=refuse)
    assert calls == [1]


def test_sweep__warns_once_of_every_k_that_was_cut_short(rng):
    """
    One ConvergenceWarning names each k that max_iter ended, and one each k that found fewer clusters.
    """
    with pytest.warns(ConvergenceWarning, match=r"max_iter=1 for n_clusters 1, 2, 9"):
        result = sweep(rng.standard_normal((500, 4)), [1, 2, 9], max_iter=1, tol=0, random_state=0)
    assert not any(model.converged_ for model in result)
    assert ", cut" in repr(result)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters .* n_clusters 3, 4\."):
        sweep(np.repeat([[0.0], [1.0]], 9, axis=0), [1, 2, 3, 4], random_state=0)


def test_km_14__the_number_of_threads_changes_no_bit_of_a_sweep(rng, monkeypatch):
    """
    With 1, 2 and 4 threads one random_state gives the same inertias, centres and measures.
    """
    X = rng.standard_normal((60_000, 6))
    results = set()
    for count in (1, 2, 4, 2):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        result = sweep(X, [1, 4, 9], tol=1e-2, random_state=3)
        curves = [result.curve(name).tobytes() for name in ("inertia", "davies_bouldin", "bic")]
        results.add((*curves, *(model.cluster_centers_.tobytes() for model in result)))
    assert len(results) == 1


def test_frame__has_a_row_for_each_k(blobs):
    """
    The frame holds every curve under its name, in order of k.
    """
    result = sweep(blobs, range(1, 8), random_state=0)
    frame = result.to_frame()
    assert list(frame["n_clusters"]) == list(range(1, 8))
    assert list(frame["n_iter"]) == [model.n_iter_ for model in result]
    assert list(frame["seconds"]) == list(result.seconds.values())
    wanted = {"inertia", "msd", "mean_distance", "calinski_harabasz", "davies_bouldin", "simplified_silhouette", "bic"}
    for name in wanted | {"largest_share"}:
        assert np.array_equal(frame[name], result.curve(name), equal_nan=True)
    assert frame["largest_share"][0] == 1
    assert frame["simplified_silhouette"].idxmax() == frame["davies_bouldin"].idxmin() == 5


def test_sweep__shows_itself_without_another_pass(blobs):
    """
    The table, as text and as HTML, has a row for each k, leaves out the middle of many, and computes no measure.
    """
    result = sweep(blobs, range(1, 8), random_state=0)
    assert repr(result).startswith("Sweep of 600 rows × 5 features: 7 k in ")
    assert len(repr(result).splitlines()) == 2 + 7
    assert result._repr_html_().count("<tr>") == 1 + 7
    assert not result._separations
    many = sweep(blobs, range(1, 61), random_state=0)
    assert len(repr(many).splitlines()) == 2 + 31
    assert "…" in repr(many)


def test_import__of_sweep_and_choose_k_loads_no_numba_and_no_dask(fresh):
    """
    The names alone load no numba; a sweep without a client loads no Dask.
    """
    code = """
import sys, numpy as np
from nbgrid.kmeans import choose_k, sweep
print("numba" in sys.modules)
sweep(np.random.default_rng(0).standard_normal((100, 2)), [1, 2], random_state=0)
print({"distributed", "dask"} & {*sys.modules})
"""
    assert fresh(code).split("\n")[:2] == ["False", "set()"]


class Inline:
    """A client that runs each task at once, in this thread, and remembers what it was asked."""

    def __init__(self, change=lambda task, args, result: result):
        self.change, self.tasks, self.scattered, self.cancelled = change, [], [], []

    def nthreads(self):
        return {"tcp://a:1": 2, "tcp://a:2": 3, "tcp://b:1": 1}

    def scatter(self, data, **options):
        self.scattered.append(options)
        return data

    def submit(self, task, *args, pure):
        self.tasks.append((task, args))
        return self.change(task, args, task(*args))

    def gather(self, result):
        if isinstance(result, Exception):
            raise result
        return result

    def cancel(self, futures):
        self.cancelled = futures


def test_client__gets_the_data_once_and_a_share_of_the_threads(blobs):
    """
    X is sent to every worker once; tasks are told how many of them share a machine; all are given up in the end.
    """
    client = Inline()
    result = sweep(blobs, range(1, 9), random_state=0, client=client)
    assert client.scattered == [{"broadcast": True, "hash": False}]
    assert {args[-1] for _, args in client.tasks} == {5}
    assert [args[2] for task, args in client.tasks if task is _fanout.fit_one] == list(range(8, 0, -1))
    assert len(client.cancelled) == len(client.tasks) + 2
    assert falls(result)


def test_client__fits_a_k_again_whose_inertia_is_above_that_of_the_k_before(blobs):
    """
    A k that went wrong on a worker starts once more from where the k before it ended.
    """

    worsened = []

    def worsen(task, args, fit):
        if len(fit.centers) != 4 or task in worsened:
            return fit
        worsened.append(task)
        return replace(fit, inertia=1e10)

    client = Inline(worsen)
    result = sweep(blobs, [3, 4, 5], random_state=0, client=client)
    assert len([task for task, _ in client.tasks if task is _fanout.fit_from]) == 3
    assert falls(result)
    assert result[4].inertia_ == pytest.approx(-result[4].score(blobs))


def test_client__that_is_asynchronous_is_refused(blobs):
    """
    A client whose results cannot be waited for is a ValueError.
    """
    client = Inline()
    client.asynchronous = True
    with pytest.raises(ValueError, match="asynchronous"):
        sweep(blobs, [2], client=client)


@pytest.fixture(scope="module", params=["threads", "processes"])
def client(request):
    """A client of two slots: in one worker of this process, or in a process each."""
    own = request.param == "processes"
    with (
        LocalCluster(
            n_workers=2 if own else 1,
            threads_per_worker=1 if own else 2,
            processes=own,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


def test_client__gives_a_sweep_as_good_as_without(blobs, client):
    """
    On Dask's workers models come in order, inertia falls, and it is about as low as here; again it is the same bits.
    """
    seen = []
    result = sweep(blobs, range(1, 10), random_state=0, client=client, callback=seen.append)
    assert seen == list(result)
    assert falls(result)
    assert np.mean(result.inertias / sweep(blobs, range(1, 10), random_state=0).inertias) < 1.02
    assert np.array_equal(result[6].labels_, result[6].predict(blobs))
    assert np.nanargmax(result.curve("simplified_silhouette")) == 5
    assert np.array_equal(sweep(blobs, range(1, 10), random_state=0, client=client).inertias, result.inertias)


def test_client__is_left_without_tasks_when_the_sweep_ends_early(blobs, client):
    """
    When the callback raises, what has not ended is cancelled, and the client still works.
    """

    def refuse(model):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sweep(blobs, range(1, 10), client=client, callback=refuse)
    assert not client.futures
    assert len(sweep(blobs, [2], random_state=0, client=client)) == 1
