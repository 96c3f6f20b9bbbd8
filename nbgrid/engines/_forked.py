"""
The fork server as this process sees it: a program that runs, kernels that it has forked, and their ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nbgrid.engines import _processes

_PROGRAM = Path(__file__).with_name("_forkserver")
_LOG_BYTES = 4000
_END_SECONDS = 5.0

# Of what threads a fork would end, the server has one only, or none.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_WORKQUEUE = {"NUMBA_THREADING_LAYER": "workqueue"}
# What would take OpenMP's number, and whose threads survive a fork: it gets the task's.
_FOLLOWS_OPENMP = ("BLIS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ForkRefusedError(Exception):
    """No kernel can be forked here; the message says why."""


class LoudImportsError(ForkRefusedError):
    """Imports that were to be made early have printed something; the argument is their statements."""


class UnsharedError(ForkRefusedError):
    """A cell that nobody asked to share should not be; the arguments are its number and why."""


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """What one kernel is given that its siblings are not."""

    connection: Mapping[str, Any]
    connection_file: str
    env: Mapping[str, str]
    cwd: str
    log: str


@dataclass(frozen=True, slots=True)
class SharedCell:
    """What became of a cell that the server has executed."""

    number: int
    """Its place among the notebook's code cells that are executed, from 1."""
    messages: list[dict[str, Any]]
    """What it sent, as a kernel would: type, content, metadata and buffers (base64) of each message."""
    started: str
    ended: str
    error: dict[str, Any] | None
    """ename, evalue and traceback, if it raised."""


class ForkedProcess:
    """A kernel that the server has forked, with `subprocess.Popen`'s interface as far as jupyter_client asks for it."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: Future[int | None] = Future()
        """Its exit status as `Popen.returncode` has it; None when the server is gone, and the kernel with it."""

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs; SIGKILL's where the server took it along."""
        if not self.ended.done():
            return None
        status = self.ended.result()
        return -signal.SIGKILL if status is None else status

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when it has ended; raise `subprocess.TimeoutExpired` after *timeout* seconds."""
        try:
            self.ended.result(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired("kernel", timeout or 0.0) from None
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)


class ForkServer:
    """
    A fork server that runs, and its kernels.

    Any thread may ask; answers are read by a thread of its own. The server is started by a thread that never ends, since the
    system has it killed when that thread does.
    """

    def __init__(self, command: list[str], env: Mapping[str, str], cwd: str, wanted: Mapping[str, Any]) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        share = env.get("OMP_NUM_THREADS") or str(cores or 1)
        self.env = {**dict.fromkeys(_FOLLOWS_OPENMP, share), **_WORKQUEUE, **env, **_ONE_THREAD}
        self._unset = dict.fromkeys(self.env.keys() - env.keys())
        """Variables that are the server's alone."""
        self._number = 0
        self.ready: Future[list[SharedCell]] = Future()
        """What became of the shared cells, when it can fork; `ForkRefusedError` if it never will."""
        self._is_running = False
        self.began: int | None = None
        """The number of the shared cell that is being executed."""
        self._lock = threading.Lock()
        self._asked: dict[int, Future[ForkedProcess]] = {}
        self._kernels: dict[int, ForkedProcess] = {}
        self._log = tempfile.TemporaryFile(prefix="nbgrid-", suffix=".log")  # noqa: SIM115  closed with the server
        self._channel, theirs = socket.socketpair()
        try:
            self.process: subprocess.Popen[bytes] = _starter().submit(
                subprocess.Popen,
                [*_processes.dies_with_its_parent(), *command, str(_PROGRAM), str(theirs.fileno())],
                env=self.env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                pass_fds=(theirs.fileno(),),
            ).result()  # fmt: skip
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()
        self._tell({"load": dict(wanted)})
        self._reader = threading.Thread(target=self._read, name="nbgrid-fork-server", daemon=True)
        self._reader.start()

    def run(self, cells: list[dict[str, Any]]) -> None:
        """Have it execute the shared *cells*; it is ready after that, and only the first call does anything."""
        with self._lock:
            is_first, self._is_running = not self._is_running, True
        if is_first:
            with suppress(OSError):  # its end is told otherwise
                self._tell({"run": cells})

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked."""
        return self.process.poll() is None

    async def fork(self, request: ForkRequest) -> ForkedProcess:
        """Return a new kernel that can be talked to; raise `ForkRefusedError` where the server cannot fork one."""
        future: Future[ForkedProcess] = Future()
        changed = {name: value for name, value in request.env.items() if self.env.get(name) != value}
        asked = {
            "connection": dict(request.connection), "connection_file": request.connection_file, "cwd": request.cwd,
            "env": {**self._unset, **changed}, "log": request.log,
        }  # fmt: skip
        with self._lock:
            self._number = number = self._number + 1
            self._asked[number] = future
        try:
            self._tell({"id": number, "fork": asked})
        except OSError:
            self._lose()
        # Whoever asked may be cancelled meanwhile: then nobody else would end the kernel.
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            future.add_done_callback(_end_unwanted)
            raise

    def close(self) -> None:
        """End the server and its kernels, and wait for it."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self._log.close()

    def said(self) -> str:
        """Return the last of what the server wrote to its standard streams."""
        with suppress(OSError, ValueError):
            size = os.fstat(self._log.fileno()).st_size
            return os.pread(self._log.fileno(), _LOG_BYTES, max(size - _LOG_BYTES, 0)).decode(errors="replace").strip()
        return ""

    def _tell(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _read(self) -> None:
        with self._channel, self._channel.makefile("rb") as lines, suppress(OSError):
            for line in lines:
                self._heard(json.loads(line))
        self._lose()

    def _heard(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.ready.set_result([SharedCell(**cell) for cell in message["ready"]])
        elif "loud" in message:
            self.ready.set_exception(LoudImportsError(message["loud"]))
        elif "unshared" in message:
            self.ready.set_exception(UnsharedError(message["unshared"], message["why"]))
        elif "began" in message:
            self.began = message["began"]
        elif "exited" in message:
            self._kernels.pop(message["exited"]).ended.set_result(message["status"])
        elif "id" not in message:
            self.ready.set_exception(ForkRefusedError(message["refused"]))
        else:
            with self._lock:
                future = self._asked.pop(message["id"])
            if "refused" in message:
                future.set_exception(ForkRefusedError(message["refused"]))
            else:
                self._kernels[message["pid"]] = process = ForkedProcess(message["pid"])
                future.set_result(process)

    def _lose(self) -> None:
        """Settle everything that the server, which is gone, will never answer."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)
        with self._lock:
            asked, self._asked = self._asked, {}
        said = self.said()
        gone = f"the fork server ended{': ' + said.splitlines()[-1] if said else ''}"
        if not self.ready.done():
            self.ready.set_exception(ForkRefusedError(gone))
        for future in asked.values():
            future.set_exception(ForkRefusedError(gone))
        while self._kernels:
            self._kernels.popitem()[1].ended.set_result(None)


def _end_unwanted(future: Future[ForkedProcess]) -> None:
    if future.exception() is None:
        future.result().kill()


@cache
def _starter() -> ThreadPoolExecutor:
    """Return the one thread that starts servers: the system ends each when the thread that started it does."""
    return ThreadPoolExecutor(1, thread_name_prefix="nbgrid-starter")
