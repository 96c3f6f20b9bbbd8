"""
What each cell's metadata says of its execution: papermill's fields, so that papermill's family of tools reads our notebooks.

Unlike papermill's own, they never say more than happened: a cell that no kernel finished is not `completed`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from nbgrid.notebook import tags
from nbgrid.typing import Cell, Notebook

SKIPPED = "skip-execution"
"""The tag of cells that are not executed."""


def now() -> str:
    """Return the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def reset(notebook: Notebook) -> None:
    """Set every cell of *notebook* to pending, and forget what an earlier execution left in those that will run."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and SKIPPED not in tags(cell):
            cell["outputs"], cell["execution_count"] = [], None
        cell["metadata"]["papermill"] = {
            "duration": None, "end_time": None, "exception": None, "start_time": None, "status": "pending",
        }  # fmt: skip


def begin(cell: Cell) -> None:
    """Set *cell* to running."""
    cell["metadata"]["papermill"] |= {"status": "running", "start_time": now(), "exception": False}


def end(cell: Cell, *, completed: bool) -> float:
    """Set *cell* to completed or failed, and return the seconds that it took."""
    status = cell["metadata"]["papermill"]
    ended = datetime.now(UTC)
    seconds = max((ended - datetime.fromisoformat(status["start_time"])).total_seconds(), 0.0)
    status |= {
        "status": "completed" if completed else "failed", "exception": not completed,
        "end_time": ended.isoformat(timespec="milliseconds"), "duration": round(seconds, 6),
    }  # fmt: skip
    return float(seconds)
