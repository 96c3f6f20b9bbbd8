"""
Runs, tasks and attempts: what they are, the states they can be in, and the legal moves between these.

            ┌────────────────── a new attempt ──────────────────┐
            ▼                                                   │
    pending ─→ running ─→ finished | failed | timed_out | killed | aborted | lost
       │                     │
       └─→ aborted           └─→ pending, only when stale or forced

Everything here is pure: no clock, no file, no network.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from nbgrid.errors import IllegalMoveError
from nbgrid.parameters import canonical, encode, literal
from nbgrid.typing import JSONValue, Point

_LONGEST_VALUE = 40
_LONGEST_NAME = 120


class TaskState(StrEnum):
    """The state of a task, or of one attempt at it."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    ABORTED = "aborted"
    LOST = "lost"

    @property
    def is_end(self) -> bool:
        """Whether nothing more happens in this state."""
        return self not in {TaskState.PENDING, TaskState.RUNNING}


class RunState(StrEnum):
    """The state of a run; it follows from its tasks' states."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    ABORTED = "aborted"


_ENDS = frozenset(state for state in TaskState if state.is_end)
_MOVES: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.PENDING: frozenset({TaskState.RUNNING, TaskState.ABORTED}),
    TaskState.RUNNING: _ENDS,
    **{state: frozenset({TaskState.PENDING}) for state in _ENDS},
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a task ended as it did."""

    kind: str
    """exception, timeout, signal, exit, memory, start, shared, server, worker, store, or request."""
    message: str
    """One line for a person."""
    cell: int | None = None
    """The index of the cell, from 0 in the executed notebook."""
    ename: str | None = None
    evalue: str | None = None
    traceback: str | None = None
    """The kernel's traceback, without its colours."""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a task."""

    number: int
    """Counted from 1; it is also the fence: only the current attempt's notebook is promoted."""
    state: TaskState = TaskState.PENDING
    reason: Reason | None = None
    started: str | None = None
    """ISO 8601, UTC."""
    ended: str | None = None
    seconds: float | None = None
    worker: str | None = None
    peak_memory: int | None = None
    """Bytes of the task's processes together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One point of a run."""

    run: str
    index: int
    """The point's place in the grid, from 0."""
    name: str
    """`<prefix>-<index>`."""
    point: Point
    digest: str
    output: str
    """The final name of its notebook, below the output root."""
    state: TaskState = TaskState.PENDING
    attempt: Attempt | None = None
    """The newest attempt, or None before the first."""

    @property
    def id(self) -> str:
        """The task's name among all runs' tasks."""
        return f"{self.run}-{self.index}"

    @property
    def reason(self) -> Reason | None:
        """Why the task ended as it did, if it ended otherwise than finished."""
        return self.attempt.reason if self.attempt else None

    @property
    def attempt_name(self) -> str:
        """The name, below the run's folder of attempts, of the current attempt's notebook."""
        assert self.attempt is not None
        return f"{self.run}-{self.index}-{self.attempt.number}.ipynb"

    def begin(self) -> Task:
        """Return the task running its next attempt, counted from the last."""
        waiting = self if self.state is TaskState.PENDING else self._to(TaskState.PENDING)
        number = self.attempt.number + 1 if self.attempt else 1
        return replace(waiting._to(TaskState.RUNNING), attempt=Attempt(number=number, state=TaskState.RUNNING))

    def end(self, attempt: Attempt) -> Task:
        """Return the task as *attempt* left it; a report from an earlier attempt is refused."""
        if self.attempt is None or attempt.number != self.attempt.number:
            raise IllegalMoveError(f"task {self.name}: attempt {attempt.number} is not the current one")
        if self.state is not TaskState.RUNNING:
            raise IllegalMoveError(f"task {self.name} is {self.state}; a report cannot make it {attempt.state}")
        return replace(self._to(attempt.state), attempt=attempt)

    def abort(self, reason: Reason) -> Task:
        """Return the task aborted before it began; one that runs is ended by the report of its attempt."""
        if self.state is not TaskState.PENDING:
            raise IllegalMoveError(f"task {self.name} is {self.state}; only a pending task is aborted so")
        number = self.attempt.number if self.attempt else 0
        return replace(
            self._to(TaskState.ABORTED), attempt=Attempt(number=number, state=TaskState.ABORTED, reason=reason)
        )

    def _to(self, state: TaskState) -> Task:
        if state not in _MOVES[self.state]:
            raise IllegalMoveError(f"task {self.name} is {self.state}; it cannot become {state}")
        return replace(self, state=state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One template over its whole grid, under one prefix and output root."""

    id: str
    template: str
    """The template's path, absolute."""
    output_root: str
    """The folder or URL that outputs lie below."""
    prefix: str
    parameters: Point
    """The fixed parameters, the same for every task."""
    kernel: str
    language: str
    engine: str
    started: str
    """ISO 8601, UTC."""
    ended: str | None = None
    state: RunState = RunState.RUNNING
    executor: str = ""
    """Where tasks were sent, for a person to read."""
    pid: int | None = None
    host: str | None = None
    """The driver's process and machine."""

    def record(self) -> dict[str, Any]:
        """Return the run for strict JSON."""
        return {**asdict(self), "parameters": encode(dict(self.parameters))}


def run_state(states: Iterable[TaskState]) -> RunState:
    """Return the state of a run whose tasks are in *states*."""
    counts = Counter(states)
    if counts[TaskState.PENDING] or counts[TaskState.RUNNING]:
        return RunState.RUNNING
    if counts[TaskState.ABORTED]:
        return RunState.ABORTED
    return RunState.FINISHED if counts.keys() <= {TaskState.FINISHED} else RunState.FAILED


def output_name(prefix: str, point: Point, index: int) -> str:
    """
    Return the final name of a task's notebook, such as `elbow-curve/output/notebook-n_clusters=19-18.ipynb`.

    The index makes it unique, on file systems that do not tell case apart too.
    """
    named = "".join(f"{name}={slug(value)}-" for name, value in point.items())
    if len(named.encode()) > _LONGEST_NAME:  # file systems count bytes, and a name may be in any alphabet
        cut = named.encode()[:_LONGEST_NAME].decode(errors="ignore")
        named = f"{cut}~{_short_hash(canonical(point))}-"
    return f"{prefix}/output/notebook-{named}{index}.ipynb"


def slug(value: JSONValue) -> str:
    """Return *value* fit for a file name: as it is written where that is safe and short, else cleaned, with a hash."""
    text = value if isinstance(value, str) else literal(value)
    if re.fullmatch(r"[\w+-](?:[\w.+-]*[\w+-])?", text, re.ASCII) and len(text) <= _LONGEST_VALUE:
        return text
    cleaned = re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII).strip("._")
    return f"{cleaned[: _LONGEST_VALUE - 10]}~{_short_hash(canonical(value))}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
