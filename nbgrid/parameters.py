"""
The values that a parameter may have: checked, written as Python literals, and recorded as strict JSON.

A value is a bool, int, float (NaN and ±inf too), str, None, or a list or string-keyed mapping of these. numpy scalars
become their Python kin. Everything else is refused with what to use instead, before anything starts: what a notebook
sees is exactly what the record says, and a value can never become code.
"""

from __future__ import annotations

import json
import keyword
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from nbgrid.errors import ParameterError
from nbgrid.strictyaml import load, scalar
from nbgrid.typing import JSONValue, Point

MAX_VALUE_BYTES = 2**20
MAX_DEPTH = 40

_INSTEAD = {
    "tuple": "use a list",
    "set": "use a list",
    "frozenset": "use a list",
    "range": "use a list, or the range in words: 1..20",
    "ndarray": "use .tolist()",
    "bytes": "decode it to text",
    "date": "write it as text",
    "datetime": "write it as text",
    "time": "write it as text",
    "timedelta": "use a number of seconds",
    "datetime64": "write it as text",
    "timedelta64": "use a number of seconds",
    "Timestamp": "write it as text",
    "Decimal": "use a float or text",
    "complex": "use two parameters",
    "complex64": "use two parameters",
    "complex128": "use two parameters",
    "longdouble": "use float(value)",
    "NAType": "use None",
}
# IPython keeps these in the namespace that the parameters cell runs in.
_TAKEN = {"get_ipython", "exit", "quit", "In", "Out"}


def check_name(name: Any) -> str:
    """
    Return *name* as Python compares names (NFKC), if it can be a parameter's name; else raise `ParameterError`.
    """
    same = unicodedata.normalize("NFKC", name) if isinstance(name, str) else ""
    if not same.isidentifier() or not name.isidentifier() or keyword.iskeyword(same):
        raise ParameterError(f"{name!r} cannot be a parameter's name: it is no Python identifier")
    if same in _TAKEN or (same.startswith("__") and same.endswith("__")):
        raise ParameterError(f"{name!r} cannot be a parameter's name: Python or IPython uses it")
    return same


def check_value(value: Any, where: str) -> JSONValue:
    """
    Return *value* as plain Python; *where* names it in messages.

    Raises `ParameterError` naming the type for what no parameter may be, and for a value above 1 MiB.
    """
    checked = _checked(value, where, 0)
    size = len(json.dumps(encode(checked))) if isinstance(checked, str | list | dict) else 0
    if size > MAX_VALUE_BYTES:
        raise ParameterError(f"{where}: a value of {size / 2**20:.1f} MB is too large (limit 1 MB): pass a file's path")
    return checked


def literal(value: JSONValue) -> str:
    """
    Return *value*, already checked, as a Python literal.

    It is what `repr` writes, with float('nan'), float('inf') and float('-inf') the only calls.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value!r}')"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {literal(item)}" for key, item in value.items()) + "}"
    return repr(value)


def encode(value: JSONValue) -> JSONValue:
    """Return *value* for strict JSON: a float that JSON lacks becomes {"$float": "nan"}, "inf" or "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


def decode(value: JSONValue) -> JSONValue:
    """Return what `encode` was given."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$float"} and value["$float"] in ("nan", "inf", "-inf"):
            return float(str(value["$float"]))
        return {key: decode(item) for key, item in value.items()}
    return value


def canonical(value: JSONValue | Point) -> str:
    """Return *value* as text that tells types apart (1, 1.0, true, "1") and does not depend on the order of keys."""
    plain = encode(dict(value) if isinstance(value, Mapping) else value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def shown(value: JSONValue, limit: int = 60) -> str:
    """Return *value* for a person to read, on one line of at most *limit* characters."""
    text = literal(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def from_text(name: str, text: str) -> tuple[str, JSONValue]:
    """
    Return the name and value that `-p NAME VALUE` gives: VALUE typed as in the grid cell; after `NAME:=` it is JSON.

    Raises `ParameterError` for a value that could be read in two ways, with both spelled out.
    """
    where = f"-p {name}"
    if name.endswith(":="):
        name = name.removesuffix(":=")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ParameterError(f"{where} {shown(text)}: no valid JSON: {error}") from None
        return name, check_value(value, where)
    stripped = text.strip()
    if stripped[:1] in {"[", "{", '"', "'"}:
        return name, check_value(load(stripped, where), where)
    try:
        return name, scalar(stripped) if stripped else text
    except ValueError as error:
        raise ParameterError(f"{where}: {error} (for the text: -r {name} {shown(text)})") from None


def _checked(value: Any, where: str, depth: int) -> JSONValue:
    if depth > MAX_DEPTH:
        raise ParameterError(f"{where}: nested more than {MAX_DEPTH} deep")
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value  # type: ignore[no-any-return]
    if kind is int:
        return _checked_int(value, where)
    if kind is list:
        return [_checked(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if kind is dict:
        return _checked_mapping(value, where, depth)
    if _is_numpy_scalar(value):
        plain = value.item()
        if type(plain) in (bool, int, float, str):
            return _checked(plain, where, depth)
    raise ParameterError(_refusal(value, where))


def _checked_int(value: int, where: str) -> int:
    # Python writes no longer integer as text (sys.int_info.str_digits_check_threshold and its default limit).
    if value.bit_length() > 14_000:
        raise ParameterError(f"{where}: an integer of {value.bit_length():,} bits is too long: pass it as text")
    return value


def _checked_mapping(value: dict[Any, Any], where: str, depth: int) -> dict[str, JSONValue]:
    for key in value:
        if type(key) is not str:
            raise ParameterError(f"{where}: the key {key!r} is a {type(key).__name__}; keys must be text")
    if value.keys() == {"$float"}:
        raise ParameterError(f"{where}: a mapping of the one key '$float' is how nbgrid records NaN; add a second key")
    return {key: _checked(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}


def _is_numpy_scalar(value: Any) -> bool:
    # Told by name, so that numpy is not imported for it.
    return type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 and hasattr(value, "dtype")


def _refusal(value: Any, where: str) -> str:
    name = type(value).__name__
    is_path = re.search(r"Path$", name)
    advice = _INSTEAD.get(name) or ("use str(path)" if is_path else "use numbers, text or lists of these")
    return f"{where}: the type {name} is none that a parameter can have: {advice}"
