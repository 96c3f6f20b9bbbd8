"""Libraries with threads of their own, used in a shared cell and again in the tasks that are forked after it."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import json
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import pytest

from nbgrid.engines import make_engine
from nbgrid.engines.base import THREAD_VARIABLES, ExecutionSpec, Shared, no_event, thread_limits
from nbgrid.states import TaskState
from nbgrid.testing import code_notebook, printed

# What a cell may take before it is said to hang; numba compiles for some seconds.
LIMIT = 90.0

NUMBA = """
import numba

@numba.njit(parallel=True)
def total(x):
    found = 0.0
    for i in numba.prange(x.size):
        found += x[i]
    return found

@numba.njit(parallel=True)
def squares(x):
    return x * x + 1.0

def use_numba():
    x = np.arange(100_000.0)
    return [total(x), float(squares(x)[-1])], {"numba": numba.get_num_threads()}
"""

BLAS = """
def use_blas():
    x = np.random.RandomState(0).rand(600, 600)
    return [round(float((x @ x).sum()), 4), round(float(np.linalg.svd(x)[1][0]), 8)], {}
"""

SKLEARN = """
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingRegressor

def use_sklearn():
    x = np.random.RandomState(0).rand(3000, 5)
    inertia = KMeans(3, n_init=1, random_state=0).fit(x).inertia_
    trees = HistGradientBoostingRegressor(max_iter=5, random_state=0).fit(x, x.sum(axis=1))
    return [round(float(inertia), 6), round(float(trees.predict(x).sum()), 6)], {}
"""

PANDAS = """
import pandas as pd

def use_pandas():
    table = pd.DataFrame({"key": np.arange(200_000) % 7, "text": "x", "value": np.arange(200_000.0)})
    table = table.merge(table.groupby("key", as_index=False).value.mean(), on="key").sort_values("value_x")
    return [float(table.eval("value_x + value_y").sum()), int(table.text.str.len().sum())], {}
"""

PYARROW = """
import io
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

def use_pyarrow():
    table, file = pa.table({"key": np.arange(200_000) % 7, "value": np.arange(200_000)}), io.BytesIO()
    pa.parquet.write_table(table, file, row_group_size=10_000)
    sums = pa.parquet.read_table(file, use_threads=True).group_by("key").aggregate([("value", "sum")])
    return sorted(sums["value_sum"].to_pylist()), {"arrow": pa.cpu_count()}
"""

USES = {"numba": NUMBA, "blas": BLAS, "sklearn": SKLEARN, "pandas": PANDAS, "pyarrow": PYARROW}

ASKED = """
import json, os, threadpoolctl
results, threads = zip(*[use() for use in uses])
share = {f"{pool['user_api']} {os.path.basename(pool['filepath'])}": pool["num_threads"]
         for pool in threadpoolctl.threadpool_info()}
