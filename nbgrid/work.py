"""
What a worker does with one task of a run: render the notebook, execute it, and write the attempt or hand it over.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbgrid.engines import Engine, EngineName, Shared, make_engine
from nbgrid.engines.base import CellEvent, ExecutionSpec, Outcome
from nbgrid.errors import StoreError
from nbgrid.notebook import notebook_bytes
from nbgrid.parameters import encode
from nbgrid.shared import Share, sharing
from nbgrid.states import Attempt, Reason, Run, TaskState
from nbgrid.stores import LocalStore
from nbgrid.template import Template
from nbgrid.typing import Notebook, Point

METADATA_VERSION = 1
_ATTEMPTS = ".nbgrid/attempts"


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
    notes: tuple[str, ...] = ()
    """What a person should know of how it was executed."""


@dataclass(frozen=True, kw_only=True)
class NotebookWork:
    """What workers do for a run; sent to each of them once."""

    run: Run
    template: bytes
    engine: EngineName
    imports: tuple[str, ...] = ()
    """The template's, that nothing else precedes."""
    share: Share = "tagged"
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
        return replace(self._hand_over(assignment, attempt, notebook_bytes(notebook)), notes=_notes(outcome))

    def render(self, point: Point) -> Notebook:
        """Return the notebook for *point*, not executed."""
        return Template.parse(self.template, self.run.template).render({**self.run.parameters, **point})

    def warm(self, point: Point) -> None:
        """
        Begin, in this process, what takes long before the first task, of which *point* is one; no cell is executed.
        """
        notebook = self.render(point)
        if self._in_place:
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
        found = sharing(notebook, self.run.template, share=self.share)
        return Shared(imports=self.imports, cells=found.cells, found=found.found, apart=found.apart)

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


def nonce_name(run: Run) -> str:
    """Return the name of the file by which a worker finds that it shares the store."""
    return f"{run.prefix}/.nbgrid/nonce-{run.id}"


def attempt_name(run: Run, index: int, number: int) -> str:
    """Return where the notebook of an attempt lies until it is promoted, and stays if it is not."""
    return f"{run.prefix}/{_ATTEMPTS}/{run.id}-{index}-{number}.ipynb"


def _notes(outcome: Outcome) -> tuple[str, ...]:
    fallback = outcome.fallback and f"some kernels were not forked: {outcome.fallback}"
    return tuple(filter(None, (fallback, outcome.unshared)))


def _attempt(assignment: Assignment, outcome: Outcome, started: datetime, worker: str) -> Attempt:
    ended = datetime.now(UTC)
    return Attempt(
        number=assignment.attempt, state=outcome.state, reason=outcome.reason,
        started=started.isoformat(timespec="milliseconds"), ended=ended.isoformat(timespec="milliseconds"),
        seconds=round(max((ended - started).total_seconds(), 0.0), 3), worker=worker, peak_memory=outcome.peak_memory,
    )  # fmt: skip
