"""
Tagged outputs decoded into values; nothing is ever evaluated.

What a cell showed becomes a Python value where its text says exactly what it was (literals, numpy's and pandas' reprs,
JSON), a picture becomes an `Image`, and any other text stays text. Every parser here has a cap on size and nesting,
since a notebook may come from anyone. numpy and pandas are imported when a value needs them.
"""

from __future__ import annotations

import ast
import base64
import binascii
import html.parser
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from nbgrid.typing import Cell

MAX_TEXT = 2**18
"""Longer text, in characters, stays text: a syntax tree takes about 500 times its memory."""
MAX_DEPTH = 50
"""Deeper nesting stays text."""
MAX_ARRAY_BYTES = 2**26
"""A larger array stays text (dtype='<U1000000000' is short to write)."""
MAX_TABLE_CELLS = 2**20


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a value should be and is not."""

    reason: str
    """In words, such as "the cell raised ValueError: no such column"."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that a cell showed: its bytes alone, never live HTML."""

    data: bytes = field(repr=False)
    mime: str = "image/png"

    def _repr_png_(self) -> bytes | None:
        return self.data if self.mime == "image/png" else None


def decode(cell: Cell) -> Any:
    """
    Return the value that the code *cell* showed, or the `Gap` that stands for it.

    The last result (of `execute_result` and `display_data`) counts, else all that was printed; stderr never does. Of
    one result's forms, the first that can be read of: scrapbook's, JSON, an HTML table of pandas (a DataFrame, with
    the digits that were shown), PNG (an `Image`), plain text (see `parse`).
    """
    outputs = [output for output in cell.get("outputs") or [] if isinstance(output, dict)]
    for output in outputs:
        if output.get("output_type") == "error":
            return Gap(f"the cell raised {_error(output)}")
    for output in reversed(outputs):
        if output.get("output_type") in {"execute_result", "display_data"} and isinstance(output.get("data"), dict):
            return _decode_bundle(output["data"])
    printed = [output for output in outputs if output.get("output_type") == "stream" and output.get("name") != "stderr"]
    if printed:
        return parse("".join(_text(output.get("text")) for output in printed))
    ran = outputs or cell.get("execution_count") is not None
    return Gap("the cell has no output" if ran else "the cell did not run")


def parse(text: str) -> Any:
    """
    Return the value that *text* spells, or *text* itself (without blank lines around it) where it spells none.

    Read are Python's literals, nan and ±inf, the reprs of numpy's scalars (as their Python kin) and whole arrays (with
    the digits that were shown, 8 unless numpy was told otherwise), datetime's and pandas' simple ones.
    """
    # Nearly all results are plain numbers; ten thousand notebooks have a hundred thousand of them.
    if _PLAIN_NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    if len(text) > MAX_TEXT or _too_deep(text):
        return text.strip("\r\n")
    try:
        return _value(_tree(text.strip()), 0)
    except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError, LookupError):
        return text.strip("\r\n")


def _tree(text: str) -> ast.expr:
    with warnings.catch_warnings():
        # An invalid escape in someone's output is no fault of whoever reads it.
        warnings.simplefilter("ignore")
        return ast.parse(text, mode="eval").body


def _decode_bundle(data: dict[str, Any]) -> Any:
    for kind, content in data.items():
        if match := re.fullmatch(r"application/scrapbook\.scrap\.(\w+)\+json", kind):
            return _scrap(content, match[1])
    if "application/json" in data:
        return data["application/json"]
    if "dataframe" in (page := _text(data.get("text/html"))) and (frame := _frame(page)) is not None:
        return frame
    if "image/png" in data and (picture := _picture(_text(data["image/png"]))) is not None:
        return picture
    if "text/plain" in data:
        return parse(_text(data["text/plain"]))
    return Gap(f"the cell's output has no form that can be read ({', '.join(map(str, data)) or 'it is empty'})")


def _scrap(content: Any, encoder: str) -> Any:
    if not isinstance(content, dict) or "data" not in content:
        return Gap("the cell's scrap holds no data")
    if encoder not in {"json", "text"}:
        return Gap(f"the cell's scrap is encoded as {encoder}, which nbgrid does not read")
    return content["data"]


def _picture(text: str) -> Image | None:
    try:
        return Image(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError):
        return None


def _error(output: dict[str, Any]) -> str:
    message = re.sub(r"\x1b\[[0-9;]*m", "", _text(output.get("evalue"))).strip()
    line = message.splitlines()[0] if message else ""
    name = _text(output.get("ename")) or "an error"
    return f"{name}: {line if len(line) <= 300 else line[:299] + '…'}" if line else name


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "".join(map(str, value)) if isinstance(value, list) else ""


