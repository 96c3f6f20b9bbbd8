"""
The `fork` engine: a kernel forked from a warm one for each notebook; all else is as in the `kernel` engine.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from nbgrid.engines import _ends, _status
from nbgrid.engines._ends import End
from nbgrid.engines._forked import ForkRefusedError, ForkServer, LoudImportsError, UnsharedError
from nbgrid.engines._kernel import KernelEngine, execute_in
from nbgrid.engines.base import ExecutionSpec, OnEvent, Outcome, Shared
from nbgrid.engines.environment import find_kernel, fork_command
from nbgrid.errors import PreflightError
from nbgrid.notebook import tags
from nbgrid.states import Reason, TaskState
from nbgrid.typing import Notebook

# So often may a server be lost before a run goes on without one.
_MOST_LOST = 3


class ForkEngine:
    """
    Forks a kernel for each notebook from one that is warm, where that can be; else it starts one.

    The server is started for the first notebook, with that one's environment and directory; all the notebooks of one engine
    are expected to have *shared* in common. *on_output* is called, as each message of a cell arrives, with the output that it is,
    or with None.
    """

    def __init__(self, shared: Shared | None = None, on_output: Callable[[Any], None] | None = None) -> None:
        self._shared = shared or Shared()
        self._on_output = on_output
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        self._lost = 0
        self._refused: str | None = None
        self._unshared: str | None = None
        self._kernel: str | None = None

    @property
    def name(self) -> str:
        """`fork`."""
        return "fork"

    async def execute(self, notebook: Notebook, spec: ExecutionSpec, on_event: OnEvent) -> Outcome:
        """Execute *notebook* as `Engine.execute` says; the outcome's *fallback* says why its kernel was not forked."""
        try:
            server = await self._ready(notebook, spec)
            outcome = await execute_in(notebook, spec, on_event, self._on_output, server)
        except ForkRefusedError as error:
            outcome = await KernelEngine(self._on_output).execute(notebook, spec, on_event)
            return replace(outcome, fallback=str(error))
        except End as end:
            return _ended_before(notebook, end, self.name)
        except asyncio.CancelledError:
            aborted = End(TaskState.ABORTED, Reason("request", "aborted before it began"))
            return _ended_before(notebook, aborted, self.name)
        return replace(outcome, engine=self.name, unshared=self._unshared)

    def warm(self, notebook: Notebook, spec: ExecutionSpec) -> None:
        """Start the server, and do not wait for it; whatever hinders it is told when *notebook* is executed."""
        with suppress(ForkRefusedError):
            self._started(spec)

    def close(self) -> None:
        """End the server."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _ready(self, notebook: Notebook, spec: ExecutionSpec) -> ForkServer:
        """Return a server that is ready; raise `ForkRefusedError` where there can be none, and `End` after a time-out."""
        server = await asyncio.to_thread(self._started, spec)
        server.run(self._cells(notebook))
        ready = asyncio.wrap_future(server.ready)
        ready.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
        while not ready.done():
            began = server.began
            await asyncio.wait({ready}, timeout=spec.cell_timeout if began is not None else 1.0)
            if not ready.done() and began is not None and began == server.began:
                server.process.kill()
                raise _ends.end_of_shared_time(_status.places(notebook)[began - 1], spec.cell_timeout or 0.0)
        try:
            ready.result()
        except LoudImportsError as error:
            self._drop(server, imports=tuple(one for one in self._shared.imports if one not in error.args[0]))
            return await self._ready(notebook, spec)
        except UnsharedError as error:
            # What stands below it might have to do with it: that was found on the assumption that it is shared.
            number, why = error.args
            first = _status.places(notebook)[number - 1]
            fewer = tuple(one for one in self._shared.cells if one < first or one not in self._shared.found)
            self._unshared = f"cell {first + 1} was not shared, nor what could be below it: {why}"
            self._drop(server, cells=fewer)
            return await self._ready(notebook, spec)
        except ForkRefusedError as error:
            self._refused = str(error)
            raise
        return server

    def _drop(self, server: ForkServer, **changes: Any) -> None:
        """End *server*, and have the next one share what *changes* say."""
        with self._lock:
            if self._server is server:
                self._server, self._shared = None, replace(self._shared, **changes)
        server.close()

    def _started(self, spec: ExecutionSpec) -> ForkServer:
        with self._lock:
            if self._server is not None and not self._server.is_alive:
                self._lost += 1
                self._server.close()
                self._server = None
                if self._lost >= _MOST_LOST:
                    self._refused = f"the fork server was lost {self._lost} times"
            if self._refused is not None:
                raise ForkRefusedError(self._refused)
            if self._kernel not in {None, spec.kernel}:
                raise ForkRefusedError(f"the fork server is one of {self._kernel!r}, not of {spec.kernel!r}")
            self._kernel = spec.kernel
            if self._server is None:
                self._server = self._start(spec)
            return self._server

    def _start(self, spec: ExecutionSpec) -> ForkServer:
        try:
            kernel = find_kernel(spec.kernel)
            command, arguments = fork_command(kernel)
        except PreflightError as error:
            raise ForkRefusedError(str(error)) from None
        env = {**os.environ, **kernel.env, **spec.env}
        wanted = {"arguments": arguments, "imports": list(self._shared.imports)}
        try:
            return ForkServer(command, env, spec.cwd, wanted)
        except OSError as error:
            raise ForkRefusedError(f"the fork server did not start: {error}") from None

    def _cells(self, notebook: Notebook) -> list[dict[str, Any]]:
        """Return what the server is told of the shared cells."""
        return [
            {
                "number": number,
                "source": cell["source"],
                "may_raise": "raises-exception" in tags(cell),
                "found": index in self._shared.found,
                "apart": index in self._shared.apart,
            }
            for number, index in enumerate(_status.places(notebook), 1)
            for cell in [notebook["cells"][index]]
            if index in self._shared.cells
        ]


def _ended_before(notebook: Notebook, end: End, engine: str) -> Outcome:
    """Return the outcome of a notebook of which no kernel has executed anything; a shared cell may be to blame."""
    _status.reset(notebook)
    if end.reason is not None and end.reason.cell is not None:
        _status.begin(notebook["cells"][end.reason.cell])
        _status.end(notebook["cells"][end.reason.cell], completed=False)
    return Outcome(state=end.state, reason=end.reason, engine=engine)
