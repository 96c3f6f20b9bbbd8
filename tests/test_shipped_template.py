"""The template that ships: `nbgrid init && nbgrid run cluster.ipynb` in an empty folder."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import making
import nbformat
import pytest
from making import SUMS_OF_SQUARES, nbgrid

if TYPE_CHECKING:
    from conftest import FinishedGrid

ROOT = Path(__file__).parent.parent


def test_init_and_run_are_all_it_takes(shipped_grid: FinishedGrid) -> None:
    """
    Twenty notebooks, each valid, and an elbow curve that is a picture.
    """
    assert shipped_grid.command.returncode == 0, shipped_grid.command.stderr
    notebooks = list(shipped_grid.folder.glob("elbow-curve/output/*.ipynb"))
    assert len(notebooks) == 20
    for path in notebooks:
        nbformat.validate(nbformat.reads(path.read_text(encoding="utf-8"), 4))
    assert (shipped_grid.folder / "elbow-curve" / "elbow.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_table_marks_the_knee_at_five(shipped_grid: FinishedGrid) -> None:
    """
    Exactly one row of the table is pointed at: five clusters.
    """
    marked = [line.split() for line in shipped_grid.command.stdout.splitlines() if line.startswith("▶")]
    assert [line[1] for line in marked] == ["5"]
    assert "the knee of sum-of-squares is at n-clusters = 5" in shipped_grid.command.stdout


def test_our_own_core_finds_what_scikit_learn_finds(shipped_grid: FinishedGrid) -> None:
    """
    No sum of squares is above the seed's by more than 1e-6; up to five clusters, where ends are few, they are the seed's.
    """
    from nbgrid.collection import NotebookCollection

    frame = NotebookCollection(str(shipped_grid.folder / "elbow-curve")).to_frame()
    found = dict(zip(frame["n_clusters"], frame["sum-of-squares"]))
    assert all(found[k] <= theirs * (1 + 1e-6) for k, theirs in SUMS_OF_SQUARES.items())
    few = {k: theirs for k, theirs in SUMS_OF_SQUARES.items() if k <= 5}
    assert {k: found[k] for k in few} == pytest.approx(few, rel=1e-6)


def test_tasks_ran_on_several_workers_and_ran_the_numba_core(shipped_grid: FinishedGrid) -> None:
    """
    Two embedded Dask workers shared the tasks, and the kernel of each task ran compiled kernels of nbgrid's own.
    """
    records = [notebook["metadata"]["nbgrid"] for notebook in shipped_grid.notebooks()]
    assert len(records) == 20
    assert len({record["worker"] for record in records}) >= min(2, cores())
    for record in records:
        assert record["numba_kernels"]
        assert record["peak_memory"] > 0
        assert {"numba", "numpy", "nbgrid", "python"} <= record["versions"].keys()


def test_the_record_of_the_run_is_enough_to_rebuild_it(shipped_grid: FinishedGrid) -> None:
    """
    The run's record holds the template's own bytes, the grid, and each task's digest.
    """
    import base64

    (path,) = shipped_grid.folder.glob("elbow-curve/.nbgrid/run-*.json")
    record = making.strict_json(path.read_bytes())
    assert base64.b64decode(record["template"]) == (shipped_grid.folder / "cluster.ipynb").read_bytes()
    assert record["grid"] == [{"n_clusters": list(range(1, 21))}]
    digests = {notebook["metadata"]["nbgrid"]["digest"] for notebook in shipped_grid.notebooks()}
    assert {task["digest"] for task in record["tasks"]} == digests
    assert len(digests) == 20


def test_nothing_but_the_run_is_left_in_the_folder(shipped_grid: FinishedGrid) -> None:
    """
    The folder holds the two notebooks and the run; no attempt, no part of a file and no Dask folder stays behind.
    """
    left = {name for name in making.files_below(shipped_grid.folder) if not name.startswith("elbow-curve/output/")}
    runs = {name for name in left if name.startswith("elbow-curve/.nbgrid/run-")}
    assert len(runs) == 1
    assert left - runs == {"cluster.ipynb", "analysis.ipynb", "elbow-curve/elbow.png", "elbow-curve/.nbgrid/lock"}


def test_the_template_runs_by_hand_too() -> None:
    """
    Executed as any notebook is, without nbgrid, the template uses the value of its parameters cell.
    """
    from nbclient import NotebookClient

    notebook = nbformat.reads((ROOT / "templates" / "cluster.ipynb").read_text(encoding="utf-8"), 4)
    NotebookClient(notebook, timeout=making.PATIENCE, kernel_name="python3").execute()
    results = {cell.metadata["tags"][0]: cell.outputs[0]["data"]["text/plain"]
               for cell in notebook.cells if cell.metadata.get("tags") and cell.get("outputs")}  # fmt: skip
    assert results["n-clusters"] == "5"
    assert float(results["sum-of-squares"]) == pytest.approx(SUMS_OF_SQUARES[5], rel=1e-6)


def test_init_loses_nothing_that_is_there(place: Path) -> None:
    """
    Where one of the two files exists, `init` refuses, says which, and writes neither.
    """
    (place / "analysis.ipynb").write_text("mine")
    refused = nbgrid("init")
    assert refused.returncode == 2
    assert "analysis.ipynb exists already" in refused.stderr
    assert making.files_below(place) == {"analysis.ipynb"}
    assert (place / "analysis.ipynb").read_text() == "mine"


def test_init_makes_the_folder_that_it_is_given(place: Path) -> None:
    """
    `nbgrid init DIR` makes the folder, and the command that it names next plans a run of twenty.
    """
    made = nbgrid("init", "new/folder")
    assert made.returncode == 0, made.stderr
    following = made.stdout.split("Next: nbgrid run ")[1].strip()
    planned = nbgrid("plan", following, "--json")
    assert making.strict_json(planned.stdout)["tasks"] == 20


@pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling, which builds the wheel, is not installed"
)
def test_the_wheel_brings_both_notebooks(place: Path) -> None:
    """
    The built wheel holds the template and the analysis notebook, and its `nbgrid init` finds them.
    """
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(place), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = place.glob("nbgrid-*.whl")
    unpacked = place / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    program = "import nbgrid, sys; from nbgrid.cli import main; print(nbgrid.__file__); main(['init', 'made'])"
    made = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(unpacked)!r}); {program}"],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(str(unpacked))
    for name, source in (("cluster.ipynb", "templates"), ("analysis.ipynb", "docs/tutorials")):
        assert (place / "made" / name).read_bytes() == (ROOT / source / name).read_bytes()


def cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
