"""The processes of a task."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import psutil

from nbgrid.engines import _processes
from nbgrid.testing import is_running, wait_until


def start(code, **env):
    """Start Python with *code* in a session of its own, and return it once it has printed its pids."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **env},
    )


CHILDREN = """
import os, subprocess, sys, time
a = subprocess.Popen(["sleep", "600"])
b = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(a.pid, b.pid, flush=True)
time.sleep(600)
"""

FORKS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
while True:
    if os.fork() == 0:
        time.sleep(600)
    time.sleep(0.005)
"""


def test_tree__has_the_session_and_the_descendants():
    """
    A child in the session, and one that left it, belong to the tree.
    """
    with start(CHILDREN) as leader:
        pids = {leader.pid, *map(int, leader.stdout.readline().split())}
        assert {process.pid for process in _processes.tree(leader.pid)} == pids
        assert _processes.private_memory(leader.pid) > _processes.private_memory(max(pids - {leader.pid}))
        _processes.end_tree(leader.pid, 0)
        assert [pid for pid in pids if is_running(pid)] == []


def test_end_tree__ends_a_tree_that_goes_on_forking():
    """
    A process that ignores SIGTERM and starts others all the time is ended with all of them.
    """
    with start(FORKS, _NBGRID_TREE="forks") as leader:
        leader.stdout.readline()
        _processes.end_tree(leader.pid, 0.1, "forks")
        assert [process for process in _processes.tree(leader.pid) if is_running(process.pid)] == []


def test_end_tree__leaves_the_exit_status_to_the_owner():
    """
    Whoever started the leader still learns how it ended.
    """
    with start("print(flush=True)\nimport time; time.sleep(600)") as leader:
        leader.stdout.readline()
        _processes.end_tree(leader.pid, 0)
        assert leader.wait() == -9


def test_end_tree__spares_other_trees():
    """
    A neighbour with another mark, or none, lives on.
    """
    with start(CHILDREN, _NBGRID_TREE="a/one") as one, start(CHILDREN, _NBGRID_TREE="a/two") as two:
        one.stdout.readline()
        spared = [two.pid, *map(int, two.stdout.readline().split())]
        _processes.end_tree(one.pid, 0, "a/one")
        assert all(map(is_running, spared))
        _processes.end_tree(two.pid, 0, "a/two")


def test_wait_for_exit__returns_when_it_has_ended_and_leaves_it_unreaped():
    """
    The loop is told at once, by the system.
    """

    async def wait(process):
        task = asyncio.create_task(_processes.wait_for_exit(process))
        await asyncio.sleep(0)
        assert not task.done()
        process.stdin.close()
        await asyncio.wait_for(task, 30)

    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    asyncio.run(wait(process))
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, "its end")
    assert process.wait() == 1


def test_high_water__is_nothing_for_a_process_that_is_gone():
    """
    A pid without a process is no error.
    """
    assert _processes.high_water(2**22 + 1) == 0
    assert _processes.private_memory(2**22 + 1) == 0
