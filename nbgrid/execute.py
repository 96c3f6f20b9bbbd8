"""
The way of one run: `GridExecutor` sends tasks to an executor, promotes what they leave, and records each step.

Two halves. `NotebookWork` is what a worker does with one task: render, execute, write the attempt. `GridExecutor` is the
driver: it alone moves an attempt to its final name, after checking its number, and it alone writes the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from nbgrid.engines import Engine, EngineName, Shared, make_engine
from nbgrid.engines.base import CellEvent, ExecutionSpec, Outcome
from nbgrid.errors import StoreError
from nbgrid.executors import Executor, WorkerLostError
from nbgrid.notebook import notebook_bytes
from nbgrid.parameters import encode
from nbgrid.shared import shared_cells
from nbgrid.states import Attempt, Reason, Run, Task, TaskState
from nbgrid.stores import LocalStore, Store
from nbgrid.template import Template
from nbgrid.typing import Notebook, Point

METADATA_VERSION = 1
_ATTEMPTS = ".nbgrid/attempts"
_TRIES_FOR_THE_INNOCENT = 5


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one task, as a worker is told of it."""

    index: int
    name: str
    point: Point
    digest: str
    output: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells of an attempt; small, but where it cannot reach the store: then the notebook travels in it."""

    index: int
    attempt: Attempt
    checksum: str
    """Of the attempt's notebook, as written."""
    notebook: bytes | None = None
    """The notebook, if the worker could not write it to the store."""
    fallback: str | None = None
    """Why another engine than the run's executed it."""


