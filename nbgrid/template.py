"""
Templates: the notebook that the user wrote, and the notebook that it becomes for one point.

Everything here is pure but `Template.read` and `Template.included`, which read files.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbgrid import notebook as notebooks
from nbgrid import source as python
from nbgrid.errors import NotebookError, TemplateError, UnknownParameterError
from nbgrid.options import Options, check_prefix, read_options
from nbgrid.parameters import canonical, check_name, literal
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
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise NotebookError(f"{path}: {error.strerror or error}") from None
        return cls.parse(content, path)

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
        stem = re.sub(r"[^\w.+=@-]+", "-", self.path.stem).strip("-._") or "notebook"
        return check_prefix(stem[:100])

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
        if self.language != "python" or any(re.search(r"\b(pip|conda) install\b|\bsys\.path\b", cell) for cell in cells):
            return set()
        return {name for cell in cells for name in python.imports(cell)}

    def included(self) -> dict[str, bytes]:
        """
        Return the files that the grid cell's `include` names, path relative to the template's folder → bytes.

        Raises `TemplateError` for what does not exist or lies outside that folder.
        """
        folder = self.path.parent.resolve()
        files = {file: file for entry in self.options.include for file in self._included_files(folder, entry)}
        content = {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(files)}
        size = sum(map(len, content.values()))
        if size > MAX_INCLUDED_BYTES:
            raise TemplateError(f"{self.path}: include: {size / 2**30:.1f} GB is more than 1 GB: let the notebook read it")
        return content

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
        for name in names:
            if check_name(name) not in self.defaults:
                raise UnknownParameterError(name, self.defaults, f"{self.path.name}, cell {self.parameters_cell + 1}")

    def render(self, point: Point) -> Notebook:
        """
        Return the notebook for *point*: its parameters cell filled in, no outputs, the grid cell as it was.

        In Python, the value of each plain assignment becomes the point's literal, so that assignments which depend on it are
        computed anew. Other parameters, and other languages, get a cell tagged `injected-parameters` after it, as papermill
        does. Rendering twice gives the same notebook.
        """
        notebook = copy.deepcopy(self.notebook)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"], cell["execution_count"] = [], None
            cell["metadata"].pop("papermill", None)
            cell["metadata"].pop("execution", None)
        for key in ("papermill", "nbgrid", "widgets"):
            notebook["metadata"].pop(key, None)
        if self.parameters_cell is not None and point:
            self._fill(notebook, point)
        return notebook

    def digest(self, point: Point, included: Mapping[str, bytes], kernel: str) -> str:
        """
        Return the digest of what decides a task's results: two tasks of equal digest would run the same.

        It covers the sources and meaningful tags of the code cells, all parameters with their types, the included files and
        the kernel's name; not the grid cell, markdown or outputs.
        """
        cells = [
            [cell["source"], sorted(tag for tag in notebooks.tags(cell) if not _VIEW_TAG.match(tag))]
            for _, cell in notebooks.code_cells(self.notebook)
        ]
        files = {name: hashlib.sha256(content).hexdigest() for name, content in included.items()}
        whole = json.dumps([1, cells, canonical(point), files, kernel], sort_keys=True)
        return "sha256:" + hashlib.sha256(whole.encode()).hexdigest()

    def _fill(self, notebook: Notebook, point: Point) -> None:
        assert self.parameters_cell is not None
        cell = notebook["cells"][self.parameters_cell]
        filled: set[str] = set()
        if self.language == "python":
            literals = {name: literal(value) for name, value in point.items()}
            cell["source"], filled = python.fill(cell["source"], literals)
        left = {name: value for name, value in point.items() if name not in filled}
        _add_tags(cell, "parameters", *([] if left else ["injected-parameters"]))
        if left:
            injected = notebooks.new_cell(notebook, self._assignments(left), ["injected-parameters"])
            notebook["cells"].insert(self.parameters_cell + 1, injected)

    def _assignments(self, values: Mapping[str, JSONValue]) -> str:
        """Return a cell that assigns *values*, in the notebook's language."""
        if self.language == "python":
            return "\n".join(["# Parameters", *(f"{name} = {literal(value)}" for name, value in values.items())])
        from papermill.translators import papermill_translators

        try:
            translator = papermill_translators.find_translator(self.kernel or "", self.language)
            return str(translator.codify(dict(values)))
        except Exception as error:  # noqa: BLE001  translators raise NotImplementedError, PapermillException and others
            raise TemplateError(
                f"{self.path}: {', '.join(values)} cannot be written in {self.language}: {error}"
            ) from None

    def _included_files(self, folder: Path, entry: str) -> list[Path]:
        if Path(entry).is_absolute() or ".." in Path(entry).parts or "\0" in entry or entry.startswith("~"):
            raise TemplateError(f"{self.path}: include: {entry!r} must lie in the notebook's folder or below it")
        found = [folder / entry] if (folder / entry).exists() else sorted(folder.glob(entry))
        files = [file for path in found for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
        files = [file for file in files if not {"__pycache__", ".ipynb_checkpoints"} & set(file.parts)]
        for file in files:
            if not file.resolve().is_relative_to(folder):
                raise TemplateError(f"{self.path}: include: {entry!r} leads out of the notebook's folder by a link")
        if not files:
            raise TemplateError(f"{self.path}: include: there is no {entry!r} in {folder}")
        return files


_MEANS_SOMETHING_ELSE = {"parameters", "injected-parameters", "shared", "raises-exception", "skip-execution"}


def _add_tags(cell: Cell, *new: str) -> None:
    cell["metadata"] = {**cell["metadata"], "tags": list(dict.fromkeys([*notebooks.tags(cell), *new]))}


def _find_parameters_cell(notebook: Notebook, path: Any) -> int | None:
    """Return the index of the one parameters cell; raise `TemplateError` for two, or for one that is no Python."""
    cells = list(notebooks.code_cells(notebook))
    found = [index for index, cell in cells if "parameters" in notebooks.tags(cell)]
    found = found or [index for index, cell in cells if notebooks.has_parameters_marker(cell)]
    if len(found) > 1:
        numbers = " and ".join(str(index + 1) for index in found)
        raise TemplateError(f"{path}: cells {numbers} are both parameters cells: keep one")
    if not found:
        return None
    if notebooks.language(notebook) == "python":
        try:
            python.parse(notebook["cells"][found[0]]["source"])
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            raise TemplateError(f"{path}: cell {found[0] + 1}, the parameters cell, line {line}: {error}") from None
    return found[0]

