"""
The `nbgrid` command. Each group of commands is a file; errors become words and exit codes here, and nowhere else.

Exit codes: 0 all finished, 1 a task did not, 2 bad input, 3 store or database, 4 aborted, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from nbgrid.errors import DatabaseError, InputError, NbgridError, StoreError

NOT_FINISHED, BAD_INPUT, NO_STORE, ABORTED, INTERRUPTED = 1, 2, 3, 4, 130

# papermill's flags take two words; Typer knows no list of pairs, so the two travel as one, with this between them.
_PAIRS = {"-p", "--parameters", "-r", "--parameters-raw"}
_BETWEEN = "\x1f"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that *arguments* (default: the process's own) spell, and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        code = _call(_paired([word for word in given if word != "--debug"]))
    except BrokenPipeError:
        # Whoever read our output has left; that is no failure. What Python still wants to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (NbgridError, MemoryError, OSError) as error:
        if debug:
            raise
        code = _spoken(error)
    sys.exit(code)


def split_pair(text: str) -> tuple[str, str]:
    """Return the two words that travelled as one."""
    name, _, value = text.partition(_BETWEEN)
    return name, value


def _call(arguments: list[str]) -> int:
    from nbgrid.cli._app import app

    result = app(arguments, standalone_mode=True, prog_name="nbgrid") if arguments else app(["--help"], prog_name="nbgrid")
    return int(result or 0)


def _spoken(error: BaseException) -> int:
    sys.stdout.flush()
    print(f"nbgrid: {error}", file=sys.stderr)  # noqa: T201  the one place where errors become words
    if isinstance(error, InputError):
        return BAD_INPUT
    return NO_STORE if isinstance(error, StoreError | DatabaseError | OSError) else NOT_FINISHED


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
