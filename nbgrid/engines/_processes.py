"""
The processes of a task: a kernel is started in a session of its own, and the session is how its tree is found.

A child that the notebook starts stays in the session unless it asks for one of its own; those are found as descendants
while their parents live, so the tree is looked up before anything in it is ended.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import psutil

MARK = "_NBGRID_TREE"
"""The variable by which a task's processes are found that have left its session."""


def tree(leader: int) -> list[psutil.Process]:
    """Return the processes of the session of *leader* and all descendants of these."""
    found: dict[int, psutil.Process] = {}
    with suppress(psutil.Error):
        parent = psutil.Process(leader)
        found = {process.pid: process for process in [parent, *parent.children(recursive=True)]}
    for process in _session(leader):
        found.setdefault(process.pid, process)
    return list(found.values())


def private_memory(leader: int) -> int:
    """Return the bytes that the processes of *leader*'s tree hold for themselves alone; RSS where that is not told."""
    return sum(_private(process) for process in tree(leader))


def private_memory_of(pid: int) -> int:
    """Return the bytes that the process *pid* alone holds for itself; 0 if it has ended."""
    with suppress(psutil.Error):
        return _private(psutil.Process(pid))
    return 0


def high_water(pid: int) -> int:
    """Return the most private bytes that the process *pid* has held, as far as Linux tells; else 0."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123  read at every end
            fields = dict(line.split(":", 1) for line in file if line.startswith(("VmHWM", "RssFile", "RssShmem")))
    except OSError:
        return 0
    kilobytes = {name: int(value.split()[0]) for name, value in fields.items()}
    shared = kilobytes.get("RssFile", 0) + kilobytes.get("RssShmem", 0)
    return max(kilobytes.get("VmHWM", 0) - shared, 0) * 1024


def end_tree(leader: int, grace: float, mark: str = "") -> None:
    """
    End every process of *leader*'s tree: SIGTERM, then, after *grace* seconds, SIGKILL until none is left.

    With *mark*, also every process whose environment holds that text under `MARK`: a daemon has left both the session and its
    parent. *leader* is not reaped: its exit status belongs to whoever started it.
    """
    processes = _living(leader, mark)
    if grace > 0:
        _signal(processes, signal.SIGTERM)
        _wait(processes, grace)
        processes = _living(leader, mark)
    for _ in range(10):  # a tree that forks while it is killed is looked up again
        if not processes:
            return
        _signal(processes, signal.SIGKILL)
        _wait(processes, 1.0)
        processes = _living(leader, mark)


def _living(leader: int, mark: str) -> list[psutil.Process]:
    found = {process.pid: process for process in tree(leader)}
    for process in _marked(mark) if mark else ():
        found.setdefault(process.pid, process)
    return [process for process in found.values() if not _is_dead(process)]


def _marked(mark: str) -> Iterator[psutil.Process]:
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):
            if pid != os.getpid() and mark in _environment(pid):
                yield psutil.Process(pid)


def _environment(pid: int) -> str:
    """Return the value of `MARK` with which *pid* was started."""
    if sys.platform != "linux":
        return str(psutil.Process(pid).environ().get(MARK, ""))
    with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123  read for every process
        found = [entry for entry in file.read().split(b"\0") if entry.startswith(MARK.encode() + b"=")]
    return found[0].decode(errors="replace") if found else ""


def _wait(processes: list[psutil.Process], seconds: float) -> None:
    """Wait until all of *processes* are dead, reaped or not, but no longer than *seconds*."""
    deadline, pause = time.monotonic() + seconds, 0.002
    while not all(map(_is_dead, processes)) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


@cache
def dies_with_its_parent() -> tuple[str, ...]:
    """
    Return the program, to put before a command, that has the command killed when the thread that started it ends.

    ipykernel looks for its parent once a second, but not while a C call holds the GIL, and other kernels never do. This is
    done by a program, since code between fork and exec is not safe in a process with threads. Empty where there is none.
    """
    program = shutil.which("setpriv") if sys.platform == "linux" else None
    if program is None:
        return ()
    command = (program, "--pdeathsig", "KILL", "--")
    tried = subprocess.run([*command, "true"], capture_output=True, check=False, stdin=subprocess.DEVNULL)
    return command if tried.returncode == 0 else ()  # busybox has a setpriv that cannot


async def wait_for_exit(process: Any) -> None:
    """Return as soon as *process* has ended; it is left for its owner to reap."""
    if (ended := getattr(process, "ended", None)) is not None:  # the fork server tells
        await asyncio.shield(asyncio.wrap_future(ended))
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or gone already
        while process.poll() is None:
            await asyncio.sleep(0.05)
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _session(leader: int) -> Iterator[psutil.Process]:
    if not hasattr(os, "getsid"):
        return
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            if os.getsid(pid) == leader and pid != leader:
                process = psutil.Process(pid)
                if not _is_dead(process):
                    yield process


def _is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.Error, OSError):
            process.send_signal(number)


def _private(process: psutil.Process) -> int:
    with suppress(psutil.Error, OSError):
        full = process.memory_full_info()
        return int(getattr(full, "uss", full.rss))
    with suppress(psutil.Error, OSError):
        return int(process.memory_info().rss)
    return 0
