"""What any executor must do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nbgrid.engines.base import no_event
from nbgrid.errors import PreflightError
from nbgrid.executors.base import Executor
from nbgrid.testing._fakes import DEADLINE, Doing, FakeWork, wait_until


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
