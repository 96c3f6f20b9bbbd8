"""The command and its groups; a command's own imports wait until it runs, so that `--help` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from nbgrid import __version__
from nbgrid.cli import look, results, start
from nbgrid.cli._output import say

app = typer.Typer(
    name="nbgrid", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run one notebook over a grid of parameters, and compare the results.",
    epilog="RUN is a run's id, the beginning of one, or @latest. --debug shows the traceback of an error.",
)  # fmt: skip


def _show_version(is_asked: bool) -> None:
    if is_asked:
        say(f"nbgrid {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


for command in (
    start.run,
    start.plan,
    start.init,
    look.status,
    look.list_runs,
    look.inspect,
    results.collect,
    results.plot,
):
    app.command(command.__name__.removesuffix("_runs"))(command)
