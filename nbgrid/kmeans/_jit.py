"""
The only place that knows numba's options.

Kernels are serial and release the GIL; threads belong to `_threads`. numba's own `parallel=True` is not used: its
workqueue layer aborts the process when two Python threads enter it, and its omp layer dies in a forked child.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from nbgrid.kmeans._cache import KernelCache

Function = TypeVar("Function", bound=Callable[..., Any])

KERNELS: dict[str, Any] = {}
"""Every kernel of this package that has been imported, by name: numba's dispatchers."""

# Sums may be reordered and fused, which vectorises them; nnan and ninf stay off, so that a NaN is seen as one.
FAST = frozenset({"contract", "nsz", "reassoc"})

_jit = numba.njit(nogil=True, error_model="numpy", fastmath=set(FAST))


def kernel(function: Function) -> Function:
    """
    Return *function* as a numba kernel that is compiled on its first call and kept in nbgrid's own cache.
    """
    dispatcher = _jit(function)
    if hasattr(dispatcher, "_cache"):  # not under NUMBA_DISABLE_JIT, where njit returns the function itself
        # What `cache=True` does, with a cache of our own: see _cache.
        dispatcher._cache = KernelCache(function)
        KERNELS[function.__name__] = dispatcher
    compiled: Function = dispatcher
    return compiled
