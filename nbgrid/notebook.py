"""
Notebooks in and out, and cells found by tag or marker.

A notebook is plain dictionaries and lists (`typing.Notebook`). Reading needs `json` alone; nbformat, whose import costs
a second where JupyterLab is installed, is loaded only for files older than nbformat 4.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from nbgrid.errors import NotebookError
from nbgrid.typing import Cell, Notebook

MAX_BYTES = 256 * 2**20
"""Larger files are refused: no person reads such a notebook, and its JSON would take gigabytes of memory."""

_MARKER = re.compile(r"#\s*PARAMETERS?\s*(#.*)?$", re.IGNORECASE)

SKIPPED = "skip-execution"
"""The tag of cells that are not executed."""


def read_notebook(path: str | Path) -> Notebook:
    """
    Return the notebook in the file at *path*.

    Raises `NotebookError`, with the file and the reason, for whatever is not a whole notebook.
    """
    return parse_notebook(notebook_file(path), str(path))


def notebook_file(path: str | Path) -> bytes:
    """Return the bytes of the file at *path*; raise `NotebookError` for what cannot be read, or is no file."""
    try:
        # A pipe or a device could keep its reader for ever.
        if stat.S_ISREG(Path(path).stat().st_mode):
            with Path(path).open("rb") as file:
                return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotebookError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the path
        raise NotebookError(f"{str(path)!r}: {error}") from None
    raise NotebookError(f"{path}: a folder or a device, and no notebook")


def parse_notebook(data: bytes, where: str) -> Notebook:
    """
    Return the notebook that *data* spells; *where* names it in messages.

    Older formats (1 to 3) are brought to format 4 by nbformat; multi-line strings are joined; a missing list of
    outputs or a missing metadata mapping is filled in, as Jupyter does.
    """
    if not data.strip():
        raise NotebookError(f"{where}: the file is empty, so it is no notebook")
    if len(data) > MAX_BYTES:
        raise NotebookError(f"{where}: larger than the {MAX_BYTES // 2**20} MB that nbgrid reads")
    try:
        # Some writers leave NaN bare, which is not JSON: it is kept as text rather than refused.
        raw = json.loads(data.decode("utf-8-sig"), parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise NotebookError(f"{where}: not a notebook: {_json_reason(error)}") from None
    if not isinstance(raw, dict) or type(raw.get("nbformat")) is not int:
        raise NotebookError(f"{where}: not a notebook: there is no nbformat version in it")
    if raw["nbformat"] < 4:
        raw = _upgrade(raw, where)
    if raw["nbformat"] > 4:
        raise NotebookError(f"{where}: nbformat {raw['nbformat']} is newer than nbgrid knows (4)")
    return _normalise(raw, where)


def notebook_bytes(notebook: Notebook) -> bytes:
    """
    Return *notebook* as Jupyter writes it: UTF-8, one space of indent, a newline at the end.

    A NaN or an infinity in an output becomes null, as in a browser's JSON.
    """
    split = _split_lines(notebook)
    write = partial(json.dumps, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True)
    try:
        text = write(split)
    except ValueError:
        text = write(_finite(split))
    return (text + "\n").encode("utf-8", "backslashreplace")


def tags(cell: Cell) -> list[str]:
    """Return the tags of *cell*, in their order."""
    found = cell["metadata"].get("tags", [])
    return [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []


def code_cells(notebook: Notebook) -> Iterator[tuple[int, Cell]]:
    """Yield the index and the cell of each code cell that has source."""
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and cell["source"].strip():
            yield index, cell


def has_parameters_marker(cell: Cell) -> bool:
    """Tell whether *cell*'s first line with anything on it is the comment `# PARAMETERS`."""
    lines = cell["source"].lstrip().splitlines()
    return bool(lines) and bool(_MARKER.match(lines[0].strip()))


def kernel_name(notebook: Notebook) -> str | None:
    """Return the name of the kernel that *notebook* asks for, or None if it does not say."""
    spec = notebook["metadata"].get("kernelspec")
    name = spec.get("name") if isinstance(spec, dict) else None
    return name if isinstance(name, str) and name else None


def language(notebook: Notebook) -> str:
    """Return the language of *notebook* in lower case; Python where it does not say."""
    metadata = notebook["metadata"]
    for key, field in (("kernelspec", "language"), ("language_info", "name")):
        place = metadata.get(key)
        if isinstance(place, dict) and isinstance(place.get(field), str):
            return str(place[field]).lower()
    return "python"


def new_cell(notebook: Notebook, source: str, cell_tags: list[str]) -> Cell:
    """Return a code cell fit for *notebook*: its id, where the format has ids, follows from the source alone."""
    cell: Cell = {
        "cell_type": "code", "execution_count": None, "metadata": {"tags": cell_tags}, "outputs": [], "source": source,
    }  # fmt: skip
    if notebook["nbformat_minor"] >= 5:
        cell["id"] = "nbgrid-" + hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()[:12]
    return cell


