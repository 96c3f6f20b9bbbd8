"""Grids: which points they have, in which order, and what gives none."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbgrid import grid as grids
from nbgrid.errors import GridError, InputError, ParameterError
from nbgrid.grid import Grid
from nbgrid.parameters import canonical


def refusal(spec: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        Grid(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values(words: Any) -> list[Any]:
    return [point["k"] for point in Grid({"k": words})]


def test_a_mapping_is_the_product_of_its_lists() -> None:
    """
    The last name in the alphabet varies fastest, and values keep their order.
    """
    assert list(Grid({"b": [3, 1], "a": ["x", "y"]})) == [
        {"a": "x", "b": 3}, {"a": "x", "b": 1}, {"a": "y", "b": 3}, {"a": "y", "b": 1}
    ]  # fmt: skip
    assert list(Grid({"k": 5, "text": "abc", "none": None})) == [{"k": 5, "none": None, "text": "abc"}]


def test_a_list_of_mappings_is_the_union_of_their_products() -> None:
    """
    Points that two products share count once, at their first place; products may have other names.
    """
    grid = Grid([{"k": [1, 2]}, {"k": [2, 3]}, {"k": 2, "init": "random"}])
    assert list(grid) == [{"k": 1}, {"k": 2}, {"k": 3}, {"init": "random", "k": 2}]
    assert (grid.count, len(grid), grid.names) == (4, 4, ("init", "k"))


def test_equal_values_count_once_at_their_first_place() -> None:
    """
    Exact doubles are one point.
    """
    assert values([1, 2, 1, 3, 2]) == [1, 2, 3]
    assert len(Grid({"k": [math.nan, math.nan, 0.0, -0.0]})) == 3


def test_values_of_other_types_are_other_points() -> None:
    """
    GP-03: 1, 1.0, true and "1" are four points.
    """
    found = values([1, 1.0, True, "1"])
    assert [type(value) for value in found] == [int, float, bool, str]


def test_ten_thousand_million_points_are_counted_without_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    GP-01: the count of 10^10 points is exact, makes no point and takes no memory; the first comes without the others.
    """
    made = []
    at = grids._Product.at
    monkeypatch.setattr(grids._Product, "at", lambda self, place: made.append(place) or at(self, place))
    tracemalloc.start()
    try:
        grid = Grid({f"p{number}": list(range(10)) for number in range(10)})
        assert grid.count == len(grid) == 10**10
        assert made == []
        assert next(iter(grid)) == {f"p{number}": 0 for number in range(10)}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(made) == 1 and peak < 2**20


def test_a_grid_beyond_what_len_can_tell_still_has_a_count() -> None:
    """
    GP-01: 10^30 points are counted, and a grid is true whatever its size.
    """
    grid = Grid({f"p{number:02}": list(range(10)) for number in range(30)})
    assert grid.count == 10**30
    assert grid
    assert repr(grid).startswith("<Grid of 1,000,000,000,000,000,000,000,000,000,000 points over p00, p01")


SHUFFLED = """
import json, random, sys
from nbgrid.grid import Grid
from nbgrid.parameters import canonical
source = random.Random(7)
shuffle = random.Random(int(sys.argv[1]))
for _ in range(1000):
    names = source.sample("alpha beta gamma delta epsilon zeta".split(), source.randint(1, 3))
    some = [1, 2.5, True, "x", None, [1, 2], {"q": 1, "r": 2}]
    pairs = [(name, source.choices(some, k=source.randint(1, 4))) for name in names]
    sample = {"n": 3, "seed": 1} if source.random() < 0.3 else None
    shuffle.shuffle(pairs)
    mapping = {name: [dict(reversed(v.items())) if isinstance(v, dict) and shuffle.random() < 0.5 else v for v in values]
               for name, values in pairs}
    print(json.dumps([canonical(point) for point in Grid(mapping, sample=sample)]))
"""


