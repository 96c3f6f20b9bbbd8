"""
What any store, engine or executor must do, as test classes for yours and ours, and fakes that fail when they are told to.

A test module of an implementation is a subclass that makes one:

    class TestMyStore(StoreTests):
        def make_store(self, tmp_path): return MyStore(tmp_path)

pytest is imported here and nowhere else in nbgrid.
"""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import psutil
import pytest

from nbgrid.engines.base import CellEvent, Engine, ExecutionSpec, Outcome, no_event
from nbgrid.errors import PreflightError, StoreError
from nbgrid.executors.base import Emit, Executor
from nbgrid.states import TaskState
from nbgrid.stores.base import Store
from nbgrid.typing import Notebook

DEADLINE = 60.0
"""Seconds after which a test takes what it waits for to be stuck."""


def wait_until(condition: Callable[[], Any], what: str = "the condition", seconds: float = DEADLINE) -> Any:
    """Return what *condition* returns as soon as that is true; fail, naming *what*, if it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds:g} s"
        time.sleep(0.02)
    return found


def is_running(pid: int) -> bool:
    """Tell whether the process *pid* is there and no zombie."""
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def code_notebook(*sources: str, **tags: list[str]) -> Notebook:
    """Return a notebook of the code cells *sources*; `cell1=["tag"]` tags the second."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"cell{number}", "metadata": {"tags": tags.get(f"cell{number}", [])},
         "source": source, "outputs": [], "execution_count": None}
        for number, source in enumerate(sources)
    ]  # fmt: skip
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}


def printed(notebook: Notebook) -> str:
    """Return all that the cells of *notebook* wrote to their standard output."""
    outputs = [output for cell in notebook["cells"] for output in cell["outputs"]]
    return "".join(output["text"] for output in outputs if output.get("name") == "stdout")


def statuses(notebook: Notebook) -> list[str]:
    """Return what the metadata of each cell of *notebook* says of its execution."""
    return [cell["metadata"]["papermill"]["status"] for cell in notebook["cells"]]


# -- fakes --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Doing:
    """What a `FakeWork`'s function is told besides its assignment."""

    worker: str
    emit: Emit
    stopped: threading.Event
    """Set when the work is to end."""


@dataclass(frozen=True)
class FakeWork:
    """A work that answers from *function* instead of a kernel: `FakeWork(lambda number, doing: number * 2)`."""

    function: Callable[[Any, Doing], Any]
    problem: str | None = None
    id: str = field(default_factory=lambda: uuid4().hex)

    _stopped: ClassVar[dict[str, threading.Event]] = {}

    def check(self) -> str | None:
        """Return the problem that this work was made with."""
        return self.problem

    def perform(self, assignment: Any, worker: str, emit: Emit) -> Any:
        """Return what the function returns."""
        return self.function(assignment, Doing(worker, emit, self._event()))

    def stop(self) -> None:
        """Set the event that functions of this process see."""
        self._event().set()

    def _event(self) -> threading.Event:
        return self._stopped.setdefault(self.id, threading.Event())


class FailingStore:
    """Another store, each call of which is counted; the calls that *fails* accepts raise `StoreError` instead."""

    def __init__(self, store: Store, fails: Callable[[int, str], bool]) -> None:
        self._store, self._fails = store, fails
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self._fails(self.calls, name):
                raise StoreError(f"call {self.calls}, {name}, was told to fail")
            return found(*arguments)

        return call


# -- stores -------------------------------------------------------------------------------------------------------------

ESCAPES = tuple(
    [f"{start}{up}{end}" for start in ("", "a/", "a/b/", "./") for up in ("..", "../..", "../../../..") for end in
     ("", "/x", "/etc/passwd", "/x/y.ipynb")]
    + [f"{root}{rest}" for root in ("/", "//", "///", "~/", "~root/", "~", "C:\\", "c:/", "C:", "\\\\host\\", "\\", "Z:\\..\\")
       for rest in ("", "x", "etc/passwd", "../x", "a/../../x")]
    + [f"a{bad}{end}" for bad in ("\0", "\\..\\", "\\", "/..\\..", "\0/../") for end in ("", "b", "/../../b", ".ipynb")]
    + ["", ".", "./", "a/\0", "\0", "\0a", "a/b/../../../c", "a/../..", "..", "../", "a/b/c/../../../../d", "./..", "./../a"]
)  # fmt: skip
"""ST-09: names that lead, or on some system would lead, out of a root."""