def _too_deep(text: str) -> bool:
    # Counted before parsing, brackets within strings too: CPython's parser must not meet what it would choke on.
    depth = 0
    for bracket in re.findall(r"[\[({\])}]", text):
        depth += 1 if bracket in "[({" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _value(node: ast.expr, depth: int) -> Any:
    """Return the value of *node*; any node that is not known to be harmless raises ValueError."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(node, ast.Constant) and node.value is not ...:
        return node.value
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind([_value(item, depth + 1) for item in node.elts])
    if isinstance(node, ast.Dict):
        keys = [_value(key, depth + 1) for key in node.keys if key is not None]
        return dict(zip(keys, [_value(item, depth + 1) for item in node.values], strict=True))
    if isinstance(node, ast.UnaryOp | ast.BinOp):
        return _number(node, depth)
    if isinstance(node, ast.Name | ast.Attribute):
        return _NAMES[_plain_name(node)]
    if isinstance(node, ast.Call):
        return _call(node, depth)
    raise ValueError(f"{type(node).__name__} is no literal")


def _number(node: ast.UnaryOp | ast.BinOp, depth: int) -> Any:
    """Return -1 or 1+2j: a sign, or a real and an imaginary part."""
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, depth + 1)
        if type(value) in (int, float, complex) and isinstance(node.op, ast.USub | ast.UAdd):
            return -value if isinstance(node.op, ast.USub) else value
    else:
        left, right = _value(node.left, depth + 1), _value(node.right, depth + 1)
        if type(left) in (int, float) and type(right) is complex and isinstance(node.op, ast.Add | ast.Sub):
            return left + right if isinstance(node.op, ast.Add) else left - right
    raise ValueError("no number")


def _plain_name(node: ast.expr) -> str:
    """Return the name that *node* is, without the package that numpy's, pandas' and datetime's reprs may show."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in _PACKAGES:
        return node.attr
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError("no plain name")


def _call(node: ast.Call, depth: int) -> Any:
    constructor = _CALLS[_plain_name(node.func)]
    positional = [_value(argument, depth + 1) for argument in node.args]
    words = {str(word.arg): word.value for word in node.keywords}
    named = {name: _dtype(word) if name == "dtype" else _value(word, depth + 1) for name, word in words.items()}
    return constructor(*positional, **named)


def _dtype(node: ast.expr) -> str:
    """Return the dtype that *node* names, one of plain values."""
    name = str(node.value) if isinstance(node, ast.Constant) else _plain_name(node)
    if not _DTYPE.fullmatch(name):
        raise ValueError(f"{name} is no dtype of plain values")
    return name


def _array(values: Any, *, dtype: str | None = None, shape: tuple[int, ...] | None = None) -> Any:
    import numpy as np

    if values == [] and shape is not None and math.prod(shape) == 0:
        return np.empty(shape, dtype)
    leaves = _leaves(values)
    # Without a dtype every element becomes as wide as the longest text.
    longest = max((len(leaf) for leaf in leaves if isinstance(leaf, str | bytes)), default=4)
    width = np.dtype(dtype).itemsize if dtype else 4 * longest
    if len(leaves) * width > MAX_ARRAY_BYTES:
        raise ValueError("a huge array")
    array = np.array(values, dtype=dtype)
    if array.dtype.kind == "O" or (shape is not None and array.shape != shape):
        raise ValueError("no array of plain values")
    return array


def _leaves(values: Any) -> list[Any]:
    return [leaf for item in values for leaf in _leaves(item)] if isinstance(values, list) else [values]


def _scalar(value: Any) -> Any:
    if not isinstance(value, bool | int | float | complex | str | bytes):
        raise ValueError("no scalar")
    return value


def _float(value: Any) -> float:
    # numpy.longdouble shows its digits as text, nbgrid's literals write float('nan').
    return float(_scalar(value))


def _pandas(name: str) -> Callable[[str], Any]:
    def build(text: str) -> Any:
        import pandas

        # Digits first: the words "now" and "today" would mean another time at each reading.
        if not re.fullmatch(r"[-+]?\d[\w :.+-]{0,60}", text):
            raise ValueError("no fixed time")
        return getattr(pandas, name)(text)

    return build


_PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+(e[-+]?[0-9]{1,3})?)?")
_PACKAGES = {"np", "numpy", "pd", "pandas", "datetime"}
_NAMES = {"nan": math.nan, "inf": math.inf, "True_": True, "False_": False}
_CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("float", "float16", "float32", "float64", "float128", "longdouble"), _float),
    **dict.fromkeys([f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)], _scalar),
    **dict.fromkeys(("longlong", "ulonglong", "intc", "bool_", "complex64", "complex128", "str_", "bytes_"), _scalar),
    **{"array": _array, "set": set, "frozenset": frozenset},
    "timedelta": timedelta,
    "datetime": datetime,
    "date": date,
    "Timedelta": _pandas("Timedelta"),
    "Timestamp": _pandas("Timestamp"),
}
_DTYPE = re.compile(
    r"bool|(float|u?int|complex)\d{1,3}|[<>|]?[USmM]\d{0,6}(\[\w{1,6}\])?|(datetime|timedelta)64\[\w{1,6}\]"
)


