"""What a run shows while it goes on: a bar and a line a running task on a terminal, one calm line an event elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nbgrid.cli._output import cell, seconds, tell
from nbgrid.runs import RunHandle
from nbgrid.states import Task, TaskState


@contextmanager
def shown(handle: RunHandle, *, quiet: bool = False) -> Iterator[None]:
    """Show the progress of *handle* while the block runs."""
    if quiet:
        yield
    elif sys.stderr is not None and sys.stderr.isatty():
        with _Live(handle):
            yield
    else:
        handle.listen(_Lines(len(handle.tasks)).hear)
        yield


def described(task: Task) -> str:
    """Return the task's parameters and, if it ended otherwise than finished, why."""
    state = str(task.state).replace("_", " ")
    if task.reason and task.state is not TaskState.FINISHED:
        message = cell(task.reason.message, limit=300)
        state = message if message.startswith(state) else f"{state}: {message}"
    return f"{_point(task)} {state}".lstrip()


def _point(task: Task) -> str:
    return " ".join(f"{name}={cell(value, limit=30)}" for name, value in task.point.items())


class _Lines:
    """One line for each task that ends."""

    def __init__(self, total: int) -> None:
        self._total, self._ended = total, 0

    def hear(self, message: dict[str, Any]) -> None:
        task = message.get("task")
        if task is None or not task.state.is_end:
            return
        self._ended += 1
        took = f" ({seconds(task.attempt.seconds)})" if task.attempt and task.attempt.seconds is not None else ""
        width = len(str(self._total))
        tell(f"[{self._ended:{width}}/{self._total}] {task.name} {described(task)}{took}")


class _Live:
    """A bar over all tasks, and a line for each that runs."""

    def __init__(self, handle: RunHandle) -> None:
        from rich.console import Console
        from rich.live import Live

        self._handle, self._began = handle, time.monotonic()
        self._lock = threading.Lock()
        self._cells: dict[int, tuple[int, int]] = {}
        self._since: dict[int, float] = {}
        self._console = Console(stderr=True)
        self._live = Live(self, console=self._console, refresh_per_second=8, transient=True)
        handle.listen(self._hear)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _hear(self, message: dict[str, Any]) -> None:
        task = message.get("task")
        with self._lock:
            if task is None:
                if message["index"] in self._since:
                    self._cells[message["index"]] = (message["cell"], message["cells"])
            elif task.state.is_end:
                self._since.pop(task.index, None)
                self._cells.pop(task.index, None)
            else:
                self._since[task.index] = time.monotonic()
        # Printed without the lock: rich draws the bar anew under its own lock, and takes ours for it.
        if task is not None and task.state.is_end and task.state is not TaskState.FINISHED:
            self._console.print(f"{task.name} {described(task)}", markup=False, highlight=False)

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tasks = self._handle.tasks
        counts = Counter(task.state for task in tasks)
        ended = sum(count for state, count in counts.items() if state.is_end)
        elapsed = time.monotonic() - self._began
        bar = Table.grid(padding=(0, 1))
        told = f"{ended}/{len(tasks)}  {seconds(elapsed)}"
        if 0 < ended < len(tasks):
            told += f", about {seconds(elapsed / ended * (len(tasks) - ended))} to go"
        failed = ended - counts[TaskState.FINISHED]
        bar.add_row(
            ProgressBar(total=len(tasks), completed=ended, width=40), Text(told),
            Text(f"{failed} not finished", style="red") if failed else "",
        )  # fmt: skip
        with self._lock:
            lines = [self._line(tasks[index], since) for index, since in sorted(self._since.items())]
        return Group(bar, *lines)

    def _line(self, task: Task, since: float) -> Any:
        from rich.text import Text

        done, cells = self._cells.get(task.index, (0, 0))
        where = f"cell {done}/{cells}" if cells else "starting"
        again = f"attempt {task.attempt.number}, " if task.attempt and task.attempt.number > 1 else ""
        told = f"  {task.name}  {again}{where}  {seconds(time.monotonic() - since)}  {_point(task)}"
        return Text(told, style="dim", no_wrap=True, overflow="ellipsis")
