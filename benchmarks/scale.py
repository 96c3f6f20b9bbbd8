"""
What a task costs besides its notebook, and what the driver holds, as grids grow: one `x = 1` a notebook.

usage: python benchmarks/scale.py [--engine fork|kernel] [TASKS ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from measure import command, print_table, write_notebook

RUN = """
import json, os, psutil, sys, threading, time
from nbgrid.cli._imports import load_quickly
load_quickly()
import nbgrid
began, cpu = time.perf_counter(), time.process_time()
handle = nbgrid.run("noop.ipynb", grid={"x": f"1..{sys.argv[1]}"}, max_points=10**6, engine=sys.argv[2])
peak, me = 0, psutil.Process()
while handle._thread.is_alive():
    peak = max(peak, me.memory_full_info().uss)
    handle._thread.join(0.5)
handle.wait()
wall = time.perf_counter() - began
inside = sum(task.attempt.seconds for task in handle.tasks)
json.dump([wall, time.process_time() - cpu, peak, inside, str(handle.state)], open("took.json", "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", nargs="*", type=int, default=[20, 200, 1000])
    parser.add_argument("--engine", default="fork")
    options = parser.parse_args()
    rows = []
    for count in options.tasks:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_notebook(folder / "noop.ipynb", [("code", "# PARAMETERS\nx = 1", ())])
            whole = command(
                [sys.executable, "-c", RUN, str(count), options.engine],
                folder,
                {"NBGRID_DATABASE_URL": f"sqlite:///{folder}/x.db"},
            )
            wall, cpu, peak, inside, state = json.loads((folder / "took.json").read_text())
        assert state == "finished", state
        rows.append(
            (count, wall, wall / count, cpu / count * 1000, whole.cpu / count, inside / count, f"{peak / 1e6:.0f}")
        )
    header = (
        "tasks", "wall s", "wall s a task", "driver's cpu ms a task", "all cpu s a task", "seconds in an attempt",
        "driver's peak private MB",
    )  # fmt: skip
    print_table(f"no-op tasks on the embedded cluster, engine {options.engine}", header, rows)


if __name__ == "__main__":
    main()
