"""`nbgrid.run` and its handle, and what tasks do, through the whole stack: plan, Dask, kernels, store, database, collection."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import making
import numpy as np
import pytest
from making import code, raw, simple, strict_json, write_notebook

import nbgrid
from nbgrid import runs
from nbgrid.errors import InputError, ParameterError, StoreError
from nbgrid.states import RunState, TaskState

pytestmark = pytest.mark.usefixtures("place")


def executed(task: Any) -> dict[str, Any]:
    return strict_json(Path(task.output).read_bytes())


def attempts(prefix: str) -> list[tuple[int, int, str]]:
    """The notebooks that are kept as attempts: index, number, state."""
    records = [
        strict_json(path.read_bytes())["metadata"]["nbgrid"] for path in Path(prefix, ".nbgrid/attempts").iterdir()
    ]
    return sorted((record["index"], record["attempt"], record["state"]) for record in records)


# -- the handle ---------------------------------------------------------------------------------------------------------


def test_the_handle_yields_each_task_once_as_it_ends() -> None:
    """
    `as_completed` yields every task exactly once, in an end state with its reason; `wait` returns the handle.
    """
    simple("simple.ipynb", "grid:\n  a: [1, 2, 3]\n", code("assert a != 2"))
    handle = nbgrid.run("simple.ipynb", workers=2)
    ended = {task.index: task for task in handle.as_completed()}
    assert sorted(ended) == [0, 1, 2]
    assert [ended[index].state for index in range(3)] == [TaskState.FINISHED, TaskState.FAILED, TaskState.FINISHED]
    assert ended[1].reason is not None
    assert ended[1].reason.ename == "AssertionError"
    assert handle.wait() is handle
    assert handle.state is RunState.FAILED
    assert list(handle.as_completed()) == []
    assert handle.tasks == [ended[index] for index in range(3)]
    assert handle.collection().to_frame()["square"].tolist()[::2] == [1, 9]


def test_a_listener_hears_cells_and_tasks() -> None:
    """
    A listener is told of each task that begins and ends, and of the cells in between.
    """
    simple(grid="grid:\n  a: [1]\n")
    heard: list[dict[str, Any]] = []
    handle = nbgrid.run("simple.ipynb", executor="serial")
    handle.listen(heard.append)
    handle.wait()
    assert [message["task"].state for message in heard if "task" in message][-1] == "finished"
    assert all({"index", "cell", "cells", "kind"} <= message.keys() for message in heard if "task" not in message)


def test_stop_aborts_what_runs_and_what_waits() -> None:
    """
    `stop` ends the running task, aborts the waiting ones, and `wait` returns.
    """
    simple(
        "long.ipynb", "grid:\n  a: [1, 2, 3]\n", code("open(f'begun-{a}', 'w').close()\nimport time\ntime.sleep(600)")
    )
    handle = nbgrid.run("long.ipynb", workers=1)
    making.wait_until(Path("begun-1").exists, "the first task")
    handle.stop()
    assert handle.wait().state is RunState.ABORTED
    assert [task.state for task in handle.tasks] == ["aborted"] * 3
    assert handle.tasks[0].reason != handle.tasks[2].reason
    assert not Path("begun-2").exists()
    assert attempts("long") == [(0, 1, "aborted")]


def test_a_run_starts_while_an_event_loop_runs() -> None:
    """
    DK-16: in a thread where an asyncio loop runs, as in a notebook, `nbgrid.run` works as anywhere.
    """

    async def in_a_loop() -> RunState:
        return nbgrid.run(simple(grid="grid:\n  a: [1]\n"), workers=1).wait().state

    assert asyncio.run(in_a_loop()) is RunState.FINISHED


def test_a_script_needs_no_main_guard() -> None:
    """
    DK-16: a script that calls `nbgrid.run` at its top level runs once; a script that ends first leaves no kernel.
    """
    simple(grid="grid:\n  a: [1, 2]\n")
    Path("script.py").write_text(
        "import nbgrid\nprint('once')\nprint(nbgrid.run('simple.ipynb', workers=2).wait().state)\n"
    )
    ran = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert ran.stdout.split() == ["once", "finished"], ran.stderr

    simple("long.ipynb", "grid:\n  a: [1]\n", code("open('begun', 'w').close()\nimport time\ntime.sleep(600)"))
    Path("leaves.py").write_text(
        "import nbgrid, os, time\nrun = nbgrid.run('long.ipynb')\nwhile not os.path.exists('begun'): time.sleep(0.02)\n"
    )
    ran = subprocess.run(
        [sys.executable, "leaves.py"], capture_output=True, text=True, check=False, env={**os.environ, "MARK": "leaves"}
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert making.processes_with("MARK", "leaves") == []
    with_database = runs.open_database()
    assert runs.find("@latest", with_database).run.state == "aborted"
    with_database.close()


def test_a_client_of_an_existing_cluster_is_used_and_left_open() -> None:
    """
    With *client*, tasks go to that cluster, which is as usable afterwards as before.
    """
    from nbgrid.executors._embedded import EmbeddedCluster

    simple(grid="grid:\n  a: [1, 2]\n")
    cluster = EmbeddedCluster(2)
    try:
        handle = nbgrid.run("simple.ipynb", client=cluster.client).wait()
        assert handle.state is RunState.FINISHED
        assert cluster.client.submit(lambda x: x + 1, 1).result() == 2
        assert nbgrid.run("simple.ipynb", client=cluster.client).wait().state is RunState.FINISHED
    finally:
        cluster.close()


def test_what_stops_the_driver_is_raised_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When the database goes away in the middle of a run, `wait` raises it, and no kernel is left running.
    """
    from nbgrid.database import Database
    from nbgrid.errors import DatabaseError

    simple(grid="grid:\n  a: [1, 2, 3]\n")
    handle = nbgrid.run("simple.ipynb", workers=1)

    def gone(*_: object) -> None:
        raise DatabaseError("gone")

    monkeypatch.setattr(Database, "save_task", gone)
    with pytest.raises(DatabaseError, match="gone"):
        handle.wait()
    monkeypatch.undo()


