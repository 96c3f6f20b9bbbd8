"""
Templates: the notebook that the user wrote, and the notebook that it becomes for one point.

Everything here is pure but `Template.read` and `Template.included`, which read files.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbgrid import notebook as notebooks
from nbgrid import source as python
from nbgrid.errors import TemplateError, UnknownParameterError
from nbgrid.options import Options, check_prefix, read_options
from nbgrid.parameters import canonical, check_name, check_value, literal, shown
from nbgrid.typing import Cell, JSONValue, Notebook, Point

MAX_INCLUDED_BYTES = 2**30
_VIEW_TAG = re.compile(r"(hide|remove|scroll|full)[-_]|injected-parameters$")


@dataclass(frozen=True)
class Template:
    """A notebook with a grid cell, a parameters cell and tagged cells; make one with `read` or `parse`."""

    path: Path
    """Where it lies, absolute."""
    content: bytes
    """The bytes of the file: every point of a run is made from these, whatever happens to the file meanwhile."""
    notebook: Notebook = field(repr=False)
    options: Options
    """What the grid cell says."""
    grid_cell: int | None
    """The index of the grid cell, or None if the notebook has none."""
    parameters_cell: int | None
    """The index of the parameters cell, or None if the notebook has none."""

    @classmethod
    def read(cls, path: str | Path) -> Template:
        """Return the template in the file at *path*; raise `NotebookError` or `TemplateError` for what is none."""
        return cls.parse(notebooks.notebook_file(path), path)

    @classmethod
    def parse(cls, content: bytes, path: str | Path) -> Template:
        """Return the template that the bytes *content* spell; *path* is where it lies, or would."""
        notebook = notebooks.parse_notebook(content, str(path))
        if not notebook["cells"]:
            raise TemplateError(f"{path}: the notebook is empty")
        grid_cell = 0 if notebook["cells"][0]["cell_type"] == "raw" else None
        options = Options()
        if grid_cell is not None:
            options = read_options(notebook["cells"][0]["source"], f"{path}, grid cell")
        place = _find_parameters_cell(notebook, path)
        return cls(Path(path).absolute(), content, notebook, options, grid_cell, place)

    @property
    def prefix(self) -> str:
        """The name of the runs made from it: the grid cell's `prefix`, else the file's stem made fit for a folder."""
        if self.options.prefix:
            return self.options.prefix
        stem = re.sub(r"[^\w.+=@-]+", "-", self.path.stem).encode()[:_LONGEST_STEM].decode(errors="ignore")
        try:
            return check_prefix(stem.strip("-._+=@"))
        except ValueError:  # nothing is left, or a device's name
            return "notebook"

    @property
    def kernel(self) -> str | None:
        """The name of the kernel that the notebook asks for."""
        return notebooks.kernel_name(self.notebook)

    @property
    def language(self) -> str:
        """The language of its code cells, in lower case."""
        return notebooks.language(self.notebook)

    @property
    def defaults(self) -> dict[str, str | None]:
        """
        The parameters: each name that the parameters cell assigns, with the text of its value where that is plain.

        Known for Python only; empty for other languages.
        """
        if self.parameters_cell is None or self.language != "python":
            return {}
        return python.assigned(self.notebook["cells"][self.parameters_cell]["source"])

    @property
    def result_tags(self) -> list[str]:
        """The tags whose outputs are results, in the order of their cells."""
        return list(dict.fromkeys(
            tag for _, cell in notebooks.code_cells(self.notebook) for tag in notebooks.tags(cell)
            if tag not in _MEANS_SOMETHING_ELSE and not _VIEW_TAG.match(tag)
        ))  # fmt: skip

    def imports(self) -> set[str]:
        """
        Return the packages that the code cells import for certain.

        Empty for other languages than Python, and for a notebook that installs packages or changes `sys.path` itself:
        what it will find cannot be told before it runs.
        """
        cells = [cell["source"] for _, cell in notebooks.code_cells(self.notebook)]
        if self.language != "python" or any(map(_CHANGES_WHAT_IS_THERE.search, cells)):
            return set()
        return {name for cell in cells for name in python.imports(cell)}

    def leading_imports(self) -> list[str]:
        """
        Return the import statements that no other statement of the code cells precedes, the parameters cell's apart.

        Empty for other languages than Python.
        """
        found: list[str] = []
        for index, cell in notebooks.code_cells(self.notebook):
            if self.language != "python" or index == self.parameters_cell or self._is_left_over(index, cell):
                continue
            statements, is_all = python.leading_imports(cell["source"])
            found += statements
            if not is_all:
                break
        return found

    def mentions(self, text: str) -> bool:
        """Return whether a code cell holds *text*."""
        return any(text in cell["source"] for _, cell in notebooks.code_cells(self.notebook))

    def included(self) -> dict[str, bytes]:
        """
        Return the files that the grid cell's `include` names, path relative to the template's folder → bytes.

        A folder means the files below it, but for the template itself, what an earlier run wrote there, and caches. Raises
        `TemplateError` for what does not exist, cannot be read or lies outside that folder.
        """
        folder = self.path.parent.resolve()
        try:
            files = {file for entry in self.options.include for file in self._included_files(folder, entry)}
            size = sum(file.stat().st_size for file in files)
            if size > MAX_INCLUDED_BYTES:
                raise TemplateError(
                    f"{self.path}: include: {size / 2**30:.1f} GB (limit 1 GB): let the notebook read it"
                )
            return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(files)}
        except (OSError, RuntimeError) as error:  # Python 3.11 raises RuntimeError for links that go in a circle
            raise TemplateError(f"{self.path}: include: {error}") from None

    def check_parameters(self, names: Iterable[str]) -> None:
        """
        Raise `UnknownParameterError` for the first of *names* that the parameters cell does not assign.

        A notebook of another language is not looked into: there the assignments cannot be told from other code.
        """
        names = list(names)
        if self.parameters_cell is None:
            if names:
                raise TemplateError(
                    f"{self.path}: no parameters cell: begin the code cell that assigns {', '.join(names)} "
                    "with the comment `# PARAMETERS`"
                )
            return
        if self.language != "python":
            return
        defaults = self.defaults
        for name in names:
            if check_name(name) not in defaults:
                raise UnknownParameterError(name, defaults, f"{self.path.name}, cell {self.parameters_cell + 1}")

    def render(self, point: Point) -> Notebook:
        """
        Return the notebook for *point*: its parameters cell filled in, no outputs, the grid cell as it was.

        In Python, the value of each plain assignment becomes the point's literal, so that assignments which depend on it
        are computed anew. Other parameters, and other languages, get a cell tagged `injected-parameters` after it, as
        papermill does; one from an earlier run goes. Rendering twice gives the same notebook. Raises what
        `check_parameters` raises, and `InputError` for a value that cannot be written.
        """
        point = {check_name(name): check_value(value, name) for name, value in point.items()}
        self.check_parameters(point)
        notebook = copy.deepcopy(self.notebook)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"], cell["execution_count"] = [], None
            cell["metadata"].pop("papermill", None)
            cell["metadata"].pop("execution", None)
        for key in ("papermill", "nbgrid", "widgets"):
            notebook["metadata"].pop(key, None)
        kept = [cell for index, cell in enumerate(notebook["cells"]) if not self._is_left_over(index, cell)]
        if self.parameters_cell is not None and point:
            self._fill(notebook, notebook["cells"][self.parameters_cell], kept, point)
        return {**notebook, "cells": kept}

    def digest(self, point: Point, included: Mapping[str, bytes], kernel: str) -> str:
        """
        Return the digest of what decides a task's results: two tasks of equal digest would run the same.

        It covers the sources and meaningful tags of the code cells, all parameters with their types, the included files
        and the kernel's name; not the grid cell, markdown or outputs.
        """
        cells = [
            [cell["source"], sorted(tag for tag in notebooks.tags(cell) if not _VIEW_TAG.match(tag))]
            for index, cell in notebooks.code_cells(self.notebook)
            if not self._is_left_over(index, cell)
        ]
        files = {name: hashlib.sha256(content).hexdigest() for name, content in included.items()}
        whole = json.dumps([1, cells, canonical(point), files, kernel], sort_keys=True)
        return "sha256:" + hashlib.sha256(whole.encode()).hexdigest()

    def _is_left_over(self, index: int, cell: Cell) -> bool:
        """Tell whether *cell* was injected by an earlier run, and would undo what is filled in now."""
        is_injected = cell["cell_type"] == "code" and "injected-parameters" in notebooks.tags(cell)
        return is_injected and self.parameters_cell is not None and index != self.parameters_cell

    def _fill(self, notebook: Notebook, cell: Cell, cells: list[Cell], point: Point) -> None:
        """Fill *point* into the parameters cell, one of *cells*, and put a cell with the rest after it."""
        filled: set[str] = set()
        if self.language == "python":
            literals = {name: literal(value) for name, value in point.items()}
            cell["source"], filled = python.fill(cell["source"], literals)
        left = {name: value for name, value in point.items() if name not in filled}
        _add_tags(cell, "parameters", *([] if left else ["injected-parameters"]))
        if left:
            injected = notebooks.new_cell(notebook, self._assignments(left), ["injected-parameters"])
            cells.insert(next(index for index, one in enumerate(cells) if one is cell) + 1, injected)

    def _assignments(self, values: Mapping[str, JSONValue]) -> str:
        """Return a cell that assigns *values*, in the notebook's language."""
        if self.language == "python":
            return "\n".join(["# Parameters", *(f"{name} = {literal(value)}" for name, value in values.items())])
        from papermill.translators import papermill_translators

        try:
            translator = papermill_translators.find_translator(
                self.kernel or "", _PAPERMILL.get(self.language, self.language)
            )
            return str(_truthful(translator, self.language).codify(dict(values)))
        except Exception as error:  # noqa: BLE001  translators raise NotImplementedError, PapermillException and others
            raise TemplateError(
                f"{self.path}: {', '.join(values)} cannot be written in {self.language}: {error}"
            ) from None

    def _included_files(self, folder: Path, entry: str) -> list[Path]:
        is_outside = Path(entry).is_absolute() or ".." in Path(entry).parts or entry.startswith("~")
        if is_outside or not entry or "\0" in entry:
            raise TemplateError(f"{self.path}: include: {entry!r} must lie in the notebook's folder or below it")
        try:
            found = [folder / entry] if (folder / entry).exists() else sorted(folder.glob(entry))
        except (ValueError, NotImplementedError) as error:
            raise TemplateError(f"{self.path}: include: {entry!r} is no pattern of file names: {error}") from None
        files = [file for path in found for file in ([path] if path.is_file() else self._below(folder, path))]
        for file in files:
            if not file.resolve().is_relative_to(folder):
                raise TemplateError(f"{self.path}: include: {entry!r} leads out of the notebook's folder by a link")
        files = [file for file in files if file.is_file()]
        if not files:
            raise TemplateError(f"{self.path}: include: there is no {entry!r} in {folder}")
        return files

    def _below(self, folder: Path, path: Path) -> list[Path]:
        """Return what lies below *path*, but for the template, caches, and the folders that runs write into."""
        paths = [one for one in path.rglob("*") if one.is_symlink() or one.is_file()]
        written = {one.parent for one in path.rglob(".nbgrid") if one.is_dir()}
        return [
            one for one in paths
            if one != folder / self.path.name
            and not _CACHES & set(one.relative_to(folder).parts) and not written & set(one.parents)
        ]  # fmt: skip


