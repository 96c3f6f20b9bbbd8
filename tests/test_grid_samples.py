"""Samples of grids: how many, which, and that huge grids are never walked."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbgrid import grid as grids
from nbgrid.errors import GridError
from nbgrid.grid import Grid
from nbgrid.parameters import canonical

PINNED = [41, 45, 50, 76, 84]
PINNED_HUGE = [[4, 0, 4, 9, 3, 4, 1, 3], [8, 4, 4, 4, 2, 1, 8, 5]]
SPEC = {"a": "1..20", "b": ["x", "y", "z"]}


def huge(parameters: int = 30, **options: Any) -> Grid:
    return Grid({f"p{number:02}": list(range(10)) for number in range(parameters)}, **options)


def test_a_sample_is_some_of_the_grid_s_points_in_its_order() -> None:
    """
    As many as asked for, distinct, each of the grid, in the grid's order.
    """
    every = [canonical(point) for point in Grid(SPEC)]
    drawn = [canonical(point) for point in Grid(SPEC, sample={"n": 17, "seed": 3})]
    assert len(set(drawn)) == len(drawn) == 17
    assert drawn == sorted(drawn, key=every.index)


def test_a_sample_never_changes() -> None:
    """
    A seed gives these points, on every machine and in every version: who runs again must find them.
    """
    assert [point["a"] for point in Grid({"a": "0..99"}, sample={"n": 5, "seed": 0})] == PINNED
    assert [list(point.values())[:8] for point in huge(sample={"n": 2, "seed": 0})] == PINNED_HUGE


def test_another_seed_gives_another_sample() -> None:
    """
    The seed decides, and 0 is the seed of who names none.
    """
    assert list(Grid(SPEC, sample={"n": 5})) == list(Grid(SPEC, sample={"n": 5, "seed": 0}))
    assert list(Grid(SPEC, sample={"n": 5, "seed": 1})) != list(Grid(SPEC, sample={"n": 5, "seed": 0}))


def test_a_sample_larger_than_the_grid_is_the_grid() -> None:
    """
    There are no more points than there are.
    """
    assert list(Grid(SPEC, sample={"n": 1000})) == list(Grid(SPEC))


def test_a_sample_takes_nothing_that_is_excluded_or_doubled() -> None:
    """
    Exclusions and unions are settled before points are drawn.
    """
    grid = Grid([{"a": "1..5"}, {"a": "3..8"}], exclude=[{"a": 4}], sample={"n": 100})
    assert [point["a"] for point in grid] == [1, 2, 3, 5, 6, 7, 8]


def test_a_huge_grid_is_sampled_without_being_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    GP-01: 50 points of 10^30 cost about 50 looks, and every value of every parameter has its chance.
    """
    looks = []
    at = grids._Product.at
    monkeypatch.setattr(grids._Product, "at", lambda self, place: looks.append(place) or at(self, place))
    points = list(huge(sample={"n": 50, "seed": 0}))
    assert len(points) == 50 and len(looks) <= 110
    for name in points[0]:
        # 10 values, 50 draws: fewer than 7 seen has a chance below one in a million.
        assert len(Counter(point[name] for point in points)) >= 7


def test_a_huge_grid_is_sampled_around_its_exclusions() -> None:
    """
    What an exclusion leaves is found, even where it is one in a thousand.
    """
    grid = huge(9, exclude=[{"p00": "1..9"}, {"p01": "1..9"}, {"p02": "1..9"}], sample={"n": 5})
    assert [(point["p00"], point["p01"], point["p02"]) for point in grid] == [(0, 0, 0)] * 5


def test_a_sample_that_cannot_be_drawn_is_refused() -> None:
    """
    Looking for points that are not there has an end.
    """
    everything = [{"a": list(range(999))}, {"b": "1..998"}]
    with pytest.raises(GridError, match="too few different points are left to draw 5"):
        Grid({"a": "0..999", "b": "0..1000"}, exclude=[*everything, {"a": 999, "b": [0, 999]}], sample={"n": 5})


@pytest.mark.parametrize(
    "sample",
    [
        {"n": 0},
        {"n": -1},
        {"n": 1.5},
        {"n": True},
        {"seed": 0},
        {"n": 1, "seed": "x"},
        {"n": 1, "sed": 0},
        {"n": 10**7},
    ],
)
def test_a_wrong_sample_is_refused(sample: Any) -> None:
    """
    How many and from which seed, and nothing else.
    """
    with pytest.raises(GridError, match=r"^sample: "):
        Grid(SPEC, sample=sample)


@given(st.integers(1, 10**40), st.integers())
def test_each_number_below_a_limit_can_be_drawn(limit: int, seed: int) -> None:
    """
    The ends too, and nothing beyond.
    """

    class Fixed:
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self) -> float:
            return self.value

    assert grids._below(limit, Fixed(0.0)) == 0  # type: ignore[arg-type]
    assert grids._below(limit, Fixed(1 - 2**-53)) == limit - 1  # type: ignore[arg-type]
