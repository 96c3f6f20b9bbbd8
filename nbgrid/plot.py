"""
Elbow curves, from results at hand or from fitting a clusterer for each k.

The two `elbow_curve…` functions take what sklearn-evaluation's take and draw the same axes; the knee is marked too.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from numpy.typing import ArrayLike

from nbgrid.elbow import elbow_axes, points
from nbgrid.knee import knee

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def elbow_curve_from_results(
    n_clusters: ArrayLike,
    sum_of_squares: ArrayLike,
    times: ArrayLike | None,
    ax: Axes | None = None,
    *,
    ylabel: str | None = None,
    mark_knee: bool = True,
) -> Axes:
    """
    Draw the elbow curve of *sum_of_squares* over *n_clusters* and return its axes.

    The three are equally long; *times* are seconds, or None. The points are sorted by k, and those with a gap (NaN or
    None) are left out. *ylabel* names another measure than the sum of squares. `mark_knee` marks what `nbgrid.knee`
    finds, if anything. With *ax* None pyplot's current axes are drawn on.
    """
    curve = points(n_clusters, sum_of_squares, times)
    bend = knee(curve.x, curve.y) if mark_knee else None
    return elbow_axes(ax, curve, knee=bend, ylabel=ylabel)


def elbow_curve(
    X: Any,
    clf: Any,
    range_n_clusters: Iterable[int] | None = None,
    n_jobs: int | None = 1,
    show_cluster_time: bool = True,
    ax: Axes | None = None,
    *,
    ylabel: str | None = None,
    mark_knee: bool = True,
) -> Axes:
    """
    Fit a clone of *clf* to *X* (n_samples × n_features) for each k, draw the elbow curve, and return its axes.

    *clf* is a scikit-learn clusterer with `n_clusters` and `score`, such as `KMeans`; it is not changed. The curve
    shows the score's absolute value; the time is that of `fit` alone. *range_n_clusters* is 1 to 10 by default (to
    n_samples if those are fewer). *n_jobs* fits run side by side, as in scikit-learn.

    Raises TypeError for an estimator that lacks `n_clusters` or `score`, and ValueError for a k below 1 or above
    n_samples, before anything is fitted.
    """
    from sklearn.utils.parallel import Parallel, delayed

    for name in ("n_clusters", "score"):
        if not hasattr(clf, name):
            raise TypeError(f"{type(clf).__name__} has no {name!r}; an elbow curve needs a clusterer such as KMeans")
    ks = _checked(range_n_clusters, int(X.shape[0]) if hasattr(X, "shape") else len(X))
    fitted = Parallel(n_jobs=n_jobs)(delayed(_fit)(clf, X, k) for k in ks)
    scores, times = [score for score, _ in fitted], [seconds for _, seconds in fitted]
    return elbow_curve_from_results(
        ks, scores, times if show_cluster_time else None, ax, ylabel=ylabel, mark_knee=mark_knee
    )


def save_elbow(
    path: str | Path,
    n_clusters: ArrayLike,
    sum_of_squares: ArrayLike,
    times: ArrayLike | None = None,
    *,
    ylabel: str | None = None,
    mark_knee: bool = True,
    size: tuple[float, float] = (7.2, 4.5),
    dpi: float = 160,
) -> Path:
    """
    Write the elbow curve as PNG to *path* and return the path; *size* is in inches.

    The file appears whole or not at all. pyplot, its figures and its backend are left alone, so this works in threads
    and without a display.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12), facecolor="white")
    elbow_curve_from_results(n_clusters, sum_of_squares, times, figure.subplots(), ylabel=ylabel, mark_knee=mark_knee)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi)
    return _write(Path(path), picture.getvalue())


def _checked(range_n_clusters: Iterable[int] | None, n_samples: int) -> Sequence[int]:
    if range_n_clusters is None:
        return range(1, min(10, n_samples) + 1)
    ks = sorted(set(range_n_clusters))
    if not ks:
        raise ValueError("range_n_clusters is empty")
    wrong = [k for k in ks if not 1 <= k <= n_samples]
    if wrong:
        raise ValueError(f"n_clusters = {wrong[0]} is impossible: X has {n_samples} samples, so it is 1 to {n_samples}")
    return ks


def _fit(clf: Any, X: Any, k: int) -> tuple[float, float]:
    from sklearn.base import clone

    model = clone(clf).set_params(n_clusters=k)
    start = perf_counter()
    model.fit(X)
    seconds = perf_counter() - start
    return abs(float(model.score(X))), seconds


def _write(path: Path, data: bytes) -> Path:
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        return partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
