"""One assignment after another, in the thread that asks: for tests and debugging."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from nbgrid.errors import PreflightError
from nbgrid.executors.base import OnMessage, Work


class SerialExecutor:
    """Performs each assignment when it is submitted."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self._on_message: OnMessage = lambda message: None

    @property
    def slots(self) -> int:
        """1."""
        return 1

    @property
    def description(self) -> str:
        """`serial`."""
        return "one after another, in this process"

    def start(self, work: Work, on_message: OnMessage) -> None:
        """Keep *work* for the assignments to come."""
        problem = work.check()
        if problem:
            raise PreflightError(problem)
        self._work, self._on_message = work, on_message

    def submit(self, assignment: Any) -> Future[Any]:
        """Perform *assignment* now, and return its future, done."""
        assert self._work is not None
        future: Future[Any] = Future()
        try:
            future.set_result(self._work.perform(assignment, "serial", self._on_message))
        except Exception as error:  # noqa: BLE001  a future carries whatever was raised to the one who asks
            future.set_exception(error)
        return future

    def stop(self) -> None:
        """End what is being performed, if another thread performs it."""
        if self._work:
            self._work.stop()

    def close(self) -> None:
        """Forget the work."""
        if self._work:
            self._work.close()
        self._work = None
