"""
The `kernel` engine: an ordinary Jupyter kernel of any language for each notebook, driven with nbclient.

nbclient's own set-up is not used: it installs signal handlers on the event loop, picks tcp ports that another kernel can
take before they are bound, polls for a dead kernel once a second, and does not interrupt a cell that ran out of time.
"""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any, TypeVar
from uuid import uuid4

from nbgrid import notebook as notebooks
from nbgrid.engines import _ends, _processes, _status
from nbgrid.engines._ends import End
from nbgrid.engines._forked import ForkRefusedError, ForkServer, SharedCell
from nbgrid.engines.base import CellEvent, ExecutionSpec, OnEvent, Outcome
from nbgrid.states import Reason, TaskState
from nbgrid.typing import Notebook

# The longest path of a Unix socket that every system takes, less the number that jupyter_client appends.
_LONGEST_SOCKET = 100
# How long a cell that was interrupted may take to say so, how long a kernel may take to leave, and a tree to end.
_INTERRUPT_SECONDS, _SHUTDOWN_SECONDS, _TERMINATE_SECONDS = 3.0, 3.0, 1.0
# What a kernel that died had sent before is read for so long, and one that was killed is waited for no longer than so.
_DRAIN_SECONDS, _REAP_SECONDS = 0.3, 10.0
_LOG_BYTES = 4000

_T = TypeVar("_T")


class KernelEngine:
    """
    Starts a Jupyter kernel for each notebook, in a session of its own, and ends its whole process tree.

    *on_output* is called, as each message of a cell arrives, with the output that it is, or with None.
    """

    def __init__(self, on_output: Callable[[Any], None] | None = None) -> None:
        self._on_output = on_output

    @property
    def name(self) -> str:
        """`kernel`."""
        return "kernel"

    async def execute(self, notebook: Notebook, spec: ExecutionSpec, on_event: OnEvent) -> Outcome:
        """Execute *notebook* as `Engine.execute` says."""
        return await execute_in(notebook, spec, on_event, self._on_output, None)

    def warm(self, notebook: Notebook, spec: ExecutionSpec) -> None:
        """Do nothing: each kernel is started for its notebook."""

    def close(self) -> None:
        """Do nothing: nothing is kept."""


async def execute_in(
    notebook: Notebook, spec: ExecutionSpec, on_event: OnEvent, on_output: Any, server: ForkServer | None
) -> Outcome:
    """
    Execute *notebook* as `Engine.execute` says, in a kernel that *server* forks, or in one that is started.

    Raises `ForkRefusedError`, before anything was executed.
    """
    with tempfile.TemporaryDirectory(prefix="nbgrid-", ignore_cleanup_errors=True) as folder:
        return await _Execution(notebook, spec, on_event, on_output, Path(folder), server).run()


