"""Elbow curves: what is drawn, and what is saved."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import make_blobs

from nbgrid.elbow import points
from nbgrid.plot import elbow_curve, elbow_curve_from_results, save_elbow

mpl.use("agg")

SEED = [292847995.4657, 216713453.718, 144442239.963, 74211677.207, 9994874.255, 9981126.733,
        *np.linspace(9.966e6, 9.75e6, 14)]  # fmt: skip
KS = list(range(1, 21))
TIMES = [0.4 + 0.05 * k for k in KS]


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    pyplot.close("all")


def axes(width: float = 6.4, height: float = 4.8) -> Axes:
    return Figure((width, height)).subplots()


def names(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def line(ax: Axes, label: str) -> tuple[list[float], list[float]]:
    found = next(line for line in ax.get_lines() if line.get_label() == label)
    return np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist()


def right_of(ax: Axes) -> Axes:
    figure = ax.get_figure()
    assert figure is not None
    return next(other for other in figure.axes if other is not ax)


def test_the_axes_are_those_of_sklearn_evaluation() -> None:
    """
    Sorted by k, the same title and labels, seconds dotted on a right axis.
    """
    ax = elbow_curve_from_results(KS[::-1], SEED[::-1], TIMES[::-1], axes())
    right = right_of(ax)
    assert line(ax, "Elbow") == (KS, SEED)
    assert line(right, "Fitting time") == (KS, TIMES)
    assert next(found for found in right.get_lines()).get_linestyle() == ":"
    assert (ax.get_title(), ax.get_xlabel()) == ("Elbow Plot", "Number of clusters")
    assert (ax.get_ylabel(), right.get_ylabel()) == ("Sum of Squared Errors", "Clustering duration (seconds)")


def test_the_knee_is_marked_and_named() -> None:
    """
    A dashed vertical line stands at 5, and the legend says so; without mark_knee there is none.
    """
    ax = elbow_curve_from_results(KS, SEED, TIMES, axes())
    assert names(ax) == ["Elbow", "Fitting time", "knee at k = 5"]
    assert line(ax, "knee at k = 5")[0] == [5, 5]
    assert names(elbow_curve_from_results(KS, SEED, None, axes(), mark_knee=False)) == ["Elbow"]


def test_a_curve_without_a_knee_marks_none() -> None:
    """
    A straight line claims no best k.
    """
    assert names(elbow_curve_from_results([1, 2, 3, 4], [4, 3, 2, 1], None, axes())) == ["Elbow"]


def test_gaps_are_left_out() -> None:
    """
    None and NaN among k, values or times neither raise nor shift a point.
    """
    ax = elbow_curve_from_results([1, None, 3, 4, 5], [9.0, 8.0, math.nan, 3.0, 2.0], [1, 2, 3, None, 5], axes())
    assert line(ax, "Elbow") == ([1, 4, 5], [9, 3, 2])
    assert str(line(right_of(ax), "Fitting time")[1]) == "[1.0, nan, 5.0]"


@pytest.mark.parametrize("times", [None, [None, math.nan]])
def test_without_times_there_is_no_right_axis(times: Any) -> None:
    """
    No times, or none that is known, give one axis.
    """
    ax = elbow_curve_from_results([1, 2], [2, 1], times, axes())
    assert ax.get_figure().axes == [ax]  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_point_can_be_drawn(count: int) -> None:
    """
    An empty or a single result is a picture all the same.
    """
    ax = elbow_curve_from_results(KS[:count], SEED[:count], TIMES[:count], axes())
    ax.get_figure().savefig(io.BytesIO())  # type: ignore[union-attr]
    assert line(ax, "Elbow") == (KS[:count], SEED[:count])


def test_lengths_that_differ_are_refused() -> None:
    """
    Lists that do not belong together are never cut to fit.
    """
    with pytest.raises(ValueError, match=r"equally many; their shapes are \(2,\), \(2,\), \(1,\)"):
        points([1, 2], [1, 2], [1])


@pytest.mark.parametrize(("width", "count"), [(7.2, 20), (3.0, 20), (6.4, 7), (6.4, 200)])
def test_ticks_are_whole_numbers(width: float, count: int) -> None:
    """
    No tick says 2.5 clusters, however many k and however little room there are.
    """
    k = np.arange(1, count + 1)
    ax = elbow_curve_from_results(k, 1 / k, None, axes(width))
    ticks = [tick for tick in ax.get_xticks() if 1 <= tick <= count]
    assert len(ticks) >= 2
    assert all(tick == round(tick) for tick in ticks)


@pytest.mark.parametrize("size", [(7.2, 4.5), (4.0, 3.0)])
@pytest.mark.parametrize("values", [SEED, [1010 - k for k in KS], [1e-9 / k for k in KS], [-k for k in KS]])
def test_the_legend_covers_no_line(size: tuple[float, float], values: list[float]) -> None:
    """
    Every line and the knee stay below the legend, and the legend within the axes.
    """
    ax = elbow_curve_from_results(KS, values, TIMES, axes(*size))
    ax.get_figure().draw_without_rendering()  # type: ignore[union-attr]
    box = ax.get_legend().get_window_extent()  # type: ignore[union-attr]
    for place in (ax, right_of(ax)):
        for drawn in place.get_lines():
            assert drawn.get_window_extent().y1 < box.y0 + 1
    frame = ax.get_window_extent()
    assert frame.x0 <= box.x0
    assert box.x1 <= frame.x1


def test_without_axes_pyplots_current_ones_are_drawn_on() -> None:
    """
    As the peer's documentation says: ax=None is the current axes.
    """
    current = pyplot.figure().subplots()
    assert elbow_curve_from_results(KS, SEED, None) is current


def test_another_measure_is_named() -> None:
    """
    `ylabel` keeps inertia, mean squared distance and mean distance apart.
    """
    assert elbow_curve_from_results(KS, SEED, None, axes(), ylabel="Mean distance").get_ylabel() == "Mean distance"


def test_elbow_curve_fits_each_k_once_and_sorted() -> None:
    """
    Each k, sorted and without repeats, gives scikit-learn's own inertia; the estimator passed in is not touched.
    """
    data, _ = make_blobs(200, centers=3, random_state=0)
    model = KMeans(random_state=0, n_init=1)
    ax = elbow_curve(data, model, [3, 1, 2, 2], ax=axes())
    inertia = [KMeans(k, random_state=0, n_init=1).fit(data).inertia_ for k in (1, 2, 3)]
    assert line(ax, "Elbow")[0] == [1, 2, 3]
    np.testing.assert_allclose(line(ax, "Elbow")[1], inertia)
    assert min(line(right_of(ax), "Fitting time")[1]) > 0
    assert model.n_clusters == 8
    assert not hasattr(model, "inertia_")


@pytest.mark.parametrize(("samples", "last"), [(40, 10), (4, 4)])
def test_the_default_range_is_one_to_ten(samples: int, last: int) -> None:
    """
    k goes from 1 to 10, or to the number of samples if that is smaller.
    """
    data = np.arange(samples, dtype=float)[:, None]
    ax = elbow_curve(data, KMeans(n_init=1, random_state=0), show_cluster_time=False, ax=axes())
    assert line(ax, "Elbow")[0] == list(range(1, last + 1))


def test_fits_may_run_side_by_side() -> None:
    """
    n_jobs=2 gives what n_jobs=1 gives, but for the last bits, which the number of threads decides.
    """
    data, _ = make_blobs(100, random_state=0)
    model = MiniBatchKMeans(random_state=0, n_init=1)
    one, two = (line(elbow_curve(data, model, [1, 2, 3], n_jobs=jobs, ax=axes()), "Elbow") for jobs in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-9)


@pytest.mark.parametrize(
    ("ks", "words"), [([0, 1], "n_clusters = 0 is impossible"), ([2, 6], "n_clusters = 6 .* 5 samples"), ([], "empty")]
)
def test_an_impossible_k_is_refused_before_anything_is_fitted(ks: list[int], words: str) -> None:
    """
    Below 1, above n_samples, or none at all: a ValueError that names it.
    """
    with pytest.raises(ValueError, match=words):
        elbow_curve(np.ones((5, 2)), KMeans(), ks)


def test_an_estimator_without_clusters_is_refused() -> None:
    """
    What has no n_clusters cannot have an elbow.
    """
    with pytest.raises(TypeError, match="object has no 'n_clusters'"):
        elbow_curve(np.ones((5, 2)), object())


def test_saving_writes_a_whole_png_and_nothing_else(tmp_path: Path) -> None:
    """
    The file is a PNG of the size asked for; no temporary file stays.
    """
    path = save_elbow(tmp_path / "elbow.png", KS, SEED, TIMES, size=(5, 4), dpi=100)
    assert [found.name for found in tmp_path.iterdir()] == ["elbow.png"]
    assert pyplot.imread(path).shape[:2] == (400, 500)


def test_a_failed_save_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    If writing breaks off, what was there stays, and no half file is left.
    """
    path = tmp_path / "elbow.png"
    path.write_bytes(b"old")
    write = Path.write_bytes

    def break_off(self: Path, data: bytes) -> int:
        write(self, data[:10])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", break_off)
    with pytest.raises(OSError, match="disk full"):
        save_elbow(path, KS, SEED)
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("elbow.png", b"old")]


def test_saving_leaves_pyplot_alone(tmp_path: Path) -> None:
    """
    The user's figures and current axes are as before, also when saved from a thread, and pyplot is not even loaded.
    """
    current = pyplot.figure().subplots()
    thread = threading.Thread(target=save_elbow, args=(tmp_path / "a.png", KS, SEED))
    thread.start()
    thread.join()
    assert (tmp_path / "a.png").exists()
    assert pyplot.gca() is current
    assert len(pyplot.get_fignums()) == 1
    program = (
        "import sys; from nbgrid.plot import save_elbow; assert 'matplotlib' not in sys.modules\n"
        f"save_elbow({str(tmp_path / 'b.png')!r}, [1, 2, 3], [3, 1, 0]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
