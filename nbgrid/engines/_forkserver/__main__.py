"""
The fork server: a program that makes ready all that tasks have in common, and then forks a kernel for each of them.

It is run by its path, with the interpreter of the kernel, and imports nothing of nbgrid: whatever lies in its process lies in
the notebook's. One thread, no event loop, no socket of zmq's before the fork: each would be shared by all kernels. Whoever
started it talks to it in lines of JSON over a socket, and its end is the server's.

    →  {"load": {"arguments", "imports"}}
    →  {"run": [{"number", "source", "may_raise", "found", "apart"}]}    the shared cells; it loads while this is decided
    ←  {"began": 1}                                  the number of each shared cell, as it begins
    ←  {"ready": [{"number", "messages", "started", "ended", "error"}]}  or  {"refused": why}    once, when everything is loaded
    ←  {"loud": [statement]}                         instead, when imports printed something; then the server ends
    ←  {"unshared": number, "why": why}              instead, when that cell turned out to be none to share; then, too
    →  {"id": 1, "fork": {"connection", "connection_file", "env", "cwd", "log"}}
    ←  {"id": 1, "pid": 4711}  or  {"id": 1, "refused": why}
    ←  {"exited": 4711, "status": 0}                 as `subprocess.Popen.returncode` has it; its whole tree is gone then
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from nbgrid.engines._forkserver import _nbgrid_kernel as kernels
    from nbgrid.engines._forkserver import _nbgrid_shared as shared_cells
else:
    import _nbgrid_kernel as kernels
    import _nbgrid_shared as shared_cells


def main() -> Callable[[], NoReturn] | None:
    """
    Serve whoever is at the other end of the socket whose number is the argument.

    Returns, in a process that was forked, what is to be called there.
    """
    sys.path.pop(0)  # this folder is none of the notebook's
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    kernels.adopt_orphans()
    lines = _Lines(channel)
    wanted = json.loads(lines.next())["load"]
    sys.argv[:] = [importlib.util.find_spec("ipykernel_launcher").origin, *wanted["arguments"]]  # type: ignore[union-attr,list-item]
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # else ipykernel takes itself for a test, and leaves descriptors alone
    app = kernels.warm(wanted)
    loud = kernels.preload(wanted["imports"])
    if loud:
        # What they said belongs into every notebook: a server without them is wanted.
        channel.sendall(json.dumps({"loud": loud}).encode() + b"\n")
        return None
    shared = shared_cells.Shared(app, channel)
    try:
        done = shared.run(json.loads(lines.next())["run"], unsafe)
    except shared_cells.UnsharedError as error:
        channel.sendall(json.dumps({"unshared": error.number, "why": error.why}).encode() + b"\n")
        return None
    kernels.openmp()
    server = _Server(channel, lines, app, shared)
    forked = server.serve(done)
    return None if forked is None else partial(server.be_kernel, forked)


class _Lines:
    """The lines that arrive on a socket."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel, self.rest = channel, b""
        self.is_over = False

    def next(self) -> bytes:
        """Return the next line, however long that takes."""
        while b"\n" not in self.rest:
            self.more()
            if self.is_over:
                raise SystemExit
        line, self.rest = self.rest.split(b"\n", 1)
        return line

    def more(self) -> None:
        """Receive once."""
        part = self.channel.recv(2**16)
        self.is_over = not part
        self.rest += part

    def received(self) -> list[bytes]:
        """Receive once, and return the lines that are whole now."""
        self.more()
        *whole, self.rest = self.rest.split(b"\n")
        return whole


