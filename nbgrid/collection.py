"""
Executed notebooks read together: their tagged outputs side by side, as values, a table, or an elbow curve.

The interface is sklearn-evaluation's (`nbs["sum-of-squares"].values()`), and notebooks by papermill or by hand open
just as well. What is missing never shifts what is there: it is a gap, with its reason.
"""

from __future__ import annotations

import glob
import html
import math
import re
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nbgrid.elbow import Points, elbow_axes, points
from nbgrid.errors import NotebookError, nearest
from nbgrid.executed import ExecutedNotebook, read_executed
from nbgrid.knee import knee
from nbgrid.outputs import Gap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NUMBER = re.compile(r"((?<==)-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\d+)", re.IGNORECASE)
_RECORDED = {
    "state": "string", "reason": "string", "seconds": "float64", "peak_memory": "Int64", "task": "string",
    "attempt": "Int64", "run": "string", "path": "string",
}  # fmt: skip
_SHOWN_ROWS = 100

T = TypeVar("T")


class NotebookGap(NamedTuple):
    """What is missing in one notebook of a collection, and why."""

    id: Hashable
    tag: str | None
    """None: the notebook as a whole could not be read, or did not finish."""
    reason: str


class ById(Mapping[Hashable, T]):
    """A mapping by notebook id that also takes a whole number for a place, unless whole numbers are ids."""

    def __init__(self, items: dict[Hashable, T]) -> None:
        self._items = items
        self._places = None if any(isinstance(key, int) for key in items) else list(items)

    def __getitem__(self, key: Hashable) -> T:
        if key not in self._items and self._places is not None and type(key) is int:
            size = len(self._places)
            if not -size <= key < size:
                raise KeyError(f"there is no notebook {key}: the collection has {size}")
            key = self._places[key]
        return self._items[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def _ipython_key_completions_(self) -> list[Hashable]:
        return list(self._items)


class TagValues(ById[Any]):
    """The values of one tag: notebook id → value, with a table in notebooks."""

    def __init__(self, tag: str, values: dict[Hashable, Any]) -> None:
        super().__init__(values)
        self._tag = tag

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._tag!r}, {self._items!r})"

    def _repr_html_(self) -> str:
        return _table(["", self._tag], ([key, value] for key, value in self.items()), len(self))


