"""
Tasks on Dask workers: an embedded cluster inside this process, or one that exists.

The embedded cluster is a bare scheduler and one-slot workers that share this process and talk in it (`inproc`): no user code runs in
a worker, isolation is the kernels', and nothing listens on any address that another user could reach.

On an existing cluster a worker plugin brings the work and sets the resource `nbgrid_slot`; tasks request it and secede, so that
slots bound how many run and the worker's threads stay free for what the notebooks themselves submit.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import dask.config
from distributed import Client, Scheduler, Worker, get_worker, secede
from distributed.client import FutureCancelledError
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.scheduler import KilledWorker
from distributed.utils import LoopRunner

from nbgrid.errors import PreflightError
from nbgrid.executors.base import OnMessage, Work, WorkerLostError

SLOT = "nbgrid_slot"
# Packages whose versions must agree for tasks to be understood, and how much of a version counts.
_MUST_AGREE = {"python": 2, "distributed": 3, "cloudpickle": 2, "nbgrid": 3}
_CONNECT_SECONDS = 10.0
# The profiler and the system monitor sample the whole process, once for each worker in it.
_EMBEDDED_CONFIG = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.http.routes": [],
    "distributed.scheduler.http.routes": [],
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.memory.spill": False,
}


class _WorkPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Brings the work to a worker and, on an existing cluster, gives the worker its slots."""

    def __init__(self, work: Work, has_slots: bool) -> None:
        self.work, self.has_slots = work, has_slots
        self.name = _plugin_name(work.id)

    async def setup(self, worker: Any) -> None:
        if not self.has_slots:
            await worker.set_resources(**{SLOT: worker.state.nthreads})


def _plugin_name(work: str) -> str:
    return f"nbgrid-{work}"


def _perform(work_id: str, assignment: Any) -> Any:
    """Perform *assignment* in a worker's thread."""
    worker = get_worker()
    work = worker.plugins[_plugin_name(work_id)].work
    with suppress(Exception):  # a task that cannot secede runs all the same
        secede()
    topic = _plugin_name(work_id)
    return work.perform(assignment, str(worker.name), lambda message: worker.log_event(topic, message))


def _check(work_id: str, dask_worker: Any = None) -> str | None:
    return str(problem) if (problem := dask_worker.plugins[_plugin_name(work_id)].work.check()) else None


def _stop(work_id: str, dask_worker: Any = None) -> None:
    if plugin := dask_worker.plugins.get(_plugin_name(work_id)):
        plugin.work.stop()


