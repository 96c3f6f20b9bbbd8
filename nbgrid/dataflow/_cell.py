"""
One cell: its syntax, and the names of the notebook's namespace in it.
"""

from __future__ import annotations

import ast
import re
import symtable
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain

from nbgrid import source as python

HISTORY = re.compile(r"(_{1,3}|_i{1,3}|_i?\d+|_[oid]h|In|Out)$")
_MAGIC = re.compile(r"\s*(?:[\w., ]+=\s*)?((?:%%|[%!])\s*\w*)")


class Cell:
    """The text of a cell, parsed, and the names of the notebook's namespace in it."""

    def __init__(self, source: str) -> None:
        self.magics = [match[1] if (match := _MAGIC.match(line)) else "?" for line in python.magics(source)]
        text = python.masked(source)
        self.reads: set[str] = set()
        self.binds: set[str] = set()
        self.imported: list[tuple[str, str]] = []
        self.assigned: list[tuple[str, bool]] = []
        self.defined: set[str] = set()
        """Functions and classes whose definition holds no value that a call could change."""
        self.inside: defaultdict[str, set[str]] = defaultdict(set)
        """By function or class: the names of the notebook's namespace in it."""
        self.words: set[str] = set()
        self.tree = ast.Module(body=[], type_ignores=[])
        try:
            self.tree = python.parse(source)
            self._scopes(symtable.symtable(text, "cell", "exec"))
            self.is_python = True
        except (SyntaxError, ValueError, RecursionError):
            self.is_python = False
        if self.magics or not self.is_python:
            self.words = python.names(source) if self.is_python else set(re.findall(r"[^\W\d]\w*", source))
            self.words |= {word for magic in python.magics(source) for word in re.findall(r"[^\W\d]\w*", magic)}
            self.reads |= self.words
            self.binds |= self.words
        self._bindings()
        last = self.tree.body[-1] if self.tree.body else None
        self.has_value = isinstance(last, ast.Expr) and not isinstance(last.value, ast.Constant)
        self.looks_back = any(HISTORY.match(name) for name in self.reads)

    @property
    def stored(self) -> Iterator[str]:
        """Each name that is bound in another way than by an import; once for each time that it is assigned."""
        imported = {name for name, _ in self.imported}
        times = [name for name, _ in self.assigned]
        return chain(times, self.binds - imported - {*times})

    def _scopes(self, table: symtable.SymbolTable) -> None:
        for symbol in table.get_symbols():
            if table.get_type() == "module" or symbol.is_global():
                name = unicodedata.normalize("NFKC", symbol.get_name())
                if symbol.is_referenced():
                    self.reads.add(name)
                if symbol.is_assigned() or symbol.is_imported():
                    self.binds.add(name)
        for child in table.get_children():
            self._scopes(child)
            if table.get_type() == "module":
                self.inside[child.get_name()] |= _globals(child)

    def _bindings(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.split(".")[0]
                    self.imported.append((name, alias.name if alias.asname else name))
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                self.imported += [
                    (one.asname or one.name, f"{module}.{one.name}") for one in node.names if one.name != "*"
                ]
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                self.reads.add(node.target.id)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
                self.assigned.append((node.id, False))
        defining = (
            node for node in self.tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        )
        self.defined |= {node.name for node in defining if _is_steady(node)}
        plain = [
            (target.id, is_constant(node.value))
            for node in self.tree.body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)
        ]  # fmt: skip
        for name, is_fixed in plain:
            if is_fixed:
                self.assigned[self.assigned.index((name, False))] = (name, True)


def _globals(table: symtable.SymbolTable) -> set[str]:
    own = {unicodedata.normalize("NFKC", one.get_name()) for one in table.get_symbols() if one.is_global()}
    return own.union(*map(_globals, table.get_children()))


def _is_steady(node: ast.stmt) -> bool:
    """Return whether *node* defines a function or a class that holds no value that a call could change."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        defaults = filter(None, (*node.args.defaults, *node.args.kw_defaults))
        return not node.decorator_list and all(map(is_constant, defaults))
    if isinstance(node, ast.Assign):
        return is_constant(node.value)
    if isinstance(node, ast.ClassDef):
        return not node.decorator_list and all(map(_is_steady, node.body))
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def is_constant(node: ast.expr) -> bool:
    """Return whether *node* is a value that nothing can change."""
    if isinstance(node, ast.Tuple):
        return all(map(is_constant, node.elts))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    return isinstance(node, ast.Constant)
