"""What an entry of the corpus is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nbgrid.typing import Cell, Notebook


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A notebook that every engine executes with the same outputs."""

    name: str
    text: str
    """Its cells, each below a line `# %%`; what stands on that line are tags, and `[markdown]` or `[raw]`."""
    shows: tuple[str, ...]
    """Words that its outputs must hold: two empty notebooks are equal too."""
    needs: tuple[str, ...] = ()
    """The modules without which it is skipped."""
    varies: tuple[str, ...] = ()
    """Expressions of what may differ from one execution to the next, besides paths and addresses in memory."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What lies in its folder before it starts."""
    state: str = "finished"
    """How it must end."""
    fallback: str = ""
    """Why an engine other than `kernel` hands it to `kernel`; empty if it has to execute it itself."""

    def notebook(self) -> Notebook:
        """Return it as a notebook that has not been executed."""
        cells = [copy.deepcopy(cell) for cell in _cells(self.text)]
        return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}


def _cells(text: str) -> Iterator[Cell]:
    for number, part in enumerate(("\n" + text.strip()).split("\n# %%")[1:]):
        head, _, source = part.partition("\n")
        kind = next((kind for kind in ("markdown", "raw") if f"[{kind}]" in head), "code")
        tags = [word for word in head.split() if not word.startswith("[")]
        cell = {"cell_type": kind, "id": f"cell{number}", "metadata": {"tags": tags}, "source": source.strip("\n")}
        yield cell | {"outputs": [], "execution_count": None} if kind == "code" else cell
