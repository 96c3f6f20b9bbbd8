"""What the commands print: tables for people, JSON for programs, and nothing more once nobody reads."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO

SHOWN_ROWS = 40


def say(text: str = "", file: TextIO | None = None) -> None:
    """Print *text*; once nobody reads any more, do nothing, so that a closed pipe does not end a run."""
    with suppress(BrokenPipeError, ValueError):
        print(text, file=file or sys.stdout, flush=True)


def say_json(value: Any) -> None:
    """Print *value* as JSON."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str))  # noqa: T201


def say_table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, marked: int | None = None) -> None:
    """
    Print *rows* under *header*, in the width of the terminal where there is one; the row *marked* is pointed at.

    Numbers are aligned to the right. Of many rows only the first and last are shown, and how many are left out.
    """
    body = [[cell(value) for value in row] for row in rows]
    numeric = [all(_is_number(row[place]) for row in body) for place in range(len(header))]
    head = [*header]
    if marked is not None:
        head, numeric = ["", *head], [False, *numeric]
        body = [["▶" if place == marked else "", *row] for place, row in enumerate(body)]
    widths = [max(map(len, column)) for column in zip(head, *body)] if body else list(map(len, head))
    for place, row in enumerate([head, *_shortened(body)]):
        if row is None:
            say(f"… {len(body) - SHOWN_ROWS} more …")
            continue
        cells = [text.rjust(width) if right else text.ljust(width) for text, width, right in zip(row, widths, numeric)]
        say("  ".join(cells).rstrip())
        if place == 0:
            say("  ".join(("─" if name else " ") * width for name, width in zip(head, widths)))


def cell(value: Any) -> str:
    """Return *value* as a table shows it, on one line."""
    if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e5 else f"{value:.1f}"
    text = value if isinstance(value, str) else str(value)
    text = "".join(character if character.isprintable() else "�" for character in text.replace("\n", " "))
    return text if len(text) <= 60 else text[:59] + "…"


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


def _is_number(text: str) -> bool:
    return not text or text.replace(",", "").replace(" MB", "").lstrip("+-").replace(".", "", 1)[:1].isdigit()


def _shortened(rows: list[list[str]]) -> Iterable[list[str] | None]:
    if len(rows) <= SHOWN_ROWS:
        return rows
    return [*rows[: SHOWN_ROWS - 5], None, *rows[-5:]]
