"""The seed's own notebook, as it was written: run unchanged, read back with its own analysis, and on a real Dask cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import making
import nbformat
import pytest
from making import SUMS_OF_SQUARES, nbgrid, seed_cells, strict_json, wait_until, write_notebook

from nbgrid.collection import NotebookCollection

if TYPE_CHECKING:
    from conftest import FinishedGrid


def test_the_seed_notebook_runs_unchanged(seed_grid: FinishedGrid) -> None:
    """
    All twenty tasks of the seed's notebook finish, and its bytes stay as they were.
    """
    assert seed_grid.command.returncode == 0, seed_grid.command.stderr
    assert (seed_grid.folder / "cluster.ipynb").read_bytes() == making.notebook_content(*seed_cells())
    assert "20 finished" in seed_grid.command.stdout


def test_the_files_have_the_seed_s_names(seed_grid: FinishedGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The notebooks lie under the seed's exact names, and its glob finds exactly the twenty.
    """
    monkeypatch.chdir(seed_grid.folder)
    wanted = {f"elbow-curve/output/notebook-n_clusters={k}-{k - 1}.ipynb" for k in range(1, 21)}
    assert set(glob("elbow-curve/**/*.ipynb", recursive=True)) == wanted  # noqa: PTH207  the seed's own line


def test_the_sums_of_squares_are_the_published_ones(seed_grid: FinishedGrid) -> None:
    """
    Each task ran with its own k: the sums of squares are those that scikit-learn gives, to 1e-6.
    """
    frame = NotebookCollection(str(seed_grid.folder / "elbow-curve")).to_frame()
    found = dict(zip(frame["n_clusters"], frame["sum-of-squares"]))
    assert found.keys() == set(range(1, 21))
    assert {k: found[k] for k in SUMS_OF_SQUARES} == pytest.approx(SUMS_OF_SQUARES, rel=1e-6)


def test_the_knee_is_at_five(seed_grid: FinishedGrid) -> None:
    """
    Five blobs make a knee at five clusters.
    """
    from nbgrid.knee import knee

    curve = NotebookCollection(str(seed_grid.folder / "elbow-curve")).curve("n-clusters", "sum-of-squares")
    assert knee(curve.x, curve.y) == 5


def test_plot_draws_the_seed_s_elbow(seed_grid: FinishedGrid) -> None:
    """
    `nbgrid plot` draws the seed's tags without being told their names, and prints the picture's path.
    """
    drawn = seed_grid.nbgrid("plot", "--time", "elapsed", "--name", "drawn.png")
    assert drawn.returncode == 0, drawn.stderr
    assert Path(drawn.stdout.strip()).read_bytes().startswith(b"\x89PNG")


def test_run_names_the_commands_that_follow(seed_grid: FinishedGrid) -> None:
    """
    The last lines of `run` are commands; each of them can be typed as it stands.
    """
    following = seed_grid.command.stdout.split("Next:\n")[1].splitlines()
    assert [line.split()[1] for line in following] == ["status", "collect", "plot"]
    for line in following:
        assert len(line) <= 80
        done = seed_grid.nbgrid(*line.split()[1:])
        assert done.returncode == 0, f"{line}: {done.stderr}"


ANALYSIS = """
import matplotlib
matplotlib.use('Agg')
from glob import glob

from nbgrid import NotebookCollection, plot

nbs = NotebookCollection(paths=glob('elbow-curve/**/*.ipynb', recursive=True))
list(nbs)

n_clusters = list(nbs['n-clusters'].values())
sum_of_squares = list(nbs['sum-of-squares'].values())
elapsed = list(nbs['elapsed'].values())

_ = plot.elbow_curve_from_results(n_clusters, sum_of_squares, elapsed)
print(sorted(n_clusters) == list(range(1, 21)), len(sum_of_squares), len(elapsed), *list(nbs))
"""


