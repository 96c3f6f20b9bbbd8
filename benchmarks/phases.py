"""
Where the time of a run goes: `nbgrid run` of 20 light notebooks, phase by phase, with the fork engine.

usage: python benchmarks/phases.py [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from grid import LIGHT
from measure import command, print_table, write_notebook

RUN = """
import json, os, sys, time
marks = {"start": float(sys.argv[1])}

def mark(name):
    marks.setdefault(name, time.time())

mark("python")
from nbgrid.cli import main
from nbgrid.engines._forked import ForkServer
from nbgrid.execute import GridExecutor
from nbgrid.work import NotebookWork

def before(owner, name, told, also=lambda *_: None):
    original = getattr(owner, name)
    def replaced(self, *arguments, **options):
        mark(told)
        made = original(self, *arguments, **options)
        also(self)
        return made
    setattr(owner, name, replaced)

before(ForkServer, "__init__", "server asked", lambda server: server.ready.add_done_callback(lambda _: mark("server ready")))
before(GridExecutor, "open", "driver ready")
before(GridExecutor, "close", "tasks ended")
before(NotebookWork, "perform", "first task")
try:
    main(["run", "template.ipynb"])
finally:
    mark("told")
    json.dump(marks, open("marks.json", "w"))
    import gc
    gc.disable()
    gc.freeze()
"""

PHASES = (
    ("Python, the command and its options", "start", "server asked"),
    ("the server: ipykernel, IPython, and what the notebook imports", "server asked", "server ready"),
    ("meanwhile: Dask, SQLAlchemy, nbclient, the cluster", "server asked", "driver ready"),
    ("20 tasks on two slots", "server ready", "tasks ended"),
    ("reading the results, and showing them", "tasks ended", "told"),
    ("the end of the process", "told", "end"),
    ("all", "start", "end"),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    spent: dict[str, list[float]] = {name: [] for name, _, _ in PHASES}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_notebook(folder / "template.ipynb", [("raw", "grid:\n  n_clusters: 1..20", ()), *LIGHT])
            code = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', sys.argv[1], str(time.time())])"
            code += "; open('end', 'w').write(str(time.time()))"
            command([sys.executable, "-c", code, RUN], folder, {"NBGRID_DATABASE_URL": f"sqlite:///{folder}/x.db"})
            marks = {**json.loads((folder / "marks.json").read_text()), "end": float((folder / "end").read_text())}
        for phase, begin, end in PHASES:
            spent[phase].append(marks[end] - marks[begin])
    rows = [(phase, statistics.median(seconds)) for phase, seconds in spent.items()]
    print_table(f"phases of a run, median of {rounds}", ("phase", "s"), rows)


if __name__ == "__main__":
    main()
