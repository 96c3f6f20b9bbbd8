"""The knee of a curve."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbgrid.knee import knee

SEED = [292847995.4657, 216713453.718, 144442239.963, 74211677.207, 9994874.255, 9981126.733,
        *np.linspace(9.966e6, 9.75e6, 14)]  # fmt: skip
MALL = [269981.28, 181363.60, 106348.37, 73679.79, 44448.46, 37265.87, 30241.34, 25336.95, 21850.17, 19634.55]

SHAPES = [
    # kneed's own four test curves over x = 0..9, with the knees that its tests state.
    ([0, 60, 80, 85, 90, 95, 96, 97, 98, 99], "concave", "increasing", 2),
    ([99, 98, 97, 96, 95, 90, 85, 80, 60, 0], "concave", "decreasing", 7),
    ([1, 2, 3, 4, 5, 10, 15, 20, 40, 100], "convex", "increasing", 7),
    ([100, 40, 20, 15, 10, 5, 4, 3, 2, 1], "convex", "decreasing", 2),
]


@st.composite
def curves(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Whole numbers only, so that shifting and scaling by whole numbers is exact in floating point."""
    whole = st.integers(-1000, 1000)
    x = draw(st.lists(whole, min_size=3, max_size=15, unique=True))
    return x, draw(st.lists(whole, min_size=len(x), max_size=len(x)))


def test_the_seeds_curve_has_its_knee_at_five() -> None:
    """
    The sum of squares of the seed's five blobs, k = 1..20, bends at 5.
    """
    assert knee(range(1, 21), SEED) == 5


def test_the_mall_customers_depend_on_where_the_curve_ends() -> None:
    """
    As kneed does, Kneedle answers 3 on the published Mall curve for k = 1..8, and 5 for k = 1..10.
    """
    assert knee(range(1, 9), MALL[:8]) == 3
    assert knee(range(1, 11), MALL) == 5


def test_the_papers_figure_2_has_its_knee_at_two_ninths() -> None:
    """
    y = -1 / (x + 0.1) + 5 on ten points in [0, 1], the paper's figure 2: 0.22, as kneed publishes it.
    """
    x = np.linspace(0, 1, 10)
    assert knee(x, -1 / (x + 0.1) + 5, curve="concave", direction="increasing") == pytest.approx(2 / 9)


@pytest.mark.parametrize(("y", "curve", "direction", "expected"), SHAPES)
def test_each_of_the_four_shapes_has_its_knee_where_kneed_finds_it(
    y: list[int], curve: Any, direction: Any, expected: int
) -> None:
    """
    Convex or concave, rising or falling: the knee is where kneed's published tests have it.
    """
    assert knee(range(10), y, curve=curve, direction=direction) == expected


def test_x_need_not_be_equally_spaced() -> None:
    """
    The hyperbola 1 / x between 0.1 and 10 is farthest from its chord at 1, by symmetry, however densely x is taken.
    """
    x = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10])
    assert knee(x, 1 / x) == 1


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        ([1, 2], [5, 1]),
        ([1, 2, 3], [5, math.nan, 1]),
        (range(1, 11), [3.0] * 10),
        (range(1, 11), [0.1 * k for k in range(10, 0, -1)]),
        (range(1, 11), [-(k**2) for k in range(10)]),
        ([2] * 10, range(10)),
    ],
    ids=["nothing", "two points", "two whole points", "constant", "straight", "bends the other way", "one x"],
)
def test_no_knee_is_none(x: Any, y: Any) -> None:
    """
    What has no knee gives None, neither an error nor the first point.
    """
    assert knee(x, y) is None
    assert knee(x, y, sensitivity=0) is None


def test_gaps_are_left_out() -> None:
    """
    A pair with None, NaN or an infinity is dropped, and the rest is read as before.
    """
    x = [*range(1, 21), 30, None, 40]
    y = [*SEED, None, 1e9, math.inf]
    assert knee(x, y) == 5


