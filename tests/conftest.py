"""What many tests start from: a folder and a database of their own, and two grids that are run once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import making
import pytest


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with a database of its own beside it."""
    folder = tmp_path / "place"
    folder.mkdir()
    wanted = making.private_environment(tmp_path)
    for name in os.environ.keys() - wanted.keys():
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    return folder


class FinishedGrid(NamedTuple):
    """A grid that was run by the command, to be looked at and not changed."""

    folder: Path
    environment: dict[str, str]
    command: subprocess.CompletedProcess[str]

    def nbgrid(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return making.nbgrid(*arguments, cwd=self.folder, env=self.environment)

    def notebooks(self) -> list[dict[str, Any]]:
        """The executed notebooks, by the point's index."""
        read = [json.loads(path.read_bytes()) for path in self.folder.glob("elbow-curve/output/*.ipynb")]
        return sorted(read, key=lambda notebook: notebook["metadata"]["nbgrid"]["index"])


def _run_in(folder: Path, *arguments: str, init: bool = False) -> FinishedGrid:
    environment = making.private_environment(folder.parent)
    if init:
        made = subprocess.run(
            [making.COMMAND, "init"], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
    ran = subprocess.run(
        [making.COMMAND, "run", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    return FinishedGrid(folder, environment, ran)


@pytest.fixture(scope="session")
def seed_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FinishedGrid]:
    """The seed's own notebook, run over k = 1..20."""
    pytest.importorskip("sklearn_evaluation", reason="the seed's notebook imports it")
    folder = tmp_path_factory.mktemp("seed") / "place"
    folder.mkdir()
    making.write_notebook(folder / "cluster.ipynb", *making.seed_cells())
    yield _run_in(folder, "cluster.ipynb")


@pytest.fixture(scope="session")
def shipped_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FinishedGrid]:
    """The shipped template: `nbgrid init` and `nbgrid run cluster.ipynb` in an empty folder."""
    folder = tmp_path_factory.mktemp("shipped") / "place"
    folder.mkdir()
    yield _run_in(folder, "cluster.ipynb", init=True)