_CACHES = {"__pycache__", ".ipynb_checkpoints", ".git"}
_CHANGES_WHAT_IS_THERE = re.compile(r"\b(pip|conda) install\b|\bsys\.path\b")
_LONGEST_STEM = 100
_PAPERMILL = {"r": "R"}
"""Languages that papermill knows in other letters than lower case."""
_MEANS_SOMETHING_ELSE = {"parameters", "injected-parameters", "shared", "raises-exception", "skip-execution"}


def _add_tags(cell: Cell, *new: str) -> None:
    cell["metadata"] = {**cell["metadata"], "tags": list(dict.fromkeys([*notebooks.tags(cell), *new]))}


def _find_parameters_cell(notebook: Notebook, path: Any) -> int | None:
    """Return the index of the one parameters cell; raise `TemplateError` for two, or for one that is no Python."""
    cells = list(notebooks.code_cells(notebook))
    found = [index for index, cell in cells if "parameters" in notebooks.tags(cell)]
    marked = [(index, cell) for index, cell in cells if notebooks.has_parameters_marker(cell)]
    # papermill marks the cell that it injects, too.
    found = found or [index for index, cell in marked if "injected-parameters" not in notebooks.tags(cell)]
    found = found or [index for index, _ in marked]
    if len(found) > 1:
        numbers = " and ".join(str(index + 1) for index in found)
        raise TemplateError(f"{path}: cells {numbers} are both parameters cells: keep one")
    if not found:
        return None
    if notebooks.language(notebook) == "python":
        try:
            python.parse(notebook["cells"][found[0]]["source"])
        except SyntaxError as error:
            line = f", line {error.lineno}" if error.lineno else ""
            raise TemplateError(f"{path}: cell {found[0] + 1}, the parameters cell{line}: {error.msg}") from None
    return found[0]