class DaskExecutor:
    """
    Performs assignments on the workers of a Dask cluster.

    Without *address* and *client*, on an embedded cluster of *workers* one-slot workers; with either, on that cluster, which is
    checked first: it answers, has workers within *no_workers_timeout* seconds, and these have the same nbgrid.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        client: Client | None = None,
        workers: int = 1,
        no_workers_timeout: float = 60.0,
    ) -> None:
        self._address, self._given_client, self._workers = address, client, workers
        self._no_workers_timeout = no_workers_timeout
        self._client: Client | None = client
        self._embedded: _EmbeddedCluster | None = None
        self._work: Work | None = None
        self._able: list[str] | None = None
        self._sent: dict[str, str] = {}
        self.notes: list[str] = []
        """What a person should know of the cluster: workers that are left out, and why."""

    @property
    def slots(self) -> int:
        """How many assignments fit the workers that can do the work; 1 while a cluster has none, so that they wait there."""
        if self._embedded or self._client is None:
            return self._workers
        return max(1, sum(self._slots_by_worker().values()))

    def _slots_by_worker(self) -> dict[str, int]:
        if self._embedded:
            return dict.fromkeys(self._embedded.addresses, 1)
        assert self._client is not None
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return {address: int(worker["nthreads"]) for address, worker in workers.items() if self._is_able(address)}

    @property
    def description(self) -> str:
        """Embedded or not, and the number of workers."""
        if self._is_embedded:
            return f"{self._workers} embedded Dask worker{'s' if self._workers != 1 else ''}"
        where = self._address or (self._client.scheduler.address if self._client else "a cluster")
        return f"the Dask cluster at {where}"

    def start(self, work: Work, on_message: OnMessage) -> None:
        """Connect, check the workers, and send them *work*."""
        if self._is_embedded:
            self._embedded = _EmbeddedCluster(self._workers)
            self._client = self._embedded.client
        elif self._client is None:
            self._client = _connect(str(self._address))
        self._work = work
        if not self._is_embedded:
            self._check_cluster()
        self._client.register_plugin(_WorkPlugin(work, has_slots=self._is_embedded))
        self._check_workers(work)
        self._client.subscribe_topic(_plugin_name(work.id), lambda event: on_message(event[1]))

    def submit(self, assignment: Any) -> Future[Any]:
        """Send *assignment* to a worker with a free slot."""
        assert self._client is not None
        assert self._work is not None
        key = f"nbgrid-{self._work.id}-{os.urandom(6).hex()}"
        # Dask takes a task that has seceded for no load, and would send one worker everything: we say which is free. It
        # may send the task elsewhere when that worker is gone, but only to a worker that can do the work.
        chosen = self._free_worker()
        sent = self._client.submit(
            _perform, self._work.id, assignment, key=key, resources={SLOT: 1}, pure=False,
            workers=self._able or chosen, allow_other_workers=self._able is None and chosen is not None,
        )  # fmt: skip
        future: Future[Any] = Future()
        self._sent[key] = str(chosen)
        # The Dask future is held by this closure until it is done: Dask forgets what nobody holds.
        sent.add_done_callback(lambda done: self._settled(key, future, done))
        return future

    def _free_worker(self) -> str | None:
        """Return the address of the worker with the most free slots, or None while there is no worker."""
        slots = self._slots_by_worker()
        busy = Counter(self._sent.values())
        return max(slots, key=lambda address: slots[address] - busy[address], default=None)

    def _settled(self, key: str, future: Future[Any], done: Any) -> None:
        self._sent.pop(key, None)
        _settle(future, done)

    def stop(self) -> None:
        """Have every worker end what it is performing of this work."""
        if self._client is not None and self._work is not None:
            self._client.run(_stop, self._work.id)

    def close(self) -> None:
        """Forget the work on the workers; close the embedded cluster or the connection that `start` made."""
        if self._client is not None and self._work is not None:
            with suppress(Exception):
                self._client.unsubscribe_topic(_plugin_name(self._work.id))
            if not self._is_embedded:
                with suppress(Exception):  # a cluster that is gone needs no farewell
                    self._client.unregister_worker_plugin(_plugin_name(self._work.id))
        if self._embedded is not None:
            self._embedded.close()
        elif self._client is not None and self._given_client is None:
            self._client.close()
        self._client, self._embedded, self._work = self._given_client, None, None

    @property
    def _is_embedded(self) -> bool:
        return self._address is None and self._given_client is None

    def _is_able(self, address: str) -> bool:
        return self._able is None or address in self._able

    def _check_cluster(self) -> None:
        """Refuse a cluster without workers, or whose workers could not understand a task."""
        assert self._client is not None
        try:
            self._client.wait_for_workers(1, timeout=self._no_workers_timeout)
        except TimeoutError:
            raise PreflightError(
                f"{self.description} has had no worker for {self._no_workers_timeout:g} s: start one with "
                f"`dask worker {self._client.scheduler.address}`"
            ) from None
        versions = self._client.get_versions(packages=["nbgrid"])
        problems = list(_disagreements(versions))
        if problems:
            raise PreflightError("the cluster's workers differ from this machine:\n  " + "\n  ".join(problems))

    def _check_workers(self, work: Work) -> None:
        """Keep to the workers that can do *work*; refuse if none can."""
        assert self._client is not None
        problems = self._client.run(_check, work.id)
        unable = {address: problem for address, problem in problems.items() if problem}
        if not unable:
            return
        told = [f"{address}: {problem}" for address, problem in unable.items()]
        if len(unable) == len(problems):
            raise PreflightError(told[0].partition(": ")[2] if self._is_embedded else "no worker can run it:\n  " + "\n  ".join(told))
        self._able = [address for address in problems if address not in unable]
        self.notes += [f"no task goes to {line}" for line in told]


class _EmbeddedCluster:
    """A scheduler and one-slot workers in this process, on an event loop in a thread of its own."""

    def __init__(self, workers: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nbgrid-dask-", ignore_cleanup_errors=True)
        self._runner = LoopRunner(asynchronous=False)
        self._runner.start()
        self._nodes: list[Any] = []
        with dask.config.set(_EMBEDDED_CONFIG):
            self._runner.run_sync(self._start, workers)
            self.client = Client(self._nodes[0].address, loop=self._runner.loop, set_as_default=False)

    async def _start(self, workers: int) -> None:
        # No part of the embedded cluster is for others: only the http server, which cannot be turned off, has a
        # socket, and that is on the loopback interface and serves no page.
        for name in ("distributed.scheduler", "distributed.worker", "distributed.core"):
            logging.getLogger(name).setLevel(logging.ERROR)
        scheduler = await Scheduler(protocol="inproc://", dashboard=False, dashboard_address="127.0.0.1:0")
        self._nodes.append(scheduler)
        for number in range(workers):
            worker = await Worker(
                scheduler.address, name=f"worker-{number}", nthreads=1, resources={SLOT: 1}, memory_limit=0,
                local_directory=self._folder.name, dashboard=False, dashboard_address="127.0.0.1:0",
            )  # fmt: skip
            self._nodes.append(worker)

    @property
    def addresses(self) -> list[str]:
        """The workers' addresses."""
        return [node.address for node in self._nodes[1:]]

    def close(self) -> None:
        """Close everything, in the reverse order."""
        with suppress(Exception):
            self.client.close()
        self._runner.run_sync(self._stop)
        self._runner.stop()
        self._folder.cleanup()

    async def _stop(self) -> None:
        for node in reversed(self._nodes):
            with suppress(Exception):
                await node.close()


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PreflightError(
            f"no Dask scheduler answers at {address} ({reason}): start one with `dask scheduler`, or leave "
            "--scheduler out for an embedded cluster"
        ) from None


