"""What the commands print: tables for people, JSON for programs, and nothing more once nobody reads."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

SHOWN_ROWS = 40
_NARROWEST = 8
_NUMBER = re.compile(r"|[-+]?[0-9][0-9,]*(\.[0-9]+)?(e[-+]?[0-9]+)?( (s|MB|min [0-9]+ s|h [0-9]+ min))?|[-+]?inf")


def say(text: str = "", end: str = "\n") -> None:
    """Print *text*; once nobody reads any more, do nothing, so that a closed pipe does not end a run."""
    _write(sys.stdout, text + end)


def tell(text: str) -> None:
    """Print *text* where messages go, so that what was asked for stands alone on the standard output."""
    _write(sys.stderr, f"{text}\n")


def say_json(value: Any) -> None:
    """Print *value* as JSON."""
    say(json.dumps(value, indent=2, allow_nan=False, default=str))


def say_table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, marked: int | None = None) -> None:
    """
    Print *rows* under *header*, in the width of the terminal where there is one; the row *marked* is pointed at.

    Numbers are aligned to the right. Of many rows only the first and last are shown, and how many are left out.
    """
    body = [[cell(value) for value in row] for row in rows]
    numeric = [all(_NUMBER.fullmatch(row[place]) for row in body) for place in range(len(header))]
    head = [*header]
    if marked is not None:
        head, numeric = ["", *head], [False, *numeric]
        body = [["▶" if place == marked else "", *row] for place, row in enumerate(body)]
    widths = _fitted([max(map(_columns, column)) for column in zip(head, *body)], numeric)
    for place, row in enumerate([head, *_shortened(body)]):
        if row is None:
            say(f"… {len(body) - SHOWN_ROWS} more …")
            continue
        cells = [_padded(text, width, right) for text, width, right in zip(row, widths, numeric)]
        say("  ".join(cells).rstrip())
        if place == 0:
            say("  ".join(("─" if name else " ") * width for name, width in zip(head, widths)))


def cell(value: Any, limit: int = 60) -> str:
    """Return *value* as a table shows it, on one line of at most *limit* characters."""
    if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.1f}" if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"
    text = value if isinstance(value, str) else str(value)
    text = "".join(character if character.isprintable() else "�" for character in text.replace("\n", " "))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def seconds(value: float | None) -> str:
    """Return a duration for a person."""
    if value is None:
        return ""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def megabytes(value: int | None) -> str:
    """Return an amount of memory for a person."""
    return "" if value is None else f"{value / 1e6:,.0f} MB"


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed before we began
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # Whoever read it has left. What Python still holds for it, and what is to come, goes nowhere.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except ValueError:  # closed meanwhile
        pass


def _columns(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _padded(text: str, width: int, right: bool) -> str:
    if _columns(text) > width:
        while _columns(text) >= width and text:
            text = text[:-1]
        text += "…"
    room = " " * (width - _columns(text))
    return room + text if right else text + room


def _fitted(widths: list[int], numeric: list[bool]) -> list[int]:
    """Return *widths* made to fit the terminal, if there is one, at the cost of the widest columns of text."""
    if sys.stdout is None or not sys.stdout.isatty():
        return widths
    fitted, room = [*widths], shutil.get_terminal_size().columns
    while sum(fitted) + 2 * (len(fitted) - 1) > room:
        widest = max(
            (place for place, is_number in enumerate(numeric) if not is_number), key=fitted.__getitem__, default=0
        )
        if numeric[widest] or fitted[widest] <= _NARROWEST:
            break
        fitted[widest] -= 1
    return fitted


def _shortened(rows: list[list[str]]) -> Iterable[list[str] | None]:
    if len(rows) <= SHOWN_ROWS:
        return rows
    return [*rows[: SHOWN_ROWS - 5], None, *rows[-5:]]
