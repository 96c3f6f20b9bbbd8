"""The commands that read results back: `collect`, `plot`."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nbgrid.cli._output import cell, say, say_table, tell
from nbgrid.cli.look import RunArgument, find_run
from nbgrid.errors import InputError, StoreError

if TYPE_CHECKING:
    import pandas as pd

    from nbgrid.collection import NotebookCollection

Format = Literal["table", "csv", "json", "parquet"]
_FORMULA = re.compile(r"[=+\-@\t\r](?![0-9.]+$)")
# Columns of the frame that say where a row comes from: left out of the table, which is for looking.
_NOT_SHOWN = ("reason", "peak_memory", "task", "attempt", "run", "path")


def collect(
    run: Annotated[str, typer.Argument(metavar="[RUN|GLOB]", help="A run, or notebooks by pattern.")] = "@latest",
    format: Annotated[Format, typer.Option("--format", help="How to write the results.")] = "table",  # noqa: A002
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A file to write instead of the terminal.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Read the tagged results of a run, or of notebooks named by a pattern, as one table."""
    collection = _collection(run)
    chosen: Format = "json" if as_json else format
    if chosen == "table" and output is None:
        say_results(collection.to_dict())
        gaps = collection.gaps()
        for gap in gaps[:10]:
            tell(f"gap: {Path(str(gap.id)).name}{f', {gap.tag}' if gap.tag else ''}: {cell(gap.reason, limit=300)}")
        if len(gaps) > 10:
            tell(f"and {len(gaps) - 10} more gaps")
        return
    _write(collection.to_frame().reset_index(drop=True), chosen, output)


def plot(
    run: RunArgument = "@latest",
    kind: Annotated[Literal["elbow"], typer.Option(help="Which picture.")] = "elbow",
    x: Annotated[str, typer.Option(help="The tag or parameter along the axis.")] = "n-clusters",
    y: Annotated[str, typer.Option(help="The tag of the measure.")] = "sum-of-squares",
    time: Annotated[str | None, typer.Option(help="The tag of the seconds, or `seconds` for the task's own.")] = None,
    name: Annotated[str, typer.Option(help="The picture's file name, in the run's folder.")] = "elbow.png",
) -> None:
    """Draw the results of a run as a picture."""
    from nbgrid import runs

    if Path(name).name != name or not name.endswith(".png"):
        raise InputError(f"--name {name}: write a file name that ends in .png")
    found = find_run(run)
    say(str(runs.draw_elbow(found.run, found.tasks, x, y, time, name=name)))


def say_results(results: dict[str, list[Any]], *, knee_of: str | None = None, knee: float | None = None) -> None:
    """Print *results*, which has a list for each column; the row where the column *knee_of* is *knee* is pointed at."""
    shown = {name: values for name, values in results.items() if name not in _NOT_SHOWN}
    if all(state == "finished" for state in shown.get("state", ["failed"])):
        del shown["state"]
    for name in list(shown):  # a result that only repeats a parameter
        twin = name.removeprefix("result.").replace("-", "_")
        if twin != name and twin in shown and all(map(_is_same, shown[name], shown[twin])):
            del shown[name]
    marked = None
    if knee is not None and knee_of in results:
        marked = next((place for place, value in enumerate(results[knee_of]) if value == knee), None)
    say_table(list(shown), zip(*shown.values(), strict=True), marked=marked)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same, as far as they are plain."""
    return type(one) is type(other) and isinstance(one, int | float | str | None) and one == other


def _collection(name: str) -> NotebookCollection:
    from nbgrid import runs
    from nbgrid.collection import NotebookCollection

    path = Path(name)
    if any(character in name for character in "*?[") or name.endswith(".ipynb") or path.is_dir():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no notebooks in")  # said below
            collection = NotebookCollection(name)
        if not collection.notebooks:
            raise InputError(f"no notebook matches {name}")
        return collection
    found = find_run(name)
    return runs.collect(found.run, found.tasks)


def _write(frame: pd.DataFrame, chosen: Format, output: Path | None) -> None:
    if chosen == "parquet":
        if output is None:
            raise InputError("--format parquet needs a file: -o results.parquet")
        try:
            _plain(frame).to_parquet(output, index=False)
        except OSError as error:
            raise StoreError(f"{output}: {error.strerror or error}") from None
        return
    text = {
        "csv": lambda: _inert(_plain(frame)).to_csv(index=False),
        "json": lambda: _plain(frame).to_json(orient="records", indent=2) + "\n",
        "table": lambda: frame.to_string(index=False) + "\n",
    }[chosen]()
    if output is None:
        say(text, end="")
        return
    from nbgrid.stores import replace_file

    try:
        replace_file(output.absolute(), text.encode("utf-8"))
    except OSError as error:
        raise StoreError(f"{output}: {error.strerror or error}") from None


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return *frame* with what a file format has no type for as text."""
    plain = frame.copy()
    for name in plain.columns:
        if plain[name].dtype == object:
            plain[name] = [None if value is None else value if isinstance(value, int | float) else str(value)
                           for value in plain[name]]  # fmt: skip
    return plain


def _inert(frame: pd.DataFrame) -> pd.DataFrame:
    """Return *frame* with an apostrophe before text that a spreadsheet would take for a formula."""
    for name in frame.columns:
        if frame[name].dtype == object or str(frame[name].dtype) == "string":
            frame[name] = [f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
                           for value in frame[name]]  # fmt: skip
    return frame
