"""
The `nbgrid` command. Each group of commands is a file; errors become words and exit codes here, and nowhere else.

Exit codes: 0 all finished, 1 a task did not, 2 bad input, 3 store or database, 4 aborted, 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from nbgrid.cli._output import tell
from nbgrid.errors import DatabaseError, InputError, NbgridError, StoreError

NOT_FINISHED, BAD_INPUT, NO_STORE, ABORTED, INTERRUPTED = 1, 2, 3, 4, 130

# papermill's flags take two words; Typer knows no list of pairs, so the two travel as one, with this between them.
_PAIRS = {"-p", "--parameters", "-r", "--parameters-raw"}
_BETWEEN = "\x1f"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that *arguments* (default: the process's own) spell, and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # closed, or not a stream of text
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that lacks a letter shows `?`
    with warnings.catch_warnings():
        warnings.showwarning = _noted  # type: ignore[assignment]  # Python lets it be replaced
        code = _code([word for word in given if word != "--debug"], debug="--debug" in given)
    if arguments is None:  # the process ends here: collecting its garbage once more would take a quarter of a second
        gc.disable()
        gc.freeze()
    sys.exit(code)


def split_pair(text: str) -> tuple[str, str]:
    """Return the two words that travelled as one."""
    name, between, value = text.partition(_BETWEEN)
    if not between:
        raise InputError(f"{text}: -p and -r stand apart from the two words that they take: -p NAME VALUE")
    return name, value


def _code(arguments: list[str], *, debug: bool) -> int:
    import typer

    try:
        return _call(_paired(arguments))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the one place where errors become words
        if debug:
            tell("".join(traceback.format_exception(error)).rstrip())
        return _spoken(error)


def _call(arguments: list[str]) -> int:
    from nbgrid.cli._app import app

    result = app(arguments or ["--help"], standalone_mode=False, prog_name="nbgrid")
    return int(result or 0)


def _spoken(error: Exception) -> int:
    usage = getattr(error, "format_message", None)  # Typer's own errors: of the words that were typed
    if usage is not None:
        command = getattr(getattr(error, "ctx", None), "command_path", "nbgrid")
        tell(f"{command}: {usage().rstrip('.')}; `{command} --help` shows what it takes")
        return BAD_INPUT
    if isinstance(error, NbgridError | MemoryError | OSError):
        tell(f"nbgrid: {error or type(error).__name__}")
    else:
        tell(f"nbgrid: {type(error).__name__}: {error} (this is a mistake in nbgrid; --debug shows where)")
    if isinstance(error, InputError):
        return BAD_INPUT
    return NO_STORE if isinstance(error, StoreError | DatabaseError | OSError) else NOT_FINISHED


def _fill_closed_streams() -> None:
    """Open what was closed of the three standard streams, so that no socket of ours takes its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _noted(message: Any, *_: Any) -> None:
    tell(f"note: {message}")


def _paired(arguments: list[str]) -> list[str]:
    paired, rest = [], iter(arguments)
    for word in rest:
        paired.append(word)
        if word == "--":
            paired += rest
        elif word in _PAIRS:
            name, value = next(rest, None), next(rest, None)
            if name is None or value is None:
                raise InputError(f"{word} takes two words: {word} NAME VALUE")
            paired.append(f"{name}{_BETWEEN}{value}")
    return paired
