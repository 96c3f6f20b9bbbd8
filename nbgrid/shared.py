"""
The shared prefix: the cells that an engine may execute once for all tasks of a run.

It is all cells tagged `shared`, and the cells above the last of them that hold nothing but imports. Pure: it looks at a
rendered notebook and decides.
"""

from __future__ import annotations

from collections.abc import Iterable

from nbgrid import notebook as notebooks
from nbgrid import source as python
from nbgrid.errors import TemplateError
from nbgrid.typing import Cell, Notebook

TAG = "shared"
_PARAMETERS = {"parameters", "injected-parameters"}


def shared_cells(notebook: Notebook, where: str, parameters: Iterable[str] = ()) -> tuple[int, ...]:
    """
    Return the indices of the cells of the shared prefix of a rendered *notebook*, in order; none without the tag.

    *where* names the template in messages, *parameters* are the grid's and the fixed ones. Raises `TemplateError` for a
    shared cell that reads or binds a parameter, and for a cell above it that is neither shared, nor imports, nor the
    parameters cell: what that cell does would be done in every task, but after the shared cell.
    """
    if notebooks.language(notebook) != "python":
        return ()
    cells = dict(notebooks.code_cells(notebook))
    tagged = [index for index, cell in cells.items() if TAG in notebooks.tags(cell)]
    if not tagged:
        return ()
    own = {index for index, cell in cells.items() if is_parameters_cell(cell)}
    varying = {*parameters, *(name for index in own for name in python.assigned(cells[index]["source"]))}
    prefix = [index for index in cells if index <= tagged[-1] and index not in own]
    for index in prefix:
        _check(cells[index], index, index in tagged, tagged[-1], varying, where)
    return tuple(index for index in prefix if cells[index]["source"].strip())


def is_parameters_cell(cell: Cell) -> bool:
    """Return whether *cell* is, or was injected as, the parameters cell."""
    return bool(_PARAMETERS & {*notebooks.tags(cell)}) or notebooks.has_parameters_marker(cell)


def _check(cell: Cell, index: int, is_tagged: bool, last: int, varying: set[str], where: str) -> None:
    if not is_tagged and not python.leading_imports(cell["source"])[1]:
        raise TemplateError(
            f"{where}: cell {index + 1} stands above the shared cell {last + 1}, and neither is it tagged `shared` nor does it "
            "hold imports only: tag it too, or move it below"
        )
    used = sorted(varying & python.names(cell["source"]))
    if used:
        raise TemplateError(
            f"{where}: cell {index + 1} is executed once for all tasks, but has to do with {', '.join(used)}, which differs "
            "between them: move that part below the parameters cell, into a cell that is not shared"
        )
