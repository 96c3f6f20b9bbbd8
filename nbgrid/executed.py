"""
One executed notebook: its record, whoever executed it, and its tagged results.

What nbgrid wrote into `metadata.nbgrid` comes first, then papermill's record, then what the outputs show. Reading needs
`json` alone; values are decoded when they are first asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbgrid.errors import NotebookError
from nbgrid.notebook import read_notebook, tags
from nbgrid.outputs import Gap, decode
from nbgrid.parameters import decode as decode_parameter
from nbgrid.typing import Cell, Notebook

_NO_RESULT = re.compile(r"parameters|injected-parameters|shared|raises-exception|skip-execution|(hide|remove)[-_].*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedNotebook:
    """One executed notebook: what is recorded about it, and the values of its tagged cells."""

    path: Path
    parameters: dict[str, Any] = field(default_factory=dict)
    """The point's, then the fixed ones; of papermill's notebooks those that papermill recorded."""
    state: str | None = None
    """As recorded; without a record "failed" where a cell raised, else None: nobody knows."""
    reason: str | None = None
    """Why the notebook cannot be read or did not finish; None if it did."""
    seconds: float | None = None
    peak_memory: int | None = None
    """In bytes."""
    run: str | None = None
    task: str | None = None
    index: int | None = None
    """The point's place in the grid."""
    attempt: int | None = None
    cells: dict[str, Cell] = field(default_factory=dict, repr=False)
    """The last cell of each tag."""
    _decoded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def tags(self) -> list[str]:
        """The tags of its results, in their order."""
        return list(self.cells)

    def value(self, tag: str) -> Any:
        """Return the value of the cell with *tag*, or the `Gap` that stands for it."""
        if tag not in self._decoded:
            absent = self.reason if not self.cells and self.reason else f"no cell of the notebook has the tag {tag!r}"
            self._decoded[tag] = decode(self.cells[tag]) if tag in self.cells else Gap(absent)
        return self._decoded[tag]


def read_executed(path: Path) -> ExecutedNotebook:
    """
    Return the notebook at *path*.

    Never raises for a notebook that cannot be read: its `reason` says why, and it has no tags.
    """
    try:
        notebook = read_notebook(path)
    except NotebookError as error:
        return ExecutedNotebook(path=path, reason=str(error).removeprefix(f"{path}: "))
    # Only what may be asked for is kept: ten thousand whole notebooks would not fit into memory.
    cells = {
        tag: {"outputs": cell["outputs"], "execution_count": cell["execution_count"]}
        for cell in notebook["cells"] if cell["cell_type"] == "code"
        for tag in tags(cell) if not _NO_RESULT.fullmatch(tag)
    }  # fmt: skip
    record = _mapping(notebook["metadata"], "nbgrid")
    found = _recorded(record) if "point" in record or "state" in record else _unrecorded(notebook)
    return ExecutedNotebook(path=path, cells=cells, **found)


def _recorded(record: dict[str, Any]) -> dict[str, Any]:
    """Return what nbgrid wrote about a notebook, as fields of `ExecutedNotebook`."""
    state = _typed(record, "state", str)
    message = _typed(_mapping(record, "reason"), "message", str)
    return {
        "parameters": _parameters({**_mapping(record, "parameters"), **_mapping(record, "point")}, record),
        "state": state,
        "reason": None if state in {"finished", None} else f"{state}: {message}" if message else state,
        "seconds": _typed(record, "seconds", float, int),
        **{name: _typed(record, name, int) for name in ("peak_memory", "index", "attempt")},
        **{name: _typed(record, name, str) for name in ("run", "task")},
    }


def _unrecorded(notebook: Notebook) -> dict[str, Any]:
    """Return what papermill wrote about a notebook and what its outputs show."""
    papermill = _mapping(notebook["metadata"], "papermill")
    raised = _first_error(notebook)
    failed = papermill.get("exception") is True or raised is not None
    # papermill leaves null where nothing was raised; that alone says nothing, the end of the run does.
    finished = papermill.get("exception") in {None, False} and papermill.get("end_time")
    return {
        "parameters": _parameters(_mapping(papermill, "parameters"), {}),
        "state": "failed" if failed else "finished" if finished else None,
        "reason": f"failed: {raised or 'papermill says that a cell raised'}" if failed else None,
        "seconds": _typed(papermill, "duration", float, int),
    }


def _first_error(notebook: Notebook) -> str | None:
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and "raises-exception" not in tags(cell):
            for output in cell["outputs"]:
                if output.get("output_type") == "error" and isinstance(value := decode(cell), Gap):
                    return value.reason.replace("the cell", f"cell {index + 1}", 1)
    return None


def _parameters(values: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return *values* decoded, those of the point first."""
    names = [*_mapping(record, "point"), *values]
    try:
        return {name: decode_parameter(values[name]) for name in names}
    except (TypeError, RecursionError):
        # A record that nbgrid did not write: shown as it is.
        return {name: values[name] for name in names}


def _mapping(place: dict[str, Any], key: str) -> dict[str, Any]:
    value = place.get(key)
    return value if isinstance(value, dict) else {}


def _typed(place: dict[str, Any], key: str, *types: type) -> Any:
    value = place.get(key)
    return value if type(value) in types else None
