"""
How one notebook is executed: `kernel` starts an ordinary Jupyter kernel of any language, `fork` forks one that is warm.
"""

from __future__ import annotations

import sys
from typing import Literal, TypeAlias, get_args

from nbgrid.engines._fork import ForkEngine
from nbgrid.engines._kernel import KernelEngine
from nbgrid.engines.base import Engine, Shared
from nbgrid.engines.environment import Kernel, fork_command
from nbgrid.errors import PreflightError

EngineName: TypeAlias = Literal["fork", "kernel"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


def make_engine(name: EngineName, shared: Shared | None = None) -> Engine:
    """Return the engine of that name, for notebooks that have *shared* in common."""
    return ForkEngine(shared) if name == "fork" else KernelEngine()


def choose_engine(asked: EngineName | Literal["auto"], kernel: Kernel) -> tuple[EngineName, str | None]:
    """
    Return the engine for notebooks of *kernel*, and what a person should know of the choice.

    Raises `PreflightError` where kernels cannot be forked though that was *asked*.
    """
    if asked == "kernel":
        return "kernel", None
    try:
        fork_command(kernel)
    except PreflightError as error:
        if asked == "fork":
            raise PreflightError(f"--engine fork: {error}") from None
        return "kernel", f"kernels are started, not forked: {error}"
    if sys.platform == "darwin" and asked == "auto":  # its libraries do not expect a fork
        return "kernel", "kernels are started, not forked: on macOS, --engine fork asks for that"
    return "fork", None


__all__ = ["ENGINES", "Engine", "EngineName", "Shared", "choose_engine", "make_engine"]
