"""
The Python source of a cell: what it assigns and imports, and literals filled into its assignments.

IPython's magics (`%time`, `!ls`, `name?`) are no Python; what holds them is masked before parsing, so that the rest of
the cell can be read at its true positions.
"""

from __future__ import annotations

import ast
import bisect
import re
import symtable
import threading
import tokenize
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

_MAGIC = re.compile(r"^(\s*)([%!?].*|[^#'\"]*\?\??\s*)$", re.DOTALL)
_MAGIC_VALUE = re.compile(r"^(\s*[\w., ]+=\s*)([%!].*)$", re.DOTALL)
_RUNS_PYTHON_HERE = re.compile(r"%%(time|capture|prun)\b")
"""The cell magics that run the rest of the cell as Python, in the notebook's own namespace."""
_HARMLESS_MAGIC = re.compile(r"\s*%(matplotlib\s+inline|config\s+InlineBackend\.|load_ext\s+autoreload\b|autoreload\b)")
_END = re.compile(r"\r\n|\r|\n")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_LONGEST_DEFAULT = 60
_FILTERS = threading.Lock()


def parse(source: str) -> ast.Module:
    """
    Return the syntax tree of a cell, its magics masked.

    Raises `SyntaxError` for what is neither Python nor a magic.
    """
    return _parsed(masked(source))


def masked(source: str) -> str:
    """Return *source* with a name of the same length for each magic; unchanged if it is plain Python."""
    if source.lstrip().startswith("%%"):
        head = len(source) - len(source.lstrip())
        if not _RUNS_PYTHON_HERE.match(source, head):
            return re.sub(r"[^\r\n]", " ", source)
        end = head + len(re.split(r"[\r\n]", source[head:])[0])
        return " " * end + masked(source[end:])
    try:
        _parsed(source)
    except SyntaxError:
        return "".join(_MAGIC_VALUE.sub(_nameless, _MAGIC.sub(_nameless, line)) for line in _whole_lines(source))
    return source


def _parsed(source: str) -> ast.Module:
    # Python warns of escapes such as "\\d" in the user's strings; that is for the kernel to say, once.
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (RecursionError, MemoryError):
            raise SyntaxError("nested too deeply") from None
        except ValueError as error:  # a NUL, before Python 3.12
            raise SyntaxError(str(error)) from None


def _whole_lines(source: str) -> Iterator[str]:
    """Yield the lines of *source*, with their ends; a magic's line and what its backslash continues it with are one."""
    whole = ""
    for line in _LINE.findall(source):
        whole += line
        continues = line.rstrip("\r\n").endswith("\\")
        if not (continues and (_MAGIC.match(whole) or _MAGIC_VALUE.match(whole))):
            yield whole
            whole = ""
    yield whole


def _nameless(match: re.Match[str]) -> str:
    """Return what stands for a magic: one name of its length, or a list where it spans lines."""
    magic = match[2].rstrip()
    lines = "[" + re.sub(r"[^\r\n]", " ", magic[1:-1]) + "]"
    return match[1] + (lines if re.search(r"[\r\n]", magic) else "_" * len(magic)) + match[2][len(magic) :]


def assigned(source: str) -> dict[str, str | None]:
    """
    Return the names that a cell binds by assignment, in their order, with the text of the value where it is plain.

    Names of functions, classes and comprehensions are their own affair. Raises `SyntaxError`.
    """
    text = masked(source)
    tree, places = _parsed(text), _Places(text)
    plain = {name: _Value.of(name, value, places, source).text for name, value in _plain(tree)}
    return {**dict.fromkeys(_bound(tree)), **plain}


def fill(source: str, literals: Mapping[str, str]) -> tuple[str, set[str]]:
    """
    Return *source* with the value of each plain assignment of a name in *literals* replaced, and the names now settled.

    Comments, order and all other lines stay; the default stays as a comment at the end of its line. A name that the
    cell binds in another way too (in an `if`, by `+=`) is filled but not settled: its literal may not be its last value.
    """
    text = masked(source)
    tree, places = _parsed(text), _Places(text)
    values = [_Value.of(name, value, places, source) for name, value in _plain(tree) if name in literals]
    edits = [(value.start, value.end, literals[value.name]) for value in values]
    edits += [(end, end, comment) for end, comment in _comments(values, places)]
    for start, end, new in sorted(edits, reverse=True):
        source = source[:start] + new + source[end:]
    filled = {value.name for value in values}
    _assert_literals(source, filled)
    return source, filled - _bound_otherwise(tree)


def names(source: str) -> set[str]:
    """
    Return the names of the notebook's namespace that a cell reads or binds, in its functions too.

    What is local to a function is left out. Of magics, and of what is no Python, it is every word.
    """
    text = masked(source)
    try:
        table = symtable.symtable(text, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return _words(source)
    lines = zip(re.split(_END, source), re.split(_END, text), strict=True)
    return {_nfkc(name) for name in _globals(table)}.union(*(_words(line) for line, plain in lines if line != plain))


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if table.get_type() == "module" or symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals(child)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d]\w*", text))