def test_order_and_identity_do_not_depend_on_the_process() -> None:
    """
    GP-02: 1000 random grids have the same points in the same order with keys in another order and another PYTHONHASHSEED.
    """
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SHUFFLED, shuffle],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(grids.__file__).parents[1])},
            capture_output=True, text=True, check=True,
        ).stdout
        for shuffle, seed in (("1", "0"), ("2", "12345"), ("3", "4294967295"))
    }  # fmt: skip
    assert len(outputs) == 1
    assert outputs.pop().count("\n") == 1000


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("1..5", [1, 2, 3, 4, 5]), ("1..9 step 3", [1, 4, 7]), ("-2..2", [-2, -1, 0, 1, 2]),
        ("3..3", [3]),
        ("0.1..0.5 step 0.1", [0.1, 0.2, 0.3, 0.4, 0.5]), (" 1 .. 3 ", [1, 2, 3]),
        ("1e-3..3e-3 step 1e-3", [0.001, 0.002, 0.003]),
        ("0..1 step 0.5", [0.0, 0.5, 1.0]), ("1.0..2.0", [1.0, 2.0]), ("1..4 step 5", [1]),
        (f"{10**40}..{10**40 + 2}", [10**40, 10**40 + 1, 10**40 + 2]), (["1..3", 10, "2..4"], [1, 2, 3, 10, 4]),
    ],
)  # fmt: skip
def test_a_range_in_words_has_both_ends(words: Any, meant: list[Any]) -> None:
    """
    Whole numbers give integers, others floats that are exactly the ones written, and a list may hold ranges.
    """
    found = values(words)
    assert found == meant and list(map(type, found)) == list(map(type, meant))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("20..1", "goes down and so is empty; write 1..20"),
        ("1..20 step 0", "the step of '1..20 step 0' must be above 0"),
        ("1..20 step -1", "must be above 0"), ("1..2000000", "has 2,000,000 values (limit 1,000,000)"),
        ("0..1 step 1e-300", "values (limit 1,000,000)"),
        ("1..1e999999999", "'1e999999999' is out of the range of a float"),
        ("0..1 step 1e-999999999", "out of the range"), ("1e400..1e400", "out of the range"),
        (f"0..{'9' * 5000}", "out of the range"),
        ("1..20 by 2", "is no range: write it as 1..20 or 1..20 step 3"), ("1..", "is no range"),
        ("1...5", "is no range"),
        (["1..3", "5..2"], "grid, k[1]: '5..2' goes down"), (range(10**9), "has 1,000,000,000 values"),
    ],
)  # fmt: skip
def test_a_range_that_cannot_be_meant_is_refused(words: Any, message: str) -> None:
    """
    What goes down, does not move, is endless or only looks like a range is refused with what to write.
    """
    assert message in refusal({"k": words})


def test_text_with_dots_is_text() -> None:
    """
    Paths and versions are no ranges.
    """
    assert values(["../data", "a..b", "v1..2", "1.2.3", "..", "."]) == ["../data", "a..b", "v1..2", "1.2.3", "..", "."]


@given(st.integers(-1000, 1000), st.integers(0, 50), st.integers(1, 9))
def test_a_range_of_decimals_is_the_range_of_integers_scaled(first: int, count: int, step: int) -> None:
    """
    first, first + step, ... up to the end, in hundredths as in ones.
    """
    last = first + count * step
    assert values(f"{first}..{last} step {step}") == list(range(first, last + 1, step))
    hundredths = [f"{number / 100:.2f}" for number in range(first, last + 1, step)]
    assert values(f"{first / 100:.2f}..{last / 100:.2f} step {step / 100:.2f}") == list(map(float, hundredths))


