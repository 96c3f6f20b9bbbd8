"""The kernel engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from nbgrid.engines import make_engine
from nbgrid.engines.base import THREAD_VARIABLES, ExecutionSpec, no_event, thread_limits
from nbgrid.states import TaskState
from nbgrid.testing import DEADLINE, EngineTests, code_notebook, is_running, printed, statuses, wait_until


class TestKernelEngine(EngineTests):
    def make_engine(self):
        return make_engine("kernel")


def execute(notebook, cwd, **options):
    spec = ExecutionSpec(**{"kernel": "python3", "cwd": str(cwd), **options})
    return asyncio.run(asyncio.wait_for(make_engine("kernel").execute(notebook, spec, no_event), DEADLINE))


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Install a kernel of that name for this test, with *argv* as its command."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    def install(name, argv):
        folder = tmp_path / "jupyter/kernels" / name
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": name, "language": "python"}))

    return install


def kernels_of_this_process():
    """Return the living processes that were started here with a connection file, as kernels are."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if is_running(process.pid) and "kernel.json" in " ".join(process.cmdline())]


# -- starting -----------------------------------------------------------------------------------------------------------


def test_kn_01__thirty_two_starts_at_once_all_succeed(tmp_path):
    """
    No kernel takes another's port, for there are none; benchmarks/kernel_starts.py starts 640.
    """
    notebooks = [code_notebook(f"print({number})") for number in range(32)]

    async def together():
        engine, spec = make_engine("kernel"), ExecutionSpec(kernel="python3", cwd=str(tmp_path))
        return await asyncio.gather(*(engine.execute(notebook, spec, no_event) for notebook in notebooks))

    outcomes = asyncio.run(together())
    assert [outcome.reason for outcome in outcomes if outcome.state is not TaskState.FINISHED] == []
    assert [printed(notebook) for notebook in notebooks] == [f"{number}\n" for number in range(32)]


