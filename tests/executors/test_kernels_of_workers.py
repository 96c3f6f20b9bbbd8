"""Whole runs on a cluster of other processes: the kernels of its workers, and what is left of them when a worker is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import making
import psutil
import pytest
from making import code, raw, strict_json, write_notebook

import nbgrid
from nbgrid.engines import ENGINES
from nbgrid.states import RunState
from nbgrid.testing import is_running, wait_until

pytestmark = pytest.mark.usefixtures("place")

# Its parent, in a forked kernel, is the fork server.
TELLS = (
    "import os\nfrom pathlib import Path\n"
    "Path(f'tells-{how}').write_text(f'{os.getpid()} {os.getppid()}'); Path(f'tells-{how}').rename(f'told-{how}')"
)
BUSY = (
    "import ctypes, time\nprint('before')\n"
    "if how == 'busy': time.sleep(600)\nif how == 'holds the gil': ctypes.PyDLL(None).sleep(600)"
)


def told(how):
    """Return the pids of the kernel and of its parent, once they were told."""
    wait_until(Path(f"told-{how}").exists, f"the cell of {how!r}")
    return [int(pid) for pid in Path(f"told-{how}").read_text().split()]


@pytest.mark.parametrize("engine", ENGINES)
def test_kn_06_ex_07__a_killed_worker_takes_its_kernels_along_and_leaves_nothing_partial(cluster, engine):
    """
    kill -9 of a worker with two kernels in the third cell of five, one of them in a C call that holds the GIL: kernels and fork
    server are gone, the tasks are lost, and what was finished before is all that stands under a final name.
    """
    worker = cluster.worker("one", threads=2)
    write_notebook(
        "killed.ipynb", raw("grid:\n  how: [fine, busy, holds the gil]\n"), code("# PARAMETERS\nhow = ''"), code(TELLS),
        code(BUSY), code("print('after')"), code("how", "result"),
    )  # fmt: skip
    handle = nbgrid.run("killed.ipynb", scheduler=cluster.address, engine=engine)
    ended = handle.as_completed()
    assert next(ended).point == {"how": "fine"}
    pids = {*told("busy"), *told("holds the gil")} - {worker.pid}
    assert len(pids) == (3 if engine == "fork" else 2)
    assert {psutil.Process(pid).ppid() for pid in pids} <= {worker.pid, *pids}
    worker.kill()
    wait_until(lambda: not any(map(is_running, pids)), "the end of the kernels")
    assert handle.wait().state is RunState.FAILED
    assert [str(task.state) for task in handle.tasks] == ["finished", "lost", "lost"]
    (kept,) = (path for path in Path("killed").rglob("*.ipynb"))
    assert kept == Path(handle.tasks[0].output)
    record = strict_json(kept.read_bytes())["metadata"]["nbgrid"]
    assert (record["state"], record["engine"]) == ("finished", engine)


@pytest.mark.parametrize("shared", [False, True], ids=["imports", "shared_cells"])
def test_kernels_are_forked_on_the_workers_of_any_cluster(lasting, shared):
    """
    Each worker has one fork server for the run, where a shared cell is executed once; when the run has ended, it is gone.
    """
    write_notebook(
        "forked.ipynb", raw("grid:\n  a: 1..9\n"), code("import os, time"),
        *([code("once = os.getpid()", "shared")] if shared else []), code("# PARAMETERS\na = 0"),
        code("time.sleep(0.2)"), code(f"[os.getpid(), os.getppid(), {'once' if shared else 'os.getppid()'}]", "pids"),
    )  # fmt: skip
    handle = nbgrid.run("forked.ipynb", scheduler=lasting.address, engine="fork").wait()
    assert (handle.state, handle.notes) == (RunState.FINISHED, [])
    kernels, servers, once = (set(pids) for pids in zip(*handle.collection()["pids"].values(), strict=True))
    assert len(kernels) == 9
    assert once == servers
    workers = {task.attempt.worker for task in handle.tasks if task.attempt}
    assert len(servers) == len(workers) == 2
    engines = {strict_json(Path(task.output).read_bytes())["metadata"]["nbgrid"]["engine"] for task in handle.tasks}
    assert engines == {"fork"}
    wait_until(lambda: not any(map(is_running, kernels | servers)), "the end of the fork servers")


NOTED = """
import os, threading
def note(): open({file!r}, "a").write("forked\\n")
os.register_at_fork(before=note)
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
DRIVER = """
import nbgrid, sys
print(nbgrid.run("threads.ipynb", engine=sys.argv[1], **eval(sys.argv[2])).wait().state)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_kn_14__no_process_with_threads_forks(cluster, engine, tmp_path):
    """
    Neither the driver, with its embedded cluster or without, nor a worker runs Python code between a fork and an exec.
    """
    making.simple("threads.ipynb", "grid:\n  a: [1, 2]\n")
    noted = tmp_path / "noted"
    shim = NOTED.format(file=str(noted))
    cluster.worker("one", shim=shim)
    paths = os.pathsep.join(filter(None, (str(Path(nbgrid.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    for where in ({"workers": 2}, {"scheduler": cluster.address, "prefix": "elsewhere"}):
        ran = subprocess.run(
            [sys.executable, "-c", shim + DRIVER, engine, repr(where)],
            env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.stdout == "finished\n", ran.stderr
    assert not noted.exists()
