"""
What one cell does with the names of its notebook.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from nbgrid.dataflow._cell import HISTORY, Cell

_BUILTINS = {
    "len", "range", "print", "int", "float", "str", "bool", "repr", "abs", "round", "isinstance", "issubclass", "type",
    "display", "format", "slice", "complex", "bytes", "divmod", "super", "property", "staticmethod", "classmethod",
}  # fmt: skip
"""Calls that neither change their arguments nor depend on anything else."""

_SCALARS = {"len", "int", "float", "str", "bool", "repr", "round", "isinstance", "type"}
_SCALAR_ATTRIBUTES = {"shape", "size", "ndim", "dtype"}
"""What gives back no part of the object that it is asked of."""

_SHOWING = {
    "head", "tail", "describe", "info", "value_counts", "mean", "sum", "min", "max", "std", "var", "median", "count",
    "nunique", "unique", "corr", "round", "copy", "items", "keys", "values",
}  # fmt: skip
"""Methods whose value is shown, and that are called for nothing else."""

_COMPUTING = {
    "sorted", "sum", "min", "max", "list", "dict", "set", "tuple", "zip", "enumerate", "any", "all", "reversed", "frozenset",
}  # fmt: skip
"""Built-in functions that depend on their arguments alone, though they may use up an iterator."""

_FILLING = {
    "append", "extend", "insert", "remove", "pop", "clear", "add", "discard", "update", "setdefault", "sort", "reverse",
}  # fmt: skip
"""Methods that change the object that they belong to, and nothing else."""

_DYNAMIC = {
    "globals", "locals", "vars", "dir", "eval", "exec", "compile", "setattr", "delattr", "getattr", "__import__",
    "get_ipython", "breakpoint", "input",
}  # fmt: skip
"""By these a cell can reach any name."""

_OWN = {"id", "hash", "exit", "quit"}
_CLOCKS = {"now", "today", "utcnow", "time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "process_time"}
_GENERATORS = {
    "Random", "default_rng", "RandomState", "SeedSequence", "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64",
    "check_random_state",
}  # fmt: skip
_WRITES = re.compile(
    r"save|write|dump|export|upload|send|mkdir|makedirs|unlink|rmdir|touch|rename|system|popen|"
    r"to_(csv|parquet|pickle|feather|hdf|sql|excel|json|html|latex|stata|orc|zarr|netcdf|file|disk)$",
    re.IGNORECASE,
)
_MACHINE: Mapping[str, set[str]] = {
    "time": set(), "timeit": set(), "uuid": set(), "secrets": set(), "subprocess": set(), "multiprocessing": set(),
    "threading": set(), "concurrent": set(), "asyncio": set(), "tempfile": set(), "socket": set(), "signal": set(),
    "atexit": set(), "ctypes": set(), "gc": set(), "getpass": set(), "platform": set(), "psutil": set(), "resource": set(),
    "shutil": set(), "importlib": set(), "builtins": set(), "inspect": set(), "requests": set(), "urllib": {"parse"},
    "http": set(), "ipywidgets": set(), "os": {"path", "sep", "linesep", "name", "PathLike", "fspath"},
    "sys": {"path", "version", "version_info", "maxsize", "byteorder"},
    "datetime": {"timedelta", "date", "datetime", "timezone", "UTC"},
}  # fmt: skip
"""Modules that tell, or change, what differs from process to process; with what each of them holds that does not."""

_PLAIN_MAGICS = {
    "%%time", "%%timeit", "%%capture", "%%bash", "%%sh", "%%html", "%%javascript", "%%latex", "%%markdown", "%%svg",
    "%%writefile", "%time", "%timeit", "%pip", "%conda", "%env", "%set_env", "%cd", "%ls", "%pwd", "%matplotlib", "%config",
    "%load_ext", "%reload_ext", "%autoreload", "%who", "%whos", "%prun",
}  # fmt: skip
"""Magics that bind no name but those that stand in them."""


class Reading(ast.NodeVisitor):
    """One cell, read with what is known of the whole notebook."""

    def __init__(self, cell: Cell, modules: Mapping[str, str]) -> None:
        self.modules = modules
        self.touched: set[str] = set()
        self.ties: list[set[str]] = []
        self.within: list[str] = []
        self.acting: set[str] = set()
        """Functions and classes that, when they are called, call something for its effect."""
        self.asks = self.acts = self.is_opaque = False
        self.obstacle: str | None = None
        if not cell.is_python:
            self.opaque("is no Python that can be read")
        if cell.magics:
            self.acts = self.asks = True
            self.touched |= cell.words
            unknown = [magic for magic in cell.magics if magic[0] not in "!?" and magic not in _PLAIN_MAGICS]
            self.refuse(f"holds a magic ({(unknown or cell.magics)[0]})")
            self.is_opaque = self.is_opaque or bool(unknown)
        if back := sorted(name for name in cell.reads if HISTORY.match(name)):
            self.refuse(f"looks back with {back[0]}")
        self.visit(cell.tree)

    def refuse(self, why: str) -> None:
        self.obstacle = self.obstacle or why

    def opaque(self, why: str) -> None:
        self.is_opaque = True
        self.refuse(why)

    def touch(self, *nodes: ast.AST) -> None:
        for node in nodes:
            self.touched.update(_referring(node))

    def tie(self, *nodes: ast.AST) -> None:
        self.ties.append({name for node in nodes for name in _referring(node)})

    # -- statements -------------------------------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        call = node.value
        if isinstance(call, ast.Call) and not self._is_plain(call):
            path = _path(call.func)
            fills = path and path[-1] in _FILLING and path[0] not in self.modules
            self.acts = self.acts or not (fills or _is_for_its_value(call.func, _COMPUTING | _SHOWING))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.tie(node)
        if any(isinstance(target, ast.Tuple | ast.List) for target in node.targets):
            self.touch(node.value)  # what is unpacked may be an iterator
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.tie(node)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.tie(node)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.tie(node)
        self.touch(node.target)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._iterated(node.target, node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._iterated(node.target, node.iter)
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        self.touch(node.value)
        self.generic_visit(node)

    def visit_withitem(self, node: ast.withitem) -> None:
        self.tie(node)
        self.touch(node)
        self.asks = True
        call = node.context_expr
        if isinstance(call, ast.Call) and _is_reading(call):
            for argument in call.args:
                self.visit(argument)
        else:
            self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.asks = True
        if any(alias.name == "*" for alias in node.names):
            self.opaque(f"imports * from {node.module}")

    def visit_Import(self, node: ast.Import) -> None:
        del node
        self.asks = True

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in (*node.decorator_list, node.args):
            self.visit(part)
        if node.decorator_list:
            self.asks = True
            self.touch(*node.decorator_list)
        # Its body is executed by whoever calls it; what it calls for an effect, it may call then.
        kept = self.touched, self.asks, self.acts
        self.touched, self.asks, self.acts = set(), False, False
        self.within.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self.acting.update(self.within if self.acts else ())
        self.within.pop()
        self.touched, self.asks, self.acts = kept

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  the visitor's own spelling

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.within.append(node.name)
        self.generic_visit(node)
        self.within.pop()
        self.touch(*node.bases, *node.decorator_list)

    def visit_Await(self, node: ast.Await) -> None:
        del node
        self.refuse("awaits")

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        del node
        self.refuse("awaits")

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        del node
        self.refuse("awaits")

    # -- expressions ------------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        if self._is_plain(node):
            for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                self.visit(part)
            return
        self.asks = self.asks or not (_is_for_its_value(node.func, _COMPUTING) and not node.keywords)
        self.touch(node)
        self.tie(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "open":
            self.refuse("opens a file otherwise than by `with open(name)` for reading")
        elif _WRITES.match(name):
            self.refuse(f"may write something ({name})")
        elif name in _GENERATORS and not any(
            not _is_none(given) for given in [*node.args, *(k.value for k in node.keywords)]
        ):
            self.refuse(f"makes a generator of random numbers without a seed ({name})")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = _path(node)
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._stored_in(node)
        if node.attr in _CLOCKS and not (path and path[0] in self.modules and self._is_harmless(path)):
            self.refuse(f"asks what time it is ({'.'.join(path) or node.attr})")
        if path and path[0] in self.modules:
            self._module(path)
        else:
            self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._stored_in(node)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.modules:
            self._module([node.id])
        elif node.id in _DYNAMIC:
            self.opaque(f"calls {node.id}")
        elif node.id in _OWN:
            self.refuse(f"calls {node.id}")

    def _iterated(self, target: ast.expr, iterable: ast.expr) -> None:
        self.tie(target, iterable)
        self.touch(iterable)

    def _stored_in(self, node: ast.Attribute | ast.Subscript) -> None:
        path = _path(node)
        if path and path[0] in self.modules:
            self.acts = True
        else:
            self.touch(node.value)

    def _is_plain(self, call: ast.Call) -> bool:
        return isinstance(call.func, ast.Name) and call.func.id in _BUILTINS and call.func.id not in self.modules

    def _module(self, path: list[str]) -> None:
        if not self._is_harmless(path):
            self.refuse(f"uses {'.'.join([self.modules[path[0]], *path[1:]])}, which differs from process to process")

    def _is_harmless(self, path: list[str]) -> bool:
        whole = [*self.modules[path[0]].split("."), *path[1:]]
        if whole[0] not in _MACHINE:
            return whole[-1] not in _CLOCKS
        return len(whole) > 1 and whole[1] in _MACHINE[whole[0]] and whole[-1] not in _CLOCKS


def _is_for_its_value(function: ast.expr, names: set[str]) -> bool:
    """Return whether *function*, one of the built-in functions and methods *names*, is called to see what it gives."""
    if isinstance(function, ast.Attribute):
        return function.attr in names & _SHOWING
    return isinstance(function, ast.Name) and function.id in names & _COMPUTING


def _is_reading(call: ast.Call) -> bool:
    """Return whether *call* opens a file to read it."""
    if not (isinstance(call.func, ast.Name) and call.func.id == "open"):
        return False
    modes = call.args[1:2] + [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    return all(isinstance(mode, ast.Constant) and mode.value in {"r", "rb", "rt"} for mode in modes)


def _referring(node: ast.AST) -> Iterator[str]:
    """Yield the names in *node* whose objects may be part of its value, or reached through it."""
    if isinstance(node, ast.Name):
        yield node.id
    elif not _is_scalar(node):
        for child in ast.iter_child_nodes(node):
            yield from _referring(child)


def _is_scalar(node: ast.AST) -> bool:
    """Return whether the value of *node* is no part of any object in it."""
    if isinstance(node, ast.Attribute):
        return node.attr in _SCALAR_ATTRIBUTES
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _SCALARS


def _path(node: ast.AST) -> list[str]:
    """Return the parts of a dotted name, subscripts left out; nothing for what begins otherwise."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        before = _path(node.value)
        return [*before, node.attr] if before else []
    return _path(node.value) if isinstance(node, ast.Subscript) else []


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
