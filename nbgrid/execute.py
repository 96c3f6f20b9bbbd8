"""
The driver of one run: `GridExecutor` sends tasks to an executor, promotes what they leave, and records each step.

It alone moves an attempt to its final name, after checking its number, and it alone has the database written.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

from nbgrid.errors import StoreError
from nbgrid.executors import Executor, WorkerLostError
from nbgrid.states import Reason, Run, Task, TaskState
from nbgrid.stores import Store
from nbgrid.work import Assignment, NotebookWork, Report, attempt_name, nonce_name

_TRIES_FOR_THE_INNOCENT = 5


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
        self.notes: dict[str, None] = {}
        """What workers have told of how they executed tasks, each once."""
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
            self.notes |= dict.fromkeys(report.notes)
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


def new_nonce() -> str:
    """Return a text that nothing else holds."""
    return uuid4().hex


def now() -> str:
    """Return the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _assignment(task: Task) -> Assignment:
    assert task.attempt is not None
    return Assignment(task.index, task.name, task.point, task.digest, task.output, task.attempt.number)
