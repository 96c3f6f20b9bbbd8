"""The types that every layer speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"
"""What strict JSON can hold, and with NaN and ±inf what a parameter can be."""

Point: TypeAlias = Mapping[str, JSONValue]
"""One setting of the parameters: name → value."""

Notebook: TypeAlias = dict[str, Any]
"""A notebook as nbformat 4 lays it down: plain dictionaries and lists, multi-line strings joined."""

Cell: TypeAlias = dict[str, Any]
"""One cell of a `Notebook`."""
