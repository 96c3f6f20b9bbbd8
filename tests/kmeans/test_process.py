"""k-means in processes and threads: what an import loads, the cache of kernels, threads, forks, BLAS."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import threadpoolctl

from nbgrid.kmeans import KMeans, compiled_kernels
from nbgrid.kmeans import _threads as threads

FIT = """
import numpy as np
from nbgrid.kmeans import KMeans, compiled_kernels
X = np.random.default_rng(0).standard_normal((2000, {d})).astype("{dtype}")
print(round(KMeans(4, random_state=0).fit(X).inertia_, 2))
"""


def test_import__loads_neither_numba_nor_scikit_learn(fresh):
    """
    Importing the package, and asking which kernels ran, loads nothing heavy.
    """
    code = "import sys, nbgrid.kmeans as k; print(k.compiled_kernels(), {'numba', 'sklearn', 'numpy'} & {*sys.modules})"
    assert fresh(code).strip() == "[] set()"


def test_kernels__compile_at_the_first_fit_and_are_told(fresh):
    """
    Nothing is compiled before a fit; afterwards compiled_kernels names what ran.
    """
    code = "import numba\nfrom nbgrid.kmeans import KMeans, compiled_kernels\nprint(compiled_kernels())"
    assert fresh(code).strip() == "[]"
    told = fresh(FIT.format(d=3, dtype="f8") + "print(compiled_kernels())")
    assert "moments" in told
    assert "iterate" in told
    assert "draw_all" in told
    assert "silhouettes" not in told


# Two kernels of a fit, each compiled in a process of its own kind; a whole fit sixteen times would take a minute.
PASSES = """
import numpy as np
from nbgrid.kmeans._data import measure
from nbgrid.kmeans._iterate import Passes
from nbgrid.kmeans._threads import Workers
X = np.random.default_rng(0).standard_normal((2000, 3)).astype("{dtype}")
with Workers() as workers:
    data = measure(X, np.empty(0), workers)
    passes = Passes(data=data, shift=data.mean, n_clusters=1, workers=workers)
    inertia = passes.inertia(np.zeros((1, 3)), np.zeros(2000, np.int32), shift=data.mean)
