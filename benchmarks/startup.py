"""
Start-up: the processor time of `nbgrid --help`, and the imports of the driver beside papermill's.

usage: python benchmarks/startup.py [--rounds N]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from measure import BIN, Timing, command, interleaved, median, print_table

DRIVER = (
    "from nbgrid.cli._imports import load_quickly; load_quickly(); import nbgrid.runs, nbgrid.database, nbclient, "
    "jupyter_client.manager, nbgrid.executors._dask"
)
COMMANDS = {
    "nbgrid --help": [str(BIN / "nbgrid"), "--help"],
    "import nbgrid": [sys.executable, "-c", "import nbgrid"],
    "the driver's imports": [sys.executable, "-c", DRIVER],
    "the same, jsonschema left as it is": [sys.executable, "-c", DRIVER.partition("; ")[2].partition("; ")[2]],
    "import papermill": [sys.executable, "-c", "import papermill"],
    "papermill --help": [str(BIN / "papermill"), "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds

    def timed(words: list[str]) -> Timing:
        return command(words, Path.cwd())

    peers = {name: (lambda words=words: timed(words)) for name, words in COMMANDS.items()}  # type: ignore[misc]
    interleaved(peers, 1)
    timings = interleaved(peers, rounds)
    papermill = median(timings["import papermill"], "cpu")
    rows = [
        (name, median(taken, "cpu"), median(taken), f"{median(taken, 'cpu') / papermill:.2f}×")
        for name, taken in timings.items()
    ]
    print_table(f"start-up, median of {rounds}", ("what", "cpu s", "wall s", "cpu over import papermill's"), rows)


if __name__ == "__main__":
    main()
