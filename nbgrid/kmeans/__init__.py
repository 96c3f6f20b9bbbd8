"""
k-means in numba, behind scikit-learn's interface.

An island: it imports nothing of nbgrid, and a notebook can use it alone. scikit-learn and numba are loaded when a
name is first used, and a kernel is compiled (or read from its cache) when it first runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbgrid.kmeans._choose import choose_k
    from nbgrid.kmeans._estimator import KMeans
    from nbgrid.kmeans._plusplus import kmeans_plusplus
    from nbgrid.kmeans._sweep import sweep

__all__ = ["KMeans", "choose_k", "compiled_kernels", "kmeans_plusplus", "sweep"]

_HOMES = {
    "KMeans": "nbgrid.kmeans._estimator",
    "choose_k": "nbgrid.kmeans._choose",
    "kmeans_plusplus": "nbgrid.kmeans._plusplus",
    "sweep": "nbgrid.kmeans._sweep",
}


def compiled_kernels() -> list[str]:
    """
    Return the names of the numba kernels that this process has compiled or read from their cache, sorted.

    The list is empty until a fit has really used one; asking imports neither numba nor scikit-learn.
    """
    jit = sys.modules.get("nbgrid.kmeans._jit")
    return [] if jit is None else sorted(name for name, kernel in jit.KERNELS.items() if kernel.signatures)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nbgrid.kmeans' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__]
