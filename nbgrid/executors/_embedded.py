"""A Dask cluster inside this process, that talks in it only."""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack, suppress
from typing import Any

import dask.config
from distributed import Client, Scheduler, Worker
from distributed.utils import LoopRunner

# The profiler and the system monitor sample the whole process, once for each worker in it.
_CONFIG = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.http.routes": [],
    "distributed.scheduler.http.routes": [],
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.memory.spill": False,
}
_LOGGERS = ("distributed.scheduler", "distributed.worker", "distributed.core", "distributed.worker.state_machine")


class EmbeddedCluster:
    """
    A scheduler and one-slot workers in this process, on an event loop in a thread of its own.

    They talk `inproc`. Only the http servers, which cannot be turned off, have sockets: on the loopback interface, without
    a page.
    """

    def __init__(self, workers: int) -> None:
        self._runner = LoopRunner(asynchronous=False)
        self._nodes: list[Any] = []
        with ExitStack() as stack:
            self._folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="nbgrid-dask-", ignore_cleanup_errors=True)
            )
            stack.enter_context(_quiet())
            self._runner.start()
            stack.callback(self._runner.stop)
            stack.callback(self._stop_nodes)
            with dask.config.set(_CONFIG):
                self._runner.run_sync(self._start, workers)
                self.client = Client(self._nodes[0].address, loop=self._runner.loop, set_as_default=False)
            stack.callback(self._close_client)
            self._stack = stack.pop_all()

    @property
    def addresses(self) -> list[str]:
        """The workers' addresses."""
        return [node.address for node in self._nodes[1:]]

    def close(self) -> None:
        """Close everything, in the reverse order."""
        self._stack.close()

    async def _start(self, workers: int) -> None:
        scheduler = await Scheduler(protocol="inproc://", dashboard=False, dashboard_address="127.0.0.1:0")
        self._nodes.append(scheduler)
        for number in range(workers):
            worker = await Worker(
                scheduler.address, name=f"worker-{number}", nthreads=1, memory_limit=0,
                local_directory=self._folder, dashboard=False, dashboard_address="127.0.0.1:0",
            )  # fmt: skip
            self._nodes.append(worker)

    def _close_client(self) -> None:
        with suppress(Exception):
            self.client.close()

    def _stop_nodes(self) -> None:
        self._runner.run_sync(self._stop)

    async def _stop(self) -> None:
        for node in reversed(self._nodes):
            with suppress(Exception):
                await node.close()


def _quiet() -> ExitStack:
    """Have the nodes log errors only, until the returned stack is closed."""
    stack = ExitStack()
    for logger in map(logging.getLogger, _LOGGERS):
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
    return stack
