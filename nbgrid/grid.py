"""
Grids of parameter settings: products, unions of products, ranges in words, exclusions and samples.

A grid is pure and lazy: it knows how many points it has without making them, and gives them in an order that depends on
the names and values alone, not on the order of the keys. Parameters vary in alphabetical order of their names, the last
fastest.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

from nbgrid.errors import GridError, nearest
from nbgrid.parameters import canonical, check_name, check_value, encode, shown
from nbgrid.typing import JSONValue, Point

MAX_ENUMERATED = 1_000_000
"""Unions and exclusions are counted by looking at each point; above this many, only a sample can be taken."""

_NUMBER = r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_LIKE_A_RANGE = re.compile(rf"\s*{_NUMBER}\s*\.\.", re.ASCII)
_LONGEST_NUMBER, _LARGEST_EXPONENT = 100, 308
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})(?:\s+step\s+({_NUMBER}))?\s*", re.ASCII)


class Grid:
    """
    The points of a grid.

    *spec* is a mapping name → values (their product) or a list of such mappings (the union of the products). Values are
    a list, a single value, or a range in words with both ends: `"1..20"`, `"1..20 step 3"`; a list may hold ranges. A
    point that meets one of the partial points of *exclude* is left out (a list there means any of its values). *sample*
    `{"n": 30, "seed": 0}` keeps that many points, drawn without replacement. Equal values in a list, and equal points
    of a union, count once, at the first place; 1, 1.0 and True differ.

    Raises `GridError` or `ParameterError` for whatever gives no points.
    """

    def __init__(
        self, spec: Any, *, exclude: Sequence[Mapping[str, Any]] = (), sample: Mapping[str, int] | None = None
    ) -> None:
        products = [spec] if isinstance(spec, Mapping) else spec
        if not isinstance(products, list | tuple) or not all(isinstance(product, Mapping) for product in products):
            raise GridError("grid: give a mapping of names to lists, or a list of such mappings")
        if not products or not all(products):
            raise GridError("grid: 0 points: it names no parameter")
        self._products = [_Product(product) for product in products]
        self._excluded = [self._exclusion(number, partial) for number, partial in enumerate(exclude, 1)]
        self._sample = _check_sample(sample)
        if self.count == 0:
            raise GridError("grid: 0 points are left after the exclusions")

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the grid sets, in alphabetical order."""
        return tuple(sorted({name for product in self._products for name in product.names}))

    @property
    def products(self) -> list[dict[str, JSONValue]]:
        """The products that the grid is the union of, name → values, for strict JSON."""
        return [{name: encode(list(values)) for name, values in product.lists.items()} for product in self._products]

    @cached_property
    def count(self) -> int:
        """
        The number of points.

        Raises `GridError` for a union or an exclusion over more than a million points that is not sampled.
        """
        if self._sample:
            return len(self._drawn)
        return self._raw if self._is_plain else len(self._kept)

    def __len__(self) -> int:
        # Python raises OverflowError from 2**63 on; `count` has no limit.
        return self.count

    def __bool__(self) -> bool:
        return True  # a grid without points cannot be made

    def __iter__(self) -> Iterator[Point]:
        if self._sample:
            return (self._at(place) for place in self._drawn)
        return iter(self._products[0]) if self._is_plain else (self._at(place) for place in self._kept)

    def __repr__(self) -> str:
        return f"<Grid of {self.count:,} points over {', '.join(self.names)}>"

    @property
    def _is_plain(self) -> bool:
        return len(self._products) == 1 and not self._excluded

    @property
    def _raw(self) -> int:
        return sum(product.count for product in self._products)

    def _at(self, place: int) -> Point:
        for product in self._products:
            if place < product.count:
                return product.at(place)
            place -= product.count
        raise IndexError(place)

    @cached_property
    def _kept(self) -> list[int]:
        """The places of the points that are neither excluded nor equal to an earlier one."""
        if self._raw > MAX_ENUMERATED:
            raise GridError(
                f"grid: {self._raw:,} points before exclusions and doubles, too many to look at one by one "
                f"(limit {MAX_ENUMERATED:,}): sample it with `sample: {{n: 1000, seed: 0}}`, or make it smaller"
            )
        seen: set[str] = set()
        kept = []
        for place in range(self._raw):
            point = self._at(place)
            key = canonical(point)
            if key not in seen and not self._is_excluded(point):
                kept.append(place)
            seen.add(key)
        return kept

    @cached_property
    def _drawn(self) -> list[int]:
        """
        The places of the sampled points, in the grid's order.

        Only `Random.random` is used, the one method whose sequence Python keeps for a seed from version to version.
        """
        assert self._sample is not None
        wanted, rng = self._sample["n"], random.Random(self._sample["seed"])  # noqa: S311  a sample, not a secret
        if self._raw > MAX_ENUMERATED:
            return self._draw_from_many(wanted, rng)
        left = list(range(self._raw)) if self._is_plain else list(self._kept)
        drawn = []
        for _ in range(min(wanted, len(left))):
            place = _below(len(left), rng)
            left[place], left[-1] = left[-1], left[place]
            drawn.append(left.pop())
        return sorted(drawn)

    def _draw_from_many(self, wanted: int, rng: random.Random) -> list[int]:
        drawn: dict[str, int] = {}
        for _ in range(100 * wanted + MAX_ENUMERATED // 10):
            place = _below(self._raw, rng)
            point = self._at(place)
            if not self._is_excluded(point):
                drawn.setdefault(canonical(point), place)
            if len(drawn) == wanted:
                return sorted(drawn.values())
        raise GridError(f"sample: too few different points are left to draw {wanted:,} of them: make n smaller")

    def _is_excluded(self, point: Point) -> bool:
        return any(
            all(name in point and canonical(point[name]) in values for name, values in exclusion.items())
            for exclusion in self._excluded
        )

    def _exclusion(self, number: int, partial: Any) -> dict[str, set[str]]:
        where = f"exclude, entry {number}"
        if not isinstance(partial, Mapping) or not partial:
            raise GridError(f"{where}: give a mapping of names to values, such as {{n_clusters: 3}}")
        exclusion = {}
        for raw_name, value in partial.items():
            name = check_name(raw_name)
            if name not in self.names:
                raise GridError(f"{where}: the grid has no parameter {raw_name!r}{nearest(name, self.names)}")
            values = {canonical(one): one for one in _values(name, value, where)}
            known = {canonical(one) for product in self._products for one in product.lists.get(name, ())}
            if not values.keys() & known:
                raise GridError(f"{where}: {name} is never {' or '.join(map(shown, values.values()))} in this grid")
            exclusion[name] = set(values)
        return exclusion


class _Product:
    """The product of lists of values, addressed by place: the last name in the alphabet varies fastest."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        lists: dict[str, list[JSONValue]] = {}
        for raw_name, value in mapping.items():
            name = check_name(raw_name)
            if name in lists:
                raise GridError(f"grid: {raw_name!r} stands twice (Python takes both spellings for {name!r})")
            lists[name] = _values(name, value)
            if not lists[name]:
                raise GridError(f"grid: 0 points: {name} has no values")
        self.lists = dict(sorted(lists.items()))
        self.names = tuple(self.lists)
        self.count = math.prod(map(len, self.lists.values()))

    def at(self, place: int) -> Point:
        chosen: list[tuple[str, JSONValue]] = []
        for name, values in reversed(self.lists.items()):
            place, index = divmod(place, len(values))
            chosen.append((name, values[index]))
        return dict(reversed(chosen))

    def __iter__(self) -> Iterator[Point]:
        return map(self.at, range(self.count))


def _values(name: str, value: Any, where: str = "grid") -> list[JSONValue]:
    """Return the distinct values that *value* stands for: a list, a range in words, a single value, or Python's own."""
    where = f"{where}, {name}"
    if isinstance(value, range) and len(value) > MAX_ENUMERATED:
        raise GridError(f"{where}: {value} has {len(value):,} values (limit {MAX_ENUMERATED:,})")
    if isinstance(value, range) or type(value).__name__ in {"ndarray", "Series"}:
        value = value.tolist() if hasattr(value, "tolist") else list(value)
    items = [(where, value)]
    if isinstance(value, list):
        items = [(f"{where}[{index}]", item) for index, item in enumerate(value)]
    distinct: dict[str, JSONValue] = {}
    for place, item in items:
        in_words = _in_words(place, item) if isinstance(item, str) else []
        for one in in_words or [check_value(item, place)]:
            distinct.setdefault(canonical(one), one)
    return list(distinct.values())


def _in_words(where: str, text: str) -> list[JSONValue]:
    """Return the values of a range such as `1..20 step 3`, or nothing if *text* is none."""
    match = _RANGE.fullmatch(text)
    if not match:
        if _LIKE_A_RANGE.match(text):
            raise GridError(f"{where}: {shown(text)} is no range: write it as 1..20 or 1..20 step 3")
        return []
    first, last, step = (_exact(where, part or "1") for part in match.groups())
    if step <= 0:
        raise GridError(f"{where}: the step of {text!r} must be above 0")
    if last < first:
        raise GridError(f"{where}: {text!r} goes down and so is empty; write {match[2]}..{match[1]}")
    count = int((last - first) / step) + 1
    if count > MAX_ENUMERATED:
        raise GridError(f"{where}: {text!r} has {count:,} values (limit {MAX_ENUMERATED:,})")
    whole = all(re.fullmatch(r"[-+]?[0-9]+", part) for part in match.groups() if part)
    steps = (first + index * step for index in range(count))
    return [int(value) if whole else float(value) for value in steps]


def _exact(where: str, number: str) -> Fraction:
    """Return *number* as a fraction, so that 0.1..0.5 step 0.1 has the values that it says."""
    # A fraction of a number such as 1e999999999 would fill the memory.
    if len(number) > _LONGEST_NUMBER or not -_LARGEST_EXPONENT < Decimal(number).adjusted() < _LARGEST_EXPONENT:
        raise GridError(f"{where}: {shown(number)} is out of the range of a float")
    return Fraction(number)


def _check_sample(sample: Mapping[str, int] | None) -> dict[str, int] | None:
    if sample is None:
        return None
    wanted, seed = sample.get("n"), sample.get("seed", 0)
    if sample.keys() - {"n", "seed"} or type(wanted) is not int or wanted < 1 or type(seed) is not int:
        raise GridError("sample: write {n: 30, seed: 0}: how many points to draw, and from which seed")
    if wanted > MAX_ENUMERATED:
        raise GridError(f"sample: n is {wanted:,} (limit {MAX_ENUMERATED:,})")
    return {"n": wanted, "seed": seed}


def _below(limit: int, rng: random.Random) -> int:
    """Return a whole number from 0 to *limit* - 1; a float alone would reach few of those beyond 2**53."""
    bits, number = 0, 0
    while bits < limit.bit_length() + 32:
        number, bits = (number << 32) | int(rng.random() * 2**32), bits + 32
    return (number * limit) >> bits
