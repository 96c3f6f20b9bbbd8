"""Saved models: the same bits in another process, whole files or none, and nothing in a file is executed."""

from __future__ import annotations

import os
import stat
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from nbgrid.kmeans import KMeans

ATTRIBUTES = ("inertia_", "msd_", "n_iter_", "converged_", "n_features_in_", "_n_features_out")


@pytest.fixture
def model(blobs):
    """Six clusters of the blobs."""
    return KMeans(6, random_state=0).fit(blobs)


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_load__gives_back_all_that_was_saved(blobs, tmp_path, dtype):
    """
    Parameters, centres, labels and what the fit told are the same, to the bit; the path is used as it is.
    """
    X = blobs.astype(dtype)
    model = KMeans(6, random_state=3, n_init=2, max_time=60.0, warm_start=True).fit(
        X, sample_weight=np.ones(len(X)) / 3
    )
    model.save(tmp_path / "model")
    assert names(tmp_path) == ["model"]
    loaded = KMeans.load(str(tmp_path / "model"))
    assert model.get_params() == loaded.get_params()
    assert [getattr(model, name) for name in ATTRIBUTES] == [getattr(loaded, name) for name in ATTRIBUTES]
    for name in ("cluster_centers_", "labels_", "_shift"):
        before, after = getattr(model, name), getattr(loaded, name)
        assert (before.dtype, before.shape, before.tobytes()) == (after.dtype, after.shape, after.tobytes())
    assert model.predict(X).tobytes() == loaded.predict(X).tobytes()
    assert model.transform(X).tobytes() == loaded.transform(X).tobytes()
    assert model.score(X) == loaded.score(X)


def test_load__keeps_names_and_output(blobs, tmp_path):
    """
    Feature names come back, with the errors and warnings that belong to them, and so does set_output.
    """
    frame = pd.DataFrame(blobs, columns=["a", "b", "µ", 'quote"', "e\n"])
    model = KMeans(3, random_state=0).set_output(transform="pandas").fit(frame)
    model.save(tmp_path / "m.npz")
    loaded = KMeans.load(tmp_path / "m.npz")
    assert list(frame.columns) == list(loaded.feature_names_in_)
    pd.testing.assert_frame_equal(model.transform(frame), loaded.transform(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame.rename(columns={"a": "z"}))


def test_save__may_leave_labels_out(model, blobs, tmp_path):
    """
    Without labels the file is small and the model predicts all the same, can be saved again, and fits on.
    """
    model.save(tmp_path / "whole")
    model.save(tmp_path / "small", labels=False)
    assert (tmp_path / "whole").stat().st_size - (tmp_path / "small").stat().st_size > 4 * len(blobs)
    loaded = KMeans.load(tmp_path / "small")
    assert not hasattr(loaded, "labels_")
    assert np.array_equal(model.labels_, loaded.predict(blobs))
    loaded.save(tmp_path / "again")
    assert (tmp_path / "small").read_bytes() == (tmp_path / "again").read_bytes()
    assert loaded.set_params(warm_start=True).fit(blobs).n_iter_ <= 2
    assert np.array_equal(model.labels_, loaded.labels_)


@pytest.mark.parametrize("form", [np.ndarray.tolist, np.asarray, pd.DataFrame, lambda start: start.astype("i8")])
def test_save__keeps_an_array_init_as_an_array(blobs, tmp_path, form):
    """
    Starting centres come back as an array of equal values, whatever held them.
    """
    init = form(np.rint(blobs[:6]))
    KMeans(6, init=init, n_init=1).fit(blobs).save(tmp_path / "m")
    loaded = KMeans.load(tmp_path / "m")
    assert np.array_equal(np.rint(blobs[:6]), loaded.init)
    assert np.array_equal(KMeans(6, init=init, n_init=1).fit(blobs).labels_, loaded.fit(blobs).labels_)


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"init": lambda X, k, random_state: X[:k], "n_init": 1}, "init is a function.*set_params.init='k-means"),
        ({"random_state": np.random.RandomState(0)}, "random_state is a RandomState.*set_params.random_state=None"),
    ],
)
def test_save__refuses_what_a_file_cannot_hold_and_says_what_to_set(blobs, tmp_path, options, instead):
    """
    A callable init and a generator are a TypeError, nothing is written, and what the message says works.
    """
    model = KMeans(6, **options).fit(blobs)
    with pytest.raises(TypeError, match=instead):
        model.save(tmp_path / "m")
    assert names(tmp_path) == []
    model.set_params(init="k-means++", random_state=None).save(tmp_path / "m")
    assert np.array_equal(model.labels_, KMeans.load(tmp_path / "m").predict(blobs))