def test_kn_13__a_kernel_has_its_share_of_threads_and_the_users_value_wins(tmp_path):
    """
    All eight variables are in the kernel's environment, and its BLAS obeys; what the user has set stays.
    """
    code = (
        "import os, json, numpy, threadpoolctl\n"
        "print(json.dumps([dict(os.environ), [pool['num_threads'] for pool in threadpoolctl.threadpool_info()]]))"
    )
    notebook = code_notebook(code)
    execute(notebook, tmp_path, env=thread_limits(2, {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": ""}))
    environment, pools = json.loads(printed(notebook))
    assert {name: environment[name] for name in THREAD_VARIABLES} == {
        **dict.fromkeys(THREAD_VARIABLES, "2"),
        "OMP_NUM_THREADS": "1",
    }
    assert pools
    assert max(pools) <= 2


DIES = "import sys; print('starting up'); sys.exit('no library libfoo.so.1')"
HANGS = "import sys, time; print('waiting for a licence', file=sys.stderr, flush=True); time.sleep(600)"


@pytest.mark.parametrize(
    ("code", "how", "said"),
    [
        (DIES, "died at its start", "no library libfoo.so.1"),
        (HANGS, "did not answer within 1 s", "waiting for a licence"),
    ],
    ids=["dies", "hangs"],
)
def test_kn_17__a_kernel_that_does_not_start_is_told_with_what_it_wrote(tmp_path, kernel, code, how, said):
    """
    Failed at the start, within the limit, with the last lines of its stderr; no process is left, no cell was touched.
    """
    kernel("toy", [sys.executable, "-c", code, "{connection_file}"])
    notebook = code_notebook("1")
    outcome = execute(notebook, tmp_path, kernel="toy", startup_timeout=1.0 if code == HANGS else 30.0)
    assert (outcome.state, outcome.reason.kind) == (TaskState.FAILED, "start")
    assert f"the kernel toy {how}" in outcome.reason.message
    assert said in outcome.reason.message
    assert "\n" not in outcome.reason.message
    assert statuses(notebook) == ["pending"]
    assert kernels_of_this_process() == []


def test_kn_17__a_kernel_whose_program_is_missing_is_told(tmp_path, kernel):
    """
    Failed at the start, with the program's name.
    """
    kernel("toy", ["/no/such/program", "{connection_file}"])
    outcome = execute(code_notebook("1"), tmp_path, kernel="toy")
    assert (outcome.state, outcome.reason.kind) == (TaskState.FAILED, "start")
    assert "/no/such/program" in outcome.reason.message


def test_cancelling_a_start_leaves_no_kernel(tmp_path, kernel):
    """
    A kernel that has not answered yet ends too.
    """
    kernel("toy", [sys.executable, "-c", HANGS, "{connection_file}"])

    async def cancel():
        spec = ExecutionSpec(kernel="toy", cwd=str(tmp_path))
        task = asyncio.create_task(make_engine("kernel").execute(code_notebook("1"), spec, no_event))
        while not kernels_of_this_process():
            await asyncio.sleep(0.01)
        task.cancel()
        return await task

    assert asyncio.run(asyncio.wait_for(cancel(), DEADLINE)).state is TaskState.ABORTED
    assert kernels_of_this_process() == []


@pytest.mark.parametrize("runtime", [True, False], ids=["short_folder_elsewhere", "tcp"])
def test_a_very_long_tmpdir_is_no_obstacle(tmp_path, monkeypatch, runtime):
    """
    Where the path of a socket would be too long, a shorter folder serves, and where there is none, tcp does.
    """
    from nbgrid.engines import _kernel

    long = tmp_path / ("d" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    if not runtime:
        monkeypatch.setattr(_kernel, "_is_short", lambda folder: False)
    code = "import ipykernel.kernelapp as k; print(k.IPKernelApp.instance().transport)"
    notebook = code_notebook(code)
    assert execute(notebook, tmp_path).state is TaskState.FINISHED
    assert printed(notebook) == ("ipc\n" if runtime else "tcp\n")
    assert list(long.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Passing unrecognized arguments:DeprecationWarning")  # bash_kernel's kernel.json
def test_a_kernel_of_another_language_is_driven_as_well(tmp_path, monkeypatch):
    """
    bash: outputs, failure, time-out and death are told as with Python.
    """
    pytest.importorskip("bash_kernel")
    prefix = tmp_path / "prefix"
    subprocess.run([sys.executable, "-m", "bash_kernel.install", "--prefix", prefix], check=True, capture_output=True)
    monkeypatch.setenv("JUPYTER_PATH", str(prefix / "share/jupyter"))
    notebook = code_notebook("x=4", "echo $((x * 10 + 2)); pwd")
    outcome = execute(notebook, tmp_path, kernel="bash")
    assert (outcome.state, outcome.reason, outcome.versions) == (TaskState.FINISHED, None, {})
    assert printed(notebook).split() == ["42", str(tmp_path.resolve())]
    assert notebook["metadata"]["language_info"]["name"] == "bash"
    notebook = code_notebook("echo one", "sleep 600")
    assert execute(notebook, tmp_path, kernel="bash", cell_timeout=1.0).state is TaskState.TIMED_OUT
    assert statuses(notebook) == ["completed", "failed"]
    outcome = execute(code_notebook("kill -9 $PPID"), tmp_path, kernel="bash")
    assert (outcome.state, outcome.reason.kind) == (TaskState.KILLED, "signal")


# -- running ------------------------------------------------------------------------------------------------------------


FLOOD = """
import os, time
from IPython.display import display
open("begun", "w").close()
while not os.path.exists("go"): time.sleep(0.01)
for number in range(8000): display(number)
open("flooded", "w").close()
"""
READER = """
import asyncio, sys
from nbgrid.engines import make_engine
from nbgrid.engines.base import ExecutionSpec, no_event
from nbgrid.testing import code_notebook
notebook = code_notebook(sys.argv[1])
spec = ExecutionSpec(kernel="python3", cwd=sys.argv[2])
asyncio.run(make_engine("kernel").execute(notebook, spec, no_event))
told = [output["data"]["text/plain"] for output in notebook["cells"][0]["outputs"]]
print(told == [str(number) for number in range(8000)], len(told))
"""


def test_ex_04__no_output_is_lost_while_the_reader_is_stopped(tmp_path):
    """
    Eight thousand messages, to a process that is stopped until they are sent: each is in the notebook.
    """
    command = [sys.executable, "-c", READER, FLOOD, tmp_path]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as reader:
        wait_until((tmp_path / "begun").exists, "the cell")
        reader.send_signal(signal.SIGSTOP)
        (tmp_path / "go").touch()
        try:
            wait_until((tmp_path / "flooded").exists, "the flood")
        finally:
            reader.send_signal(signal.SIGCONT)
        assert reader.communicate(timeout=DEADLINE)[0].splitlines()[-1] == "True 8000"


def test_a_crash_in_c_is_told_by_its_signal(tmp_path):
    """
    A segmentation fault is no exception, and no success.
    """
    outcome = execute(code_notebook("import ctypes; ctypes.string_at(0)"), tmp_path)
    assert outcome.reason.message == "the kernel was killed by SIGSEGV in cell 1"


def test_packages_that_the_notebook_loaded_are_told(tmp_path):
    """
    Names and versions, also after a cell has failed.
    """
    for end in ("", "\n1 / 0"):
        outcome = execute(code_notebook(f"import numpy{end}"), tmp_path)
        assert outcome.versions["numpy"] == pytest.importorskip("numpy").__version__
        assert "python" in outcome.versions


def test_atexit_runs_when_the_notebook_has_ended(tmp_path):
    """
    A kernel that is idle leaves in peace.
    """
    notebook = code_notebook("import atexit; atexit.register(lambda: open('left', 'w').close())")
    execute(notebook, tmp_path)
    assert (tmp_path / "left").exists()


# -- what is left -------------------------------------------------------------------------------------------------------


def test_twenty_kernels_leave_no_descriptor_no_thread_and_no_file(tmp_path, monkeypatch):
    """
    After twenty executions there is what there was after one.
    """
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    process = psutil.Process()
    counts = []
    for _ in range(21):
        execute(code_notebook("1"), tmp_path)
        counts.append(
            (process.num_fds(), threading.active_count(), len(process.children()), len(list(folder.iterdir())))
        )
    assert counts[-1] == counts[0]


def test_no_task_of_the_event_loop_is_left_behind(tmp_path):
    """
    On a loop that goes on, nothing of an execution remains, however it ended.
    """

    async def several():
        engine, left = make_engine("kernel"), []
        for source in ("1", "1 / 0", "import os; os._exit(1)", "import time; time.sleep(600)"):
            spec = ExecutionSpec(kernel="python3", cwd=str(tmp_path), cell_timeout=1.0)
            await engine.execute(code_notebook(source), spec, no_event)
            await asyncio.sleep(0)
            left += [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        return left

    assert asyncio.run(several()) == []


def test_the_loop_is_not_blocked_meanwhile(tmp_path):
    """
    While one kernel is ended the hard way, other coroutines of the loop go on.
    """
    source = "import signal, time\nfor number in (2, 15): signal.signal(number, signal.SIG_IGN)\ntime.sleep(600)"
    notebook = code_notebook(source)

    async def measure():
        longest, spec = 0.0, ExecutionSpec(kernel="python3", cwd=str(tmp_path), cell_timeout=0.5)
        task = asyncio.create_task(make_engine("kernel").execute(notebook, spec, no_event))
        while not task.done():
            at = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - at)
        return task.result(), longest

    execute(code_notebook("1"), tmp_path)  # which also imports what the engine needs
    outcome, longest = asyncio.run(measure())
    assert outcome.state is TaskState.TIMED_OUT
    assert longest < 1.0  # SIGTERM alone is given a second, the interrupt three


PARENT = """
import asyncio, sys
from nbgrid.engines import make_engine
from nbgrid.engines.base import ExecutionSpec, no_event
from nbgrid.testing import code_notebook
notebook = code_notebook("import os; open('pid', 'w').write(str(os.getpid()))", sys.argv[1])
asyncio.run(make_engine("kernel").execute(notebook, ExecutionSpec(kernel="python3", cwd=sys.argv[2]), no_event))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the signal of a parent's death is Linux's")
@pytest.mark.parametrize(
    "source", ["import time; time.sleep(600)", "sum(range(10**15))"], ids=["sleeps", "holds_the_gil"]
)
def test_kn_06__a_kernel_dies_with_the_process_that_started_it(tmp_path, source):
    """
    kill -9 of the parent: the kernel is gone, also from within a call that holds the GIL.
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", PARENT, source, tmp_path], env=env) as parent:
        pid = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the kernel"))
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_running(pid), "the kernel's end")