@dataclass(frozen=True, kw_only=True)
class NotebookWork:
    """What workers do for a run; sent to each of them once."""

    run: Run
    template: bytes
    engine: EngineName
    imports: tuple[str, ...] = ()
    """The template's, that nothing else precedes."""
    env: Mapping[str, str]
    cell_timeout: float | None
    startup_timeout: float
    memory: int | None
    workdir: str
    included: Mapping[str, bytes]
    nonce: str
    """What the file `<output root>/<prefix>/.nbgrid/nonce-<run>` holds: a worker that reads it there writes there."""
    version: str
    """nbgrid's."""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    def check(self) -> str | None:
        """Return what this worker lacks."""
        from jupyter_client.kernelspec import KernelSpecManager

        kernels = KernelSpecManager().find_kernel_specs()
        if self.run.kernel not in kernels:
            return (
                f"the kernel {self.run.kernel!r} is not installed (there are: {', '.join(sorted(kernels)) or 'none'})"
            )
        return None

    def perform(self, assignment: Assignment, worker: str, emit: Callable[[dict[str, Any]], None]) -> Report:
        """Execute the notebook of *assignment* and write it as an attempt, or return its bytes."""
        notebook = self.render(assignment.point)
        started = datetime.now(UTC)

        def on_event(event: CellEvent) -> None:
            emit({"index": assignment.index, "cell": event.number, "cells": event.cells, "kind": event.kind})

        with ExitStack() as stack:
            cwd = self._working_directory(assignment, stack)
            outcome = _Executions.run(self, notebook, cwd, on_event)
        attempt = _attempt(assignment, outcome, started, worker)
        self._describe(notebook, assignment, attempt, outcome)
        return replace(self._hand_over(assignment, attempt, notebook_bytes(notebook)), fallback=outcome.fallback)

    def render(self, point: Point) -> Notebook:
        """Return the notebook for *point*, not executed."""
        return Template.parse(self.template, self.run.template).render({**self.run.parameters, **point})

    def warm(self, point: Point) -> None:
        """
        Begin, in this process, what takes long before the first task, of which *point* is one.

        Not where cells are shared: they are executed once the run has begun, and not before.
        """
        notebook = self.render(point)
        if self._in_place and not self.shared(notebook).cells:
            _Executions.engine(self, notebook).warm(notebook, self.spec(str(Path(self.run.template).parent)))

    def stop(self) -> None:
        """Have this run's notebooks that are being executed in this process aborted."""
        _Executions.stop(self.id)

    def close(self) -> None:
        """Give back what this process keeps for the run."""
        _Executions.close(self.id)

    def spec(self, cwd: str) -> ExecutionSpec:
        """Return how a notebook is executed in *cwd*."""
        return ExecutionSpec(
            kernel=self.run.kernel, cwd=cwd, env=self.env, cell_timeout=self.cell_timeout,
            startup_timeout=self.startup_timeout, memory=self.memory,
        )  # fmt: skip

    def shared(self, notebook: Notebook) -> Shared:
        """Return what the rendered *notebook* has in common with those of the other tasks."""
        return Shared(imports=self.imports, cells=shared_cells(notebook, self.run.template))

    def _working_directory(self, assignment: Assignment, stack: ExitStack) -> str:
        """Return the template's folder, or a fresh one with the included files where that is asked or unavoidable."""
        if self._in_place or not self._shares_the_store():
            return self.fresh_directory(stack)
        folder = Path(self.run.output_root, self.run.prefix, ".nbgrid/work", f"{self.run.id}-{assignment.index}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return self._filled(folder)

    def fresh_directory(self, stack: ExitStack) -> str:
        """Return the template's folder, or a fresh one, that goes with *stack*, with the included files."""
        if self._in_place:
            return str(Path(self.run.template).parent)
        folder = tempfile.TemporaryDirectory(prefix="nbgrid-", ignore_cleanup_errors=True)
        return self._filled(Path(stack.enter_context(folder)))

    @property
    def _in_place(self) -> bool:
        return self.workdir != "task" and Path(self.run.template).is_file()

    def _filled(self, folder: Path) -> str:
        for name, content in self.included.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return str(folder)

    def _shares_the_store(self) -> bool:
        with suppress(OSError, ValueError):
            return Path(self.run.output_root, nonce_name(self.run)).read_text(encoding="ascii") == self.nonce
        return False

    def _hand_over(self, assignment: Assignment, attempt: Attempt, content: bytes) -> Report:
        report = Report(assignment.index, attempt, hashlib.sha256(content).hexdigest())
        if self._shares_the_store():
            name = attempt_name(self.run, assignment.index, attempt.number)
            with suppress(StoreError):  # the driver tries again with the bytes, and tells why if it fails too
                LocalStore(self.run.output_root).put(name, content)
                return report
        return replace(report, notebook=content)

    def _describe(self, notebook: Notebook, assignment: Assignment, attempt: Attempt, outcome: Outcome) -> None:
        """Write into *notebook* what was run and how it ended."""
        parameters = encode({**self.run.parameters, **assignment.point})
        notebook["metadata"]["papermill"] = {
            "default_parameters": {}, "environment_variables": {}, "parameters": parameters,
            "input_path": self.run.template, "output_path": assignment.output,
            "start_time": attempt.started, "end_time": attempt.ended, "duration": attempt.seconds,
            "exception": None if attempt.state is TaskState.FINISHED else True, "version": f"nbgrid {self.version}",
        }  # fmt: skip
        reason = attempt.reason
        notebook["metadata"]["nbgrid"] = {
            "version": METADATA_VERSION, "run": self.run.id, "prefix": self.run.prefix, "task": assignment.name,
            "index": assignment.index, "attempt": attempt.number, "point": encode(dict(assignment.point)),
            "parameters": encode(dict(self.run.parameters)), "state": str(attempt.state),
            "reason": reason and {
                "kind": reason.kind, "message": reason.message, "cell": reason.cell, "ename": reason.ename,
                "evalue": reason.evalue,
            },
            "digest": assignment.digest, "started": attempt.started, "ended": attempt.ended, "seconds": attempt.seconds,
            "peak_memory": attempt.peak_memory, "worker": attempt.worker, "engine": outcome.engine,
            "kernel": {"name": self.run.kernel, "language": self.run.language},
            "versions": {"nbgrid": self.version, **outcome.versions},
            "numba_kernels": list(outcome.compiled),
        }  # fmt: skip


class _Executions:
    """What this process executes, by run: the engine, and the notebooks, so that they can be aborted from another thread."""

    _lock = threading.Lock()
    _running: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]]] = {}  # noqa: RUF012  one a process
    _engines: dict[str, Engine] = {}  # noqa: RUF012
    _stopped: set[str] = set()  # noqa: RUF012

    @classmethod
    def run(cls, work: NotebookWork, notebook: Notebook, cwd: str, on_event: Callable[[CellEvent], None]) -> Outcome:
        return asyncio.run(cls._execute(work, notebook, cwd, on_event))

    @classmethod
    def engine(cls, work: NotebookWork, notebook: Notebook) -> Engine:
        """Return the engine that executes the notebooks of *work* here; *notebook* is one of them."""
        with cls._lock:
            if (engine := cls._engines.get(work.id)) is None:
                engine = cls._engines[work.id] = make_engine(work.engine, work.shared(notebook))
            return engine

    @classmethod
    async def _execute(
        cls, work: NotebookWork, notebook: Notebook, cwd: str, on_event: Callable[[CellEvent], None]
    ) -> Outcome:
        engine = cls.engine(work, notebook)
        with cls._lock:
            task = asyncio.create_task(_engine_execute(engine, work, notebook, cwd, on_event))
            entry = (asyncio.get_running_loop(), task)
            if work.id in cls._stopped:
                task.cancel()
            cls._running.setdefault(work.id, set()).add(entry)
        try:
            return await task
        except asyncio.CancelledError:  # before the engine had begun
            return Outcome(state=TaskState.ABORTED, reason=Reason("request", "aborted before it began"))
        finally:
            with cls._lock:
                cls._running[work.id].discard(entry)

    @classmethod
    def stop(cls, run: str) -> None:
        with cls._lock:
            cls._stopped.add(run)
            for loop, task in cls._running.get(run, ()):
                loop.call_soon_threadsafe(task.cancel)

    @classmethod
    def close(cls, run: str) -> None:
        with cls._lock:
            engine = cls._engines.pop(run, None)
        if engine is not None:
            engine.close()


