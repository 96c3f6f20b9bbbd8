"""How one notebook is executed: `kernel` starts an ordinary Jupyter kernel of any language."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from nbgrid.engines._kernel import KernelEngine
from nbgrid.engines.base import Engine

EngineName: TypeAlias = Literal["kernel"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


def make_engine(name: EngineName) -> Engine:
    """Return the engine of that name."""
    return {"kernel": KernelEngine}[name]()


__all__ = ["ENGINES", "Engine", "EngineName", "make_engine"]