class StoreTests:
    """The contract of `Store`."""

    def make_store(self, tmp_path: Path) -> Store:
        """Return a new, empty store."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """A store without names."""
        return self.make_store(tmp_path)

    def test_a_name_holds_what_was_put_last(self, store: Store) -> None:
        """`get` returns the bytes of the last `put`, none and many bytes too."""
        for content in (b"", b"\0\xff\r\n", b"x" * 3_000_000, b"short again"):
            store.put("folder/name.ipynb", content)
            assert store.get("folder/name.ipynb") == content

    def test_nothing_is_there_before_it_is_put(self, store: Store) -> None:
        """An unknown name does not exist, and reading or moving it raises `StoreError` in one line."""
        assert not store.exists("folder/name")
        for ask in (lambda: store.get("folder/name"), lambda: store.move("folder/name", "other")):
            with pytest.raises(StoreError) as raised:
                ask()
            assert "\n" not in str(raised.value)
        assert not store.exists("other")

    def test_names_are_those_below_the_folder(self, store: Store) -> None:
        """`names` tells the files of a folder and its subfolders, in order, and nothing of its neighbours; `.` is the root."""
        for name in ("run/b", "run/a/z", "run/a/y", "run-2/c", "run", "ru"):
            with suppress(StoreError):  # where a file and a folder cannot share a name, the later one is refused
                store.put(name, b"")
        assert list(store.names("run")) == ["run/a/y", "run/a/z", "run/b"]
        assert list(store.names("nothing")) == []
        assert set(store.names(".")) >= {"run/a/y", "run/b", "ru", "run-2/c"}

    def test_move_takes_the_bytes_along_and_replaces(self, store: Store) -> None:
        """After `move` the new name holds the bytes, whatever it held, and the old one nothing."""
        store.put("attempts/1", b"new")
        store.put("output/1", b"old")
        store.move("attempts/1", "output/1")
        assert (store.get("output/1"), store.exists("attempts/1")) == (b"new", False)
        store.move("output/1", "another/folder/1")
        assert store.get("another/folder/1") == b"new"

    def test_delete_may_be_asked_twice(self, store: Store) -> None:
        """A deleted name holds nothing, and deleting nothing is fine."""
        store.put("name", b"x")
        store.delete("name")
        store.delete("name")
        assert not store.exists("name")

    def test_probe_leaves_nothing(self, store: Store) -> None:
        """`probe` succeeds on a store that works, and leaves no name behind."""
        store.put("run/name", b"x")
        store.probe()
        assert list(store.names(".")) == ["run/name"]

    def test_st_09__no_name_leads_out_of_the_root(self, store: Store) -> None:
        """Every name with `..`, a root, a drive, `~`, a backslash or NUL is refused by every method."""
        assert len(ESCAPES) > 120
        store.put("safe", b"x")
        for name in ESCAPES:
            for ask in (store.path, store.get, store.exists, store.delete, lambda n: store.put(n, b"y"),
                        lambda n: store.move("safe", n), lambda n: store.move(n, "b")):
                with pytest.raises(StoreError):
                    ask(name)
                    pytest.fail(f"{name!r} was taken")
        for name in set(ESCAPES) - {".", "./"}:
            with pytest.raises(StoreError):
                list(store.names(name))
        assert store.get("safe") == b"x"

    def test_odd_names_stay_themselves(self, store: Store) -> None:
        """A percent sign, spaces, other scripts and leading dots in a name mean nothing special."""
        for name in ("%2e%2e/x", "a b", "größe/模型", ".nbgrid/attempts/x", "a..b", "...", "n=1~2", "-rf", "*"):
            store.put(name, name.encode())
            assert store.get(name) == name.encode()

    def test_writers_at_once_leave_one_whole(self, store: Store) -> None:
        """Many writers of one name leave the whole bytes of one of them, and readers never see a part."""
        contents = [bytes([number]) * 200_000 for number in range(8)]
        store.put("name", contents[0])
        seen: set[bytes] = set()
        with ThreadPoolExecutor(8) as threads:
            writes = [threads.submit(store.put, "name", content) for content in contents * 3]
            while not all(write.done() for write in writes):
                seen.add(store.get("name"))
            for write in writes:
                write.result()
        assert seen | {store.get("name")} <= set(contents)
        assert list(store.names(".")) == ["name"]


# -- engines ------------------------------------------------------------------------------------------------------------


class EngineTests:
    """The contract of `Engine`, shown with a Python kernel."""

    kernel = "python3"

    def make_engine(self) -> Engine:
        """Return an engine."""
        raise NotImplementedError

    def execute(self, tmp_path: Path, notebook: Notebook, on_event: Any = no_event, **options: Any) -> Outcome:
        """Return the outcome of *notebook*, executed in *tmp_path*."""
        spec = ExecutionSpec(kernel=self.kernel, **{"cwd": str(tmp_path), **options})
        return asyncio.run(asyncio.wait_for(self.make_engine().execute(notebook, spec, on_event), DEADLINE))

    def test_outputs_are_filled_in(self, tmp_path: Path) -> None:
        """Each cell has the outputs and the count of this execution, none of an earlier one."""
        notebook = code_notebook("x = 2", "print(x)", "x * 21")
        notebook["cells"][0]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "of an earlier execution"}]
        outcome = self.execute(tmp_path, notebook)
        assert (outcome.state, outcome.reason) == (TaskState.FINISHED, None)
        assert printed(notebook) == "2\n"
        assert notebook["cells"][2]["outputs"][0]["data"]["text/plain"] == "42"
        assert [cell["execution_count"] for cell in notebook["cells"]] == [1, 2, 3]
        assert statuses(notebook) == ["completed"] * 3
        assert notebook["metadata"]["language_info"]["name"] == "python"

    def test_events_tell_each_cell_as_it_begins_and_ends(self, tmp_path: Path) -> None:
        """Two events for each executed cell, with its index in the notebook and its place among the executed."""
        events: list[CellEvent] = []
        notebook = code_notebook("1", "skipped", "2", cell1=["skip-execution"])
        self.execute(tmp_path, notebook, events.append)
        assert [(event.kind, event.cell, event.number, event.cells) for event in events] == [
            ("started", 0, 1, 2), ("ended", 0, 1, 2), ("started", 2, 2, 2), ("ended", 2, 2, 2),
        ]  # fmt: skip
        assert statuses(notebook) == ["completed", "pending", "completed"]

    def test_ex_14__an_exception_ends_it_and_is_told(self, tmp_path: Path) -> None:
        """The reason names cell, ename, evalue and traceback; later cells are not run, and none is called completed."""
        notebook = code_notebook("print('one')", "print('two')\n{}['k']", "open('third', 'w')")
        outcome = self.execute(tmp_path, notebook)
        assert outcome.state is TaskState.FAILED
        assert outcome.reason
        assert (outcome.reason.kind, outcome.reason.cell) == ("exception", 1)
        assert (outcome.reason.ename, outcome.reason.evalue) == ("KeyError", "'k'")
        assert outcome.reason.message == "cell 2 raised KeyError: 'k'"
        assert "{}['k']" in str(outcome.reason.traceback)
        assert "\x1b" not in str(outcome.reason.traceback)
        assert statuses(notebook) == ["completed", "failed", "pending"]
        assert printed(notebook) == "one\ntwo\n"
        assert not (tmp_path / "third").exists()

    @pytest.mark.parametrize(
        ("source", "state", "kind", "marks"),
        [
            ("import sys; sys.exit(0)", "finished", "exit", ["completed", "pending"]),
            ("import sys; sys.exit()", "finished", "exit", ["completed", "pending"]),
            ("import sys; sys.exit(3)", "failed", "exception", ["failed", "pending"]),
            ("raise KeyboardInterrupt", "failed", "exception", ["failed", "pending"]),
            ("import os; os._exit(0)", "killed", "exit", ["failed", "pending"]),
            ("import os; os._exit(1)", "killed", "exit", ["failed", "pending"]),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed", "signal", ["failed", "pending"]),
            ("import os; os.abort()", "killed", "signal", ["failed", "pending"]),
        ],
    )
    def test_nb_06__only_sys_exit_0_ends_well(
        self, tmp_path: Path, source: str, state: str, kind: str, marks: list[str]
    ) -> None:
        """However a notebook leaves, the outcome says it; a kernel that is gone is no success, whatever its exit code."""
        notebook = code_notebook(source, "print('later')")
        outcome = self.execute(tmp_path, notebook)
        assert (outcome.state, outcome.reason and outcome.reason.kind) == (state, kind)
        assert outcome.reason
        assert outcome.reason.cell == 0
        assert (statuses(notebook), printed(notebook)) == (marks, "")

    def test_nb_06__a_tagged_exception_is_an_output(self, tmp_path: Path) -> None:
        """After a cell tagged `raises-exception` raised, the next cells run."""
        notebook = code_notebook("1 / 0", "print('later')", cell0=["raises-exception"])
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        assert notebook["cells"][0]["outputs"][0]["ename"] == "ZeroDivisionError"
        assert printed(notebook) == "later\n"

    def test_kn_03__a_killed_kernel_is_told_with_signal_and_cell(self, tmp_path: Path) -> None:
        """kill -9 from outside: killed, by SIGKILL, in cell 2; what it printed before is kept."""
        notebook = code_notebook(
            "import os, time", "print('before', flush=True)\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)"
        )

        def kill() -> None:
            pid = wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the cell")
            os.kill(int(pid), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        outcome = self.execute(tmp_path, notebook)
        killer.join()
        assert outcome.state is TaskState.KILLED
        assert str(outcome.reason) == "the kernel was killed by SIGKILL in cell 2"
        assert (printed(notebook), statuses(notebook)) == ("before\n", ["completed", "failed"])

    @pytest.mark.parametrize(
        "source",
        [
            "while True: pass",
            "import time\nwhile True:\n    try:\n        time.sleep(600)\n    except KeyboardInterrupt:\n        pass",
            "sum(range(10**15))",
            "import signal, time\nfor number in (2, 15): signal.signal(number, signal.SIG_IGN)\ntime.sleep(600)",
        ],
        ids=["ex_01_loop", "ex_02_swallows_interrupts", "ex_02_holds_the_gil", "ex_02_ignores_signals"],
    )
    def test_a_cell_that_runs_out_of_time_is_ended(self, tmp_path: Path, source: str) -> None:
        """Interrupted, terminated, killed: whatever the cell does, the outcome comes, and the notebook is whole."""
        notebook = code_notebook("print('before')", source)
        outcome = self.execute(tmp_path, notebook, cell_timeout=1.0)
        assert outcome.state is TaskState.TIMED_OUT
        assert outcome.reason
        assert (outcome.reason.kind, outcome.reason.cell) == ("timeout", 1)
        assert outcome.reason.message == "cell 2 took longer than its limit of 1 s"
        assert (statuses(notebook), printed(notebook)) == (["completed", "failed"], "before\n")

    @pytest.mark.parametrize("source", ["input()", "import getpass; getpass.getpass()"])
    def test_ex_05__nobody_is_asked(self, tmp_path: Path, source: str) -> None:
        """`input` and `getpass` fail at once, for there is nobody to answer."""
        outcome = self.execute(tmp_path, code_notebook(source))
        assert (outcome.state, outcome.reason and outcome.reason.ename) == (TaskState.FAILED, "StdinNotImplementedError")

    def test_ex_10__each_kernel_has_its_own_directory(self, tmp_path: Path) -> None:
        """Eight notebooks at once read and write relative paths, each in its directory; this process keeps its own."""
        here = Path.cwd()
        folders = [tmp_path / str(number) for number in range(8)]
        for folder in folders:
            folder.mkdir()
            (folder / "in").write_text(folder.name)
        notebook = code_notebook("import os; print(os.getcwd())", "open('out', 'w').write(open('in').read())")
        notebooks = [copy.deepcopy(notebook) for _ in folders]
        specs = [ExecutionSpec(kernel=self.kernel, cwd=str(folder)) for folder in folders]

        async def together() -> list[Outcome]:
            engine = self.make_engine()
            return await asyncio.gather(*(engine.execute(n, s, no_event) for n, s in zip(notebooks, specs, strict=True)))

        assert {outcome.state for outcome in asyncio.run(together())} == {TaskState.FINISHED}
        assert [printed(notebook).strip() for notebook in notebooks] == [str(folder.resolve()) for folder in folders]
        assert [(folder / "out").read_text() for folder in folders] == [folder.name for folder in folders]
        assert Path.cwd() == here

    def test_ex_12__variables_reach_this_notebook_and_no_other(self, tmp_path: Path) -> None:
        """The spec's variables are in the kernel's environment, and neither in this process nor in the next kernel."""
        notebook = code_notebook("import os; print(os.environ.get('SECRET_OF_ONE'))")
        for env, told in (({"SECRET_OF_ONE": "7"}, "7\n"), ({}, "None\n")):
            self.execute(tmp_path, notebook, env=env)
            assert printed(notebook) == told
        assert "SECRET_OF_ONE" not in os.environ

    def test_cancelling_ends_the_kernel_and_tells_aborted(self, tmp_path: Path) -> None:
        """However often it is cancelled: aborted, the running cell is not called completed, and no process is left."""
        notebook = code_notebook("import os; open('pid', 'w').write(str(os.getpid()))", "import time; time.sleep(600)", "3")

        async def cancel() -> Outcome:
            spec = ExecutionSpec(kernel=self.kernel, cwd=str(tmp_path))
            began = asyncio.Event()
            task = asyncio.create_task(
                self.make_engine().execute(notebook, spec, lambda event: began.set() if event.cell == 1 else None)
            )
            await asyncio.wait_for(began.wait(), DEADLINE)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0.01)
            return task.result()

        outcome = asyncio.run(asyncio.wait_for(cancel(), DEADLINE))
        assert (outcome.state, outcome.reason and outcome.reason.kind) == (TaskState.ABORTED, "request")
        assert statuses(notebook) == ["completed", "failed", "pending"]
        assert not is_running(int((tmp_path / "pid").read_text()))

    def test_the_whole_tree_is_gone_when_it_ends(self, tmp_path: Path) -> None:
        """Children, those that ignore SIGTERM, and daemons that left both session and parent end with the notebook."""
        daemon = "sh -c 'trap : TERM; (setsid sleep 600 & echo $!) ; echo $$; sleep 600 & echo $!; wait; wait; sleep 600'"
        notebook = code_notebook(
            f"import subprocess, time\nchild = subprocess.Popen({daemon!r}, shell=True, stdout=open('pids', 'w'))\n"
            "while len(open('pids').read().split()) < 3: time.sleep(0.01)\nprint(child.pid)"
        )
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        pids = [*map(int, (tmp_path / "pids").read_text().split()), int(printed(notebook))]
        assert [pid for pid in pids if is_running(pid)] == []

    def test_a_notebook_above_its_memory_is_killed_for_it(self, tmp_path: Path) -> None:
        """The reason tells what it held and what it might; the peak is in the outcome."""
        notebook = code_notebook("import time\nheld = bytearray(b'x') * 400_000_000\ntime.sleep(600)")
        outcome = self.execute(tmp_path, notebook, memory=200_000_000)
        assert (outcome.state, outcome.reason and outcome.reason.kind) == (TaskState.KILLED, "memory")
        assert "its limit is 200 MB" in str(outcome.reason)
        assert (outcome.peak_memory or 0) > 200_000_000

    def test_a_kernel_that_does_not_exist_is_an_outcome(self, tmp_path: Path) -> None:
        """An unknown kernel, or a directory that is not there, fails the start; nothing is raised."""
        for options in ({"kernel": "no-such-kernel"}, {"cwd": str(tmp_path / "nowhere")}):
            asked: dict[str, Any] = {"kernel": self.kernel, "cwd": str(tmp_path), **options}
            spec = ExecutionSpec(**asked)
            notebook = code_notebook("1")
            outcome = asyncio.run(self.make_engine().execute(notebook, spec, no_event))
            assert (outcome.state, outcome.reason and outcome.reason.kind) == (TaskState.FAILED, "start")
            assert statuses(notebook) == ["pending"]


# -- executors ----------------------------------------------------------------------------------------------------------


def _double(assignment: Any, doing: Doing) -> Any:
    return assignment * 2


def _refuse(assignment: Any, doing: Doing) -> Any:
    raise ValueError(f"{assignment} is wrong")


def _tell(assignment: Any, doing: Doing) -> str:
    for number in range(assignment):
        doing.emit({"number": number})
    return doing.worker


def _count(folder: str, doing: Doing) -> int:
    mine = Path(folder, uuid4().hex)
    mine.touch()
    time.sleep(0.05)
    found = len(list(Path(folder).iterdir()))
    mine.unlink()
    return found


def _wait(began: str, doing: Doing) -> str:
    Path(began).touch()
    return "stopped" if doing.stopped.wait(DEADLINE) else "never stopped"


class ExecutorTests:
    """The contract of `Executor`."""

    def make_executor(self) -> Executor:
        """Return an executor that has not started."""
        raise NotImplementedError

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        """An executor that is closed after the test."""
        executor = self.make_executor()
        yield executor
        executor.close()

    def start(self, executor: Executor, function: Callable[[Any, Doing], Any]) -> list[dict[str, Any]]:
        """Start *executor* with that work, and return the list that messages are going to."""
        messages: list[dict[str, Any]] = []
        executor.start(FakeWork(function), messages.append)
        return messages

    def test_each_assignment_is_performed(self, executor: Executor) -> None:
        """Every future holds the report of its own assignment."""
        self.start(executor, _double)
        futures = [executor.submit(number) for number in range(30)]
        assert [future.result(DEADLINE) for future in futures] == list(range(0, 60, 2))

    def test_what_is_raised_comes_back(self, executor: Executor) -> None:
        """The future holds what the work raised, and others are performed after it."""
        self.start(executor, _refuse)
        for number in (1, 2):
            with pytest.raises(ValueError, match=f"{number} is wrong"):
                executor.submit(number).result(DEADLINE)

    def test_messages_arrive(self, executor: Executor) -> None:
        """A message is told while or after its assignment runs; of very many, the first and the last."""
        messages = self.start(executor, _tell)
        assert executor.submit(500).result(DEADLINE)
        wait_until(lambda: {"number": 499} in messages, "the last message")
        assert messages[0] == {"number": 0}

    def test_a_work_that_no_worker_can_do_is_refused(self, executor: Executor) -> None:
        """`start` raises `PreflightError` with what the work said, and starts nothing that lasts."""
        threads = threading.active_count()
        with pytest.raises(PreflightError, match="the kernel 'r' is not installed"):
            executor.start(FakeWork(_double, problem="the kernel 'r' is not installed"), no_event)
        wait_until(lambda: threading.active_count() <= threads + 2, "the end of its threads")

    def test_slots_bound_how_many_are_performed_at_once(self, executor: Executor, tmp_path: Path) -> None:
        """Never more at once than `slots`, and with several slots more than one."""
        self.start(executor, _count)
        futures = [executor.submit(str(tmp_path)) for _ in range(executor.slots * 8)]
        most = max(future.result(DEADLINE) for future in futures)
        assert min(executor.slots, 2) <= most <= executor.slots

    def test_stop_ends_what_is_performed(self, executor: Executor, tmp_path: Path) -> None:
        """After `stop` every future is done: performed to its early end, or cancelled."""
        self.start(executor, _wait)
        began = tmp_path / "began"
        with ThreadPoolExecutor(1) as thread:  # a serial executor performs while it is asked
            submitting = thread.submit(executor.submit, str(began))
            wait_until(began.exists, "the assignment's begin")
            executor.stop()
            assert submitting.result(DEADLINE).result(DEADLINE) == "stopped"

    def test_closing_is_always_possible(self, executor: Executor) -> None:
        """Before a start, twice, and before another start with other work."""
        executor.stop()
        executor.close()
        for _ in range(2):
            self.start(executor, _double)
            assert executor.submit(4).result(DEADLINE) == 8
            executor.close()
            executor.close()

    def test_description_and_slots_are_for_people_and_planners(self, executor: Executor) -> None:
        """Before and after the start: at least one slot, and a description of one line."""
        told = [(executor.slots, executor.description)]
        self.start(executor, _double)
        told.append((executor.slots, executor.description))
        assert all(slots >= 1 and description and "\n" not in description for slots, description in told)