async def _engine_execute(
    engine: Engine, work: NotebookWork, notebook: Notebook, cwd: str, on_event: Callable[[CellEvent], None]
) -> Outcome:
    return await engine.execute(notebook, work.spec(cwd), on_event)


class Recorder(Protocol):
    """What the driver tells of a run; the database is one."""

    def begin_run(self, run: Run, tasks: Sequence[Task]) -> None:
        """Record a run and its tasks, before the first of them starts."""

    def save_task(self, task: Task) -> None:
        """Record a task as it is now."""

    def end_run(self, run: Run) -> None:
        """Record how a run ended."""


class GridExecutor:
    """Runs the tasks of a run: the one class that knows the engine's work, the executor, the store and the database."""

    def __init__(self, work: NotebookWork, executor: Executor, store: Store, recorder: Recorder) -> None:
        self.work, self.executor, self.store, self.recorder = work, executor, store, recorder
        self.fallbacks: dict[str, None] = {}
        """Why tasks were executed by another engine than the run's, each reason once."""
        self._stopping = False
        self._why_none = "aborted before it began"
        """Why tasks that were waiting when it stopped were not begun."""
        self._promoted: dict[int, int] = {}
        """The number of the attempt whose notebook lies under the task's final name."""

    def open(self, on_message: Callable[[dict[str, Any]], None]) -> None:
        """
        Make ready: find that the store can be written, and that a worker can do the work.

        Raises `StoreError` or `PreflightError`; nothing that lay in the store has been touched then.
        """
        self.store.probe()
        self.store.sweep(self.work.run.prefix)
        self.store.put(nonce_name(self.work.run), self.work.nonce.encode("ascii"))
        self.executor.start(self.work, on_message)

    def close(self) -> None:
        """Give back what `open` took."""
        self.executor.close()
        with suppress(StoreError):
            self.store.delete(nonce_name(self.work.run))

    def execute(self, tasks: Sequence[Task], *, retries: int) -> Iterator[Task]:
        """
        Execute *tasks* and yield each as it changes: when it begins, and when it has ended for good.

        A task that did not finish is tried again up to *retries* times. Closing the iterator aborts what runs.
        """
        waiting = deque(tasks)
        running: dict[Future[Report], Task] = {}
        try:
            while waiting or running:
                if self._stopping:
                    yield from self._abort(waiting)
                while waiting and len(running) < self.executor.slots and not self._stopping:
                    task = waiting.popleft().begin()
                    self.recorder.save_task(task)
                    yield task
                    running[self.executor.submit(_assignment(task))] = task
                for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    task = self._ended(running.pop(future), future)
                    self.recorder.save_task(task)
                    if (reason := task.attempt and task.attempt.reason) and reason.kind == "shared":
                        self._stopping, self._why_none = True, f"not begun: {reason.message}"
                    if self._is_to_retry(task, retries):
                        waiting.append(task)
                    else:
                        yield task
        finally:
            if running:
                self.executor.stop()

    def stop(self) -> None:
        """Take no more tasks and end the running ones; `execute` goes on to yield how each of them ended."""
        self._stopping = True
        self.executor.stop()

    def _abort(self, waiting: deque[Task]) -> Iterator[Task]:
        while waiting:
            task = waiting.popleft()
            if task.state is TaskState.PENDING:
                task = task.abort(Reason("request", self._why_none))
                self.recorder.save_task(task)
            yield task

    def _is_to_retry(self, task: Task, retries: int) -> bool:
        if task.state in {TaskState.FINISHED, TaskState.ABORTED} or self._stopping or task.attempt is None:
            return False
        # A lost fork server is no fault of the task, and the engine goes on without one when that happens again and again.
        innocent = task.attempt.reason is not None and task.attempt.reason.kind == "server"
        return task.attempt.number <= (max(retries, _TRIES_FOR_THE_INNOCENT) if innocent else retries)

    def _ended(self, task: Task, future: Future[Report]) -> Task:
        """Return *task* as its attempt left it, the notebook promoted to its final name."""
        assert task.attempt is not None
        try:
            report = future.result()
            self._promote(task, report)
            if report.fallback is not None:
                self.fallbacks[report.fallback] = None
            return task.end(report.attempt)
        except StoreError as error:
            state, reason = TaskState.FAILED, Reason("store", f"its notebook could not be kept: {error}")
        except CancelledError:  # dropped by `stop` before a worker had begun it
            state, reason = TaskState.ABORTED, Reason("request", "aborted before it began")
        except WorkerLostError as error:
            state, reason = TaskState.LOST, Reason("worker", str(error))
        except Exception as error:  # noqa: BLE001  one task's trouble must not end the run
            state, reason = TaskState.FAILED, Reason("worker", f"{type(error).__name__}: {error}")
        return task.end(replace(task.attempt, state=state, reason=reason, ended=now()))

    def _promote(self, task: Task, report: Report) -> None:
        """Move the attempt's notebook to its final name if it may stand there; a partial one stays an attempt."""
        name = attempt_name(self.work.run, report.index, report.attempt.number)
        if report.notebook is not None:
            self.store.put(name, report.notebook)
        if hashlib.sha256(self.store.get(name)).hexdigest() != report.checksum:
            raise StoreError(f"{self.store.path(name)} does not hold what the worker wrote")
        if report.attempt.state is not TaskState.ABORTED:
            if (earlier := self._promoted.get(task.index)) is not None:  # it failed, and its notebook is kept
                self.store.move(task.output, attempt_name(self.work.run, task.index, earlier))
            self.store.move(name, task.output)
            self._promoted[task.index] = report.attempt.number


def nonce_name(run: Run) -> str:
    """Return the name of the file by which a worker finds that it shares the store."""
    return f"{run.prefix}/.nbgrid/nonce-{run.id}"


def attempt_name(run: Run, index: int, number: int) -> str:
    """Return where the notebook of an attempt lies until it is promoted, and stays if it is not."""
    return f"{run.prefix}/{_ATTEMPTS}/{run.id}-{index}-{number}.ipynb"


def new_nonce() -> str:
    """Return a text that nothing else holds."""
    return uuid4().hex


def now() -> str:
    """Return the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _assignment(task: Task) -> Assignment:
    assert task.attempt is not None
    return Assignment(task.index, task.name, task.point, task.digest, task.output, task.attempt.number)


def _attempt(assignment: Assignment, outcome: Outcome, started: datetime, worker: str) -> Attempt:
    ended = datetime.now(UTC)
    return Attempt(
        number=assignment.attempt, state=outcome.state, reason=outcome.reason,
        started=started.isoformat(timespec="milliseconds"), ended=ended.isoformat(timespec="milliseconds"),
        seconds=round(max((ended - started).total_seconds(), 0.0), 3), worker=worker, peak_memory=outcome.peak_memory,
    )  # fmt: skip
