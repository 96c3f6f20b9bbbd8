"""The commands that begin things: `run`, `plan`, `init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nbgrid.cli import BAD_INPUT, split_pair
from nbgrid.cli._output import say, say_json, say_table, tell
from nbgrid.errors import InputError

if TYPE_CHECKING:
    from nbgrid.plan import Plan
    from nbgrid.states import Task

TemplatePath = Annotated[Path, typer.Argument(metavar="NOTEBOOK", show_default=False)]
GridOption = Annotated[
    list[str] | None,
    typer.Option(
        "--grid", metavar="NAME=VALUES", help="A grid in place of the notebook's: 1..20, [1, 2] or a,b. Repeatable."
    ),
]
ParametersOption = Annotated[
    list[str] | None,
    typer.Option(
        "-p", "--parameters", metavar="NAME VALUE", help="Fix a parameter, typed as in YAML; NAME:= takes JSON."
    ),
]
RawOption = Annotated[
    list[str] | None, typer.Option("-r", "--parameters-raw", metavar="NAME VALUE", help="Fix a parameter to text.")
]
FileOption = Annotated[
    Path | None, typer.Option("-f", "--parameters-file", help="A YAML file of fixed parameters.", show_default=False)
]
PrefixOption = Annotated[str | None, typer.Option(help="The folder of the results, below the working directory.")]
KernelOption = Annotated[str | None, typer.Option("-k", "--kernel", help="The kernel, in place of the notebook's.")]
ShareOption = Annotated[
    Literal["tagged", "auto"],
    typer.Option(help="Cells executed once for all tasks: those tagged shared, or all that provably can be."),
]
MaxPointsOption = Annotated[int | None, typer.Option(min=1, help="Refuse a grid of more points (default 10 000).")]


def run(
    notebook: TemplatePath,
    grid: GridOption = None,
    parameters: ParametersOption = None,
    parameters_raw: RawOption = None,
    parameters_file: FileOption = None,
    prefix: PrefixOption = None,
    kernel: KernelOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers of the embedded cluster (default: cores).")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="An existing Dask cluster's scheduler.")
    ] = None,
    executor: Annotated[Literal["dask", "serial"], typer.Option(help="serial: one task after another.")] = "dask",
    engine: Annotated[
        Literal["auto", "fork", "kernel"], typer.Option(help="How one notebook is executed: auto forks where it can.")
    ] = "auto",
    share: ShareOption = "tagged",
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds that one cell may take.")] = None,
    retries: Annotated[int | None, typer.Option(min=0, help="More attempts for a task that did not finish.")] = None,
    verify: Annotated[
        int, typer.Option(min=0, help="Execute so many tasks again from scratch, and compare their results.")
    ] = 0,
    max_points: MaxPointsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and start nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run and its tasks as JSON.")] = False,
) -> None:
    """Run a notebook once for every point of its grid."""
    common: dict[str, Any] = {
        "grid": _grid(grid), "parameters": _parameters(parameters, parameters_raw, parameters_file), "prefix": prefix,
        "kernel": kernel, "share": share, "max_points": max_points,
    }  # fmt: skip
    if dry_run:
        return _show_plan(notebook, common, as_json=as_json)
    from nbgrid import runs
    from nbgrid.cli._follow import follow
    from nbgrid.cli._imports import load_quickly

    load_quickly()
    handle = runs.start(
        notebook, **common, workers=workers, scheduler=scheduler, executor=executor, engine=engine, timeout=timeout,
        retries=retries, verify=verify,
    )  # fmt: skip
    raise typer.Exit(follow(handle, as_json=as_json))


def plan(
    notebook: TemplatePath,
    grid: GridOption = None,
    parameters: ParametersOption = None,
    parameters_raw: RawOption = None,
    parameters_file: FileOption = None,
    prefix: PrefixOption = None,
    kernel: KernelOption = None,
    share: ShareOption = "tagged",
    max_points: MaxPointsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show what `run` would do: count, names, first and last points. Nothing runs."""
    common: dict[str, Any] = {
        "grid": _grid(grid), "parameters": _parameters(parameters, parameters_raw, parameters_file), "prefix": prefix,
        "kernel": kernel, "share": share, "max_points": max_points,
    }  # fmt: skip
    _show_plan(notebook, common, as_json=as_json)


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", show_default=False)] = Path(),
) -> None:
    """Write a template and an analysis notebook to start from."""
    from importlib.resources import files

    source = files("nbgrid") / "templates"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("cluster.ipynb", "analysis.ipynb"):
        target = folder / name
        if target.exists():
            raise InputError(f"{target} exists already: nothing was written over it")
    for name in ("cluster.ipynb", "analysis.ipynb"):
        content = _shipped(source, name)
        (folder / name).write_bytes(content)
        say(f"wrote {folder / name}")
    say(f"\nNext: nbgrid run {folder / 'cluster.ipynb'}")