def test_save__of_numpys_numbers_gives_pythons(blobs, tmp_path):
    """
    Parameters that are NumPy scalars come back as numbers of equal value.
    """
    model = KMeans(np.int64(3), tol=np.float32(0.25), random_state=np.int32(0), copy_x=np.bool_(True)).fit(blobs)
    model.save(tmp_path / "m")
    assert model.get_params() == KMeans.load(tmp_path / "m").get_params()


def test_save__of_a_model_without_a_fit_is_refused(tmp_path):
    """
    Before a fit there is nothing to save.
    """
    with pytest.raises(NotFittedError):
        KMeans().save(tmp_path / "m")
    assert names(tmp_path) == []


def test_save__twice_gives_the_same_bytes_which_numpy_opens(model, tmp_path):
    """
    A file depends on the model alone; numpy.load reads its arrays without pickles, and others may read it.
    """
    for name in ("a", "b"):
        model.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a", allow_pickle=False) as arrays:
        assert np.array_equal(model.cluster_centers_, arrays["cluster_centers"])
    os.umask(umask := os.umask(0))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_load__of_a_subclass_is_of_the_subclass(model, tmp_path):
    """
    load is the class's own.
    """

    class Named(KMeans):
        pass

    model.save(tmp_path / "m")
    assert type(Named.load(tmp_path / "m")) is Named


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace"])
def test_save__that_fails_leaves_the_old_file_and_nothing_else(model, blobs, tmp_path, monkeypatch, failing):
    """
    When the disk is full, what was there before stays whole, and no part of the new file is left.
    """
    model.save(tmp_path / "m")
    before = (tmp_path / "m").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(failing, full)
        with pytest.raises(OSError, match="No space"):
            KMeans(2, random_state=0).fit(blobs).save(tmp_path / "m")
    assert names(tmp_path) == ["m"]
    assert before == (tmp_path / "m").read_bytes()


def test_save__writes_through_a_link(model, tmp_path):
    """
    A symbolic link stays one, and its target is replaced.
    """
    (tmp_path / "link").symlink_to("target")
    model.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").is_file()


PREDICT = """
import hashlib, sys
import numpy as np
from nbgrid.kmeans import KMeans
model = KMeans.load({path!r})
X = np.load({data!r})
print(hashlib.sha256(model.predict(X).tobytes()).hexdigest(), model.score(X).hex(), model.msd_.hex())
"""


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_km_25__another_process_predicts_the_same_bits_with_a_cold_cache_and_a_warm_one(rng, fresh, tmp_path, dtype):
    """
    A fresh process gives the labels and the score of the process that fitted, whether it compiles or reads its cache.
    """
    X = (rng.standard_normal((5000, 7)) + 3 * rng.integers(0, 4, (5000, 1))).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(40, random_state=0, max_iter=9).fit(X)
    path, data = str(tmp_path / "model"), str(tmp_path / "X.npy")
    model.save(path)
    np.save(data, X)
    code = PREDICT.format(path=path, data=data)
    here = {}
    exec(code.replace("print(", "told = ("), here)
    cold = fresh(code)
    assert any(fresh.cache.rglob("*.nbc"))
    assert list(here["told"]) == cold.split() == fresh(code).split()
