"""
nbgrid's engines for papermill: `papermill --engine nbgrid-kernel in.ipynb out.ipynb`, or `nbgrid-fork`.

Unlike papermill's own, what it saves never calls a cell completed that did not complete, and no process is left when it ends.
Only papermill imports this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import Engine, NotebookExecutionManager
from papermill.log import logger

from nbgrid.engines._fork import ForkEngine
from nbgrid.engines._kernel import KernelEngine
from nbgrid.engines.base import CellEvent, ExecutionSpec, Outcome
from nbgrid.engines.base import Engine as NbgridEngine
from nbgrid.states import TaskState


class _Manager(NotebookExecutionManager):  # type: ignore[misc]  # papermill has no types
    """Saves the notebook as papermill does, but leaves cells pending that were not executed."""

    def notebook_complete(self, **_: Any) -> None:
        self.end_time = self.now()
        told = self.nb.metadata.papermill
        told["end_time"] = self.end_time.isoformat()
        if told.get("start_time"):
            told["duration"] = (self.end_time - self.start_time).total_seconds()
        self.cleanup_pbar()
        self.save()


class KernelEngineAdapter(Engine):  # type: ignore[misc]  # papermill has no types
    """The engine `kernel`, as papermill's entry point `nbgrid-kernel` finds it."""

    make_engine: Callable[..., NbgridEngine] = KernelEngine

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: Any = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **kwargs: Any,
    ) -> Any:
        """Execute *nb* as papermill's own `Engine.execute_notebook` does, saving truthfully."""
        nb_man = _Manager(
            nb, output_path=output_path, progress_bar=progress_bar, log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )  # fmt: skip
        nb_man.notebook_start()
        try:
            cls.execute_managed_notebook(nb_man, kernel_name, log_output=log_output, **kwargs)
        finally:
            nb_man.notebook_complete()
        return nb_man.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: float = 60,
        execution_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Execute the notebook of *nb_man* in the working directory of this process, which papermill has set.

        An exception is left to papermill, that finds it in the outputs; a kernel that is gone and a cell that took too long are
        raised as nbclient raises them, so that papermill's exit codes hold.
        """
        report = _Report(nb_man, log_output, stdout_file, stderr_file)
        spec = ExecutionSpec(
            kernel=kernel_name,
            cwd=str(Path.cwd()),
            cell_timeout=execution_timeout or kwargs.get("timeout"),
            startup_timeout=start_timeout or 60.0,
        )
        engine = cls.make_engine(report.on_output)
        try:
            outcome = asyncio.run(engine.execute(nb_man.nb, spec, report.on_event))
        finally:
            engine.close()
        if outcome.fallback is not None:
            logger.warning("its kernel was not forked: %s", outcome.fallback)
        if outcome.state is not TaskState.FINISHED:
            nb_man.nb.metadata.papermill["exception"] = True
            _raise(outcome, nb_man.nb)


class ForkEngineAdapter(KernelEngineAdapter):
    """The engine `fork`, as papermill's entry point `nbgrid-fork` finds it."""

    make_engine = staticmethod(partial(ForkEngine, None))


def _raise(outcome: Outcome, nb: Any) -> None:
    """Raise what papermill expects for *outcome*, but for an exception in a cell, which it raises itself."""
    message = str(outcome.reason)
    if outcome.state is TaskState.TIMED_OUT:
        raise CellTimeoutError(message)
    if outcome.state is TaskState.KILLED:
        raise DeadKernelError(message)
    if outcome.state is TaskState.ABORTED:
        raise KeyboardInterrupt(message)
    if outcome.reason is not None and outcome.reason.cell is None:
        raise RuntimeError(message)  # the kernel did not start
    cell = nb.cells[outcome.reason.cell] if outcome.reason is not None else None
    assert cell is not None
    assert cell.metadata.papermill["exception"]


class _Report:
    """Tells papermill's manager and log of cells and outputs as they come."""

    def __init__(self, nb_man: Any, log_output: bool, stdout_file: Any, stderr_file: Any) -> None:
        self.nb_man, self.log_output = nb_man, log_output
        self.files = {"stdout": stdout_file, "stderr": stderr_file}

    def on_event(self, event: CellEvent) -> None:
        cell = self.nb_man.nb.cells[event.cell]
        if event.kind == "started":
            self.nb_man.cell_start(cell, event.cell)
            return
        if cell.metadata.papermill["status"] == "failed":
            self.nb_man.cell_exception(cell, cell_index=event.cell)
        self.nb_man.cell_complete(cell, cell_index=event.cell)

    def on_output(self, output: Any) -> None:
        self.nb_man.autosave_cell()
        if output is None:
            return
        if output.output_type == "stream":
            self._stream(output.name, "".join(output.text))
        elif self.log_output and "text/plain" in output.get("data", {}):
            logger.info("".join(output.data["text/plain"]))

    def _stream(self, name: str, text: str) -> None:
        if self.log_output:
            (logger.info if name == "stdout" else logger.warning)(text)
        if (file := self.files.get(name)) is not None:
            file.write(text)
            with suppress(AttributeError):
                file.flush()