for told in threads: share.update(told)
print(json.dumps([results, share]))
"""


def cells(names):
    """A notebook whose first two cells, to be shared, define the uses of *names* and use them; the third uses them again."""
    definitions = "import numpy as np\n" + "".join(USES[name] for name in names)
    uses = f"uses = [{', '.join('use_' + name for name in names)}]\nfor use in uses: use()"
    return definitions, uses, ASKED


def execute(engine, tmp_path, sources, env):
    """Return what the cells of *sources* printed, executed by *engine* and no other."""
    notebook = code_notebook(*sources)
    # Threads that wait for work, and spin meanwhile, would make the smallest task last where the cores are busy.
    spec = ExecutionSpec(
        kernel="python3", cwd=str(tmp_path), env={**env, "OMP_WAIT_POLICY": "passive"}, cell_timeout=LIMIT
    )  # fmt: skip
    outcome = asyncio.run(asyncio.wait_for(engine.execute(notebook, spec, no_event), LIMIT * 2))
    assert (outcome.state, outcome.reason, outcome.fallback) == (TaskState.FINISHED, None, None)
    assert outcome.engine == engine.name
    return printed(notebook)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Return what a kernel that was started makes of *names*: the results, and the pools of 2 threads."""
    return cache(lambda names: json.loads(
        execute(make_engine("kernel"), tmp_path_factory.mktemp("started"), cells(names), thread_limits(2, {}))
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("names", "threads"),
    [*(((name,), 2) for name in USES), (tuple(USES), 1), (tuple(USES), 2)],
    ids=[*USES, "all_with_one_thread", "all_with_two"],
)
def test_a_library_of_a_shared_cell_works_in_each_task(tmp_path, started, names, threads):
    """
    Used before the fork and after it: no abort, no hang, the results of a kernel that was started, and the task's full share of
    threads in each of the library's pools.
    """
    if missing := [name for name in names if name != "blas" and importlib.util.find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    wanted, pools = started(names)
    with closing(make_engine("fork", Shared(cells=(0, 1)))) as engine:
        for _ in range(2):
            found, share = json.loads(execute(engine, tmp_path, cells(names), thread_limits(threads, {})))
            assert found == wanted
            assert share
            assert set(share.values()) == {threads}
            assert share.keys() <= pools.keys()  # numba's layer may be another


OPENMP = "import ctypes, os, sys\nopenmp = ctypes.CDLL('libgomp.so.1')"
ASKS_OPENMP = "print(openmp.omp_get_max_threads(), os.environ.get('OMP_NUM_THREADS'), 'threadpoolctl' in sys.modules)"
BLAS_WITHOUT_LIMIT = "import numpy as np\nnp.ones((9, 9)) @ np.ones((9, 9))"


@pytest.mark.parametrize("limits", [thread_limits(3, {}), {"OMP_NUM_THREADS": "3"}, {}], ids=["all", "openmp", "none"])
def test_a_library_with_openmp_that_nothing_else_knows_has_its_share(tmp_path, monkeypatch, limits):
    """
    One that a shared cell has loaded has in the task as many threads as in a kernel that was started, whatever was said of them,
    and so has BLAS; how that is done is not to be seen.
    """
    with suppress(OSError):
        ctypes.CDLL("libgomp.so.1")
    if "libgomp.so.1" not in Path("/proc/self/maps").read_text():
        pytest.skip("there is no libgomp")
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    blas = "import threadpoolctl\nprint([p['num_threads'] for p in threadpoolctl.threadpool_info() if p['user_api'] == 'blas'])"
    sources = (OPENMP, BLAS_WITHOUT_LIMIT, ASKS_OPENMP, blas)
    wanted = execute(make_engine("kernel"), tmp_path, sources, limits)
    with closing(make_engine("fork", Shared(cells=(0, 1)))) as engine:
        assert execute(engine, tmp_path, sources, limits) == wanted


@pytest.mark.parametrize("used", [False, True], ids=["loaded", "used_before"])
def test_numba_of_several_threads_at_once(tmp_path, used):
    """
    Where numba is only loaded before the fork, tasks may use it from several threads, as in a kernel that was started; where a
    shared cell has used it, from one.
    """
    definition = (
        "import numba\nimport numpy as np\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "@numba.njit(parallel=True, nogil=True)\ndef total(x):\n    found = 0.0\n"
        "    for i in numba.prange(x.size):\n        found += x[i]\n    return found"
    )
    use = "x = np.ones(100_000)\nwith ThreadPoolExecutor({n}) as pool: print(set(pool.map(total, [x] * 50)))"
    shared = Shared(cells=(0, 1) if used else (), imports=("import numba", "import numpy as np"))
    with closing(make_engine("fork", shared)) as engine:
        sources = (definition, use.format(n=1), use.format(n=1 if used else 4))
        assert execute(engine, tmp_path, sources, thread_limits(2, {})) == "{100000.0}\n" * 2
