"""
Runs as they are recorded: looked up by name, their states made true, their notebooks read and their curve drawn.

It knows nothing of how a run is started; what a driver that died left behind is read here as well.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nbgrid.config import Config, data_directory
from nbgrid.errors import InputError, RunNotFoundError, StoreError
from nbgrid.states import Reason, Run, RunState, Task, TaskState

if TYPE_CHECKING:
    from nbgrid.collection import NotebookCollection
    from nbgrid.database import Database

NEWEST = ("@latest", "latest", "last", "@last")


@dataclass(frozen=True, slots=True)
class Found:
    """A run that was looked up."""

    run: Run
    tasks: list[Task]
    is_newest_of_all: bool = False
    """Whether `@latest` found it although no run's output root lies below the working directory."""


def open_database(config: Config | None = None) -> Database:
    """Return the database that *config* names."""
    from nbgrid.database import Database, default_url

    settings = config or Config.read()
    return Database.open(settings.database_url or default_url(data_directory()))


def find(name: str, database: Database, cwd: Path | None = None) -> Found:
    """
    Return the run that *name* stands for: an id, a unique beginning of one, or `@latest` (`latest`, `last`).

    The latest is the newest run whose output root is *cwd* or below it, else the newest of all. Raises `RunNotFoundError`.
    """
    runs = database.runs()
    if not runs:
        raise RunNotFoundError("there are no runs yet: `nbgrid run NOTEBOOK` starts one")
    if name in NEWEST:
        here = (cwd or Path.cwd()).resolve()
        below = [run for run in runs if Path(run.output_root).resolve().is_relative_to(here)]
        return _found(database, (below or runs)[0], is_newest_of_all=not below)
    matches = [run for run in runs if run.id == name] or [run for run in runs if run.id.startswith(name)]
    if len(matches) > 1:
        raise RunNotFoundError(
            f"{name} begins the ids of {len(matches)} runs: {', '.join(run.id for run in matches[:5])}"
        )
    if not matches or not name:
        raise RunNotFoundError(f"there is no run {name!r}: `nbgrid list` shows those that there are")
    return _found(database, matches[0])


def listing(database: Database) -> list[tuple[Run, dict[str, int]]]:
    """Return all runs, the newest first, each with how many of its tasks are in each state."""
    counts = database.counts()
    return [(replace(run, state=_true_state(run)), counts.get(run.id, {})) for run in database.runs()]


def notebooks(run: Run, tasks: Sequence[Task]) -> list[Path]:
    """Return where the executed notebooks of *tasks* lie, in the grid's order: those that a later run set aside too."""
    aside = Path(run.output_root, replaced_folder(run.prefix, run.id))
    folder = aside if aside.is_dir() else Path(run.output_root, run.prefix, "output")
    paths = [folder / Path(task.output).name for task in tasks]
    return [path for path in paths if path.is_file()]


def collect(run: Run, tasks: Sequence[Task]) -> NotebookCollection:
    """Return the executed notebooks of *run*, and of no other; raise `StoreError` if there is none."""
    from nbgrid.collection import NotebookCollection
    from nbgrid.executed import read_executed

    paths = [path for path in notebooks(run, tasks) if read_executed(path).run == run.id]
    if not paths:
        raise StoreError(f"run {run.id} has no executed notebook under {Path(run.output_root, run.prefix)}")
    return NotebookCollection(paths)


def replaced_folder(prefix: str, run: str) -> str:
    """Return where the results of the run of that id are set aside when another one takes their place."""
    return f"{prefix}/.nbgrid/replaced/{run}"


def draw_elbow(
    run: Run, tasks: Sequence[Task], x: str, y: str, time: str | None = None, *, name: str = "elbow.png"
) -> Path:
    """
    Draw the elbow curve of the tag or parameter *y* over *x* into `<prefix>/<name>` and return its path.

    Raises `InputError` for a name that no notebook has, or where too little is left to draw.
    """
    from nbgrid.plot import save_elbow

    try:
        curve = collect(run, tasks).curve(x, y, time)
    except KeyError as error:
        raise InputError(str(error.args[0])) from None
    if len(curve.x) < 2:
        raise InputError(f"{len(curve.x)} of {len(tasks)} notebooks have numbers for both {x} and {y}: nothing to draw")
    path = Path(run.output_root, run.prefix, name)
    label = None if y == "sum-of-squares" else y
    return save_elbow(path, curve.x, curve.y, curve.seconds, ylabel=label)


def _found(database: Database, run: Run, *, is_newest_of_all: bool = False) -> Found:
    state = _true_state(run)
    tasks = database.tasks(run.id)
    if state is not RunState.RUNNING:  # if its driver died, a task may still be recorded as running
        tasks = [_lost(task) if task.state is TaskState.RUNNING else task for task in tasks]
    return Found(replace(run, state=state), tasks, is_newest_of_all)


def _lost(task: Task) -> Task:
    assert task.attempt is not None
    reason = Reason("worker", "the driver of the run was gone before the task ended")
    return task.end(replace(task.attempt, state=TaskState.LOST, reason=reason))


def _true_state(run: Run) -> RunState:
    """Return the run's recorded state, or aborted if it says running and its driver, on this machine, is gone."""
    if run.state is not RunState.RUNNING or run.host != socket.gethostname() or run.pid is None:
        return run.state
    import psutil

    with suppress(psutil.Error, ValueError):
        process = psutil.Process(run.pid)
        began_before = process.create_time() <= datetime.fromisoformat(run.started).timestamp() + 1
        if began_before and process.status() != psutil.STATUS_ZOMBIE:
            return RunState.RUNNING
    return RunState.ABORTED
