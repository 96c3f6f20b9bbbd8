"""Where executed notebooks lie."""

from __future__ import annotations

from nbgrid.stores._local import LocalStore, replace_file
from nbgrid.stores._lock import PrefixLock
from nbgrid.stores._memory import MemoryStore
from nbgrid.stores.base import Store

__all__ = ["LocalStore", "MemoryStore", "PrefixLock", "Store", "replace_file"]
