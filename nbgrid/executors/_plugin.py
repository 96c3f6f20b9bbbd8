"""
What a run puts on every Dask worker, those that join later too.

It travels by value and imports nothing of nbgrid before it is on the worker: there it finds whether that worker can do the
work, and one that has no nbgrid, or another, is left alone instead of failing to start.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import cloudpickle  # type: ignore[import-untyped,unused-ignore]
import distributed
from distributed.diagnostics.plugin import WorkerPlugin

SLOT = "nbgrid_slot"
"""The resource that bounds how many assignments a worker performs: one for each of its threads."""


def plugin_name(work: str) -> str:
    """Return the name of the plugin that brings *work*, of its topic, and of the resource of workers that can do it."""
    return f"nbgrid-{work}"


def versions() -> dict[str, str | None]:
    """Return the versions that must agree for an assignment to be understood."""
    found: dict[str, str | None] = {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "distributed": str(distributed.__version__),
        "cloudpickle": ".".join(str(cloudpickle.__version__).split(".")[:2]),
        "nbgrid": None,
    }
    with suppress(ImportError):
        import nbgrid

        found["nbgrid"] = str(nbgrid.__version__)
    return found


class WorkPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Brings the work to a worker and, if the worker can do it, gives the worker its slots."""

    def __init__(self, work_id: str, pickled: bytes, wanted: Mapping[str, str | None]) -> None:
        self.name, self.pickled, self.wanted = plugin_name(work_id), pickled, dict(wanted)
        self.work: Any = None
        self.problem: str | None = "it has not been asked yet"

    async def setup(self, worker: Any) -> None:
        """Find whether *worker* can do the work."""
        try:
            self.problem = self.disagreement() or self.load()
        except Exception as error:  # noqa: BLE001  whatever the worker's environment does, it stays a worker for others
            self.problem = f"{type(error).__name__}: {error}"
        if self.problem is None:
            await worker.set_resources(**{SLOT: worker.state.nthreads, self.name: 1})

    async def teardown(self, worker: Any) -> None:
        """Take no more of the work; what is being performed goes on, as far as it can."""
        if self.work is not None:
            await asyncio.to_thread(self.work.close)
        if self.problem is None and worker.status.name == "running":
            with suppress(Exception):  # a scheduler that is gone need not know
                await worker.set_resources(**{self.name: 0})

    def disagreement(self) -> str | None:
        """Return in which versions this worker differs from the driver, and how that is mended."""
        here = versions()
        told = []
        for package, wanted in self.wanted.items():
            if here[package] != wanted:
                is_here = "is not installed" if here[package] is None else f"is {here[package]}"
                remedy = f" (pip install {package}=={wanted})" if package != "python" else ""
                told.append(f"{package} {is_here}, the driver has {wanted}{remedy}")
        return "; ".join(told) or None

    def load(self) -> str | None:
        """Unpack the work, and return why this worker cannot do it."""
        self.work = cloudpickle.loads(self.pickled)
        problem = self.work.check()
        return None if problem is None else str(problem)


def perform(name: str, assignment: bytes) -> bytes:
    """Perform *assignment* with the work of the plugin *name*, in a worker's thread, and return the pickled report."""
    from distributed import get_worker, secede

    from nbgrid.executors._throttle import Throttle

    worker = get_worker()
    with suppress(Exception):  # a task that cannot secede runs all the same
        secede()
    # Messages go in a mapping of ours, since Dask adds a name of its own to the one that it is given.
    throttle = Throttle(lambda message: worker.log_event(name, {"message": message}))
    try:
        report = worker.plugins[name].work.perform(cloudpickle.loads(assignment), str(worker.name), throttle)
        return bytes(cloudpickle.dumps(report))
    finally:
        throttle.close()


def problem_of(name: str, dask_worker: Any = None) -> str | None:
    """Return why *dask_worker* cannot do the work of the plugin *name*."""
    plugin = dask_worker.plugins.get(name)
    return "it has not been asked yet" if plugin is None else plugin.problem


def stop_work(name: str, dask_worker: Any = None) -> list[str]:
    """Stop the work of the plugin *name* on *dask_worker*, and return the keys that it is still performing."""
    plugin = dask_worker.plugins.get(name)
    if plugin is None or plugin.work is None:
        return []
    plugin.work.stop()
    states = ("executing", "long-running")
    return [key for key, task in dask_worker.state.tasks.items() if task.state in states]


class ByValue:
    """Something of this module that is pickled whole, so that it can be unpickled where there is no nbgrid."""

    def __init__(self, thing: Any) -> None:
        module = sys.modules[__name__]
        cloudpickle.register_pickle_by_value(module)
        try:
            self._bytes = cloudpickle.dumps(thing)
        finally:
            cloudpickle.unregister_pickle_by_value(module)

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.loads, (self._bytes,)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Do what the thing does, so that Dask takes this for a function."""
        return cloudpickle.loads(self._bytes)(*arguments, **options)


class WorkParcel(ByValue, WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """A `WorkPlugin` on its way."""

    def __init__(self, work: Any) -> None:
        self.name = plugin_name(work.id)
        super().__init__(WorkPlugin(work.id, cloudpickle.dumps(work), versions()))
