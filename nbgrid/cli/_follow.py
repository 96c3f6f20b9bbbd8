"""What `run` does once the run has started: follow it, hear Ctrl-C, and show the results."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbgrid import runs
from nbgrid.cli import ABORTED, INTERRUPTED, NOT_FINISHED
from nbgrid.cli._output import cell, say, say_json, seconds, tell
from nbgrid.cli._progress import shown
from nbgrid.cli.look import run_json, task_json
from nbgrid.cli.results import say_results
from nbgrid.errors import NbgridError

if TYPE_CHECKING:
    from nbgrid.collection import NotebookCollection
    from nbgrid.options import ElbowPlot
    from nbgrid.runs import RunHandle

# What `nbgrid plot` takes when nothing is said: the seed's tags.
_DEFAULT_AXES = {"x": "n-clusters", "y": "sum-of-squares"}


def follow(handle: RunHandle, *, as_json: bool) -> int:
    """Show *handle*'s progress and then its results, and return the exit code."""
    count = len(handle.tasks)
    tell(
        f"Run {handle.id} of {handle.plan.template.path.name}: {count:,} task{'s' if count != 1 else ''} "
        f"on {handle.run.executor}"
    )
    for note in handle.notes:
        tell(f"note: {note}")
    with _other_signals_as_interrupts(), shown(handle, quiet=as_json):
        interrupted = _wait(handle)
    if as_json:
        say_json(_as_json(handle))
    else:
        _say_results(handle)
    if interrupted:
        return INTERRUPTED
    return {"finished": 0, "aborted": ABORTED}.get(str(handle.state), NOT_FINISHED)


def _wait(handle: RunHandle) -> bool:
    """Wait for the run's end, and return whether it was interrupted."""
    try:
        handle.wait()
    except KeyboardInterrupt:
        try:
            tell("stopping: the running tasks are being ended (Ctrl-C again leaves at once)")
            handle.stop()
            handle.wait()
        except KeyboardInterrupt:
            # The kernels' parent dies, and they with it; the database tells that the driver is gone.
            os._exit(INTERRUPTED)
        return True
    return False


@contextmanager
def _other_signals_as_interrupts() -> Iterator[None]:
    """Let a polite request to end, and a terminal that goes away, do what Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    # Under nohup, SIGHUP is ignored, and shall be.
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_json(handle: RunHandle) -> dict[str, Any]:
    return {**run_json(handle.run), "tasks": [task_json(task) for task in handle.tasks],
            "pictures": [str(path) for path in handle.pictures], "notes": handle.notes}  # fmt: skip


def _say_results(handle: RunHandle) -> None:
    """Print the results as a table, what did not finish, and the commands that look further."""
    elbow = next((plot.elbow for plot in handle.plan.template.options.plots), None)
    collection = handle.collection() if runs.notebooks(handle.run, handle.tasks) else None
    knee = _knee(collection, elbow) if collection and elbow else None
    if collection:
        say_results(collection.to_dict(), knee_of=elbow.x if elbow else None, knee=knee)
        say()
    counts = Counter(str(task.state).replace("_", " ") for task in handle.tasks)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    took = max((task.attempt.seconds or 0 for task in handle.tasks if task.attempt), default=0)
    say(f"{told}; the longest task took {seconds(took)}")
    if knee is not None and elbow is not None:
        say(f"the knee of {elbow.y} is at {elbow.x} = {cell(int(knee) if knee == int(knee) else knee)}")
    for path in handle.pictures:
        say(f"picture: {_relative(path)}")
    for note in handle.notes:
        say(f"note: {note}")
    _say_next(handle, collection, _axes(handle, elbow))


def _say_next(handle: RunHandle, collection: NotebookCollection | None, axes: dict[str, str]) -> None:
    short = handle.id[:6]
    say(f"\nNext:\n  nbgrid status {short}")
    if collection is None:
        return
    say(f"  nbgrid collect {short} --format csv -o {handle.run.prefix.split('/')[-1]}.csv")
    if {"x", "y"} <= axes.keys() and _can_be_drawn(collection, axes["x"], axes["y"]):
        options = "".join(f" --{name} {tag}" for name, tag in axes.items() if tag != _DEFAULT_AXES.get(name))
        say(f"  nbgrid plot {short}{options}")


def _axes(handle: RunHandle, declared: ElbowPlot | None) -> dict[str, str]:
    """Return the options with which `plot` would draw this run, as far as its tags tell."""
    tags = handle.plan.template.result_tags
    names = {tag.replace("-", "_"): tag for tag in tags}
    x = declared.x if declared else next((names.get(name, name) for name in handle.tasks[0].point), None)
    times = [tag for tag in tags if tag in {"elapsed", "seconds", "time", "duration"}]
    y = declared.y if declared else next((tag for tag in tags if tag not in {x, *times}), None)
    time = declared.time if declared else next(iter(times), None)
    return {name: tag for name, tag in (("x", x), ("y", y), ("time", time)) if tag is not None}


def _can_be_drawn(collection: NotebookCollection, x: str, y: str) -> bool:
    try:
        return len(collection.curve(x, y).x) > 1
    except (KeyError, NbgridError):
        return False


def _knee(collection: NotebookCollection, elbow: ElbowPlot) -> float | None:
    from nbgrid.knee import knee

    try:
        curve = collection.curve(elbow.x, elbow.y)
    except (KeyError, NbgridError):
        return None
    return knee(curve.x, curve.y)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