class NotebookCollection(Mapping[str, TagValues]):
    """
    The tagged results of executed notebooks: tag → notebook id → value.

    *paths* is a list of paths, one path, a folder (all notebooks below it), or a pattern such as
    "elbow-curve/**/*.ipynb". *ids* None names notebooks by their paths as text, "filenames" by their stems, and a list
    by its entries, one a path. A whole number that is no id is a place: `nbs["n-clusters"][0]`.

    Notebooks come in the order of the grid if they are of one run, else by path with numbers as numbers (2 before 10);
    with a list of ids, in the order of that list. Where a notebook lacks a value, NaN stands among numbers and None
    elsewhere; `gaps` tells why. Notebooks of different runs, and no notebooks at all, are warned of.

    Raises ValueError for ids that are not unique or not as many as paths; with *strict*, `NotebookError` for any gap.
    """

    def __init__(
        self,
        paths: str | Path | Iterable[str | Path],
        ids: str | Iterable[Hashable] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        found = _expand(paths)
        names = _ids(ids, found)
        opened = [read_executed(path) for path in found]
        places: Iterable[int] = range(len(found))
        if ids is None or isinstance(ids, str):
            places = sorted(places, key=_order(opened).__getitem__)
        self.notebooks: Mapping[Hashable, ExecutedNotebook] = ById({names[place]: opened[place] for place in places})
        self._tags = list(dict.fromkeys(tag for notebook in self.notebooks.values() for tag in notebook.tags))
        self._values: dict[str, TagValues] = {}
        self._warn(paths)
        if strict and (gaps := self.gaps()):
            more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
            where = "" if gaps[0].tag is None else f", {gaps[0].tag!r}"
            raise NotebookError(f"{gaps[0].id}{where}: {gaps[0].reason}{more}")

    def __getitem__(self, tag: str) -> TagValues:
        if tag not in self._tags:
            known = ", ".join(self._tags) or "none"
            raise KeyError(f"no notebook has a result tagged {tag!r}{nearest(str(tag), self._tags)} (tags: {known})")
        if tag not in self._values:
            found = {key: notebook.value(tag) for key, notebook in self.notebooks.items()}
            empty = _filler(value for value in found.values() if not isinstance(value, Gap))
            filled = {key: empty if isinstance(value, Gap) else value for key, value in found.items()}
            self._values[tag] = TagValues(tag, filled)
        return self._values[tag]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tags)

    def __len__(self) -> int:
        return len(self._tags)

    def __contains__(self, tag: object) -> bool:
        return tag in self._tags

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.notebooks)} notebooks, tags: {', '.join(self._tags) or 'none'}>"

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._tags)

    def gaps(self) -> list[NotebookGap]:
        """
        Return what is missing, notebook by notebook: (id, tag or None, reason).

        A notebook that cannot be read is one gap; one that did not finish is a gap, and so is each value it lacks.
        """
        found = []
        for key, notebook in self.notebooks.items():
            if notebook.reason is not None:
                found.append(NotebookGap(key, None, notebook.reason))
            if notebook.reason is None or notebook.cells:
                values = ((tag, notebook.value(tag)) for tag in self._tags)
                found += [NotebookGap(key, tag, value.reason) for tag, value in values if isinstance(value, Gap)]
        return found

    def to_frame(self) -> pd.DataFrame:
        """
        Return one row a notebook, by id: parameters, tagged results, then state, reason, seconds and where it lies.

        A result whose name is a parameter's or one of the last columns' is called `result.<tag>`; one of those columns
        that a parameter is called like, `nbgrid.<column>`. Whole numbers are Int64, truths boolean, text string, with
        <NA> for gaps, so that a column's type follows from its values and not from what is missing; other numbers are
        float64, and everything else is object.
        """
        import pandas as pd

        index = pd.Index(list(self.notebooks), name="id", tupleize_cols=False)
        columns = {name: pd.Series(values, index, dtype) for name, (values, dtype) in self._columns().items()}
        return pd.DataFrame(columns, index=index)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return what `to_frame` does as a list for each column, with None for gaps; pandas is not loaded."""
        return {name: values for name, (values, _) in self._columns().items()}

    def _columns(self) -> dict[str, tuple[list[Any], str]]:
        """Return values and dtype of each column."""
        rows = list(self.notebooks.values())
        columns: dict[str, tuple[list[Any], str]] = {}
        for name in dict.fromkeys(name for row in rows for name in row.parameters):
            columns[name] = _typed([row.parameters.get(name) for row in rows])
        for tag in self._tags:
            values = (row.value(tag) for row in rows)
            name = _free(tag, "result", {*columns, *_RECORDED})
            columns[name] = _typed([None if isinstance(value, Gap) else value for value in values])
        for name, dtype in _RECORDED.items():
            recorded = [str(row.path) if name == "path" else getattr(row, name) for row in rows]
            columns[_free(name, "nbgrid", columns)] = recorded, dtype
        return columns

    def curve(self, x: str, y: str, seconds: str | None = None) -> Points:
        """
        Return the points of *y* over *x*, both a tag or a parameter, sorted by *x* and without gaps.

        *seconds* may also be "seconds", the notebook's own duration. Time differences count in seconds. Raises
        KeyError for a name that is neither.
        """
        return points(self._numbers(x), self._numbers(y), None if seconds is None else self._numbers(seconds))

    def elbow_curve(
        self,
        x: str,
        y: str,
        seconds: str | None = None,
        ax: Axes | None = None,
        *,
        ylabel: str | None = None,
        mark_knee: bool = True,
    ) -> Axes:
        """
        Draw the elbow curve of `curve(x, y, seconds)`, with its knee marked, and return the axes.

        With *ax* None pyplot's current axes are drawn on.
        """
        curve = self.curve(x, y, seconds)
        return elbow_axes(ax, curve, knee=knee(curve.x, curve.y) if mark_knee else None, ylabel=ylabel)

    def _numbers(self, name: str) -> list[float]:
        rows = self.notebooks.values()
        if name in self._tags:
            return [_real(value) for value in self[name].values()]
        if any(name in notebook.parameters for notebook in rows):
            return [_real(notebook.parameters.get(name)) for notebook in rows]
        if name == "seconds":
            return [_real(notebook.seconds) for notebook in rows]
        known = [*self._tags, *dict.fromkeys(name for notebook in rows for name in notebook.parameters)]
        raise KeyError(f"{name!r} is no tag and no parameter{nearest(name, known)} (there are: {', '.join(known)})")

    def _warn(self, paths: object) -> None:
        if not self.notebooks:
            warnings.warn(f"no notebooks in {paths!r}: the collection is empty", UserWarning, stacklevel=3)
        runs = Counter(notebook.run for notebook in self.notebooks.values() if notebook.run is not None)
        if len(runs) > 1:
            said = ", ".join(f"{run} ({count})" for run, count in runs.most_common(5))
            warnings.warn(f"notebooks of {len(runs)} different runs are mixed: {said}", UserWarning, stacklevel=3)

    def _repr_html_(self) -> str:
        frame = self.to_frame().drop(columns=["path", "run", "task", "attempt", "peak_memory"], errors="ignore")
        rows = ([key, *row] for key, row in zip(frame.index, frame.itertuples(index=False, name=None), strict=True))
        return _table(["", *map(str, frame.columns)], rows, len(frame))


def _expand(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    if not isinstance(paths, str | Path):
        return [Path(path) for path in paths]
    if Path(paths).is_dir():
        paths = f"{glob.escape(str(paths))}/**/*.ipynb"
    elif Path(paths).exists() or not glob.has_magic(str(paths)):
        return [Path(paths)]
    # glob passes by hidden folders: .ipynb_checkpoints, and nbgrid's own earlier attempts.
    found = (Path(path) for path in glob.glob(str(paths), recursive=True))  # noqa: PTH207  Path.glob enters hidden ones
    return sorted((path for path in found if path.suffix == ".ipynb"), key=_natural)


def _ids(ids: str | Iterable[Hashable] | None, paths: Sequence[Path]) -> list[Hashable]:
    if ids is None:
        names: list[Hashable] = [str(path) for path in paths]
    elif ids == "filenames":
        names = [path.stem for path in paths]
    elif isinstance(ids, str):
        raise ValueError(f"ids is {ids!r}; it must be None, 'filenames' or a list of ids")
    else:
        names = list(ids)
    if len(names) != len(paths):
        raise ValueError(f"{len(names)} ids for {len(paths)} notebooks")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"ids must be unique; {twice[0]!r} is the id of {names.count(twice[0])} notebooks")
    return names


def _natural(path: Path) -> tuple[list[str | float], str]:
    """Return a key that sorts the numbers in *path* as numbers: n_clusters=2 before n_clusters=10."""
    parts = _NUMBER.split(str(path))
    return [float(part) if place % 2 else part for place, part in enumerate(parts)], str(path)


def _order(notebooks: list[ExecutedNotebook]) -> list[Any]:
    indices = [notebook.index for notebook in notebooks]
    if None not in indices and len(set(indices)) == len(indices) and len({notebook.run for notebook in notebooks}) == 1:
        return indices
    return [_natural(notebook.path) for notebook in notebooks]


def _filler(values: Iterable[Any]) -> float | None:
    """Return what stands for a gap among *values*."""
    kinds = {type(value) for value in values}
    return math.nan if kinds and kinds <= {int, float, complex} else None


def _real(value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _free(name: str, prefix: str, taken: Iterable[str]) -> str:
    """Return *name*, with as many *prefix*es before it as make it differ from all that is *taken*."""
    taken = set(taken)
    while name in taken:
        name = f"{prefix}.{name}"
    return name


def _typed(values: list[Any]) -> tuple[list[Any], str]:
    """Return *values* as a column holds them, and its dtype, which follows from those that are not None."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return values, "Int64"
    if kinds and kinds <= {int, float}:
        return [_real(value) for value in values], "float64"
    if kinds in ({bool}, {str}):
        return values, "boolean" if kinds == {bool} else "string"
    return values, "object"


def _table(header: list[str], rows: Iterable[Iterable[Any]], count: int) -> str:
    """Return an HTML table in which nothing of a notebook is live."""
    lines = ["<table>", "<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in header) + "</tr>"]
    for row, _ in zip(rows, range(_SHOWN_ROWS), strict=False):
        lines.append("<tr>" + "".join(f"<td>{html.escape(_short(value))}</td>" for value in row) + "</tr>")
    more = f"<p>and {count - _SHOWN_ROWS} more</p>" if count > _SHOWN_ROWS else ""
    return "".join([*lines, "</table>", more])


def _short(value: Any) -> str:
    if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{type(value).__name__} {' × '.join(map(str, shape))}"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
