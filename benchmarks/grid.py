"""
Whole-command time of a grid of notebooks, against papermill: in turn, and two at a time.

usage: python benchmarks/grid.py [light|seed|shipped ...] [--rounds N] [--values N] [--without WORD ...]

light: 20 notebooks that import numpy and pandas and run a few cells. seed: the elbow-curve notebook with scikit-learn's KMeans on
100 000 × 100 blobs; its floor is the time of the imports, once, and of the cells' own processor time shared by all cores.
shipped: templates/cluster.ipynb, beside papermill on the seed's notebook. Each peer is one process that runs the whole grid, as
its users run it; papermill is given a tagged copy of the notebook, since it knows no `# PARAMETERS`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from measure import BIN, Timing, command, interleaved, median, print_table, write_notebook

ROOT = Path(__file__).parent.parent

LIGHT = [
    ("code", "import numpy as np\nimport pandas as pd", ()),
    ("code", "# PARAMETERS\nn_clusters = 1", ()),
    ("code", "frame = pd.DataFrame({'x': np.arange(1000) % n_clusters})", ()),
    ("code", "counts = frame.groupby('x').size()", ()),
    ("code", "n_clusters", ("n-clusters",)),
    ("code", "float(counts.var(ddof=0))", ("sum-of-squares",)),
]
SEED = [
    ("code", "import time\n\nfrom sklearn.cluster import KMeans\nfrom sklearn.datasets import make_blobs\n"
             "import matplotlib.pyplot as plt\n\nfrom sklearn_evaluation import plot", ()),
    ("code", "# PARAMETERS\nn_clusters = 1", ()),
    ("code", "X, _ = make_blobs(n_samples=100000, centers=5, n_features=100, random_state=0)", ()),
    ("code", "model = KMeans(n_clusters=n_clusters, random_state=0)", ()),
    ("code", "then = time.time()", ()),
    ("code", "sum_of_squares = abs(model.fit(X).score(X))\nelapsed = time.time() - then", ()),
    ("code", "n_clusters", ("n-clusters",)),
    ("code", "sum_of_squares", ("sum-of-squares",)),
    ("code", "elapsed", ("elapsed",)),
]  # fmt: skip

PAPERMILL = """
import sys, concurrent.futures as futures
def one(value):
    import papermill
    papermill.execute_notebook("tagged.ipynb", f"papermill-{value}.ipynb", {"n_clusters": value}, progress_bar=False,
                               kernel_name="python3")
values = range(1, int(sys.argv[1]) + 1)
if sys.argv[2] == "1":
    for value in values: one(value)
else:
    with futures.ProcessPoolExecutor(int(sys.argv[2])) as pool: list(pool.map(one, values))
"""
ENGINE = """
import sys
from ploomber_engine import execute_notebook
for value in range(1, int(sys.argv[1]) + 1):
    execute_notebook("tagged.ipynb", f"engine-{value}.ipynb", parameters={"n_clusters": value}, progress_bar=False)
"""

FLOOR = """
import json, os, sys, time
cells = json.load(open("cells.json"))
began = time.perf_counter()
exec(cells[0], space := {})
imported, cpu = time.perf_counter() - began, time.process_time()
for value in range(1, int(sys.argv[1]) + 1):
    task = dict(space)
    for cell in cells[1:]:
        exec(cell, task)
        if cell.startswith("# PARAMETERS"):
            task["n_clusters"] = value
json.dump(imported + (time.process_time() - cpu) / len(os.sched_getaffinity(0)), open("floor.json", "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("subjects", nargs="*", default=["light", "seed", "shipped"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--values", type=int, default=20)
    parser.add_argument("--without", action="append", default=[], help="leave out peers whose name holds this")
    options = parser.parse_args()
    for subject in options.subjects:
        with tempfile.TemporaryDirectory() as folder:
            measure(subject, Path(folder), options.rounds, options.values, options.without)


def measure(subject: str, folder: Path, rounds: int, values: int, without: list[str]) -> None:
    cells = LIGHT if subject == "light" else SEED
    raw = ("raw", f"prefix: grid\n\ngrid:\n  n_clusters: 1..{values}", ())
    write_notebook(folder / "template.ipynb", [raw, *cells])
    if subject == "shipped":
        shutil.copy(ROOT / "templates" / "cluster.ipynb", folder / "template.ipynb")
    tagged = [
        (kind, source, ("parameters",) if source.startswith("# PARAMETERS") else tags) for kind, source, tags in cells
    ]
    write_notebook(folder / "tagged.ipynb", tagged)
    env = {"NBGRID_DATABASE_URL": f"sqlite:///{folder}/runs.db"}

    def nbgrid(*options: str) -> Timing:
        shutil.rmtree(folder / "grid", ignore_errors=True)
        grid = ["--grid", f"n_clusters=1..{values}"]
        return command([str(BIN / "nbgrid"), "run", "template.ipynb", *grid, *options], folder, env)

    def script(code: str, *arguments: str) -> Timing:
        return command([sys.executable, "-c", code, str(values), *arguments], folder)

    peers = {
        "nbgrid": nbgrid,
        "papermill, in turn": lambda: script(PAPERMILL, "1"),
        "papermill, two at a time": lambda: script(PAPERMILL, "2"),
    }
    if subject == "light":
        peers["ploomber-engine, in turn (in process)"] = lambda: script(ENGINE)

    def floor() -> Timing:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        taken = command([sys.executable, "-c", FLOOR, str(values)], folder, one_thread)
        return replace(taken, wall=json.loads((folder / "floor.json").read_text()))

    if subject == "seed":
        (folder / "cells.json").write_text(json.dumps([source for _, source, _ in cells]))
        peers["nbgrid, --share auto"] = lambda: nbgrid("--share", "auto")
        peers["floor"] = floor
    peers = {name: run for name, run in peers.items() if not any(word in name for word in without)}
    timings = interleaved(peers, rounds)
    ours = median(timings["nbgrid"])
    rows = [
        (name, median(taken), median(taken, "cpu"), f"{median(taken) / ours:.2f}×", median(taken) / values)
        for name, taken in timings.items()
    ]
    header = ("runner", "wall s", "cpu s", "time over nbgrid's", "s a notebook")
    print_table(f"{subject}: {values} notebooks, median of {rounds}", header, rows)


if __name__ == "__main__":
    main()
