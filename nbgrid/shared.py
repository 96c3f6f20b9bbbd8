"""
The cells that an engine may execute once for all tasks of a run.

They are the shared prefix: all cells tagged `shared`, and the cells above the last of them that hold nothing but imports. Where
it is asked, also all others that provably give the same in every task. Pure: it looks at a rendered notebook and decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from nbgrid import notebook as notebooks
from nbgrid import source as python
from nbgrid.dataflow import WORLD, DataFlow, Flow
from nbgrid.errors import TemplateError
from nbgrid.typing import Cell, Notebook

TAG = "shared"
_PARAMETERS = {"parameters", "injected-parameters"}

Share: TypeAlias = Literal["tagged", "auto"]
"""Which cells are executed once: the shared prefix alone, or whatever the data flow allows, too."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which cells of a notebook are executed once for all tasks, by index."""

    cells: tuple[int, ...] = ()
    """All of them, in order."""
    found: tuple[int, ...] = ()
    """Those that nobody has tagged: the data flow allows it, if what they call has no part in it."""
    apart: tuple[int, ...] = ()
    """Those of *found* that stand below a cell that is executed in every task, the parameters cell apart."""
    reasons: Mapping[int, str] = field(default_factory=dict)
    """Why each other cell, the parameters cell apart, is executed in every task: the end of a sentence that begins with "it"."""


def sharing(notebook: Notebook, where: str, parameters: Iterable[str] = (), share: Share = "tagged") -> Sharing:
    """
    Return which cells of a rendered *notebook* are executed once.

    *where* names the template in messages, *parameters* are the grid's and the fixed ones. Raises `TemplateError` as
    `shared_cells` does.
    """
    prefix = shared_cells(notebook, where, parameters)
    if share == "tagged" or notebooks.language(notebook) != "python":
        return Sharing(prefix)
    cells = {
        index: cell for index, cell in notebooks.code_cells(notebook)
        if cell["source"].strip() and notebooks.SKIPPED not in notebooks.tags(cell)
    }  # fmt: skip
    own = {index for index, cell in cells.items() if is_parameters_cell(cell)}
    varying = {*parameters, *_varying(notebook)}
    flows = DataFlow({index: cell["source"] for index, cell in cells.items()}).flows
    found: list[int] = []
    apart: list[int] = []
    reasons: dict[int, str] = {}
    for index, cell in cells.items():
        if index in own or index in prefix:
            continue
        earlier = {other: flows[other] for other in sorted(own | reasons.keys()) if other < index}
        reason = _reason(cell, flows[index], earlier, varying)
        if reason is not None:
            reasons[index] = reason
            continue
        found.append(index)
        apart += [index] if reasons else []
    return Sharing(tuple(sorted({*prefix, *found})), tuple(found), tuple(apart), reasons)


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
    varying = {*parameters, *_varying(notebook)}
    prefix = [index for index in cells if index <= tagged[-1] and index not in own]
    for index in prefix:
        _check(cells[index], index, index in tagged, tagged[-1], varying, where)
    return tuple(index for index in prefix if cells[index]["source"].strip())


def is_parameters_cell(cell: Cell) -> bool:
    """Return whether *cell* is, or was injected as, the parameters cell."""
    return bool(_PARAMETERS & {*notebooks.tags(cell)}) or notebooks.has_parameters_marker(cell)


def _varying(notebook: Notebook) -> Iterator[str]:
    """Yield the names that the parameters cell binds."""
    for _, cell in notebooks.code_cells(notebook):
        if is_parameters_cell(cell):
            yield from python.assigned(cell["source"])


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


# -- by data flow -------------------------------------------------------------------------------------------------------


def _reason(cell: Cell, flow: Flow, earlier: Mapping[int, Flow], varying: set[str]) -> str | None:
    """Return why *cell* cannot be executed before the *earlier* ones, which are executed in every task; None if it can."""
    if used := sorted((flow.reads | flow.binds) & varying):
        return f"depends on {used[0]}, a parameter"
    if flow.obstacle is not None:
        return flow.obstacle
    if "raises-exception" in notebooks.tags(cell):
        return "is expected to raise an exception"
    clashes = (clash for other, own in earlier.items() for clash in _clashes(flow, own, f"cell {other + 1}"))
    return min(clashes, key=lambda clash: clash[0], default=(0, None))[1]


def _clashes(flow: Flow, own: Flow, name: str) -> Iterator[tuple[int, str]]:
    """Yield, ranked, why what *flow* does cannot be done before what *own* does, which stands above it and is called *name*."""
    if own.is_opaque:
        yield 0, f"stands below {name}, which may bind or change anything"
    for rank, (names, told) in enumerate(
        (
            ((flow.reads | flow.binds) & own.binds, f"uses {{}}, which {name} binds"),
            (flow.binds & own.reads, f"binds {{}}, which {name} uses before"),
            ((flow.reads - {WORLD}) & own.changes, f"uses {{}}, which {name} may change"),
            ((flow.changes - {WORLD}) & (own.reads | own.changes), f"may change {{}}, which {name} uses before"),
            (flow.reads & own.changes, f"calls something after {name} has done what may matter to it"),
            (flow.changes & (own.reads | own.changes), f"does what may matter to {name}, which stands before it"),
        ),
        1,
    ):
        if names:
            yield rank, told.format(sorted(names)[0])
