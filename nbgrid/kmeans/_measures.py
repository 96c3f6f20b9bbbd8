"""
How well centres fit rows: the three measures, each under its own name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from nbgrid.kmeans._checks import listed
from nbgrid.kmeans._typing import Float64s, Floats, Indices, Labels

if TYPE_CHECKING:
    from nbgrid.kmeans._data import Data
    from nbgrid.kmeans._iterate import Passes

Measure = Literal["inertia", "msd", "mean_distance"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

BLOCK = 65536


def checked_measure(name: Any) -> Measure:
    """Return *name*; ValueError, with the names that there are, unless it is a measure's."""
    if not isinstance(name, str) or name not in MEASURES:
        raise ValueError(f"name={name!r} should be {listed(MEASURES)}.")
    return name


def measured(name: Measure, passes: Passes, centers: Floats) -> float:
    """Return the measure *name* of the rows of *passes* about the nearest of *centers*."""
    labels, inertia = passes.assign(centers)
    if name == "inertia":
        return inertia
    return msd(inertia, passes.data) if name == "msd" else _mean_distance(passes, centers, labels)


def msd(inertia: float, data: Data) -> float:
    """Return the weighted mean of squared distances whose weighted sum is *inertia*."""
    return inertia / (float(data.weight.sum()) if data.weight.size else len(data.X))


def _mean_distance(passes: Passes, centers: Floats, labels: Labels) -> float:
    data = passes.data
    distances = np.empty(len(data.X))
    passes.inertia(centers.astype(np.float64), labels, shift=np.zeros_like(passes.shift), distances=distances)
    np.sqrt(distances, out=distances)
    return float(np.average(distances, weights=data.weight if data.weight.size else None))


def sizes(labels: Labels, weight: Float64s, k: int) -> tuple[Indices, Float64s]:
    """Return the numbers and the weights of the rows by label."""
    counts, weights = np.zeros(k, dtype=np.intp), np.zeros(k)
    # bincount makes its argument int64: of all rows at once, that may be as large as the data.
    for start in range(0, len(labels), BLOCK):
        block = slice(start, start + BLOCK)
        counts += np.bincount(labels[block], minlength=k)
        if weight.size:
            weights += np.bincount(labels[block], weight[block], minlength=k)
    return counts, weights if weight.size else counts.astype(np.float64)