class _Execution:
    """One notebook in one kernel."""

    def __init__(
        self, notebook: Notebook, spec: ExecutionSpec, on_event: OnEvent, on_output: Any, folder: Path, server: Any
    ) -> None:
        import nbformat

        self.notebook, self.spec, self.folder, self.server = notebook, spec, folder, server
        self.on_event, self.on_output = on_event, on_output
        _status.reset(notebook)
        # A notebook of nbformat's own kind is filled in cell by cell, so that whoever gave it can save it meanwhile.
        is_node = isinstance(notebook, nbformat.NotebookNode)
        self.node: Any = notebook if is_node else nbformat.from_dict(notebook)
        self.mark = f"{os.environ.get(_processes.MARK, '')}/{uuid4().hex}"
        self.process: Any = None
        self.manager: Any = None
        self.channels: Any = None
        self.client: Any = None
        self.exit: asyncio.Task[None] | None = None
        self.watch: asyncio.Task[None] | None = None
        self.peak = 0
        self.over_memory = False
        self.sockets: tempfile.TemporaryDirectory[str] | None = None
        self.is_idle = False

    async def run(self) -> Outcome:
        try:
            await self._start()
            await self._cells()
            state, reason = TaskState.FINISHED, None
        except End as end:
            state, reason = end.state, end.reason
        except asyncio.CancelledError:
            state, reason = TaskState.ABORTED, Reason("request", "aborted while it ran")
        finally:
            # Whoever cancels may do so again, and the kernel must be gone all the same.
            versions, compiled = await _whatever_comes(self._end())
        return Outcome(
            state=state, reason=reason, peak_memory=self.peak or None, versions=versions, compiled=compiled
        )  # fmt: skip

    # -- starting ---------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        await self._launch()
        self.exit = asyncio.create_task(_processes.wait_for_exit(self.process))
        self.watch = asyncio.create_task(self._watch_memory())
        self.channels = self.manager.client()
        self.channels.start_channels(stdin=False, hb=False)
        self.channels.allow_stdin = False
        info = await self._until_ready()
        if self.server is None:
            self._tell_ipykernel(_ends.KEEP_ALL)
        self.client = _jupyter().CellClient(self.node, km=self.manager)
        self.client.kc, self.client.on_output = self.channels, self.on_output
        if isinstance(info.get("language_info"), dict):
            self.node["metadata"]["language_info"] = info["language_info"]

    async def _launch(self) -> None:
        self.manager = manager = _jupyter().KernelManager(kernel_name=self.spec.kernel)
        manager.connection_file = str(self.folder / "kernel.json")
        if sockets := self._folder_of_sockets():
            manager.transport, manager.ip = "ipc", f"{sockets}/k"
        env = {**os.environ, **self.spec.env, _processes.MARK: self.mark}
        try:
            if self.server is not None:
                manager.provisioner = _jupyter().ForkProvisioner(parent=manager, kernel_spec=manager.kernel_spec)
                manager.provisioner.server, manager.provisioner.log = self.server, str(self.folder / "log")
            history = ["--HistoryManager.hist_file=:memory:"] if _is_ipykernel(manager.kernel_spec.argv) else []
            with (self.folder / "log").open("wb") as log:
                await manager.start_kernel(
                    cwd=self.spec.cwd, env=env, extra_arguments=history, stdout=log, stderr=log
                )  # fmt: skip
        except ForkRefusedError:
            raise
        except Exception as error:  # noqa: BLE001  a kernelspec's program can fail to start in any way
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise End(
                TaskState.FAILED, Reason("start", f"the kernel {self.spec.kernel} did not start: {why}")
            ) from None
        finally:
            self.process = getattr(manager.provisioner, "process", None)

    def _folder_of_sockets(self) -> str | None:
        """Return a folder of ours whose path is short enough for sockets; None if there is none, so that tcp must serve."""
        if sys.platform == "win32":
            return None
        if _is_short(str(self.folder)):
            return str(self.folder)
        for parent in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp"):  # noqa: S108  a fresh folder of 0700 is made in it
            if parent and _is_short(f"{parent}/nbgrid-12345678"):
                with suppress(OSError):
                    self.sockets = tempfile.TemporaryDirectory(prefix="nbgrid-", dir=parent, ignore_cleanup_errors=True)
                    return self.sockets.name
        return None

    async def _until_ready(self) -> dict[str, Any]:
        """Return what the kernel says of itself, once both its replies and its outputs reach us."""
        answer = asyncio.ensure_future(self._handshake())
        assert self.exit is not None
        try:
            done, _ = await asyncio.wait(
                {answer, self.exit}, timeout=self.spec.startup_timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            if not answer.done():
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
        if answer in done:
            return answer.result()
        how = "died at its start" if self.exit in done else f"did not answer within {self.spec.startup_timeout:g} s"
        said = self._log_tail()
        last = ": " + " | ".join(line.strip() for line in said.splitlines()[-3:])[-500:] if said else ""
        raise End(
            TaskState.FAILED, Reason("start", f"the kernel {self.spec.kernel} {how}{last}", traceback=said or None)
        )

    async def _handshake(self) -> dict[str, Any]:
        while True:
            asked = self.channels.kernel_info()
            reply = await self._message(self.channels.shell_channel, asked, 1.0)
            # Its subscription may not have reached the kernel when it replied: then no output arrives, and we ask again.
            if reply and await self._message(self.channels.iopub_channel, asked, 0.1):
                return dict(reply["content"])

    async def _message(self, channel: Any, parent: str, timeout: float) -> Any:
        """Return the next message on *channel* that answers *parent*, or None after *timeout* seconds without one."""
        while True:
            try:
                message = await channel.get_msg(timeout=timeout)
            except Empty:
                return None
            if message["parent_header"].get("msg_id") == parent:
                return message

    def _log_tail(self) -> str:
        """Return the last of what the kernel's process itself wrote to its standard streams."""
        with suppress(OSError), (self.folder / "log").open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - _LOG_BYTES, 0))
            return log.read().decode(errors="replace").strip()
        return ""

    # -- running ----------------------------------------------------------------------------------------------------

    async def _cells(self) -> None:
        places = _status.places(self.node)
        shared = {} if self.server is None else {cell.number: cell for cell in self.server.ready.result()}
        self.is_idle = True
        for number, index in enumerate(places, 1):
            cell, done = self.node["cells"][index], shared.get(number)
            self.on_event(CellEvent("started", index, len(places), number))
            _status.begin(cell, done and done.started)
            completed = False
            try:
                if done is None:
                    await self._cell(cell, index)
                else:
                    self._repeat(done, cell, index)
                completed = True
            except End as end:
                completed = end.state is TaskState.FINISHED
                raise
            finally:
                seconds = _status.end(cell, completed=completed, at=done and done.ended)
                self.on_event(CellEvent("ended", index, len(places), number, seconds))

    def _repeat(self, done: SharedCell, cell: Any, index: int) -> None:
        """Fill in a cell that the server has executed already, for all tasks."""
        self.client.clear_before_next_output = False
        for message in done.messages:
            whole = {**message, "header": {"msg_type": message["msg_type"]}, "parent_header": {}}
            whole["buffers"] = [base64.b64decode(buffer) for buffer in message["buffers"]]
            self.client.process_message(whole, cell, index)
        cell["execution_count"] = done.number
        if done.error is not None and "raises-exception" not in notebooks.tags(cell):
            raise _ends.end_of_shared(done.error, index)

    async def _cell(self, cell: Any, index: int) -> None:
        from nbclient.exceptions import CellExecutionError

        self.is_idle = False
        task = asyncio.ensure_future(self.client.async_execute_cell(cell, index, store_history=True))
        try:
            await self._until_ended(task, index)
            task.result()
        except CellExecutionError as error:
            self.is_idle = True
            raise _ends.end_of_exception(error, index) from None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self.is_idle = True

    async def _until_ended(self, task: asyncio.Future[Any], index: int) -> None:
        """Return when *task* is done; raise `End` when the kernel died or the cell ran out of time."""
        assert self.exit is not None
        done, _ = await asyncio.wait(
            {task, self.exit}, timeout=self.spec.cell_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        if task in done:
            return
        if self.exit in done:
            await asyncio.wait({task}, timeout=_DRAIN_SECONDS)
            if not task.done():
                raise await self._death(index)
            return
        with suppress(Exception):  # whatever hinders it, the processes are ended after it
            await self.manager.interrupt_kernel()
        await asyncio.wait({task, self.exit}, timeout=_INTERRUPT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.exception()  # its KeyboardInterrupt stands in the cell's outputs
            self.is_idle = not self.exit.done()
        limit = f"{self.spec.cell_timeout:g} s"
        raise End(
            TaskState.TIMED_OUT, Reason("timeout", f"cell {index + 1} took longer than its limit of {limit}", index)
        )

    async def _death(self, index: int) -> End:
        """Return how the kernel's end is told."""
        with suppress(TimeoutError, asyncio.TimeoutError):
            assert self.exit is not None
            await asyncio.wait_for(asyncio.shield(self.exit), 5)
        if self.over_memory:
            limit, held = self.spec.memory or 0, self.peak
            message = f"killed in cell {index + 1}: it held {held / 1e6:,.0f} MB, its limit is {limit / 1e6:,.0f} MB"
            return End(TaskState.KILLED, Reason("memory", message, index))
        if self.server is not None and self.process.ended.result() is None:
            message = f"killed in cell {index + 1}: the fork server was lost"
            return End(TaskState.KILLED, Reason("server", message, index, traceback=self.server.said() or None))
        return _ends.end_of_kernel(self.process.poll(), index, self._log_tail() or None)

    async def _watch_memory(self) -> None:
        limit = self.spec.memory
        while True:
            await asyncio.sleep(0.2 if limit else 1.0)
            held = await asyncio.to_thread(_processes.private_memory, self.process.pid)
            self.peak = max(self.peak, held)
            if limit and held > limit:
                self.over_memory = True
                await asyncio.to_thread(_processes.end_tree, self.process.pid, 0, self.mark)

    async def _probe(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the versions of the packages that the notebook loaded, and the numba kernels of ours that it ran."""
        if self.node["metadata"].get("language_info", {}).get("name") != "python":
            return {}, ()
        with suppress(Exception):  # whatever the notebook did to its own Python is no failure of the task
            asked = self.channels.execute("", silent=True, store_history=False, user_expressions={"probe": _ends.PROBE})
            reply = await self._message(self.channels.shell_channel, asked, 2.0)
            return _ends.probed(reply["content"], self.node["metadata"]["language_info"].get("version", ""))
        return {}, ()

    # -- ending -----------------------------------------------------------------------------------------------------

    async def _end(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """End the kernel and everything that it started, free its channels, and return what `_probe` does."""
        told: tuple[dict[str, str], tuple[str, ...]] = ({}, ())
        if self.is_idle:
            told = await self._probe()
        if self.client is not None:
            with suppress(Exception):  # the state of widgets, as far as it was understood
                self.client.set_widgets_metadata()
        if self.process is not None:
            await self._end_process()
        for task in filter(None, (self.watch, self.exit)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self.channels is not None:
            self.channels.stop_channels()
        if self.manager is not None:
            await self.manager.cleanup_resources()
        if self.sockets is not None:
            self.sockets.cleanup()
        self.notebook["cells"], self.notebook["metadata"] = self.node["cells"], self.node["metadata"]
        return told

    def _ask_to_leave(self) -> None:
        """
        Ask an idle kernel to end.

        One shutdown in twenty hangs in ipykernel 7: its control thread still flushes to the output thread when the main
        thread has closed that. So an ipykernel is asked from inside to leave its main loop, which is all that matters.
        """
        if not self._tell_ipykernel(_ends.LEAVE):
            self.channels.shutdown()

    def _tell_ipykernel(self, expression: str) -> bool:
        """Have an ipykernel evaluate *expression*, whatever becomes of it; return False for another kernel."""
        if self.manager.kernel_spec is None or not _is_ipykernel(self.manager.kernel_spec.argv):
            return False
        self.channels.execute("", silent=True, store_history=False, user_expressions={"told": expression})
        return True

    async def _end_process(self) -> None:
        pid = self.process.pid
        # What a forked kernel shares with its server counts in its high water, though it is nobody's own.
        at_most = _processes.high_water if self.server is None else _processes.private_memory_of
        self.peak = max(self.peak, at_most(pid))
        grace = _TERMINATE_SECONDS
        if self.is_idle and self.exit is not None:
            self._ask_to_leave()  # so that what the notebook registered with atexit runs
            done, _ = await asyncio.wait({self.exit}, timeout=_SHUTDOWN_SECONDS)
            grace = 0.0 if done else grace
        elif self.exit is not None and self.exit.done():
            grace = 0.0
        # Off the loop: other notebooks of this process must not wait for this one's stubborn children.
        await asyncio.to_thread(_processes.end_tree, pid, grace, self.mark)
        with suppress(subprocess.TimeoutExpired):  # one that the system itself cannot end is left to it
            await asyncio.to_thread(self.process.wait, _REAP_SECONDS)


async def _whatever_comes(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Await *coroutine* to its end, even if the awaiting task is cancelled meanwhile."""
    task = asyncio.ensure_future(coroutine)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    return task.result()


def _jupyter() -> Any:
    from nbgrid.engines import _jupyter

    return _jupyter


def _is_short(folder: str) -> bool:
    return len(os.fsencode(folder)) <= _LONGEST_SOCKET - len("/k-5")


def _is_ipykernel(argv: list[str]) -> bool:
    return any("ipykernel" in argument for argument in argv)
