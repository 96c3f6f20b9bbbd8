"""
Tasks executed again from scratch, to see whether the results stand: with the engine `kernel`, which shares nothing.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbgrid.engines import make_engine
from nbgrid.engines.base import no_event
from nbgrid.executed import ExecutedNotebook, read_executed
from nbgrid.notebook import notebook_bytes
from nbgrid.states import Task, TaskState
from nbgrid.work import NotebookWork


@dataclass(frozen=True, slots=True)
class Verified:
    """What became of a task that was executed again."""

    name: str
    agree: tuple[str, ...] = ()
    """The tags whose results are the same."""
    differ: dict[str, str] = field(default_factory=dict)
    """The others, with what the result was and what it is now."""
    reason: str | None = None
    """Why it did not finish this time."""

    def __str__(self) -> str:
        if self.reason is not None:
            return f"{self.name} did not finish when it was executed again from scratch: {self.reason}"
        same = f"{', '.join(self.agree)} the same" if self.agree else "nothing the same"
        other = "; ".join(f"{tag} was {told}" for tag, told in self.differ.items())
        return f"{self.name} executed again from scratch: {same}{'; ' if other else ''}{other}"


def chosen(tasks: Sequence[Task], count: int) -> list[Task]:
    """Return *count* of the finished *tasks*, spread over the grid; all of them where there are fewer."""
    finished = [task for task in tasks if task.state is TaskState.FINISHED]
    count = min(count, len(finished))
    return [finished[(2 * place + 1) * len(finished) // (2 * count)] for place in range(count)]


def verify(work: NotebookWork, tasks: Sequence[Task], folder: str) -> Iterator[Verified]:
    """
    Execute *tasks* again, one after another, and yield how their tagged results compare.

    *folder* is where the names of their executed notebooks begin. Nothing of a run changes.
    """
    engine = make_engine("kernel")
    for task in tasks:
        notebook = work.render(task.point)
        with ExitStack() as stack:
            spec = work.spec(work.fresh_directory(stack))
            outcome = asyncio.run(engine.execute(notebook, spec, no_event))
            again = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbgrid-")), "again.ipynb")
            again.write_bytes(notebook_bytes(notebook))
            if outcome.state is not TaskState.FINISHED:
                yield Verified(task.name, reason=str(outcome.reason))
                continue
            yield _compared(task.name, read_executed(Path(folder, task.output)), read_executed(again))


def _compared(name: str, was: ExecutedNotebook, now: ExecutedNotebook) -> Verified:
    pairs = {tag: (was.value(tag), now.value(tag)) for tag in was.tags}
    agree = tuple(tag for tag, (one, other) in pairs.items() if _same(one, other))
    return Verified(name, agree, {tag: _told(*pair) for tag, pair in pairs.items() if tag not in agree})


def _same(one: Any, other: Any) -> bool:
    """Return whether two decoded results are equal; NaN equals NaN, and tables and arrays are compared whole."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if hasattr(one, "equals"):
        return bool(one.equals(other))
    if hasattr(one, "tobytes"):
        return bool(one.tobytes() == other.tobytes())
    return bool(one == other)


def _told(was: Any, now: Any) -> str:
    if isinstance(was, int | float) and isinstance(now, int | float):
        return f"{was!r} and is {now!r}"
    return "another value"
