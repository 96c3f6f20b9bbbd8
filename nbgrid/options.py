"""
What the grid cell says: its YAML, checked and typed.

pydantic reads it; its findings are turned into one line each, with the nearest known name.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nbgrid.errors import TemplateError, nearest
from nbgrid.strictyaml import load

_UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}  # fmt: skip
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 366 * 86400
# Windows keeps these names to itself, whatever follows a dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE | re.ASCII)


def memory_bytes(value: Any) -> int:
    """Return the bytes that `2GB`, `512 MiB` or a plain number stands for; raise `ValueError` for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?I?)B?\s*", str(value).upper(), re.ASCII)
    amount = float(match[1]) * _UNITS.get(match[2], 0) if match and not isinstance(value, bool) else 0
    if not 1 <= amount < 2**63:
        raise ValueError("write an amount of memory such as 2GB or 512MiB")
    return int(amount)


def seconds(value: Any) -> float:
    """Return the seconds that `90`, `90s`, `10m` or `2h` stands for; raise `ValueError` for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)\s*", str(value), re.ASCII)
    amount = float(match[1]) * _SECONDS[match[2] or "s"] if match and not isinstance(value, bool) else 0
    if not 0 < amount < _LONGEST:
        raise ValueError("write a time such as 90s, 10m or 2h, of at most a year")
    return amount


def check_prefix(value: str) -> str:
    """Return *value* if it names a folder below the output root on every file system; else raise `ValueError`."""
    parts = value.split("/")
    if not all(re.fullmatch(r"\w(?:[\w .+=@-]*[\w+=@-])?", part) for part in parts) or len(value.encode()) > 100:
        raise ValueError(
            "a prefix has letters, digits, and - _ . = + between them, / between folders, and at most 100 bytes"
        )
    for part in filter(_DEVICE.fullmatch, parts):
        raise ValueError(f"{part} is a device's name on Windows; choose another prefix")
    return value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Resources(_Part):
    """What one task may use."""

    cpus: Annotated[int, Field(ge=1)] = 1
    """Threads for BLAS, OpenMP and numba; slots × cpus is at most the number of cores."""
    memory: Annotated[int, BeforeValidator(memory_bytes)] | None = None
    """Bytes for the task's processes together; a task that takes more is killed, with that reason."""


class Sample(_Part):
    """How many points of the grid to draw."""

    n: Annotated[int, Field(ge=1)]
    seed: int = 0


class ElbowPlot(_Part):
    """The tags whose results are the axes of an elbow curve."""

    x: str
    y: str
    time: str | None = None


class Plot(_Part):
    """One picture to draw when the run ends."""

    elbow: ElbowPlot


class Options(_Part):
    """The entries of the grid cell."""

    prefix: Annotated[str, BeforeValidator(lambda value: check_prefix(str(value)))] | None = None
    grid: Any = None
    """As `Grid` takes it; checked there."""
    exclude: list[dict[str, Any]] = []
    sample: Sample | None = None
    timeout: Annotated[float, BeforeValidator(seconds)] | None = None
    """Seconds that one cell may take."""
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    """How many more attempts a task gets that did not finish."""
    resources: Resources = Resources()
    include: list[str] = []
    workdir: Literal["template", "task"] = "template"
    plots: list[Plot] = []

    @model_validator(mode="before")
    @classmethod
    def _one_include_is_a_list(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("include"), str):
            return {**data, "include": [data["include"]]}
        return data


def read_options(text: str, where: str) -> Options:
    """
    Return the options that the grid cell's *text* gives; *where* names it in messages.

    Raises `TemplateError` for an unknown entry or a wrong value, and `InputError` for what is no strict YAML.
    """
    data = load(text, where)
    if data is None:
        return Options()
    if not isinstance(data, dict):
        raise TemplateError(f"{where}: write entries such as `grid:`, not a {type(data).__name__}")
    _refuse_lost_indent(text, data, where)
    try:
        return Options.model_validate(data)
    except ValidationError as error:
        raise TemplateError(f"{where}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    # A union reports each branch that failed; the first is what was written first in the type.
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        known = Options.model_fields if len(first["loc"]) == 1 else ()
        listed = f" (known: {', '.join(known)})" if known else ""
        return f"there is no entry {place!r}{nearest(name, known)}{listed}"
    if first["type"] == "missing":
        return f"{place} is missing"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
    return f"{place}: {message}, not {_short(first['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _refuse_lost_indent(text: str, data: dict[str, Any], where: str) -> None:
    """Refuse a `grid:` whose parameters stand at the margin below it, with the YAML that was meant."""
    strays = [key for key in data if key not in Options.model_fields]
    if "grid" not in data or data["grid"] is not None or not strays:
        return
    stand, it = ("stands", "it") if len(strays) == 1 else ("stand", "them")
    raise TemplateError(
        f"{where}: `grid:` is empty and {', '.join(strays)} {stand} at the margin; indent {it}:\n"
        + "\n".join(f"    {line}".rstrip() for line in _indented(text, strays))
    )


def _indented(text: str, strays: list[str]) -> list[str]:
    """Return the lines of the grid cell with the entries *strays* below `grid:`, where they were meant to be."""
    rest: list[str] = []
    moved: list[str] = []
    current, place = rest, 0
    for line in filter(str.strip, text.splitlines()):
        if key := re.match(r"([^\s#:{-][^:]*):", line):
            name = key[1].strip("'\" ")
            current = moved if name in strays else rest
            place = len(rest) + 1 if name == "grid" else place
        current.append(f"  {line}" if current is moved else line)
    return [*rest[:place], *moved, *rest[place:]]
