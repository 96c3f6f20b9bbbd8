"""
nbgrid runs one notebook over a grid of parameters and makes the results comparable.

Nothing heavy is loaded before it is needed: each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbgrid import kmeans, plot
    from nbgrid.collection import NotebookCollection
    from nbgrid.grid import Grid
    from nbgrid.runs import start as run
    from nbgrid.template import Template

__version__ = "0.1.0"

__all__ = ["Grid", "NotebookCollection", "Template", "kmeans", "plot", "run"]

_HOMES = {
    "Grid": ("nbgrid.grid", "Grid"),
    "NotebookCollection": ("nbgrid.collection", "NotebookCollection"),
    "Template": ("nbgrid.template", "Template"),
    "kmeans": ("nbgrid.kmeans", None),
    "plot": ("nbgrid.plot", None),
    "run": ("nbgrid.runs", "start"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nbgrid' has no attribute {name!r}")
    home, attribute = _HOMES[name]
    module = importlib.import_module(home)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