def _truthful(translator: Any, language: str) -> Any:
    """
    Return papermill's *translator*, mended to write each value as it is or to refuse it.

    Its way to quote text, which most languages share, writes é as one byte, and leaves Julia's $ to be computed.
    """
    from papermill.translators import BashTranslator, PythonTranslator, Translator

    if issubclass(translator, PythonTranslator):
        return translator
    is_bash = issubclass(translator, BashTranslator)
    largest = 2**53 if language in _ALL_NUMBERS_ARE_FLOATS else 2**63

    def is_shared(way: str) -> bool:
        return getattr(translator, way).__func__ is getattr(Translator, way).__func__

    def text(_: Any, value: str) -> str:
        if re.search("[\0\ud800-\udfff]", value):
            raise ValueError(f"{shown(value)} holds a character that cannot be written there")
        if is_shared("translate_escaped_str"):
            return '"' + re.sub(r"[^ !#%-\[\]-~]", lambda match: _escape(match[0], language), value) + '"'
        if not is_bash and not re.fullmatch(r"[ !#%-\[\]-_a-~]*", value):
            raise ValueError(f"{shown(value)} holds other characters than plain ones")
        return str(translator.translate_escaped_str(value))

    def number(_: Any, value: float) -> str:
        if not math.isfinite(value) and not is_bash and is_shared("translate_float"):
            raise ValueError(f"{value} has no literal there")
        return str(translator.translate_float(value))

    def whole(_: Any, value: int) -> str:
        if abs(value) >= largest and not is_bash:
            raise ValueError(f"{shown(value)} is too large there")
        return str(translator.translate_int(value))

    def sequence(cls: Any, value: list[JSONValue]) -> str:
        if is_bash and any(isinstance(item, list) for item in value):
            raise ValueError("a list within a list has no literal there")
        return str(translator.translate_list.__func__(cls, value))

    ways: dict[str, Any] = {
        "translate_escaped_str": text, "translate_float": number, "translate_int": whole, "translate_list": sequence,
    }  # fmt: skip
    return type(translator.__name__, (translator,), {name: classmethod(way) for name, way in ways.items()})


_ALL_NUMBERS_ARE_FLOATS = {"r", "matlab"}


def _escape(character: str, language: str) -> str:
    if character in '\\"\n\r\t':
        return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(character, "\\" + character)
    if ord(character) < 2**16:
        return f"\\u{ord(character):04x}"
    return json.dumps(character)[1:-1] if language == "scala" else f"\\U{ord(character):08x}"