def _json_reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"invalid JSON at line {error.lineno} ({error.msg})"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _upgrade(raw: dict[str, Any], where: str) -> dict[str, Any]:
    import nbformat

    try:
        plain: dict[str, Any] = json.loads(json.dumps(nbformat.convert(nbformat.from_dict(raw), 4)))
        for cell in plain["cells"]:
            cell.pop("id", None)  # drawn at random, and reading twice must give the same
    except Exception as error:  # noqa: BLE001  nbformat raises whatever a broken old file makes it stumble over
        raise NotebookError(f"{where}: no whole notebook of nbformat {raw['nbformat']} ({error!r})") from None
    return plain


def _normalise(raw: dict[str, Any], where: str) -> Notebook:
    cells = raw.get("cells")
    if not isinstance(cells, list):
        raise NotebookError(f"{where}: not a notebook: it has no list of cells")
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), dict) else {}
    minor = raw.get("nbformat_minor")
    notebook: Notebook = {
        "cells": [_cell(cell, index, where) for index, cell in enumerate(cells)],
        "metadata": metadata,
        "nbformat": 4,
        "nbformat_minor": minor if type(minor) is int and minor >= 0 else 0,
    }
    if notebook["nbformat_minor"] >= 5:
        _fill_ids(notebook["cells"])
    return notebook


def _cell(cell: Any, index: int, where: str) -> Cell:
    """Return *cell*, freshly read and so ours to change, with its multi-line strings joined and nothing missing."""
    kind = cell.get("cell_type") if isinstance(cell, dict) else None
    if kind not in ("code", "markdown", "raw"):
        raise NotebookError(f"{where}: cell {index + 1} is no code, markdown or raw cell")
    source = cell.get("source", "")
    if type(source) is not str:
        source = _joined(source, index, where)
    cell["source"] = source
    if type(cell.get("metadata")) is not dict:
        cell["metadata"] = {}
    if kind == "code":
        cell["outputs"] = _outputs(cell.get("outputs"))
        cell.setdefault("execution_count", None)
    return cell  # type: ignore[no-any-return]


def _joined(text: Any, index: int, where: str) -> str:
    if isinstance(text, list) and all(isinstance(line, str) for line in text):
        return "".join(text)
    raise NotebookError(f"{where}: the source of cell {index + 1} is no text")


def _outputs(outputs: Any) -> list[dict[str, Any]]:
    if type(outputs) is not list:
        return []
    kept = [out for out in outputs if type(out) is dict]
    for out in kept:
        if type(out.get("text")) is list:
            out["text"] = "".join(map(str, out["text"]))
        data = out.get("data")
        if type(data) is dict:
            for kind, value in data.items():
                if type(value) is list and not _is_json(kind):
                    data[kind] = "".join(map(str, value))
    return kept


def _is_json(kind: str) -> bool:
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _fill_ids(cells: list[Cell]) -> None:
    """Give each cell without an id of its own one that follows from its place: reading twice gives the same."""
    taken = {cell["id"] for cell in cells if isinstance(cell.get("id"), str)}
    seen: set[str] = set()
    for index, cell in enumerate(cells):
        own = cell.get("id")
        if not isinstance(own, str) or own in seen:
            own = next(name for name in _names_for(index) if name not in taken)
            cell["id"] = own
            taken.add(own)
        seen.add(own)


def _names_for(index: int) -> Iterator[str]:
    yield f"cell-{index}"
    yield from (f"cell-{index}-{number}" for number in count(1))


def _split_lines(notebook: Notebook) -> Notebook:
    """Return *notebook* with multi-line strings as lists of lines, the way Jupyter stores them."""
    return {**notebook, "cells": [_split_cell(cell) for cell in notebook["cells"]]}


def _split_cell(cell: Cell) -> Cell:
    split = {**cell, "source": cell["source"].splitlines(keepends=True)}
    if cell["cell_type"] == "code":
        split["outputs"] = [_split_output(out) for out in cell["outputs"]]
    return split


def _split_output(output: dict[str, Any]) -> dict[str, Any]:
    split = dict(output)
    if isinstance(split.get("text"), str):
        split["text"] = split["text"].splitlines(keepends=True)
    if isinstance(split.get("data"), dict):
        split["data"] = {
            kind: value.splitlines(keepends=True) if isinstance(value, str) and _has_lines(kind) else value
            for kind, value in split["data"].items()
        }
    return split


def _has_lines(kind: str) -> bool:
    return not kind.startswith("image/") and not _is_json(kind)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