# -- parameters ---------------------------------------------------------------------------------------------------------


def test_a_kernel_gets_every_value_bit_for_bit() -> None:
    """
    GP-05, GP-10: NaN, infinities, the largest and smallest numbers, numpy scalars and text arrive with their type and bits, and
    all that is recorded of them is strict JSON.
    """
    values = [
        math.nan, math.inf, -math.inf, 10**30, 5e-324, 1.7e308, -0.0, np.int64(5), np.float32(0.1), np.bool_(True), False, 1,
        1.0, "1", None, "é\n'\"\\{x}", [1, [math.nan]], {"k": {"n": None}},
    ]  # fmt: skip
    told = "import struct, json\n(type(x).__name__, struct.pack('>d', x).hex() if isinstance(x, float) else repr(x))"
    write_notebook("typed.ipynb", code("# PARAMETERS\nx = 0"), code(told, "seen"))
    handle = nbgrid.run("typed.ipynb", grid={"x": values}, workers=2).wait()
    assert handle.state is RunState.FINISHED
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    wanted = [
        (type(value).__name__, struct.pack(">d", value).hex() if isinstance(value, float) else repr(value))
        for value in plain
    ]
    seen = list(handle.collection()["seen"].values())
    assert [tuple(value) for value in seen] == wanted
    for path in Path("typed").rglob("*"):
        if path.suffix in {".ipynb", ".json"}:
            strict_json(path.read_bytes())
    database = runs.open_database()
    again = [task.point["x"] for task in database.tasks(handle.id)]
    database.close()
    assert [repr(value) for value in again] == [repr(value) for value in plain]


@pytest.mark.parametrize(
    ("grid", "error"),
    [
        ({"a": [(1, 2)]}, ParameterError), ({"a": [{1, 2}]}, ParameterError), ({"a": [b"x"]}, ParameterError),
        ({"a": [Path("x")]}, ParameterError), ({"a": [np.zeros(2)]}, ParameterError), ({"a": [1j]}, ParameterError),
        ({"a": ["x" * 2**21]}, ParameterError), ({"a": []}, InputError), ({}, InputError), ({"b": [1]}, InputError),
        ({"a; import os": [1]}, InputError), ({"class": [1]}, InputError),
    ],
)  # fmt: skip
def test_what_no_parameter_can_be_starts_nothing(grid: dict[str, Any], error: type[Exception]) -> None:
    """
    GP-06, GP-08, GP-11, GP-23, GP-24: refused with a sentence, before a kernel, a file or a run.
    """
    simple()
    with pytest.raises(error):
        nbgrid.run("simple.ipynb", grid=grid)
    assert making.files_below(".") == {"simple.ipynb"}
    assert not Path("../nbgrid.db").exists()


