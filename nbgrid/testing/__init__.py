"""
What any store, engine or executor must do, as test classes for yours and ours, and fakes that fail when they are told to.

A test module of an implementation is a subclass that makes one:

    class TestMyStore(StoreTests):
        def make_store(self, tmp_path): return MyStore(tmp_path)

pytest is imported here and nowhere else in nbgrid.
"""

from __future__ import annotations

from nbgrid.testing._engines import EngineTests
from nbgrid.testing._executors import ExecutorTests
from nbgrid.testing._fakes import (
    DEADLINE,
    Doing,
    FailingStore,
    FakeWork,
    code_notebook,
    is_running,
    printed,
    statuses,
    wait_until,
)
from nbgrid.testing._stores import ESCAPES, StoreTests

__all__ = [
    "DEADLINE", "ESCAPES", "Doing", "EngineTests", "ExecutorTests", "FailingStore", "FakeWork", "StoreTests",
    "code_notebook", "is_running", "printed", "statuses", "wait_until",
]  # fmt: skip
