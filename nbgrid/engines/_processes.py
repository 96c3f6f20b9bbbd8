"""
The processes of a task: a kernel is started in a session of its own, and the session is how its tree is found.

A child that the notebook starts stays in the session unless it asks for one of its own; those are found as descendants
while their parents live, so the tree is looked up before anything in it is ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import psutil


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


def end_tree(leader: int, grace: float) -> None:
    """End every process of *leader*'s tree: SIGTERM, then, after *grace* seconds, SIGKILL until none is left."""
    processes = tree(leader)
    if grace > 0:
        _signal(processes, signal.SIGTERM)
        _, processes = psutil.wait_procs(processes, timeout=grace)
        processes += [process for process in tree(leader) if process not in processes]
    for _ in range(10):  # a tree that forks while it is killed is looked up again
        _signal(processes, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=1)
        processes = [process for process in tree(leader) if process.pid != leader or not _is_dead(process)]
        if not processes:
            return


async def wait_for_exit(process: subprocess.Popen[bytes]) -> None:
    """Return as soon as *process* has ended; it is left for its owner to reap."""
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
