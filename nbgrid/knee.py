"""
The knee of a curve: where going on stops paying.

Kneedle, after V. Satopää, J. Albrecht, D. Irwin, B. Raghavan: "Finding a 'Kneedle' in a Haystack: Detecting Knee Points
in System Behavior", ICDCS Workshops 2011, section III. Two things differ from the paper: the curve is not smoothed
(a grid has few points, each of them computed), and of several knees the most prominent one is returned.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve: TypeAlias = Literal["convex", "concave"]
Direction: TypeAlias = Literal["decreasing", "increasing"]
Floats: TypeAlias = NDArray[np.float64]

# A straight line, once normalised, leaves rounding errors of about 1e-16 above the diagonal.
_ROUNDING = 1e-12


def knee(
    x: ArrayLike,
    y: ArrayLike,
    *,
    curve: Curve = "convex",
    direction: Direction = "decreasing",
    sensitivity: float = 1.0,
) -> float | None:
    """
    Return the *x* at which the curve *y* bends most, or None if it has no knee.

    *x* and *y* are one-dimensional and equally long; *x* may come in any order and at any distances. Pairs that hold a
    NaN, an infinity or None are left out, and the *y* of equal *x* are averaged. A knee must stand out by
    *sensitivity* mean steps in *x* from what follows it (the paper's S: 0 takes every bend; larger is stricter), so a
    straight or constant line, fewer than three points and a bend at either end have none.

    Raises ValueError for lengths that differ, an unknown *curve* or *direction*, or a negative *sensitivity*.
    """
    _check(curve, direction, sensitivity)
    xs, ys = _points(x, y)
    if len(xs) < 3 or ys.min() == ys.max():
        return None
    # Each of the four shapes is the concave increasing one, turned upside down, mirrored, or both.
    rising = (direction == "increasing") == (curve == "concave")
    difference = _difference(xs if rising else -xs, ys if curve == "concave" else -ys)
    place = _most_prominent(difference, sensitivity)
    if place is None:
        return None
    return float(xs[place] if rising else xs[len(xs) - 1 - place])


def _check(curve: str, direction: str, sensitivity: float) -> None:
    if curve not in get_args(Curve):
        raise ValueError(f"curve is {curve!r}; it must be 'convex' or 'concave'")
    if direction not in get_args(Direction):
        raise ValueError(f"direction is {direction!r}; it must be 'decreasing' or 'increasing'")
    if not sensitivity >= 0:
        raise ValueError(f"sensitivity is {sensitivity}; it must be 0 or more")


def _points(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Return the finite points in ascending order, one for each x."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise ValueError(f"x and y must be one-dimensional and equally long, not {xs.shape} and {ys.shape}")
    whole = np.isfinite(xs) & np.isfinite(ys)
    xs, ys = xs[whole], ys[whole]
    if len(xs) == 0:
        return xs, ys
    # Sorting by y too makes the sums below independent of the order in which points came.
    order = np.lexsort((ys, xs))
    unique, start, count = np.unique(xs[order], return_index=True, return_counts=True)
    return unique, np.add.reduceat(_small(ys[order]) / count.sum(), start) / count


def _small(values: Floats) -> Floats:
    """Return *values* times the power of two (so exactly) that makes the largest at most 1: no range overflows."""
    _, exponent = np.frexp(np.abs(values).max())
    small: Floats = np.ldexp(values, -exponent)
    return small


def _normalised(values: Floats) -> Floats:
    small = _small(values)
    unit: Floats = (small - small.min()) / (small.max() - small.min())
    return unit


def _difference(x: Floats, y: Floats) -> Floats:
    """Return by how much the concave increasing curve lies above its chord, from left to right, in the unit square."""
    order = np.argsort(x)
    difference: Floats = _normalised(y[order]) - _normalised(x[order])
    return difference


def _most_prominent(difference: Floats, sensitivity: float) -> int | None:
    """Return the place of the highest local maximum that its threshold confirms as a knee."""
    margin = max(sensitivity / (len(difference) - 1), _ROUNDING)
    knees = [
        place
        for place in range(1, len(difference) - 1)
        if difference[place - 1] < difference[place] >= difference[place + 1]
        and _falls(difference[place:], float(difference[place]) - margin)
    ]
    return max(knees, key=lambda place: float(difference[place]), default=None)


def _falls(difference: Floats, threshold: float) -> bool:
    """Tell whether *difference* falls below *threshold* before it rises again."""
    rises = np.flatnonzero(np.diff(difference) > 0)
    end = rises[0] + 1 if len(rises) else len(difference)
    return bool(difference[:end].min() < threshold)
