"""
What each cell's metadata says of its execution: papermill's fields, so that papermill's family of tools reads our notebooks.

Unlike papermill's own, they never say more than happened: a cell that no kernel finished is not `completed`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from nbgrid.notebook import SKIPPED, code_cells, tags
from nbgrid.typing import Cell, Notebook


def now() -> str:
    """Return the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def places(notebook: Notebook) -> list[int]:
    """Return the indices of the cells that are executed."""
    return [index for index, cell in code_cells(notebook) if SKIPPED not in tags(cell)]


def reset(notebook: Notebook) -> None:
    """Set every cell of *notebook* to pending, and forget what an earlier execution left in those that will run."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and SKIPPED not in tags(cell):
            cell["outputs"], cell["execution_count"] = [], None
        cell["metadata"]["papermill"] = {
            "duration": None, "end_time": None, "exception": None, "start_time": None, "status": "pending",
        }  # fmt: skip


def begin(cell: Cell, at: str | None = None) -> None:
    """Set *cell* to running, since now or since *at* that time."""
    cell["metadata"]["papermill"] |= {"status": "running", "start_time": at or now(), "exception": False}


def end(cell: Cell, *, completed: bool, at: str | None = None) -> float:
    """Set *cell* to completed or failed, now or *at* that time, and return the seconds that it took."""
    status = cell["metadata"]["papermill"]
    ended = datetime.now(UTC) if at is None else datetime.fromisoformat(at)
    seconds = max((ended - datetime.fromisoformat(status["start_time"])).total_seconds(), 0.0)
    status |= {
        "status": "completed" if completed else "failed", "exception": not completed,
        "end_time": ended.isoformat(timespec="milliseconds"), "duration": round(seconds, 6),
    }  # fmt: skip
    return float(seconds)