def test_a_parameter_fixed_for_all_tasks_is_not_in_the_names() -> None:
    """
    Fixed parameters reach every task and stand in the results, but not in the files' names.
    """
    write_notebook("two.ipynb", code("# PARAMETERS\na = 0\nb = a + 1\nc = 0"), code("a, b, c", "all"))
    handle = nbgrid.run("two.ipynb", grid={"a": [1, 2]}, parameters={"c": 7}, workers=2).wait()
    assert [tuple(value) for value in handle.collection()["all"].values()] == [(1, 2, 7), (2, 3, 7)]
    assert sorted(path.name for path in Path("two/output").iterdir()) == [
        "notebook-a=1-0.ipynb",
        "notebook-a=2-1.ipynb",
    ]
    assert handle.collection().to_frame()["c"].tolist() == [7, 7]


# -- how tasks end ------------------------------------------------------------------------------------------------------


def test_each_way_a_notebook_can_end_is_told_truly() -> None:
    """
    NB-06, EX-14: only `sys.exit(0)` and tagged cells end well; `os._exit(0)` is a dead kernel. Each reason names the cell, what
    follows the failing cell is not run, and other tasks are unaffected.
    """
    ways = ["pass", "sys.exit(0)", "sys.exit(3)", "os._exit(0)", "os._exit(1)", "raise KeyboardInterrupt", "1 / 0",
            "os.kill(os.getpid(), 9)"]  # fmt: skip
    write_notebook(
        "ways.ipynb", code("# PARAMETERS\nway = ''"), code("1 / 0", "raises-exception"),
        code("import os, sys, time\nprint('before', flush=True)\ntime.sleep(0.2)\nexec(way)"), code("'reached'", "result"),
    )  # fmt: skip
    handle = nbgrid.run("ways.ipynb", grid={"way": ways}, workers=2).wait()
    by_way = {str(task.point["way"]): task for task in handle.tasks}
    assert {way: str(task.state) for way, task in by_way.items()} == {
        "pass": "finished", "sys.exit(0)": "finished", "sys.exit(3)": "failed", "os._exit(0)": "killed",
        "os._exit(1)": "killed", "raise KeyboardInterrupt": "failed", "1 / 0": "failed",
        "os.kill(os.getpid(), 9)": "killed",
    }  # fmt: skip
    for way, task in by_way.items():
        notebook = executed(task)
        record = notebook["metadata"]["nbgrid"]
        assert record["state"] == str(task.state)
        assert notebook["metadata"]["papermill"]["exception"] is (None if task.state is TaskState.FINISHED else True)
        last = notebook["cells"][-1]
        assert bool(last["outputs"]) == (way == "pass")
        if way not in {"pass", "sys.exit(0)"}:
            assert record["reason"]["cell"] == 2
            assert "cell 3" in record["reason"]["message"]
            assert "before" in json.dumps(notebook["cells"][2]["outputs"])
    raised = by_way["1 / 0"].reason
    assert raised is not None
    assert (raised.kind, raised.cell, raised.ename, raised.evalue) == (
        "exception",
        2,
        "ZeroDivisionError",
        "division by zero",
    )
    assert raised.traceback is not None
    assert "exec(way)" in raised.traceback
    signalled = by_way["os.kill(os.getpid(), 9)"].reason
    assert signalled is not None
    assert signalled.kind == "signal"
    assert "SIGKILL" in signalled.message


