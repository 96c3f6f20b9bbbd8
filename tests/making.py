"""Notebooks made in code, and the command run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

COMMAND = str(Path(sys.executable).with_name("nbgrid"))
PATIENCE = 40.0
"""Seconds after which a test gives up; none of them waits so long unless something is wrong."""


def raw(source: str) -> dict[str, Any]:
    return {"cell_type": "raw", "metadata": {}, "source": source}


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source: str, *tags: str) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def notebook_content(*cells: dict[str, Any], kernel: str | None = "python3", language: str = "python") -> bytes:
    metadata: dict[str, Any] = {"language_info": {"name": language}}
    if kernel:
        metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": language}
    numbered = [{**cell, "id": f"cell-{place}"} for place, cell in enumerate(cells)]
    return json.dumps({"cells": numbered, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def write_notebook(path: str | Path, *cells: dict[str, Any], **options: Any) -> Path:
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(notebook_content(*cells, **options))
    return path


def simple(path: str | Path = "simple.ipynb", grid: str = "grid:\n  a: [1, 2, 3]\n", *more: dict[str, Any]) -> Path:
    """A template of one parameter `a`, whose square is a result."""
    return write_notebook(path, raw(grid), code("# PARAMETERS\na = 0"), *more, code("a ** 2", "square"))


def nbgrid(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False, **options
    )  # fmt: skip


def strict_json(text: str | bytes) -> Any:
    """Parse JSON as its standard has it: no NaN, no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not in JSON")

    return json.loads(text, parse_constant=refuse)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Return what *condition* returns as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)
    return found


def processes_with(variable: str, value: str) -> list[psutil.Process]:
    """Return the processes whose environment has *variable* = *value*."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def private_environment(folder: Path) -> dict[str, str]:
    """The environment with a database of its own, and without what the person who runs the tests has set for nbgrid."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NBGRID_")}
    return {**kept, "NBGRID_DATABASE_URL": f"sqlite:///{folder}/nbgrid.db", "JUPYTER_CONFIG_DIR": f"{folder}/config"}


def files_below(folder: str | Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


SUMS_OF_SQUARES = {
    1: 292847995.4657, 2: 216713453.718, 3: 144442239.963, 4: 74211677.207, 5: 9994874.255, 6: 9981126.733,
    8: 9951821.468,
}  # fmt: skip
"""k → what scikit-learn finds in the seed's data."""


def seed_cells() -> list[dict[str, Any]]:
    """The seed's notebook, cell by cell as it was written."""
    ks = ", ".join(map(str, range(1, 21)))
    return [
        raw(f"prefix: elbow-curve\n\ngrid:\n  n_clusters: [{ks}]"),
        markdown("# Elbow curve"),
        code(
            "import time\n\nfrom sklearn.cluster import KMeans\nfrom sklearn.datasets import make_blobs\n"
            "import matplotlib.pyplot as plt\n\nfrom sklearn_evaluation import plot"
        ),
        code("# PARAMETERS\nn_clusters = 1"),
        code("X, _ = make_blobs(n_samples=100000, centers=5, n_features=100, random_state=0)"),
        code("model = KMeans(n_clusters=n_clusters, random_state=0)"),
        code("start = time.time()\nsum_of_squares = abs(model.fit(X).score(X))\nelapsed = time.time() - start"),
        code("n_clusters", "n-clusters"),
        code("sum_of_squares", "sum-of-squares"),
        code("elapsed", "elapsed"),
    ]
