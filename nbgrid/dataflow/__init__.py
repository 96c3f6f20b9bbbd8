"""
What the cells of a notebook have to do with each other, as far as their text shows: names, and what lies behind them.

All of it errs on one side. A cell is said to change whatever it hands to a call, and all that may refer to the same objects;
to depend on the state of the process whenever it calls something; and to alter that state by each call whose value it drops.
What a called function does inside is not seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nbgrid.dataflow._cell import Cell
from nbgrid.dataflow._reading import Reading

WORLD = "<the process>"
"""Stands, among names, for the state that no name of the notebook holds: options of libraries, figures, files."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What one cell does, by name; `WORLD` is one of them."""

    reads: frozenset[str]
    binds: frozenset[str]
    changes: frozenset[str]
    """What may be another object's content afterwards, though it is the same object."""
    obstacle: str | None
    """Why the cell must be executed anew each time, whatever the others do: the end of a sentence that begins with "it"."""
    is_opaque: bool
    """Whether it may bind or change anything."""


class DataFlow:
    """The data flow between cells, given as their *sources* in order, each with any key."""

    def __init__(self, sources: Mapping[int, str]) -> None:
        self._cells = {key: Cell(source) for key, source in sources.items()}
        bound: defaultdict[str, list[str | None]] = defaultdict(list)
        constant: defaultdict[str, list[bool]] = defaultdict(list)
        for cell in self._cells.values():
            for name, module in cell.imported:
                bound[name].append(module)
            for name in cell.stored:
                bound[name].append(None)
            for name, is_constant in cell.assigned:
                constant[name].append(is_constant)
        self._modules = {name: kinds[0] for name, kinds in bound.items() if kinds[0] and set(kinds) == {kinds[0]}}
        self._constants = {
            name for name, kinds in constant.items() if all(kinds) and len(kinds) == len(bound[name])
        }  # fmt: skip
        readings = {key: Reading(cell, self._modules) for key, cell in self._cells.items()}
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        """What calling a function or class has to do with, by its name."""
        for key, reading in readings.items():
            for name, names in self._cells[key].inside.items():
                self._held[name] |= names | ({WORLD} if name in reading.acting else set())
        defined = {name for cell in self._cells.values() for name in cell.defined}
        self._steady = {name for name in defined if len(bound[name]) == 1 and name not in self._held[name]}
        """Functions and classes that are the same after a call, whatever else that changes."""
        self._changeable = bound.keys() - self._modules.keys() - self._constants - self._steady
        self._reaches: defaultdict[str, set[str]] = defaultdict(set)
        for reading in readings.values():
            for tie in reading.ties:
                tied = self._behind(tie)
                for name in tied:
                    self._reaches[name] |= tied
        looks_back = any(cell.looks_back for cell in self._cells.values())
        self.flows = {key: self._flow(self._cells[key], reading, looks_back) for key, reading in readings.items()}
        """What each cell does."""

    def _flow(self, cell: Cell, reading: Reading, looks_back: bool) -> Flow:
        reads = cell.reads | ({WORLD} if reading.asks else set())
        changes = self._changed(reading.touched) | ({WORLD} if reading.acts else set())
        obstacle = reading.obstacle
        if obstacle is None and looks_back and cell.has_value:
            obstacle = "ends with a value, and the notebook looks back at those with `_` or `Out`"
        return Flow(frozenset(reads), frozenset(cell.binds), frozenset(changes), obstacle, reading.is_opaque)

    def _behind(self, names: Iterable[str]) -> set[str]:
        """Return those of *names* whose objects can change, and for a function what a call may change or hand out."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            if (name := todo.pop()) not in found:
                found.add(name)
                todo += self._held.get(name, ())
        return {name for name in found if name in self._changeable or name == WORLD}

    def _changed(self, touched: Iterable[str]) -> set[str]:
        """Return what may have changed when the objects behind *touched* were handed to a call."""
        found: set[str] = set()
        todo = self._behind(touched)
        while todo:
            name = todo.pop()
            found.add(name)
            if name != WORLD:
                todo |= self._reaches[name] - found
        return found