def test_repeated_x_are_averaged() -> None:
    """
    Two seeds a k, one above and one below the curve, give the curve's own knee.
    """
    assert knee([*range(1, 21)] * 2, [*(s + 5e6 for s in SEED), *(s - 5e6 for s in SEED)]) == 5


def test_a_larger_sensitivity_is_stricter() -> None:
    """
    A bend that S = 1 takes is refused when more steps are asked for.
    """
    y = [10, 6, 4, 3, 2, 1.2, 0.5, 0]
    assert knee(range(8), y, sensitivity=1) is not None
    assert knee(range(8), y, sensitivity=5) is None


def test_the_most_prominent_of_two_knees_is_taken() -> None:
    """
    A slight bend before the great one does not hide it.
    """
    y = [100, 96, 95.9, 95.8, 60, 10, 5, 4, 3, 2, 1, 0]
    assert knee(range(12), y) == 5


def test_values_near_the_largest_float_do_not_overflow() -> None:
    """
    A range wider than the largest float has a knee like any other.
    """
    y = np.array([100, 40, 20, 15, 10, 5, 4, 3, 2, 1])
    assert knee((np.arange(10) - 5) * 3e307, (y - 50) * 3e306) == -3 * 3e307


@given(curves(), st.integers(1, 10**6), st.integers(-(10**9), 10**9))
def test_the_knee_does_not_depend_on_the_units_of_y(curve: tuple[list[int], list[int]], scale: int, shift: int) -> None:
    """
    Scaling *y* by a positive number and shifting it leaves the knee where it is.
    """
    x, y = curve
    assert knee(x, [value * scale + shift for value in y]) == knee(x, y)


@given(curves(), st.integers(1, 10**6), st.integers(-(10**9), 10**9))
def test_the_knee_moves_with_the_units_of_x(curve: tuple[list[int], list[int]], scale: int, shift: int) -> None:
    """
    Scaling *x* by a positive number and shifting it moves the knee in the same way.
    """
    x, y = curve
    before = knee(x, y)
    assert knee([value * scale + shift for value in x], y) == (None if before is None else before * scale + shift)


@given(curves(), st.randoms())
def test_the_order_of_points_does_not_matter(curve: tuple[list[int], list[int]], random: Any) -> None:
    """
    Points in any order, and repeated points too, give one knee.
    """
    pairs = [*zip(*curve, strict=True), (curve[0][0], curve[1][1])]
    shuffled = random.sample(pairs, len(pairs))
    assert knee(*zip(*shuffled, strict=True)) == knee(*zip(*pairs, strict=True))


@given(curves(), st.sampled_from([0.0, 1.0, 3.0]))
def test_the_knee_is_one_of_the_points(curve: tuple[list[int], list[int]], sensitivity: float) -> None:
    """
    A knee is an inner point that was given, never something between two.
    """
    found = knee(*curve, sensitivity=sensitivity)
    assert found is None or found in set(curve[0]) - {min(curve[0]), max(curve[0])}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"y": [1, 2]}, r"equally long.*\(3,\).*\(2,\)"),
        ({"x": [[1, 2, 3]], "y": [[1, 2, 3]]}, "one-dimensional"),
        ({"curve": "bent"}, "curve is 'bent'"),
        ({"direction": "down"}, "direction is 'down'"),
        ({"sensitivity": -1}, "sensitivity is -1"),
        ({"sensitivity": math.nan}, "sensitivity is nan"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    """
    What cannot be meant raises a ValueError that says what it was.
    """
    with pytest.raises(ValueError, match=words):
        knee(**{"x": [1, 2, 3], "y": [3, 1, 0], **arguments})


def test_importing_it_loads_numpy_alone() -> None:
    """
    Neither matplotlib nor pandas nor scipy comes with the knee.
    """
    code = "import nbgrid.knee, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"matplotlib", "pandas", "scipy", "sklearn"} & set(loaded) == set()