def test_the_seed_s_analysis_runs_with_only_its_imports_changed(seed_grid: FinishedGrid) -> None:
    """
    The seed's analysis reads and draws the results; nothing but its imports differs.
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", ANALYSIS],
        cwd=seed_grid.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["True", "20", "20", "n-clusters", "sum-of-squares", "elapsed"]


def test_the_analysis_tutorial_executes_in_the_folder_of_a_run(seed_grid: FinishedGrid) -> None:
    """
    docs/tutorials/analysis.ipynb executes without an error where a run's results lie.
    """
    from nbclient import NotebookClient

    shipped = Path(__file__).parent.parent / "docs" / "tutorials" / "analysis.ipynb"
    notebook = nbformat.reads(shipped.read_text(encoding="utf-8"), 4)
    NotebookClient(
        notebook,
        timeout=making.PATIENCE,
        kernel_name="python3",
        resources={"metadata": {"path": str(seed_grid.folder)}},
    ).execute()
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", [])
                if "image/png" in output.get("data", {})]  # fmt: skip
    assert len(pictures) == 2


def test_every_executed_notebook_is_valid(seed_grid: FinishedGrid) -> None:
    """
    nbformat finds nothing wrong with any of the twenty, and each is strict JSON.
    """
    for path in seed_grid.folder.glob("elbow-curve/output/*.ipynb"):
        nbformat.validate(nbformat.reads(path.read_text(encoding="utf-8"), 4))
        strict_json(path.read_bytes())


def test_sklearn_evaluation_reads_our_notebooks(seed_grid: FinishedGrid) -> None:
    """
    sklearn-evaluation's own NotebookCollection, which the seed used, opens what nbgrid wrote.
    """
    code = (
        "from glob import glob; from sklearn_evaluation import NotebookCollection\n"
        "nbs = NotebookCollection(paths=glob('elbow-curve/**/*.ipynb', recursive=True))\n"
        "print(sorted(nbs['n-clusters'].values()) == list(range(1, 21)), min(nbs['sum-of-squares'].values()) > 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=seed_grid.folder, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert ran.stdout.split() == ["True", "True"], ran.stderr


def test_papermill_reads_our_notebooks(seed_grid: FinishedGrid) -> None:
    """
    papermill's own reader finds the parameters and a record of the execution that is true.
    """
    from papermill.inspection import _infer_parameters
    from papermill.iorw import load_notebook_node

    for index, path in enumerate(
        sorted(seed_grid.folder.glob("elbow-curve/output/*.ipynb"), key=lambda path: int(path.stem.split("-")[-1]))
    ):
        notebook = load_notebook_node(str(path))
        record = notebook.metadata["papermill"]
        assert record["parameters"] == {"n_clusters": index + 1}
        assert record["exception"] is None
        assert record["duration"] > 0
        assert record["start_time"] < record["end_time"]
        assert {cell.metadata["papermill"]["status"] for cell in notebook.cells if cell.cell_type == "code"} == {
            "completed"
        }
        inferred = {parameter.name: parameter.default for parameter in _infer_parameters(notebook)}
        assert inferred == {"n_clusters": str(index + 1)}


# -- what is missing ----------------------------------------------------------------------------------------------------


def test_a_missing_package_is_one_line_before_anything_starts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where the kernel lacks sklearn_evaluation, plan and run say how to install it, exit with 2, and write nothing.
    """
    # A kernel whose Python hides the package, as one would that never had it.
    hidden = place.parent / "hidden"
    spec = place.parent / "jupyter" / "kernels" / "bare"
    hidden.mkdir()
    spec.mkdir(parents=True)
    python = hidden / "python-without"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    spec.joinpath("kernel.json").write_text(
        json.dumps({"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "bare",
                    "language": "python"})
    )  # fmt: skip
    monkeypatch.setenv("JUPYTER_PATH", str(spec.parent.parent))
    cells = [cell for cell in seed_cells() if "KMeans" not in cell["source"] or "import" in cell["source"]]
    cells[2] = making.code("import time\n\nfrom sklearn_evaluation import plot")
    write_notebook("cluster.ipynb", *cells)
    before = making.files_below(place)
    for command in ("plan", "run"):
        done = nbgrid(command, "cluster.ipynb", "--kernel", "bare")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "pip install sklearn-evaluation" in done.stderr
    assert making.files_below(place) == before


# -- a cluster of other processes ---------------------------------------------------------------------------------------


def can_hide_folders() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, check=False)
    return tried.returncode == 0


@contextmanager
def dask_cluster(folder: Path, *, hide: Path | None = None, workers: int = 2) -> Iterator[str]:
    """A scheduler and workers, each a process in *folder*; the workers see an empty *hide*."""
    folder.mkdir(exist_ok=True)
    started: list[subprocess.Popen[bytes]] = []
    address = folder / "scheduler.json"

    def start(module: str, *arguments: str, wrapper: tuple[str, ...] = ()) -> None:
        command = [*wrapper, sys.executable, "-m", module, "--scheduler-file", str(address), *arguments]
        log = (folder / f"log-{len(started)}").open("wb")
        with log:
            started.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    try:
        start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        wait_until(lambda: address.exists() and address.read_text(), "the scheduler's address")
        wrapper: tuple[str, ...] = ()
        if hide is not None:
            wrapper = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{hide}" && exec "$@"', "sh")
        for number in range(workers):
            start(
                "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1",
                "--name", f"w{number}", "--local-directory", str(folder / "scratch"), wrapper=wrapper,
            )  # fmt: skip
        yield str(json.loads(address.read_text())["address"])
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.skipif(not can_hide_folders(), reason="hiding a folder from the workers takes root and unshare")
def test_workers_that_see_no_folder_of_ours_give_the_same_numbers(place: Path, seed_grid: FinishedGrid) -> None:
    """
    On Dask workers that are other processes, in another folder, and cannot reach the store, the seed's notebook ends with
    the same numbers, and the notebooks come back whole.
    """
    write_notebook("cluster.ipynb", *seed_cells())
    with dask_cluster(place.parent / "elsewhere", hide=place) as address:
        ran = nbgrid("run", "cluster.ipynb", "--grid", "n_clusters=1,2,5", "--scheduler", address, "--json")
    assert ran.returncode == 0, ran.stderr
    tasks = strict_json(ran.stdout)["tasks"]
    assert {task["status"] for task in tasks} == {"finished"}
    assert {task["worker"] for task in tasks} <= {"w0", "w1"}
    ours = NotebookCollection("elbow-curve").to_frame()
    theirs = NotebookCollection(str(seed_grid.folder / "elbow-curve")).to_frame().set_index("n_clusters")
    assert ours["n_clusters"].tolist() == [1, 2, 5]
    assert ours["sum-of-squares"].tolist() == pytest.approx(theirs.loc[[1, 2, 5], "sum-of-squares"].tolist(), rel=1e-9)
    for task in tasks:
        notebook = nbformat.reads(Path(task["output"]).read_text(encoding="utf-8"), 4)
        nbformat.validate(notebook)
        assert notebook.metadata["nbgrid"]["worker"] == task["worker"]
        assert [cell.source for cell in notebook.cells][4:] == [cell["source"] for cell in seed_cells()][4:]
    assert not [name for name in making.files_below(place.parent / "elsewhere") if name.endswith(".ipynb")]
    assert not list(place.glob("**/*nonce*"))
