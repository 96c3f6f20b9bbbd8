"""Fakes, and what tests of executions need: notebooks in a line, and waiting for a condition."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import uuid4

import psutil

from nbgrid.errors import StoreError
from nbgrid.executors.base import Emit
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
    return "".join("".join(output["text"]) for output in outputs if output.get("name") == "stdout")


def statuses(notebook: Notebook) -> list[str]:
    """Return what the metadata of each cell of *notebook* says of its execution."""
    return [cell["metadata"]["papermill"]["status"] for cell in notebook["cells"]]


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

    def close(self) -> None:
        """Do nothing: nothing is kept."""

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
