"""
The contract of an engine: how one notebook is executed, whatever executes it.

An engine knows no store, no executor and no database. It fills the notebook it is given with outputs, tells events as they
happen, and returns a small outcome that says truthfully how far it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from nbgrid.states import Reason, TaskState
from nbgrid.typing import Notebook

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
"""What keeps each library's threads to the task's share, so that slots × threads stay within the cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSpec:
    """How a notebook is to be executed; it travels to the worker."""

    kernel: str
    """The kernel's name, as `jupyter kernelspec list` shows it."""
    cwd: str
    """The kernel's working directory; the process that runs the engine keeps its own."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that the kernel gets besides those of the worker."""
    cell_timeout: float | None = None
    """Seconds that one cell may take; None for no limit."""
    startup_timeout: float = 60.0
    """Seconds in which the kernel must answer."""
    memory: int | None = None
    """Bytes that the kernel and its children may hold together; None for no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the notebooks of a run have in common, so that an engine may do it once."""

    imports: tuple[str, ...] = ()
    """Import statements that nothing else precedes: what they load may be there already, though not their names."""
    cells: tuple[int, ...] = ()
    """The indices of code cells that may be executed once, in their order; their outputs appear in every notebook."""
    found: tuple[int, ...] = ()
    """Those of them that nobody asked for: each is executed in every task if executing it shows that it should be."""
    apart: tuple[int, ...] = ()
    """Those of *found* below a cell that is executed in every task, so that what both draw at random would be out of order."""


@dataclass(frozen=True, slots=True)
class CellEvent:
    """Something that happened while a notebook was executed."""

    kind: str
    """`started` or `ended`."""
    cell: int
    """The index of the cell in the executed notebook, from 0."""
    cells: int
    """How many cells will be executed in all."""
    number: int
    """The place of this cell among those, from 1."""
    seconds: float | None = None


OnEvent: TypeAlias = Callable[[CellEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the execution of one notebook ended."""

    state: TaskState
    """finished, failed, timed_out, killed or aborted."""
    reason: Reason | None = None
    peak_memory: int | None = None
    """Bytes of the kernel and its children together, private pages where the system tells them apart."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages that the notebook had loaded when it ended, where the kernel can tell."""
    compiled: tuple[str, ...] = ()
    """The kernels of nbgrid's numba core that ran in the notebook's process."""
    engine: str = "kernel"
    """The engine that executed it in the end."""
    fallback: str | None = None
    """Why that is not the one that was asked."""
    unshared: str | None = None
    """Why cells were executed after all that could have been executed once for all notebooks."""


class Engine(Protocol):
    """Executes one notebook from top to bottom, in a process of its own."""

    @property
    def name(self) -> str:
        """The engine's name, as `--engine` takes it."""

    async def execute(self, notebook: Notebook, spec: ExecutionSpec, on_event: OnEvent) -> Outcome:
        """
        Execute *notebook*, filling in its outputs, and return how it ended.

        Nothing is raised for what the notebook does: an exception, a time-out or a killed kernel is an outcome. When the
        coroutine is cancelled, the kernel is ended and the outcome is `aborted`. No process of the task is left behind.
        """

    def warm(self, notebook: Notebook, spec: ExecutionSpec) -> None:
        """Begin, without waiting, what takes long before the first notebook: *notebook* is one of those to come."""

    def close(self) -> None:
        """Give back what is kept from one notebook to the next; nothing is being executed any more."""


def thread_limits(threads: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give a kernel its share of *threads*; those that the user has set keep their value."""
    return {name: environ.get(name) or str(threads) for name in THREAD_VARIABLES}


def no_event(event: Any) -> None:
    """Take *event* and do nothing."""