def _shipped(source: Any, name: str) -> bytes:
    """Return a notebook that ships: inside the wheel, or, in a checkout, from where it is written."""
    if (source / name).is_file():
        return bytes((source / name).read_bytes())
    checkout = Path(__file__).parents[2]
    places = {"cluster.ipynb": checkout / "templates", "analysis.ipynb": checkout / "docs" / "tutorials"}
    return (places[name] / name).read_bytes()


def _grid(given: list[str] | None) -> dict[str, Any] | None:
    """Return the grid that `--grid NAME=VALUES` options spell."""
    if not given:
        return None
    from nbgrid.strictyaml import load

    grid: dict[str, Any] = {}
    for entry in given:
        name, equals, text = entry.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise InputError(f"--grid {entry}: write NAME=VALUES, as in --grid n_clusters=1..20")
        if name in grid:
            raise InputError(f"--grid {name} is given twice: put all its values into one, as in {name}=1,2,3")
        is_list = "," in text and text.lstrip()[:1] not in {"[", "{"}
        grid[name.strip()] = load(f"[{text}]" if is_list else text, f"--grid {entry}")
    return grid


def _parameters(given: list[str] | None, raw: list[str] | None, file: Path | None) -> dict[str, Any]:
    """Return the fixed parameters: the file's, then `-p`, then `-r`; later ones win, as in papermill."""
    from nbgrid.parameters import from_text
    from nbgrid.strictyaml import load

    parameters: dict[str, Any] = {}
    if file is not None:
        try:
            read = load(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: {error}") from None
        if not isinstance(read, dict):
            raise InputError(f"{file}: write one parameter a line, as in `n_clusters: 5`")
        parameters |= read
    parameters |= dict(from_text(*split_pair(pair)) for pair in given or ())
    return parameters | dict(split_pair(pair) for pair in raw or ())


# -- plan ---------------------------------------------------------------------------------------------------------------


def _show_plan(notebook: Path, common: dict[str, Any], *, as_json: bool) -> None:
    from nbgrid import runs
    from nbgrid.parameters import encode

    planned = runs.plan(notebook, **common)
    first, last = planned.first_and_last()
    if as_json:
        say_json({
            "template": str(planned.template.path), "prefix": planned.prefix, "output_root": str(planned.output_root),
            "kernel": planned.kernel, "tasks": planned.count, "parameters": encode(dict(planned.parameters)),
            "result_tags": planned.template.result_tags,
            "shared": [index + 1 for index in planned.sharing.cells],
            "not_shared": {index + 1: why for index, why in planned.sharing.reasons.items()},
            "problems": list(planned.problems),
            "first": [_planned(task) for task in first], "last": [_planned(task) for task in last],
        })  # fmt: skip
    else:
        _say_plan(planned, first, last)
    if planned.problems:
        raise typer.Exit(BAD_INPUT)


def _planned(task: Task) -> dict[str, Any]:
    from nbgrid.parameters import encode

    return {"name": task.name, "point": encode(dict(task.point)), "output": task.output}


def _say_plan(planned: Plan, first: list[Task], last: list[Task]) -> None:
    from nbgrid.parameters import shown

    over = f" over {', '.join(planned.grid.names)}" if planned.grid else ""
    say(f"{planned.template.path.name}: {planned.count:,} task{'s' if planned.count != 1 else ''}{over}")
    for name, value in planned.parameters.items():
        say(f"  {name} = {shown(value)}  ({type(value).__name__}, fixed)")
    say(f"  kernel {planned.kernel}; results in {planned.output_root / planned.prefix / 'output'}")
    if shared := planned.sharing.cells:
        numbers = ", ".join(str(index + 1) for index in shared)
        say(f"  executed once for all tasks, where kernels are forked: cell{'s'[: len(shared) > 1]} {numbers}")
    for index, why in planned.sharing.reasons.items():
        say(f"  executed in every task: cell {index + 1}, since it {why}")
    say(f"  result tags: {', '.join(planned.template.result_tags) or 'none, so there will be nothing to compare'}\n")
    rows = [(task.name, _point(task), Path(task.output).name) for task in first]
    left_out = planned.count - len(first) - len(last)
    if left_out > 0:
        rows.append((f"… {left_out:,} more …", "", ""))
    rows += [(task.name, _point(task), Path(task.output).name) for task in last]
    say_table(("task", "parameters", "notebook"), rows)
    for problem in planned.problems:
        tell(f"nbgrid: {problem}")


def _point(task: Task) -> str:
    from nbgrid.parameters import shown

    return " ".join(f"{name}={shown(value, 24)}" for name, value in task.point.items())
