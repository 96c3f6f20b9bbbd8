"""
Tasks on Dask workers: an embedded cluster inside this process, or one that exists.

On an existing cluster a worker plugin brings the work and sets the resource `nbgrid_slot`; tasks request it and secede,
so that slots bound how many run and the worker's threads stay free for what the notebooks themselves submit.

Each assignment goes to one worker, and to no other after it: when that worker is lost, so is the attempt, and whoever counts
attempts decides on the next. Dask alone would perform it again under the same number.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import cloudpickle  # type: ignore[import-untyped,unused-ignore]
from distributed import Client
from distributed.client import FutureCancelledError
from distributed.core import connect
from distributed.scheduler import KilledWorker

from nbgrid.errors import PreflightError
from nbgrid.executors._embedded import EmbeddedCluster
from nbgrid.executors._plugin import SLOT, ByValue, WorkParcel, perform, plugin_name, problem_of, stop_work
from nbgrid.executors.base import OnMessage, Work, WorkerLostError

_CONNECT_SECONDS, _CALL_SECONDS, _DIRECT_SECONDS, _LOOK_SECONDS = 10.0, 10.0, 2.0, 0.5


class _Sent:
    """An assignment that has been submitted and not settled."""

    def __init__(self, assignment: Any) -> None:
        self.assignment = assignment
        self.future: Future[Any] = Future()
        self.address: str | None = None
        """The worker that it went to, or None while no worker can take it."""
        self.dask: Any = None
        """Dask's future, held here: Dask forgets what nobody holds."""
        self.missed = 0
        """How often in a row its worker was not there."""