def magics(source: str) -> list[str]:
    """Return the lines of a cell on which magics stand that do more than set up the notebook's display or reloading."""
    lines, plain = re.split(_END, source), re.split(_END, masked(source))
    if source.lstrip().startswith("%%"):  # also one whose rest is no Python
        return [source.lstrip().splitlines()[0]]
    return [line for line, left in zip(lines, plain, strict=True) if line != left and not _HARMLESS_MAGIC.match(line)]


def leading_imports(source: str) -> tuple[list[str], bool]:
    """
    Return the import statements that a cell begins with, and whether it holds nothing else.

    A docstring, and magics that only set up the notebook's display or reloading, do not count.
    """
    try:
        tree = parse(source)
    except SyntaxError:
        return [], False
    lines = source.splitlines()
    found = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(ast.unparse(node))
        elif not (_is_text(node) or _HARMLESS_MAGIC.match(lines[node.lineno - 1])):
            return found, False
    return found, True


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def imports(source: str) -> Iterator[str]:
    """
    Yield the top-level packages that a cell imports for certain: those in a `try`, an `if` or a function are left out.

    Source that is no Python yields nothing.
    """
    try:
        body = parse(source).body
    except SyntaxError:
        return
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def _plain(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield name and value of each `name = value` and `name: type = value` at the top level of the cell."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield _nfkc(node.targets[0].id), node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield _nfkc(node.target.id), node.value


def _bound(tree: ast.Module) -> Iterator[str]:
    """Yield each name that is assigned in the cell's own scope, once for each time."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield _nfkc(node.id)
        if not isinstance(node, _SCOPES):
            todo += reversed(list(ast.iter_child_nodes(node)))


_SCOPES = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip


def _bound_otherwise(tree: ast.Module) -> set[str]:
    """Return the names that are assigned in another way than plainly."""
    plain = [name for name, _ in _plain(tree)]
    bound = list(_bound(tree))
    return {name for name in plain if bound.count(name) > plain.count(name)}


def _nfkc(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


class _Places:
    """Turns the lines and columns of `ast` (UTF-8 bytes) and `tokenize` (characters) into offsets in the text."""

    def __init__(self, text: str) -> None:
        self.lines = _LINE.findall(text)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    @cached_property
    def ends(self) -> list[tuple[int, bool]]:
        """Where each logical line ends, and whether with a comment."""
        return list(self._logical_ends())

    def of_ast(self, line: int, column: int) -> int:
        before = self.lines[line - 1].encode("utf-8", "surrogatepass")[:column].decode("utf-8", "surrogatepass")
        return self.starts[line - 1] + len(before)

    def end_of_logical_line(self, offset: int) -> tuple[int, bool]:
        """Return where the logical line around *offset* ends, and whether with a comment."""
        return self.ends[bisect.bisect_left(self.ends, (offset, False))]

    def _logical_ends(self) -> Iterator[tuple[int, bool]]:
        lines = iter([*(line.rstrip("\r\n") + "\n" for line in self.lines), ""])
        last = tokenize.NL
        for token in tokenize.generate_tokens(lambda: next(lines, "")):
            if token.type == tokenize.NEWLINE:
                line, column = token.start
                yield self.starts[line - 1] + column, last == tokenize.COMMENT
            last = token.type


@dataclass(frozen=True)
class _Value:
    """The value of one plain assignment: its place in the source, and its text on one line."""

    name: str
    start: int
    end: int
    text: str

    @classmethod
    def of(cls, name: str, value: ast.expr, places: _Places, source: str) -> _Value:
        start = places.of_ast(value.lineno, value.col_offset)
        end = places.of_ast(value.end_lineno or 0, value.end_col_offset or 0)
        text = source[start:end]
        if re.search(r"[\r\n]", text):
            text = _on_one_line(value)
        return cls(name, start, end, text)

    @property
    def default(self) -> str:
        return self.text if len(self.text) <= _LONGEST_DEFAULT else self.text[: _LONGEST_DEFAULT - 1] + "…"


def _on_one_line(value: ast.expr) -> str:
    try:
        return " ".join(re.split(r"[\r\n]+", ast.unparse(value)))
    except RecursionError:
        return "…"


def _comments(values: list[_Value], places: _Places) -> Iterator[tuple[int, str]]:
    """Yield, for each logical line with values on it, where it ends and the comment that tells the defaults."""
    by_line: dict[tuple[int, bool], list[_Value]] = {}
    for value in values:
        by_line.setdefault(places.end_of_logical_line(value.end), []).append(value)
    for (end, has_comment), group in by_line.items():
        told = group[0].default if len(group) == 1 else ", ".join(f"{one.name} = {one.default}" for one in group)
        yield end, f"; default: {told}" if has_comment else f"  # default: {told}"


def _assert_literals(source: str, names: set[str]) -> None:
    for name, value in _plain(parse(source)):
        assert name not in names or is_literal(value), f"{name} was not filled with a literal"


def is_literal(node: ast.expr) -> bool:
    """Tell whether *node* is what `parameters.literal` writes, and so runs no code but float('nan') and its like."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.List):
        return all(map(is_literal, node.elts))
    if isinstance(node, ast.Dict):
        return all(key is not None and is_literal(key) for key in node.keys) and all(map(is_literal, node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant)
    return ast.unparse(node) in {"float('nan')", "float('inf')", "float('-inf')"}
