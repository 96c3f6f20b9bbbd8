"""The commands that look: `status`, `list`, `inspect`."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbgrid.cli import ABORTED, NOT_FINISHED
from nbgrid.cli._output import cell, megabytes, say, say_json, say_table, seconds, tell

if TYPE_CHECKING:
    from nbgrid.runs import Found
    from nbgrid.states import Run, Task

RunArgument = Annotated[
    str, typer.Argument(metavar="[RUN]", help="An id, the beginning of one, or @latest.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def status(
    run: RunArgument = "@latest",
    summary: Annotated[bool, typer.Option("--summary", "-s", help="Only how many tasks are in each state.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the tasks of a run: state, parameters, seconds. Exit code 1 if one did not finish."""
    found = find_run(run)
    counts = Counter(str(task.state) for task in found.tasks)
    if as_json:
        whole = {} if summary else {"tasks": [task_json(task) for task in found.tasks]}
        say_json({**run_json(found.run), "counts": dict(counts), **whole})
    elif summary:
        say_table(("status", "count"), list(counts.items()))
    else:
        _say_status(found)
    states = {str(found.run.state)}
    if "failed" in states or "aborted" in states:
        raise typer.Exit(NOT_FINISHED if "failed" in states else ABORTED)


def list_runs(as_json: JsonOption = False) -> None:
    """Show all runs, the newest first."""
    from nbgrid import runs

    rows = runs.listing(runs.open_database())
    if as_json:
        say_json([{**run_json(run), "counts": counts} for run, counts in rows])
        return
    if not rows:
        say("there are no runs yet: `nbgrid run NOTEBOOK` starts one")
        return
    say_table(
        ("run", "prefix", "state", "tasks", "finished", "started", "where"),
        [
            (run.id, run.prefix, str(run.state), sum(counts.values()), counts.get("finished", 0),
             _local(run.started), run.output_root)
            for run, counts in rows
        ],
    )  # fmt: skip


def _local(time: str) -> str:
    """Return the UTC *time* in the time zone of whoever looks."""
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M}"


def inspect(
    notebook: Annotated[Path, typer.Argument(metavar="NOTEBOOK", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show what nbgrid reads in a notebook: grid, parameters with their defaults, result tags; or how it was executed."""
    from nbgrid.executed import read_executed
    from nbgrid.parameters import encode
    from nbgrid.template import Template

    executed = read_executed(notebook)
    if executed.run is not None:
        return _inspect_executed(executed, as_json=as_json)
    template = Template.read(notebook)
    options = template.options.model_dump(mode="python", exclude={"grid", "prefix"})
    about: dict[str, Any] = {
        "prefix": template.prefix, "kernel": template.kernel, "language": template.language,
        "grid": encode(template.options.grid), "options": encode(options),
        "parameters": template.defaults, "result_tags": template.result_tags, "imports": sorted(template.imports()),
    }  # fmt: skip
    if as_json:
        return say_json(about)
    say(f"{notebook}: prefix {template.prefix}, kernel {template.kernel or 'not said'}, {template.language}")
    say(f"  grid         {about['grid'] if about['grid'] is not None else 'none'}")
    say(f"  result tags  {', '.join(template.result_tags) or 'none'}\n")
    say_table(("parameter", "default"), [(name, value or "(not plain)") for name, value in template.defaults.items()])
    return None


def _inspect_executed(executed: Any, *, as_json: bool) -> None:
    values = {tag: executed.value(tag) for tag in executed.tags}
    about = {
        "run": executed.run, "task": executed.task, "attempt": executed.attempt, "state": executed.state,
        "reason": executed.reason, "seconds": executed.seconds, "peak_memory": executed.peak_memory,
    }  # fmt: skip
    if as_json:
        results = {tag: repr(value) for tag, value in values.items()}
        say_json({**about, "parameters": {name: repr(value) for name, value in executed.parameters.items()},
                  "results": results})  # fmt: skip
        return
    rows = [*about.items(), *executed.parameters.items(), *values.items()]
    say_table(("what", "value"), [(name, value) for name, value in rows if value is not None])


def find_run(name: str) -> Found:
    """Return the run that *name* stands for, telling which one that is where the name leaves it open."""
    from nbgrid import runs

    found = runs.find(name, runs.open_database())
    if name in runs.NEWEST:
        elsewhere = " (no run lies below this folder: this is the newest of all)" if found.is_newest_of_all else ""
        tell(f"{name} is {found.run.id}, {found.run.prefix} in {found.run.output_root}{elsewhere}")
    return found


def run_json(run: Run) -> dict[str, Any]:
    """Return *run* for strict JSON."""
    return run.record()


def task_json(task: Task) -> dict[str, Any]:
    """Return *task* for strict JSON."""
    from nbgrid.parameters import encode

    attempt = task.attempt
    return {
        "taskid": task.id, "name": task.name, "runid": task.run, "status": str(task.state), "index": task.index,
        "parameters": encode(dict(task.point)), "reason": task.reason.message if task.reason else None,
        "attempt": attempt.number if attempt else 0, "seconds": attempt.seconds if attempt else None,
        "peak_memory": attempt.peak_memory if attempt else None, "worker": attempt.worker if attempt else None,
        "output": task.output, "digest": task.digest,
    }  # fmt: skip


def _say_status(found: Found) -> None:
    from nbgrid import runs

    names = list(dict.fromkeys(name for task in found.tasks for name in task.point))
    rows = [
        (task.id, task.name, task.run, str(task.state), *(task.point.get(name) for name in names),
         *((seconds(task.attempt.seconds), megabytes(task.attempt.peak_memory)) if task.attempt else ("", "")))
        for task in found.tasks
    ]  # fmt: skip
    say_table(("taskid", "name", "runid", "status", *names, "took", "memory"), rows)
    unfinished = [task for task in found.tasks if task.reason and str(task.state) != "finished"]
    for task in unfinished[:10]:
        say(f"\n{task.name}: {cell(str(task.reason), limit=300)}")
        # The notebook of a task that was cut short is kept as an attempt; of a lost one there may be none.
        attempt = Path(found.run.output_root, found.run.prefix, ".nbgrid/attempts", task.attempt_name)
        for place in [path for path in (*runs.notebooks(found.run, [task]), attempt) if path.is_file()][:1]:
            say(f"  {place}")
    if len(unfinished) > 10:
        say(f"\nand {len(unfinished) - 10} more")
    if str(found.run.state) == "finished":
        say(f"\nNext: nbgrid collect {found.run.id[:6]}")