class DaskExecutor:
    """
    Performs assignments on the workers of a Dask cluster.

    Without *address* and *client*, on an embedded cluster of *workers* one-slot workers. With either, on that cluster,
    which is checked first: it answers, and has workers within *no_workers_timeout* seconds, some of which can do the work.
    Workers that join later are checked as they join. When for that time none can, what was submitted is lost.
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
        self._embedded: EmbeddedCluster | None = None
        self._work: Work | None = None
        self._lock = threading.RLock()
        self._sent: dict[str, _Sent] = {}
        self._slots: dict[str, int] = {}
        """The slots of each worker that can do the work."""
        self._none_since: float | None = None
        self._lost: str | None = None
        """Why the cluster cannot be reached any more."""
        self._is_direct = False
        self._watcher: threading.Thread | None = None
        self._is_closing = threading.Event()
        self.notes: list[str] = []
        """What a person should know of the cluster: workers that are left out, and why."""

    @property
    def slots(self) -> int:
        """How many assignments fit the workers that can do the work; 1 while a cluster has none, so that they wait there."""
        if self._is_embedded:
            return self._workers
        return max(1, sum(self._slots.values()))

    @property
    def description(self) -> str:
        """Embedded or not, and the number of workers."""
        if self._is_embedded:
            return f"{self._workers} embedded Dask worker{'s' if self._workers != 1 else ''}"
        where = self._address or (self._client.scheduler.address if self._client else "a cluster")
        return f"the Dask cluster at {where}"

    def start(self, work: Work, on_message: OnMessage) -> None:
        """Connect, send the workers *work*, and find which of them can do it."""
        self._work, self._lost, self._none_since = work, None, None
        self._is_closing.clear()
        try:
            self._open()
            assert self._client is not None
            self._client.subscribe_topic(plugin_name(work.id), lambda event: on_message(event[1]["message"]))
            self._client.register_plugin(WorkParcel(work))
            self._check_workers()
            if not self._is_embedded:
                self._look()
                self._is_direct = self._client.sync(_can_connect, list(self._slots)[:3])
                self._watcher = threading.Thread(target=self._watch, name="nbgrid-watch", daemon=True)
                self._watcher.start()
        except BaseException:
            self.close()
            raise

    def submit(self, assignment: Any) -> Future[Any]:
        """Send *assignment* to a worker with a free slot."""
        sent = _Sent(assignment)
        with self._lock:
            self._sent[f"nbgrid-{os.urandom(8).hex()}"] = sent
            self._send_waiting()
        return sent.future

    def stop(self) -> None:
        """Have every worker end what it is performing of this work; what none has begun is cancelled."""
        if self._client is None or self._work is None:
            return
        name, begun = plugin_name(self._work.id), set[str]()
        with suppress(Exception):  # a cluster that does not answer has nothing left to stop
            if not self._lost:
                told = self._client.run(
                    ByValue(stop_work), name, on_error="ignore", callback_timeout=_CALL_SECONDS
                )  # fmt: skip
                begun = {key for keys in told.values() for key in keys}
        with self._lock:
            for key in [key for key in self._sent if key not in begun]:
                self._drop(key, Future.cancel)

    def close(self) -> None:
        """Forget the work on the workers; close the embedded cluster or the connection that `start` made."""
        self._is_closing.set()
        if self._watcher is not None:
            self._watcher.join()
        if self._client is not None and self._work is not None and self._embedded is None and not self._lost:
            self._say_farewell(self._client, self._work)
        if self._embedded is not None:
            self._embedded.close()
        elif self._client is not None and self._given_client is None:
            with suppress(Exception):
                self._client.close(timeout=_CALL_SECONDS)
        with self._lock:
            for key in list(self._sent):
                self._fail(key, "the executor was closed")
        self._client, self._embedded, self._work, self._watcher = self._given_client, None, None, None

    # -- the cluster ------------------------------------------------------------------------------------------------

    @property
    def _is_embedded(self) -> bool:
        return self._address is None and self._given_client is None

    def _open(self) -> None:
        if self._is_embedded:
            self._embedded = EmbeddedCluster(self._workers)
            self._client = self._embedded.client
            self._slots = dict.fromkeys(self._embedded.addresses, 1)
            return
        if self._client is None:
            self._client = _connect(str(self._address))
        try:
            self._client.wait_for_workers(1, timeout=self._no_workers_timeout)
        except TimeoutError:
            raise PreflightError(
                f"{self.description} has had no worker for {self._no_workers_timeout:g} s: start one with "
                f"`dask worker {self._client.scheduler.address}`"
            ) from None

    def _check_workers(self) -> None:
        """Note the workers that cannot do the work; refuse if none can."""
        assert self._client is not None
        assert self._work is not None
        problems = self._client.run(ByValue(problem_of), plugin_name(self._work.id), on_error="return")
        unable = {address: str(problem) for address, problem in problems.items() if problem}
        if unable and len(unable) == len(problems):
            told = [f"{address}: {problem}" for address, problem in unable.items()]
            raise PreflightError(
                next(iter(unable.values())) if self._is_embedded else "no worker can run it:\n  " + "\n  ".join(told)
            )
        self.notes = [f"no task goes to {address}: {problem}" for address, problem in unable.items()]

    def _say_farewell(self, client: Client, work: Work) -> None:
        with suppress(Exception):  # a cluster that is gone needs none
            client.unsubscribe_topic(plugin_name(work.id))
            client.sync(client._unregister_worker_plugin, name=plugin_name(work.id), callback_timeout=_CALL_SECONDS)

    def _watch(self) -> None:
        """See workers come and go, until the executor is closed."""
        while not self._is_closing.wait(_LOOK_SECONDS):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001  a cluster can be lost in any way
                assert self._client is not None
                if self._client.status in {"closed", "closing"}:  # until then it tries to connect again
                    self._lost = f"{self.description} is gone ({str(error) or type(error).__name__})"
            with self._lock:
                self._settle_lost()
                self._send_waiting()

    def _look(self) -> None:
        """Learn which workers can do the work now."""
        assert self._client is not None
        assert self._work is not None
        marker = plugin_name(self._work.id)
        info = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=_CALL_SECONDS)
        workers = info["workers"].items()
        self._slots = {
            address: int(worker["nthreads"]) for address, worker in workers
            if worker["resources"].get(marker) and worker["status"] == "running"
        }  # fmt: skip
        self._none_since = None if self._slots else self._none_since or time.monotonic()
        with self._lock:
            for sent in self._sent.values():
                sent.missed = 0 if sent.address in info["workers"] or sent.address is None else sent.missed + 1

    def _settle_lost(self) -> None:
        for key, sent in list(self._sent.items()):
            if self._lost:
                self._fail(key, self._lost)
            elif sent.missed >= 2:  # once may be a worker that hands its results over and leaves
                self._fail(key, f"the worker {sent.address} that ran it is gone")
            elif sent.address is None and self._has_had_none_too_long():
                waited = f"{self._no_workers_timeout:g} s"
                self._fail(key, f"{self.description} has had no worker that can run it for {waited}")

    def _has_had_none_too_long(self) -> bool:
        return self._none_since is not None and time.monotonic() - self._none_since > self._no_workers_timeout

    # -- assignments ------------------------------------------------------------------------------------------------

    def _send_waiting(self) -> None:
        """Send what waits for a worker, if there is one."""
        busy = Counter(sent.address for sent in self._sent.values())
        for key, sent in self._sent.items():
            if sent.address is None and self._slots and not self._lost:
                # Dask takes a task that has seceded for no load, and would send one worker everything: we say who is free.
                sent.address = max(self._slots, key=lambda address: self._slots[address] - busy[address])
                busy[sent.address] += 1
                self._send(key, sent)
        self._settle_lost()

    def _send(self, key: str, sent: _Sent) -> None:
        assert self._client is not None
        assert self._work is not None
        try:
            # Whole functions and plain bytes, since the scheduler unpickles them too, and need not have nbgrid.
            sent.dask = self._client.submit(
                ByValue(perform), plugin_name(self._work.id), cloudpickle.dumps(sent.assignment),
                key=key, resources={SLOT: 1}, pure=False, workers=[sent.address],
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  a closed client raises its own, and a bad assignment anything
            self._lost = None if self._client.status == "running" else f"{self.description} is gone ({error})"
            sent.future.set_exception(error) if not self._lost else None
            return
        self._client.loop.add_callback(self._receive, key, sent)

    async def _receive(self, key: str, sent: _Sent) -> None:
        """Settle *sent* with what Dask's future comes to hold; large results come straight from their worker."""
        settle: Callable[[Future[Any]], Any]
        try:
            assert self._client is not None
            result = cloudpickle.loads(await self._client.gather(sent.dask, direct=self._is_direct, asynchronous=True))
        except (KilledWorker, FutureCancelledError) as error:
            lost = WorkerLostError(f"the worker {sent.address} that ran it is gone ({type(error).__name__})")
            settle = lambda future: future.set_exception(lost)  # noqa: E731
        except Exception as error:  # noqa: BLE001  a future carries whatever was raised to the one who asks
            raised = error
            settle = lambda future: future.set_exception(raised)  # noqa: E731
        else:
            settle = lambda future: future.set_result(result)  # noqa: E731
        with self._lock:
            if (found := self._sent.pop(key, None)) is not None:
                settle(found.future)

    def _fail(self, key: str, why: str) -> None:
        self._drop(key, lambda future: future.set_exception(WorkerLostError(why)))

    def _drop(self, key: str, settle: Callable[[Future[Any]], Any]) -> None:
        """Settle what was sent under *key*, and have Dask forget it."""
        sent = self._sent.pop(key)
        settle(sent.future)
        if sent.future.cancelled():
            sent.future.set_running_or_notify_cancel()
        if sent.dask is not None and not self._lost:
            with suppress(Exception):
                sent.dask.client.loop.add_callback(sent.dask.cancel, asynchronous=True)


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PreflightError(
            f"no Dask scheduler answers at {address} ({reason}): start one with `dask scheduler`, or leave "
            "--scheduler out for an embedded cluster"
        ) from None


async def _can_connect(addresses: list[str]) -> bool:
    """Tell whether workers can be reached from here, so that their results need not pass through the scheduler."""
    for address in addresses:
        try:
            comm = await connect(address, timeout=_DIRECT_SECONDS)
        except Exception:  # noqa: BLE001  a firewall, a name that resolves there only, a certificate
            return False
        await comm.close()
    return True
