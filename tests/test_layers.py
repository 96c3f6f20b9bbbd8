"""The house of nbgrid: which module may import which, what the top level holds, and what an import loads."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbgrid

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nbgrid"

LAYERS = (
    "errors typing",
    "strictyaml knee notebook config source outputs elbow",
    "parameters options dataflow",
    "states grid template executed shared",
    "stores database executors engines",
    "collection work",
    "execute",
    "plan plot report track verify",
    "recorded",
    "runs",
    "cli lab",
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}
ISLAND = "kmeans"


def imported(path: Path) -> Iterator[str]:
    """Yield every nbgrid module that *path* imports, those inside functions and type checks too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            names = [node.module or ""]
            if node.module == "nbgrid":
                names = [f"nbgrid.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("nbgrid."):
                yield name.split(".")[1]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if place not in {"__init__", "testing", "__main__"}:
            yield place, path


def test_a_layer_imports_only_from_layers_below_it() -> None:
    """
    No module imports from its own layer or from one above, not even inside a function.
    """
    wrong = [
        f"{path.relative_to(ROOT)}: {place} may not import {other}"
        for place, path in modules()
        for other in imported(path)
        if other != place
        and not (other.startswith("__"))
        and place != ISLAND
        and (other == ISLAND or RANK[other] >= RANK[place])
    ]
    assert wrong == []


def test_kmeans_is_an_island() -> None:
    """
    kmeans imports nothing of nbgrid but knee.
    """
    assert {other for place, path in modules() if place == ISLAND for other in imported(path)} <= {ISLAND, "knee"}


def test_every_module_has_a_layer() -> None:
    """
    A module that the drawing of the house does not know is a mistake in one of them.
    """
    assert {place for place, _ in modules()} <= RANK.keys() | {ISLAND}


def test_no_public_name_is_a_module_unless_it_is_that_module() -> None:
    """
    `nbgrid.run` is a function, so no module is called run.
    """
    names = {module.name for module in pkgutil.iter_modules(nbgrid.__path__)}
    for name in set(nbgrid.__all__) & names:
        assert getattr(nbgrid, name).__name__ == f"nbgrid.{name}"


def test_the_top_level_holds_what_the_design_lists() -> None:
    """
    Nothing is tracked at the top of the checkout that the design does not name.
    """
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert top <= {
        "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", ".ci", ".gitignore",
        "nbgrid", "templates", "tests", "benchmarks", "docs", "labextension",
    }  # fmt: skip


def test_import_nbgrid_loads_nothing_heavy() -> None:
    """
    `import nbgrid` loads none of the libraries that take long.
    """
    heavy = {"dask", "distributed", "numba", "matplotlib", "pandas", "pydantic", "sqlalchemy", "papermill",
             "nbclient", "jupyter_client", "jupyter_core", "nbformat", "numpy"}  # fmt: skip
    code = "import nbgrid, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert heavy & set(loaded) == set()


def test_the_source_never_loads_yaml_or_pickles_unsafely() -> None:
    """
    GP-16: no yaml.load without a safe loader, no pickle, no eval or exec of text, anywhere in the source.
    """
    wrong = []
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in {"eval", "exec", "pickle.load", "pickle.loads", "yaml.unsafe_load", "yaml.full_load"}:
                    wrong.append(f"{path.name}:{node.lineno}: {name}")
                if name == "yaml.load" and "Loader" not in ast.unparse(node):
                    wrong.append(f"{path.name}:{node.lineno}: {name}")
    assert wrong == []
