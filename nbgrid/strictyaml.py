"""
YAML as the grid cell and parameter files may hold it: the core schema of YAML 1.2, with nothing left to guess.

PyYAML reads YAML 1.1, where an unquoted `on` is true, `012` is 10, `1:30` is 90, `1e3` is a string, and of two equal
keys the last wins without a word. Here each of these is typed as YAML 1.2 has it, or refused with what to write instead;
so are Python's `None` and `nan`, which to YAML are text.
Sizes are capped before anything is built, since a few hundred bytes of aliases can stand for gigabytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from nbgrid.errors import InputError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_NODES = 100_000

_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)

# What YAML 1.1 reads as one thing and YAML 1.2, or the person who typed it, as another.
_AMBIGUOUS = {
    "a yes or no: write true or false": re.compile(r"(?i:yes|no|on|off)", re.ASCII),
    "nothing: write null": re.compile(r"None", re.ASCII),
    "a float: write .nan or .inf": re.compile(r"[-+]?(?i:nan|inf|infinity)", re.ASCII),
    "a number with a leading zero: write it without": re.compile(r"[-+]?0[0-9_]+", re.ASCII),
    "a number with underscores: write it without": re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?", re.ASCII),
    "a time, or a number in base 60: write the number": re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?", re.ASCII),
    "a date, which no parameter can be": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?", re.ASCII),
    "a binary number: write it in decimal": re.compile(r"[-+]?0b[01_]+", re.ASCII),
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml's parser, if built
    """Composes nodes and resolves nothing: every plain scalar stays text, typed by `scalar` below."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own attribute


def load(text: str, where: str) -> Any:
    """
    Return what the YAML *text* says; *where* names it in messages.

    Raises `InputError` with the line for what is no YAML, ambiguous, doubled, tagged, or too large.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"{where}: {len(text):,} characters of YAML; {MAX_BYTES:,} are the limit")
    try:
        _check_events(text, where)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{where}{_problem(error)}") from None
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: character {error.start + 1} is half of a surrogate pair, which is no text"
        ) from None
    return None if node is None else _Builder(where).build(node, 0)


def scalar(text: str) -> bool | int | float | str | None:
    """
    Return the value of an unquoted YAML scalar as the core schema of YAML 1.2 types it (section 10.3.2).

    Raises `ValueError`, with what to write instead, for what YAML 1.1 or Python would have read otherwise. Whoever
    catches it adds how the text itself is written.
    """
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    for meaning, pattern in _AMBIGUOUS.items():
        if pattern.fullmatch(text):
            raise ValueError(f"{text} could be {meaning}")
    if _INT.fullmatch(text):
        return _int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return _float(text)
    return float(text.replace(".", "")) if _SPECIAL.fullmatch(text) else text


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python's own limit of 4300 digits
        raise ValueError(f"{text[:10]}… is a number of {len(text):,} digits, which is too long") from None


def _float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is more than a float can hold: write .inf if you mean that")
    return value


def _problem(error: yaml.YAMLError) -> str:
    """Return the line and what is wrong there, as PyYAML tells it."""
    mark = getattr(error, "problem_mark", None)
    line = f", line {mark.line + 1}" if mark else ""
    if isinstance(error, yaml.reader.ReaderError):
        return f"{line}: character {error.position + 1} is not allowed in YAML"
    said = [getattr(error, "context", None), getattr(error, "problem", None)]
    return f"{line}: no valid YAML: {', '.join(filter(None, said)) or error}"


def _check_events(text: str, where: str) -> None:
    """Refuse deep nesting before PyYAML's composer, which is recursive, sees it; and tags, which it would resolve."""
    depth = 0
    for event in _events(text):
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.events.CollectionEndEvent):
            depth -= 1
        line = f"{where}, line {event.start_mark.line + 1}"
        if depth > MAX_DEPTH:
            raise InputError(f"{line}: nested more than {MAX_DEPTH} deep")
        if getattr(event, "tag", None) is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise InputError(f"{line}: the tag {tag} is not allowed: write the value without it")


def _events(text: str) -> Iterator[Any]:
    return iter(yaml.parse(text, Loader=_Loader))


class _Builder:
    """Builds plain values from nodes, counting them, so that aliases cannot multiply."""

    def __init__(self, where: str) -> None:
        self.where, self.nodes = where, 0

    def build(self, node: Any, depth: int) -> Any:
        self.nodes += 1
        if depth > MAX_DEPTH:
            raise self._error(node, f"with its aliases it is nested more than {MAX_DEPTH} deep")
        if self.nodes > MAX_NODES:
            raise self._error(node, f"with its aliases it stands for more than {MAX_NODES:,} values")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, depth + 1) for item in node.value]
        return self._scalar(node)

    def _scalar(self, node: Any) -> Any:
        if node.style:  # quoted, or a block of text; a plain scalar has None, or '' from libyaml
            return node.value
        try:
            return scalar(node.value)
        except ValueError as error:
            raise self._error(node, f'{error} (for the text: "{node.value[:60]}")') from None

    def _mapping(self, node: Any, depth: int) -> dict[str, Any]:
        lines: dict[str, int] = {}
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.build(key_node, depth + 1)
            if not isinstance(key, str):
                raise self._error(key_node, f"the key {str(key)[:60]} is no text: write it in quotes")
            line = key_node.start_mark.line + 1
            if key == "<<":
                raise self._error(key_node, "merge keys (<<) are not supported: write the entries out")
            if key in lines:
                raise InputError(f"{self.where}: the key {key!r} stands on line {lines[key]} and again on line {line}")
            lines[key] = line
            built[key] = self.build(value_node, depth + 1)
        return built

    def _error(self, node: Any, what: str) -> InputError:
        return InputError(f"{self.where}, line {node.start_mark.line + 1}: {what}")