@dataclass(slots=True)
class _Box:
    """One cell of an HTML table."""

    head: bool
    rows: int
    columns: int
    text: str = ""


class _Tables(html.parser.HTMLParser):
    """Collects the rows of each table of class `dataframe`, those of its head apart."""

    def __init__(self) -> None:
        super().__init__()
        self.head: list[list[_Box]] = []
        self.body: list[list[_Box]] = []
        self.count = 0
        self._rows: list[list[_Box]] | None = None
        self._box: _Box | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "table":
            self.count += 1
            self._rows = self.body if "dataframe" in (found.get("class") or "").split() else None
        elif tag in {"thead", "tbody"} and self._rows is not None:
            self._rows = self.head if tag == "thead" else self.body
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in {"th", "td"} and self._rows:
            self._box = _Box(tag == "th", _span(found.get("rowspan")), _span(found.get("colspan")))
            self._rows[-1].append(self._box)

    def handle_endtag(self, tag: str) -> None:
        if tag in {"th", "td"}:
            self._box = None
        elif tag == "table":
            self._rows = None

    def handle_data(self, data: str) -> None:
        if self._box is not None:
            self._box.text += data


def _span(text: str | None) -> int:
    return min(max(int(text), 1), 10_000) if text and re.fullmatch(r"\d{1,6}", text) else 1


def _frame(page: str) -> Any:
    """Return the one DataFrame that *page* shows in full, else None."""
    import pandas as pd

    if len(page) > 16 * MAX_TEXT:
        return None
    tables = _Tables()
    tables.feed(page)
    try:
        head, body = _spread(tables.head), _spread(tables.body)
    except ValueError:
        return None
    width = {len(row) for row in head + body}
    if tables.count != 1 or not head or len(width) != 1 or _elided(head, body):
        return None
    depth = sum(box.head for box in body[0]) if body else 1
    names: list[str | None] = [None] * depth
    if len(head) > 1 and not any(box.text for box in head[-1][depth:]):
        names = [box.text or None for box in head.pop()[:depth]]
    columns = [_column([row[place].text for row in body]) for place in range(width.pop())]
    frame = pd.DataFrame(dict(enumerate(columns[depth:])), index=range(len(body)))
    frame.columns = _axis([_column([box.text for box in row[depth:]]) for row in head], [None] * len(head))
    if depth:
        frame.index = _axis(columns[:depth], names)
    return frame


def _spread(rows: list[list[_Box]]) -> list[list[_Box]]:
    """Return *rows* with each box repeated over the rows and columns that it spans."""
    spread: list[list[_Box]] = []
    hanging: dict[int, tuple[_Box, int]] = {}
    total = 0
    for row in rows:
        line: list[_Box] = []
        boxes, below = iter(row), {}
        while True:
            place, columns = len(line), 1
            if place in hanging:
                box, left = hanging[place]
            elif (following := next(boxes, None)) is not None:
                box, left, columns = following, following.rows, following.columns
            else:
                break
            total += columns
            if total > MAX_TABLE_CELLS:
                raise ValueError("a huge table")
            line += [box] * columns
            if left > 1:
                below.update(dict.fromkeys(range(place, place + columns), (box, left - 1)))
        spread.append(line)
        hanging = below
    return spread


def _elided(head: list[list[_Box]], body: list[list[_Box]]) -> bool:
    """Tell whether pandas left out columns or rows: it writes "..." in their place."""
    return any(box.text == "..." for row in head for box in row) or any(
        all(box.text == "..." for box in row if not box.head) for row in body
    )


def _axis(levels: list[list[Any]], names: list[str | None]) -> Any:
    import pandas as pd

    if len(levels) == 1:
        return pd.Index(levels[0], name=names[0])
    return pd.MultiIndex.from_arrays(levels, names=names)


def _column(texts: list[str]) -> list[Any]:
    """Return the cells of one column: all numbers or all truths where every one of them is, else text."""
    texts = [text.strip() for text in texts]
    if all(re.fullmatch(r"[+-]?\d{1,18}", text) for text in texts):
        return [int(text) for text in texts]
    if all(text in {"True", "False"} for text in texts):
        return [text == "True" for text in texts]
    if all(re.fullmatch(r"[+-]?(\d+(\.\d*)?(e[+-]?\d+)?|inf)|NaN", text) for text in texts):
        return [float(text) for text in texts]
    return [None if text in {"NaN", "None", "<NA>", "NaT"} else text for text in texts]