@pytest.mark.parametrize("spec", [np.arange(1, 4), pd.Series([1, 2, 3]), range(1, 4), [np.int64(1), np.int32(2), 3]])
def test_python_s_own_sequences_give_plain_values(spec: Any) -> None:
    """
    GP-05: arrays, series and ranges give Python's own integers.
    """
    found = values(spec)
    assert found == [1, 2, 3] and {type(value) for value in found} == {int}
    assert json.dumps(found)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"k": []}, "grid: 0 points: k has no values"), ({}, "grid: 0 points"), ([], "grid: 0 points"),
        ([{"k": 1}, {}], "0 points"),
        ({"k": np.array([])}, "0 points"), (5, "give a mapping of names to lists"), ("1..5", "give a mapping"),
        ([1], "give a mapping"),
        ({"k": [1], "ﬁ": 1, "fi": 2}, "'fi' stands twice"),
    ],
)  # fmt: skip
def test_what_gives_no_points_is_refused(spec: Any, message: str) -> None:
    """
    GP-23: a grid without points is an error, not a run of none.
    """
    assert message in refusal(spec)


def test_a_value_of_a_wrong_type_is_named_with_its_place() -> None:
    """
    GP-06: parameter, place and type stand in the message.
    """
    with pytest.raises(ParameterError, match=r"grid, k\[1\]: the type tuple is none"):
        Grid({"k": [1, (2, 3)]})
    with pytest.raises(ParameterError, match="cannot be a parameter's name"):
        Grid({"x = 1; import os": [1]})


def test_excluded_points_are_left_out() -> None:
    """
    A point is left out if it meets all that an entry names; a list means any of its values, with their types.
    """
    spec = {"a": "1..3", "b": ["x", "y"]}
    left = list(Grid(spec, exclude=[{"a": [1, 2], "b": "x"}, {"a": 3}]))
    assert left == [{"a": 1, "b": "y"}, {"a": 2, "b": "y"}]
    assert len(Grid({"a": [1, 1.0, True]}, exclude=[{"a": 1}])) == 2
    assert list(Grid({"a": "1..9"}, exclude=[{"a": "2..9"}])) == [{"a": 1}]
    assert len(Grid([{"a": [1]}, {"b": [1]}], exclude=[{"b": 1}])) == 1


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ([{"n_cluster": 1}], "exclude, entry 1: the grid has no parameter 'n_cluster'; did you mean 'n_clusters'?"),
        ([{"n_clusters": 1}, {"n_clusters": 9}], "exclude, entry 2: n_clusters is never 9 in this grid"),
        ([{"n_clusters": [8, "1"]}], "n_clusters is never 8 or '1' in this grid"),
        ([{}], "exclude, entry 1: give a mapping"), ([5], "give a mapping"),
        ([{"n_clusters": "1..3"}], "grid: 0 points are left after the exclusions"),
    ],
)  # fmt: skip
def test_an_exclusion_that_excludes_nothing_or_everything_is_refused(exclude: Any, message: str) -> None:
    """
    A typing error in an exclusion does not pass in silence.
    """
    assert message in refusal({"n_clusters": [1, 2, 3]}, exclude=exclude)


def test_too_many_points_to_exclude_from_are_refused_with_the_way_out() -> None:
    """
    GP-01: an exclusion over more than a million points is refused, with the sample to write.
    """
    assert "sample: {n: 1000, seed: 0}" in refusal({"a": "1..2000", "b": "1..2000"}, exclude=[{"a": 1}])


@given(
    st.dictionaries(
        st.sampled_from("abcd"), st.lists(st.sampled_from([1, 1.0, True, "1", None, 2]), min_size=1), min_size=1
    ),
    st.randoms(),
)
def test_the_points_are_the_distinct_product(lists: dict[str, list[Any]], rng: random.Random) -> None:
    """
    GP-02: whatever the lists, the points are distinct, as many as counted, and the same when the keys are shuffled.
    """
    shuffled = list(lists.items())
    rng.shuffle(shuffled)
    points = [canonical(point) for point in Grid(lists)]
    assert points == [canonical(point) for point in Grid(dict(shuffled))]
    assert len(set(points)) == len(points) == Grid(lists).count
    assert len(points) == math.prod(len({canonical(value) for value in items}) for items in lists.values())


def test_grid_error_is_an_input_error() -> None:
    """
    What is wrong with a grid is the user's input.
    """
    assert issubclass(GridError, InputError)
