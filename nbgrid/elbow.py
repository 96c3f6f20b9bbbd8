"""
The picture of an elbow curve: its points put in order, and drawn on matplotlib's axes.

`plot` and `collection` both draw with it; it knows neither how the values came about nor where the knee is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats: TypeAlias = NDArray[np.float64]

YLABEL = "Sum of Squared Errors"

# Okabe and Ito's colours ("Color Universal Design", 2008), the green a little darker so that it reads as text.
_BLUE, _GREEN, _VERMILION = "#0072B2", "#007A5A", "#D55E00"
# The share of the axes' height, above the highest point, in which the legend stands clear of every line.
_HEADROOM = 0.16


class Points(NamedTuple):
    """The points of a curve in ascending order of x, without its gaps."""

    x: Floats
    y: Floats
    seconds: Floats | None
    """How long each point took, NaN where that is not known; None if no times were given."""


def points(x: ArrayLike, y: ArrayLike, seconds: ArrayLike | None = None) -> Points:
    """
    Return the points whose *x* and *y* are finite, sorted by *x*; those of equal *x* stay in their order.

    None counts as NaN. Raises ValueError if the lengths differ.
    """
    given = [np.asarray(values, dtype=np.float64) for values in (x, y, seconds) if values is not None]
    if given[0].ndim != 1 or any(values.shape != given[0].shape for values in given):
        shapes = ", ".join(str(values.shape) for values in given)
        raise ValueError(f"the values of a curve must be one-dimensional and equally many; their shapes are {shapes}")
    order = np.argsort(given[0], kind="stable")
    whole = order[np.isfinite(given[0][order]) & np.isfinite(given[1][order])]
    return Points(given[0][whole], given[1][whole], given[2][whole] if seconds is not None else None)


def elbow_axes(
    ax: Axes | None,
    curve: Points,
    *,
    knee: float | None = None,
    ylabel: str | None = None,
    xlabel: str = "Number of clusters",
) -> Axes:
    """
    Draw *curve* on *ax* (None: pyplot's current axes) and return the axes.

    The values belong to the left axis, the seconds, if there are any, to the right one, dotted; *knee* is marked by a
    dashed line.
    """
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.gca()
    ax.set_title("Elbow Plot", fontweight="bold", pad=12)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel or YLABEL)
    ax.plot(curve.x, curve.y, "o-", color=_BLUE, linewidth=2, markersize=5, label="Elbow", zorder=3)
    if knee is not None:
        _mark(ax, curve, knee)
    _scale_values(ax, curve)
    axes = [ax]
    if curve.seconds is not None and np.isfinite(curve.seconds).any():
        axes.append(_draw_seconds(ax, curve.x, curve.seconds))
    else:
        ax.spines["right"].set_visible(False)
    _legend(axes)
    return ax


def _legend(axes: list[Axes]) -> None:
    """Name every line of *axes* in one row above them, in smaller type where the row would not fit."""
    named = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    named.sort(key=lambda pair: str(pair[1]).startswith("knee"))
    narrow = _inches(axes[0]) < 1.6 * len(named)
    axes[0].legend(
        *zip(*named), loc="upper right", ncols=len(named), frameon=False, borderaxespad=0.2,
        fontsize="x-small" if narrow else "medium", columnspacing=1.0 if narrow else 1.6, handlelength=1.8,
        handletextpad=0.5,
    )  # fmt: skip


def _inches(ax: Axes) -> float:
    """Return the width of *ax*, as it stands before any layout."""
    figure = ax.get_figure(root=True)
    return float(ax.get_window_extent().width / figure.dpi) if figure is not None else 5.0


def _mark(ax: Axes, curve: Points, knee: float) -> None:
    top = 1 - _HEADROOM / (1 + _HEADROOM)
    ax.axvline(knee, ymax=top, color=_VERMILION, linestyle="--", linewidth=1.5, label=f"knee at k = {knee:g}", zorder=2)
    at = curve.x == knee
    ax.plot(curve.x[at], curve.y[at], "o", markersize=11, markerfacecolor="none", markeredgecolor=_VERMILION,
            markeredgewidth=1.8, zorder=4)  # fmt: skip


def _scale_values(ax: Axes, curve: Points) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, ScalarFormatter

    whole = np.unique(curve.x)
    # Each k gets its tick where two digits fit beside each other.
    each = 0 < len(whole) <= 4 * _inches(ax) and bool((whole == np.rint(whole)).all())
    some = MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10])
    ax.xaxis.set_major_locator(FixedLocator(whole.tolist()) if each else some)
    powers = ScalarFormatter(useMathText=True)
    powers.set_powerlimits((-3, 5))
    ax.yaxis.set_major_formatter(powers)
    ax.grid(True, axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines["top"].set_visible(False)
    if len(curve.y):
        _leave_headroom(ax, curve.y)


def _leave_headroom(ax: Axes, values: Floats) -> None:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    # From zero where the values come near it, so that heights compare; else the bends would be flattened.
    floor = 0.0 if 0 <= low < 0.5 * high else low - 0.05 * ((high - low) or abs(low) or 1)
    ax.set_ylim(floor, floor + ((high - floor) or 1) * (1 + _HEADROOM))


def _draw_seconds(ax: Axes, x: Floats, seconds: Floats) -> Axes:
    right = ax.twinx()
    right.plot(x, seconds, "s:", color=_GREEN, linewidth=1.8, markersize=3.5, label="Fitting time")
    right.set_ylabel("Clustering duration (seconds)", color=_GREEN)
    right.tick_params(axis="y", colors=_GREEN)
    right.spines["right"].set_color(_GREEN)
    right.spines["top"].set_visible(False)
    _leave_headroom(right, seconds)
    return right