def test_limits_of_the_grid_cell_hold() -> None:
    """
    EX-01, KN-04: a cell that takes too long is timed out, a task that holds too much memory is killed with that reason; the
    notebook is kept, its slot is free again, and no other task suffers.
    """
    write_notebook(
        "limits.ipynb", raw("grid:\n  how: [hog, fine, spin]\ntimeout: 3s\nresources: {memory: 400MB}\n"),
        code("# PARAMETERS\nhow = ''"),
        code("import time\nprint('begun', flush=True)\ntime.sleep(0.5)\nwhile how == 'spin': pass\n"
             "if how == 'hog':\n    held = bytearray(b'x') * 800_000_000\n    time.sleep(60)"),
        code("how", "result"),
    )  # fmt: skip
    handle = nbgrid.run("limits.ipynb", workers=1).wait()
    states = {task.point["how"]: task for task in handle.tasks}
    assert {how: str(task.state) for how, task in states.items()} == {
        "hog": "killed", "fine": "finished", "spin": "timed_out"
    }  # fmt: skip
    hog, spin = states["hog"], states["spin"]
    assert hog.reason is not None
    assert hog.reason.kind == "memory"
    assert hog.attempt is not None
    assert (hog.attempt.peak_memory or 0) > 400e6
    assert spin.reason is not None
    assert spin.reason.kind == "timeout"
    for task in (hog, spin):
        assert "begun" in json.dumps(executed(task)["cells"][2]["outputs"])


def test_retries_keep_the_notebook_of_each_attempt() -> None:
    """
    EX-09, KN-03: `retries: 2` gives three attempts. A task that is killed once and fails once finishes at its third; one that
    always fails ends failed after three; every attempt's notebook is kept and numbered.
    """
    flaky = (
        "import os, signal\nfrom pathlib import Path\n"
        "seen = len(list(Path('.').glob(f'{kind}-*')))\nPath(f'{kind}-{seen}').touch()\n"
        "if kind == 'flaky' and seen == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "if kind == 'always' or (kind == 'flaky' and seen == 1): raise OSError(f'attempt {seen + 1}')"
    )
    write_notebook(
        "again.ipynb", raw("grid:\n  kind: [always, flaky, once]\nretries: 2\n"), code("# PARAMETERS\nkind = ''"),
        code(flaky), code("seen", "result"),
    )  # fmt: skip
    handle = nbgrid.run("again.ipynb", workers=2)
    ended = [task.index for task in handle.as_completed()]
    assert sorted(ended) == [0, 1, 2]
    told = [(task.point["kind"], str(task.state), task.attempt.number if task.attempt else 0) for task in handle.tasks]
    assert told == [("always", "failed", 3), ("flaky", "finished", 3), ("once", "finished", 1)]
    assert attempts("again") == [(0, 1, "failed"), (0, 2, "failed"), (1, 1, "killed"), (1, 2, "failed")]
    assert [executed(task)["metadata"]["nbgrid"]["attempt"] for task in handle.tasks] == [3, 3, 1]
    database = runs.open_database()
    assert [task.attempt for task in database.tasks(handle.id)] == [task.attempt for task in handle.tasks]
    database.close()


# -- where tasks run ----------------------------------------------------------------------------------------------------


def test_runs_side_by_side_keep_to_their_own_folders() -> None:
    """
    EX-10: eight tasks at once of two runs, each kernel in its own template's folder, reading and writing relative paths; the
    driver's working directory never changes.
    """
    here = Path.cwd()
    cells = (
        code("# PARAMETERS\na = 0"),
        code(
            "import os\nfrom pathlib import Path\nPath(f'wrote-{a}').write_text(str(a))\n[os.getcwd(), Path('data').read_text()]",
            "seen",
        ),
    )
    for name in ("one", "two"):
        write_notebook(f"{name}/template.ipynb", *cells)
        Path(name, "data").write_text(name)
    handles = [
        nbgrid.run(f"{name}/template.ipynb", grid={"a": "1..4"}, prefix=name + "-run", workers=4)
        for name in ("one", "two")
    ]
    for name, handle in zip(("one", "two"), handles, strict=True):
        assert handle.wait().state is RunState.FINISHED
        seen = list(handle.collection()["seen"].values())
        assert seen == [[str(here / name), name]] * 4
        assert {path.name for path in Path(name).iterdir()} == {"template.ipynb", "data"} | {
            f"wrote-{a}" for a in range(1, 5)
        }
    assert Path.cwd() == here