print(np.isclose(inertia, ((X - X.mean(axis=0)) ** 2).sum(), rtol=1e-4), inertia)
"""


def test_km_22__sixteen_cold_processes_at_once_all_get_it_right(fresh):
    """
    Sixteen processes with one empty cache and two dtypes compile, write and read side by side.
    """
    dtypes = ["f8", "f4"] * 8
    running = [fresh(PASSES.format(dtype=dtype), wait=False) for dtype in dtypes]
    printed = [process.communicate(timeout=500) for process in running]
    assert [process.returncode for process in running] == [0] * 16, printed
    for dtype in ("f8", "f4"):
        warm = fresh(PASSES.format(dtype=dtype))
        assert warm.startswith("True")
        assert {warm} == {out for (out, _), job in zip(printed, dtypes, strict=True) if job == dtype}


def test_km_22__a_broken_cache_is_rebuilt(fresh):
    """
    Files that were cut short, emptied or filled with noise are compiled anew and then whole again.
    """
    expected = fresh(FIT.format(d=3, dtype="f8"))
    files = sorted(fresh.cache.rglob("*.nbc"))
    whole = [path.stat().st_size for path in files]
    for number, path in enumerate(files):
        data = path.read_bytes()
        path.write_bytes([data[: len(data) // 2], b"", bytes(len(data)), b"noise" * 99][number % 4])
    assert expected == fresh(FIT.format(d=3, dtype="f8"))
    mended = [path.stat().st_size for path in files]
    assert all(abs(after - before) < 0.1 * before for before, after in zip(whole, mended, strict=True))


def test_km_22__a_cache_that_cannot_be_written_is_done_without(fresh, tmp_path):
    """
    Where the cache folder cannot be made, the fit compiles and says nothing.
    """
    (tmp_path / "file").write_text("not a folder")
    expected = fresh(FIT.format(d=3, dtype="f8"))
    assert expected == fresh(FIT.format(d=3, dtype="f8"), env={"NUMBA_CACHE_DIR": str(tmp_path / "file")})


def test_cache__changes_nothing_for_the_users_own_numba(fresh):
    """
    numba's settings are the same after a fit as before.
    """
    probe = (
        "from numba import config\nprint(config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES, config.NUMBA_NUM_THREADS)\n"
    )
    printed = fresh(probe + FIT.format(d=3, dtype="f8") + probe).splitlines()
    assert printed[0] == printed[-1]


@pytest.mark.parametrize(("n", "d"), [(200_000, 3), (100_000, 12)])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_km_14__the_number_of_threads_changes_no_bit(rng, monkeypatch, n, d, dtype):
    """
    With 1, 2, 4 and 8 threads, and twice with each, centres, labels and inertia are the same bits.
    """
    X = rng.standard_normal((n, d)).astype(dtype)
    results = set()
    for count in (1, 2, 4, 8, 8, 2):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        with pytest.warns():
            model = KMeans(5, random_state=0, max_iter=4, tol=0).fit(X)
        results.add((model.cluster_centers_.tobytes(), model.labels_.tobytes(), model.inertia_))
    assert len(results) == 1


def test_km_20__eight_threads_predict_what_one_predicts(rng):
    """
    Predictions from eight threads at once equal a serial one, and BLAS has its threads back.
    """
    X = rng.standard_normal((20000, 16))
    model = KMeans(5, random_state=0).fit(X)

    def blas():
        return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]

    before = blas()
    with ThreadPoolExecutor(8) as pool:
        for labels in pool.map(model.predict, [X] * 16):
            assert np.array_equal(model.labels_, labels)
    assert before == blas()


def _fit_in_child(X, queue):
    queue.put(KMeans(5, random_state=0).fit(X).inertia_)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_km_21__two_threads_fit_at_once_and_then_a_forked_child_does(rng):
    """
    Two Python threads in a fit neither abort nor disturb each other, and a child forked afterwards fits as well.
    """
    X = rng.standard_normal((60000, 20))
    expected = KMeans(5, random_state=0).fit(X).inertia_
    with ThreadPoolExecutor(2) as pool:
        assert [expected] * 4 == [m.inertia_ for m in pool.map(KMeans(5, random_state=0).fit, [X] * 4)]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_fit_in_child, args=(X, queue))
    child.start()
    assert expected == queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0


def test_threads__end_with_the_fit(rng):
    """
    No thread of a fit outlives it, also when it raises.
    """
    before = threading.active_count()
    KMeans(5, random_state=0).fit(rng.standard_normal((100_000, 10)))
    with threads.Workers(4) as workers, pytest.raises(ZeroDivisionError):
        workers.map(lambda s, start, stop: 1 // (s - 3), np.arange(9))
    assert before == threading.active_count()


def test_thread_count__follows_numba_without_starting_its_layer(fresh):
    """
    NUMBA_NUM_THREADS is heard without a threading layer being started; a mask set by set_num_threads is heard too.
    """
    code = """
import numba
from nbgrid.kmeans._threads import thread_count
print(thread_count())
try:
    numba.threading_layer()
except ValueError:
    print("no layer")
numba.set_num_threads(1)
print(thread_count())
"""
    cores = threads.thread_count()
    assert [str(cores), "no layer", "1"] == fresh(code, env={"NUMBA_NUM_THREADS": str(cores)}).split("\n")[:3]
    assert fresh(code, env={"NUMBA_NUM_THREADS": "1"})[0] == "1"


def test_slabs__cover_every_row_once():
    """
    The slabs of any problem follow each other from the first row to the last, and there are at most 64.
    """
    for n, k, d in [(1, 1, 1), (7, 7, 2), (100_000, 5, 100), (1_000_003, 8, 2), (5000, 4000, 3)]:
        edges = threads.slabs(n, k, d)
        assert edges[0] == 0
        assert edges[-1] == n
        assert (np.diff(edges) > 0).all()
        assert 1 <= len(edges) - 1 <= 64


def test_numba__is_the_one_that_runs():
    """
    Every kernel that is told is a dispatcher of numba's with the GIL released.
    """
    from nbgrid.kmeans._jit import KERNELS

    assert compiled_kernels()
    assert all(isinstance(k, numba.core.registry.CPUDispatcher) and k.targetoptions["nogil"] for k in KERNELS.values())


def test_cold_start__says_that_it_compiles_and_only_then(fresh):
    """
    A process that finds an empty cache says on stderr why it takes seconds; the next one has nothing to say.
    """
    command = "import contextlib, sys\nfrom nbgrid.kmeans.__main__ import main\nsys.stderr = sys.stdout\nmain()"
    assert "once" in fresh(command)
    assert fresh(command) == ""
    # What a fit of either precision needs is there now.
    for dtype in ("f4", "f8"):
        assert "compiles" not in fresh("import sys\nsys.stderr = sys.stdout\n" + FIT.format(d=3, dtype=dtype))