def _disagreements(versions: Any) -> Iterable[str]:
    """Yield a line for each worker whose versions differ from the client's where they must agree."""
    here = versions["client"]["packages"]
    for address, found in versions["workers"].items():
        there = found["packages"] if isinstance(found, dict) else {}
        for package, parts in _MUST_AGREE.items():
            mine, theirs = here.get(package), there.get(package)
            if _head(mine, parts) != _head(theirs, parts):
                missing = "is not installed" if theirs is None else f"is {theirs}"
                remedy = f": pip install {package}=={mine}" if package != "python" else ""
                yield f"{address}: {package} {missing}, here it is {mine}{remedy}"


def _head(version: str | None, parts: int) -> list[str] | None:
    return None if version is None else str(version).split(".")[:parts]


def _settle(future: Future[Any], done: Any) -> None:
    """Give *future* what the Dask future *done* holds."""
    settle: Callable[[], None]
    try:
        result = done.result()
    except KilledWorker as error:
        lost = WorkerLostError(f"the workers that ran it died ({error.last_worker.address if error.last_worker else '?'})")
        settle = lambda: future.set_exception(lost)  # noqa: E731
    except FutureCancelledError as error:
        lost = WorkerLostError(f"the cluster dropped it: {error}")
        settle = lambda: future.set_exception(lost)  # noqa: E731
    except BaseException as error:  # noqa: BLE001  a future carries whatever was raised to the one who asks
        raised = error
        settle = lambda: future.set_exception(raised)  # noqa: E731
    else:
        settle = lambda: future.set_result(result)  # noqa: E731
    settle()
