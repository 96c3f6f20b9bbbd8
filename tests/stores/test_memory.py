"""The store in memory."""

from __future__ import annotations

from nbgrid.stores import MemoryStore
from nbgrid.testing import StoreTests


class TestMemoryStore(StoreTests):
    def make_store(self, tmp_path):
        return MemoryStore()