def unsafe() -> str | None:
    """Return why this process must not be forked now, if so."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        return f"{', '.join(others)} {'is a thread' if len(others) == 1 else 'are threads'} that a fork would end"
    numba = sys.modules.get("numba")
    if numba is not None:
        with suppress(Exception):  # raised as long as no layer is up
            if numba.threading_layer() == "omp":
                return "numba runs on its omp layer, whose threads a fork would end"
    torch = sys.modules.get("torch")
    with suppress(Exception):
        if torch is not None and torch.cuda.is_initialized():
            return "CUDA was used, which does not survive a fork"
    return None


class _Forked(NamedTuple):
    """What a process that was forked is to be."""

    asked: dict[str, Any]
    server: int
    tells: int
    """A pipe that is closed when it can be talked to."""


class _Server:
    def __init__(self, channel: socket.socket, lines: _Lines, app: Any, shared: shared_cells.Shared) -> None:
        self.channel, self.lines, self.app, self.shared = channel, lines, app, shared
        self.kernels: set[int] = set()
        self.starting: dict[int, tuple[int, int]] = {}
        """The end of a pipe on which a kernel tells that it can be talked to → its number and pid."""
        self.own: set[int] = set()
        """Processes that what was loaded has started."""
        self.wake: tuple[int, int] = os.pipe()

    def serve(self, done: list[dict[str, Any]]) -> _Forked | None:
        """
        Tell what was *done*, and answer until the other end is closed; then end every kernel.

        In a process that was forked it returns what that is to be: the loop's frames would be missing from the stack that a
        notebook may use.
        """
        refused = unsafe()
        self.own.update(_children())
        gc.collect()
        gc.freeze()  # else the first collection in each kernel would copy every page that holds an object
        os.set_blocking(self.wake[1], False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake[1], warn_on_full_buffer=False)
        self.tell({"ready": done} if refused is None else {"refused": refused})
        while not self.lines.is_over:
            watched: list[Any] = [self.channel, self.wake[0], *self.starting]
            readable, _, _ = select.select(watched, [], [])
            for pipe in set(readable) & self.starting.keys():
                self.started(pipe)
            if self.wake[0] in readable:
                os.read(self.wake[0], 4096)
                self.reap()
            if self.channel in readable:
                for line in self.lines.received():
                    if (forked := self.answer(json.loads(line))) is not None:
                        return forked
        for pid in self.kernels:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.reap_all()
        return None

    def tell(self, message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # the loop sees the end of the other side, too
            self.channel.sendall(json.dumps(message).encode() + b"\n")

    def answer(self, message: dict[str, Any]) -> _Forked | None:
        number, why = message["id"], unsafe()
        told, tells = os.pipe()
        try:
            server, pid = os.getpid(), os.fork() if why is None else -1
        except OSError as error:
            why, pid = f"the process could not be forked: {error}", -1
        if pid == 0:
            os.close(told)
            return _Forked(message["fork"], server, tells)
        os.close(tells)
        if pid < 0:
            os.close(told)
            self.tell({"id": number, "refused": why})
            return None
        self.kernels.add(pid)
        self.starting[told] = number, pid
        return None

    def be_kernel(self, forked: _Forked) -> NoReturn:
        """Be a kernel, and end with it."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            self.channel.close()
            for descriptor in (*self.wake, *self.starting):
                os.close(descriptor)
            kernels.become_kernel(self.app, forked.asked, forked.server, forked.tells, self.shared)
            self.app.start()  # as deep in the stack as in an ordinary kernel
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:  # noqa: BLE001
            import traceback

            traceback.print_exc()
        finally:
            kernels.leave(code)

    def started(self, pipe: int) -> None:
        """Tell of a kernel that can be talked to; one that has ended before is told of, too, and then of its end."""
        number, pid = self.starting.pop(pipe)
        os.close(pipe)
        self.tell({"id": number, "pid": pid})

    def reap(self) -> None:
        """
        Collect what has ended, and end what a kernel has left behind.

        A kernel adopts whatever its own children leave; so what becomes this process's child has lost its kernel.
        """
        ended: dict[int, int] = {}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                left = set(_children()) - self.kernels - self.own
                if not left or not ended:
                    break
                for orphan in left:
                    with suppress(OSError):
                        os.kill(orphan, signal.SIGKILL)
                        os.waitpid(orphan, 0)
                continue
            self.own.discard(pid)
            if pid in self.kernels:
                self.kernels.discard(pid)
                ended[pid] = os.waitstatus_to_exitcode(status)
        for pid, code in ended.items():
            for pipe in [pipe for pipe, (_, starting) in self.starting.items() if starting == pid]:
                self.started(pipe)
            self.tell({"exited": pid, "status": code})

    def reap_all(self) -> None:
        """Wait for the kernels, which were killed, and end what they leave behind."""
        for pid in self.kernels:
            with suppress(OSError):
                os.waitpid(pid, 0)
        for pid in _children():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:  # noqa: PTH123
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


if __name__ == "__main__" and (kernel := main()) is not None:
    kernel()