def test_a_task_leaves_nothing_to_the_next() -> None:
    """
    EX-12: a variable of the environment, a module and a name that one task sets are not there in the next on the same worker,
    nor in the driver.
    """
    leak = (
        "import os, sys, builtins\n"
        "found = [os.environ.get('LEAK'), 'leaked' in sys.modules, hasattr(builtins, 'leak')]\n"
        "os.environ['LEAK'], sys.modules['leaked'], builtins.leak = 'yes', os, 1\nfound"
    )
    write_notebook("leak.ipynb", code("# PARAMETERS\na = 0"), code(leak, "found"))
    handle = nbgrid.run("leak.ipynb", grid={"a": [1, 2]}, workers=1).wait()
    assert list(handle.collection()["found"].values()) == [[None, False, False]] * 2
    assert "LEAK" not in os.environ


def test_a_folder_for_each_task_holds_the_included_files() -> None:
    """
    EX-11: with `workdir: task`, each task starts in a fresh folder with copies of the included files; what it writes there
    meets no other task's and leaves the template's folder as it was.
    """
    Path("deep").mkdir()
    Path("deep/data.csv").write_text("7")
    Path("left.csv").write_text("not included")
    write_notebook(
        "own.ipynb", raw("grid:\n  a: [1, 2]\ninclude: [deep]\nworkdir: task\n"), code("# PARAMETERS\na = 0"),
        code("import os\nfrom pathlib import Path\nbefore = sorted(os.listdir())\nPath('tmp.csv').write_text(str(a))\n"
             "Path('deep/data.csv').write_text('changed')"),
        code("before", "before"), code("Path('tmp.csv').read_text()", "own"), code("os.getcwd()", "cwd"),
    )  # fmt: skip
    handle = nbgrid.run("own.ipynb", workers=2).wait()
    assert handle.state is RunState.FINISHED
    nbs = handle.collection()
    assert list(nbs["before"].values()) == [["deep"], ["deep"]]
    assert [str(value) for value in nbs["own"].values()] == ["1", "2"]
    assert len(set(nbs["cwd"].values())) == 2
    assert Path("deep/data.csv").read_text() == "7"
    assert not Path("tmp.csv").exists()


def test_a_script_s_included_file_must_be_there() -> None:
    """
    An included file that does not exist, or lies outside the template's folder, is refused before anything starts.
    """
    for entry in ("none.csv", "../x", "/etc/passwd"):
        simple(grid=f"grid:\n  a: [1]\ninclude: ['{entry}']\n")
        with pytest.raises(InputError, match="include"):
            nbgrid.run("simple.ipynb")


# -- pictures -----------------------------------------------------------------------------------------------------------


def test_plots_are_drawn_or_the_reason_is_told() -> None:
    """
    Each entry of `plots` becomes a picture when the run ends; one that cannot be drawn is a note, and the run is what its tasks
    are.
    """
    plots = "plots:\n  - elbow: {x: a, y: square}\n  - elbow: {x: a, y: nothing}\n"
    simple(grid=f"grid:\n  a: [1, 2, 3]\n{plots}")
    handle = nbgrid.run("simple.ipynb", workers=2).wait()
    assert handle.state is RunState.FINISHED
    assert [path.name for path in handle.pictures] == ["elbow.png"]
    assert handle.pictures[0].read_bytes().startswith(b"\x89PNG")
    assert len(handle.notes) == 1
    assert "nothing" in handle.notes[0]


def test_collecting_a_run_without_notebooks_says_so() -> None:
    """
    A run whose notebooks were deleted is told as such, and is no empty table.
    """
    handle = nbgrid.run(simple(grid="grid:\n  a: [1]\n"), executor="serial").wait()
    Path(handle.tasks[0].output).unlink()
    with pytest.raises(StoreError, match="no executed notebook"):
        handle.collection()


def test_interrupts_of_the_caller_are_its_own() -> None:
    """
    `wait` hears Ctrl-C, and the run goes on until `stop`.
    """
    simple("long.ipynb", "grid:\n  a: [1]\n", code("open('begun', 'w').close()\nimport time\ntime.sleep(600)"))
    handle = nbgrid.run("long.ipynb")
    making.wait_until(Path("begun").exists, "the task")
    import threading

    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        handle.wait()
    assert handle.state is RunState.RUNNING
    handle.stop()
    assert handle.wait().state is RunState.ABORTED
