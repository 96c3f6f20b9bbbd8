"""The kernel engine."""

from __future__ import annotations

from nbgrid.engines import make_engine
from nbgrid.testing import EngineTests


class TestKernelEngine(EngineTests):
    def make_engine(self):
        return make_engine("kernel")
