"""
The Python source of a cell: what it assigns and imports, and literals filled into its assignments.

IPython's magics (`%time`, `!ls`, `name?`) are no Python; lines that hold them are masked before parsing, so that the rest of the
cell can be read at its true positions.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_MAGIC = re.compile(r"^(\s*)([%!?].*|[^#'\"]*\?\??\s*)$")
_MAGIC_VALUE = re.compile(r"^(\s*[\w., ]+=\s*)([%!].*)$")
_LONGEST_DEFAULT = 60


def parse(source: str) -> ast.Module:
    """
    Return the syntax tree of a cell, its magics masked.

    Raises `SyntaxError` for what is neither Python nor a magic.
    """
    return ast.parse(masked(source))


def masked(source: str) -> str:
    """Return *source* with each magic replaced by a 0 of its length; unchanged if it is plain Python."""
    if source.lstrip().startswith("%%"):
        return "\n".join(" " * len(line) for line in source.split("\n"))
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return "\n".join(_MAGIC_VALUE.sub(_nought, _MAGIC.sub(_nought, line)) for line in source.split("\n"))
    return source


def _nought(match: re.Match[str]) -> str:
    return match[1] + "0".ljust(len(match[2]))


def assigned(source: str) -> dict[str, str | None]:
    """
    Return the names that a cell binds by assignment, in their order, with the text of the value where it is plain.

    Raises `SyntaxError`.
    """
    tree = parse(source)
    names: dict[str, str | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(_nfkc(node.id), None)
    for name, value in _plain(tree):
        names[name] = ast.unparse(value)
    return names


def fill(source: str, literals: Mapping[str, str]) -> tuple[str, set[str]]:
    """
    Return *source* with the value of each plain assignment of a name in *literals* replaced, and the names replaced.

    Comments, order and all other lines stay; the default stays as a comment at the end of its line.
    """
    text = masked(source)
    places = _Places(text)
    fills = [_Fill(name, value, places) for name, value in _plain(ast.parse(text)) if name in literals]
    edits = [(fill.start, fill.end, literals[fill.name]) for fill in fills]
    edits += [(end, end, comment) for end, comment in _comments(fills, text)]
    for start, end, new in sorted(edits, reverse=True):
        source = source[:start] + new + source[end:]
    filled = {fill.name for fill in fills}
    _assert_literals(source, filled)
    return source, filled


def imports(source: str) -> Iterator[str]:
    """
    Yield the top-level packages that a cell imports for certain: those in a `try`, an `if` or a function are left out.

    Source that is no Python yields nothing.
    """
    try:
        body = parse(source).body
    except (SyntaxError, ValueError):
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


def _nfkc(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


class _Places:
    """Turns the lines and columns of `ast` (UTF-8 bytes) and `tokenize` (characters) into offsets in the text."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.line_ends = sorted(self._logical_ends(text))

    def of_ast(self, line: int, column: int) -> int:
        before = self.lines[line - 1].encode()[:column].decode()
        return self.starts[line - 1] + len(before)

    def end_of_logical_line(self, offset: int) -> int:
        return next(end for end in self.line_ends if end >= offset)

    def _logical_ends(self, text: str) -> Iterator[int]:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NEWLINE:
                line, column = token.start
                yield self.starts[line - 1] + column


@dataclass(frozen=True)
class _Fill:
    name: str
    value: ast.expr
    places: _Places

    @property
    def start(self) -> int:
        return self.places.of_ast(self.value.lineno, self.value.col_offset)

    @property
    def end(self) -> int:
        return self.places.of_ast(self.value.end_lineno or 0, self.value.end_col_offset or 0)

    @property
    def default(self) -> str:
        text = ast.unparse(self.value)
        return text if len(text) <= _LONGEST_DEFAULT else text[: _LONGEST_DEFAULT - 1] + "…"


def _comments(fills: list[_Fill], text: str) -> Iterator[tuple[int, str]]:
    """Yield, for each logical line with fills on it, where it ends and the comment that tells the defaults."""
    by_line: dict[int, list[_Fill]] = {}
    for fill in fills:
        by_line.setdefault(fill.places.end_of_logical_line(fill.end), []).append(fill)
    for end, group in by_line.items():
        told = group[0].default if len(group) == 1 else ", ".join(f"{one.name} = {one.default}" for one in group)
        # Only a comment can stand between the last value and the end of the line, besides white space and brackets.
        line = text[text.rfind("\n", 0, end) + 1 : end]
        has_comment = any(token.type == tokenize.COMMENT for token in _tokens(line))
        yield end, f"; default: {told}" if has_comment else f"  # default: {told}"


def _tokens(line: str) -> Iterator[tokenize.TokenInfo]:
    try:
        yield from tokenize.generate_tokens(io.StringIO(line).readline)
    except (tokenize.TokenError, IndentationError):
        return  # the tail of a bracket that opened on an earlier line; what came before was yielded


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
