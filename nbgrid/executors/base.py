"""
The contract of an executor: where tasks are sent.

An executor knows nothing of notebooks. It is given the work once, sends it to each of its workers, and then performs one small
assignment after another with it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias

OnMessage: TypeAlias = Callable[[dict[str, Any]], None]
"""
Takes a message that a worker emitted while it performed an assignment. It is called in a thread of the executor's, and messages
are news, not records: of those that come too fast only the newest arrives, and long texts in them are cut.
"""

Emit: TypeAlias = Callable[[dict[str, Any]], None]


class Work(Protocol):
    """What is to be done with each assignment. It must survive pickling: workers may be other processes."""

    @property
    def id(self) -> str:
        """A name that no other work has."""

    def check(self) -> str | None:
        """Return why this worker cannot do the work, in one line, or None if it can."""

    def perform(self, assignment: Any, worker: str, emit: Emit) -> Any:
        """Do *assignment* on the worker of that name, telling what happens by *emit*, and return a small report."""

    def stop(self) -> None:
        """End what is being performed in this process, soon; each `perform` still returns its report."""

    def close(self) -> None:
        """Give back what is kept in this process from one assignment to the next; no more will be performed."""


class Executor(Protocol):
    """Performs assignments, several at a time."""

    @property
    def slots(self) -> int:
        """How many assignments can be performed at once, now."""

    @property
    def description(self) -> str:
        """Where the tasks are sent, for a person to read."""

    def start(self, work: Work, on_message: OnMessage) -> None:
        """
        Make ready to perform assignments of *work*.

        Raises `PreflightError` if no worker can do it.
        """

    def submit(self, assignment: Any) -> Future[Any]:
        """
        Have *assignment* performed, and return the future of its report.

        It is performed once at most: if its worker is lost, the future holds `WorkerLostError`.
        """

    def stop(self) -> None:
        """Have running assignments end soon, and cancel those that no worker has begun; each future is still done."""

    def close(self) -> None:
        """Give back what `start` took; nothing that it started is left behind."""


class WorkerLostError(Exception):
    """The worker that performed an assignment is gone, and its report with it."""
