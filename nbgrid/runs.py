"""
What the faces call: start a run, follow it, find it again, and read its results.

`start` is `nbgrid.run`. It returns at once; the driver goes on in a thread of its own.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from nbgrid.config import Config
from nbgrid.engines import EngineName, choose_engine
from nbgrid.engines.base import thread_limits
from nbgrid.engines.environment import compile_kmeans, find_kernel
from nbgrid.errors import NbgridError, PreflightError
from nbgrid.execute import GridExecutor, new_nonce, now
from nbgrid.executors import Executor, ExecutorName, make_executor
from nbgrid.parameters import encode
from nbgrid.plan import Plan, make_plan, slots_and_threads
from nbgrid.recorded import (
    NEWEST,
    Found,
    collect,
    draw_elbow,
    find,
    listing,
    notebooks,
    open_database,
    replaced_folder,
)
from nbgrid.shared import Share
from nbgrid.states import Run, RunState, Task, TaskState, run_state
from nbgrid.stores import LocalStore, PrefixLock
from nbgrid.verify import chosen, verify
from nbgrid.work import NotebookWork

if TYPE_CHECKING:
    from nbgrid.collection import NotebookCollection
    from nbgrid.database import Database

RECORD_VERSION = 1


def start(
    template: str | Path,
    *,
    grid: Any = None,
    parameters: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    output_root: str | Path | None = None,
    kernel: str | None = None,
    engine: EngineName | Literal["auto"] = "auto",
    share: Share = "tagged",
    executor: ExecutorName = "dask",
    scheduler: str | None = None,
    client: Any = None,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int | None = None,
    max_points: int | None = None,
    verify: int = 0,
    config: Config | None = None,
) -> RunHandle:
    """
    Start a run of *template* over its grid and return a handle on it.

    *grid* replaces the grid cell's; *parameters* are the same for every task. Tasks go to an embedded Dask cluster of
    *workers* one-slot workers (None: as many as there are cores), to the cluster at *scheduler* or of the
    `distributed.Client` *client*, or, with *executor* "serial", run one after another. *engine* "auto" is "fork" where kernels
    can be forked, else "kernel"; where they are, *share* "auto" has cells executed once that provably give the same in every
    task, as if they were tagged `shared`. *timeout* is seconds a cell; *retries* is how many more attempts a task gets that did
    not finish. *verify* is how many finished tasks are executed again from scratch, at the end; the handle's notes tell how
    their tagged results compare.

    Raises `InputError`, `StoreError` or `DatabaseError` before anything starts and before anything that was there is touched.
    """
    settings = config or Config.read()
    planned = plan(
        template, grid=grid, parameters=parameters, prefix=prefix, output_root=output_root, kernel=kernel,
        share=share, max_points=max_points, config=settings,
    )  # fmt: skip
    if planned.problems:
        raise PreflightError("\n".join(planned.problems))
    options = planned.template.options
    address = scheduler or (settings.scheduler if client is None else None)
    is_embedded = executor == "dask" and address is None and client is None
    slots, threads = slots_and_threads(options.resources, workers or settings.workers)
    chosen, note = choose_engine(engine, find_kernel(planned.kernel))
    run = Run(
        id=uuid4().hex[:10], template=str(planned.template.path), output_root=str(planned.output_root),
        prefix=planned.prefix, parameters=planned.parameters, kernel=planned.kernel, language=planned.template.language,
        engine=chosen, started=now(), pid=os.getpid(), host=socket.gethostname(),
    )  # fmt: skip
    work = _work(run, planned, chosen, threads if is_embedded or executor == "serial" else options.resources.cpus,
                 options.timeout if timeout is None else timeout, share, settings)  # fmt: skip
    if is_embedded or executor == "serial":
        work.warm(next(planned.points(), {}))  # while Dask is imported, and the cluster starts
    try:
        sent_to = make_executor(
            executor, address=address, client=client, workers=slots, no_workers_timeout=settings.no_workers_timeout
        )
        run = replace(run, executor=sent_to.description)
        work = replace(work, run=run)
        handle = RunHandle(run, planned, work, sent_to, open_database(settings))
    except BaseException:
        work.close()
        raise
    handle.notes += [note] if note else []
    if (is_embedded or executor == "serial") and planned.template.mentions("nbgrid.kmeans"):
        compile_kmeans(find_kernel(planned.kernel))  # once, before as many tasks as there are slots would do it at once
    handle._verify = verify
    handle._start(options.retries if retries is None else retries)
    return handle


def plan(
    template: str | Path,
    *,
    grid: Any = None,
    parameters: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    output_root: str | Path | None = None,
    kernel: str | None = None,
    share: Share = "tagged",
    max_points: int | None = None,
    config: Config | None = None,
) -> Plan:
    """Return what `start` would do with the same arguments; nothing is started or written."""
    settings = config or Config.read()
    return make_plan(
        template, grid=grid, parameters=parameters, prefix=prefix, output_root=output_root, kernel=kernel,
        share=share, max_points=max_points or settings.max_points,
    )  # fmt: skip


class RunHandle:
    """A run that was started in this process."""

    def __init__(self, run: Run, plan: Plan, work: NotebookWork, executor: Executor, database: Database) -> None:
        self.run, self.plan = run, plan
        self.pictures: list[Path] = []
        """The files that the template's `plots` became, once the run has ended."""
        self.notes: list[str] = []
        """What a person should know that is no failure of a task."""
        self._work, self._verify = work, 0
        self._tasks = {task.index: task for task in plan.tasks(run.id)}
        self._database = database
        self._store = LocalStore(run.output_root)
        self._grid = GridExecutor(work, executor, self._store, database)
        self._lock = PrefixLock(Path(run.output_root, run.prefix, ".nbgrid", "lock"))
        self._ended: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_done = threading.Event()
        self._error: BaseException | None = None
        self._listeners: list[Callable[[dict[str, Any]], None]] = []
        self._telling = threading.RLock()

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def tasks(self) -> list[Task]:
        """The tasks as they are now, by index."""
        return list(self._tasks.values())

    @property
    def state(self) -> RunState:
        """The run's state, which follows from its tasks'."""
        return run_state(task.state for task in self.tasks)

    def as_completed(self) -> Iterator[Task]:
        """
        Yield each task as it ends for good. Each task is yielded once, to whoever asks first.

        Raises what stopped the driver itself, such as a database that is gone.
        """
        while (task := self._ended.get()) is not None:
            yield task
        self._ended.put(None)
        self._join()

    def wait(self) -> RunHandle:
        """Wait until every task has ended, and return the handle; raise what stopped the driver itself."""
        self._join()
        return self

    def stop(self) -> None:
        """Take no more tasks and abort the running ones; `wait` still waits for their ends."""
        self._grid.stop()

    def listen(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """
        Have *listener* called, in the driver's threads, with {"task": Task} and {"index", "cell", "cells", "kind"}.

        It is told at once of the tasks that have begun already.
        """
        with self._telling:
            self._listeners.append(listener)
            for task in self.tasks:
                if task.state is not TaskState.PENDING:
                    listener({"task": task})

    def collection(self) -> NotebookCollection:
        """Return the executed notebooks that there are by now."""
        return collect(self.run, self.tasks)

    def __repr__(self) -> str:
        ended = sum(task.state.is_end for task in self.tasks)
        return f"<run {self.id} of {self.run.prefix}: {self.state}, {ended} of {len(self._tasks)} tasks ended>"

    def _start(self, retries: int) -> None:
        self._lock.acquire(self.id)
        try:
            self._grid.open(self._tell)
            self.notes += getattr(self._grid.executor, "notes", [])
            self._database.begin_run(self.run, self.tasks)
            self._write_record()
            self._set_earlier_results_aside()
        except BaseException:
            self._record_broken_off()
            self._close()
            self._work.close()
            raise
        self._thread = threading.Thread(target=self._drive, args=(retries,), name=f"nbgrid-{self.id}", daemon=True)
        self._thread.start()
        if self.plan.template.options.plots:
            # While the first kernel is made ready, there is time for what takes long at the end.
            threading.Thread(target=_load_matplotlib, name=f"nbgrid-{self.id}-imports", daemon=True).start()
        _LIVE.add(self)
        _leave_before_the_pools_do()

    def _drive(self, retries: int) -> None:
        try:
            for task in self._grid.execute(self.tasks, retries=retries):
                self._tell({"task": task})
                if task.state.is_end:
                    self._ended.put(task)
            self.run = replace(self.run, state=self.state, ended=now())
            self._database.end_run(self.run)
            self.notes += self._grid.notes
            self._draw()
            again = chosen(self.tasks, self._verify)
            self.notes += [str(one) for one in verify(self._work, again, self.run.output_root)]
        except BaseException as error:  # noqa: BLE001  told to whoever waits
            self._error = error
            self._record_broken_off()
        finally:
            self._close()
            self._is_done.set()
            self._ended.put(None)

    def _record_broken_off(self) -> None:
        """Record, as far as anything can be recorded, that the driver goes no further."""
        self.run = replace(self.run, state=RunState.ABORTED, ended=now())
        with suppress(Exception):
            self._database.end_run(self.run)

    def _draw(self) -> None:
        for number, wanted in enumerate(self.plan.template.options.plots, 1):
            name = "elbow.png" if number == 1 else f"elbow-{number}.png"
            elbow = wanted.elbow
            try:
                self.pictures.append(draw_elbow(self.run, self.tasks, elbow.x, elbow.y, elbow.time, name=name))
            except NbgridError as error:
                self.notes.append(f"{name} was not drawn: {error}")

    def _write_record(self) -> None:
        """Write all that is needed to understand the results, or to rebuild the database, without this machine."""
        template = self.plan.template
        record = {
            "version": RECORD_VERSION, "run": self.run.record(), "grid": self.plan.grid.products if self.plan.grid else None,
            "parameters": encode(dict(self.run.parameters)), "options": template.options.model_dump(mode="json"),
            "template": base64.b64encode(template.content).decode("ascii"),
            "tasks": [
                {"index": task.index, "name": task.name, "point": encode(dict(task.point)), "digest": task.digest,
                 "output": task.output} for task in self.tasks
            ],
        }  # fmt: skip
        content = json.dumps(record, indent=1, allow_nan=False).encode()
        self._store.put(f"{self.run.prefix}/.nbgrid/run-{self.id}.json", content)

    def _set_earlier_results_aside(self) -> None:
        """Move what earlier runs left under the final names: nothing is lost, and only this run's results lie there."""
        from nbgrid.executed import read_executed

        output = f"{self.run.prefix}/output/"
        for name in list(self._store.names(output.rstrip("/"))):
            if name.endswith(".ipynb"):
                owner = read_executed(Path(self._store.path(name))).run or f"before-{self.id}"
                self._store.move(name, f"{replaced_folder(self.run.prefix, owner)}/{name.removeprefix(output)}")

    def _tell(self, message: dict[str, Any]) -> None:
        with self._telling:
            if (task := message.get("task")) is not None:
                self._tasks[task.index] = task
            for listener in self._listeners:
                listener(message)

    def _close(self) -> None:
        _LIVE.discard(self)
        with suppress(Exception):
            self._grid.close()
        self._lock.release()
        self._database.close()

    def _join(self) -> None:
        # Not by Thread.join: on Python 3.11 a Ctrl-C in there marks the living thread as ended. And in steps, so that
        # Ctrl-C is heard on every platform.
        while self._thread and not self._is_done.wait(0.5):
            pass
        if self._error is not None:
            raise self._error

    def _leave(self) -> None:
        """End the kernels before the interpreter does away with the threads that watch them."""
        self.stop()
        if self._thread:
            self._is_done.wait(15)


_LIVE: set[RunHandle] = set()
"""The runs of this process whose drivers go on."""


@cache
def _leave_before_the_pools_do() -> None:
    """
    Have the live runs ended when the interpreter is.

    Not by `atexit`: before that, `concurrent.futures` closes its pools, and kernels could not be watched to their end. Its own
    hook is registered when its module is imported; the hooks are called in the reverse order.
    """
    import concurrent.futures.thread  # noqa: F401

    getattr(threading, "_register_atexit", atexit.register)(_leave_all)


def _load_matplotlib() -> None:
    with suppress(Exception):  # what hinders it is told when a picture is drawn
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401


def _leave_all() -> None:
    for handle in list(_LIVE):
        handle._leave()


def _work(
    run: Run, planned: Plan, engine: EngineName, threads: int, timeout: float | None, share: Share, settings: Config
) -> NotebookWork:
    from nbgrid import __version__

    return NotebookWork(
        run=run, template=planned.template.content, engine=engine,
        imports=tuple(planned.template.leading_imports()), share=share, env=thread_limits(threads, os.environ),
        cell_timeout=timeout, startup_timeout=settings.startup_timeout,
        memory=planned.template.options.resources.memory, workdir=planned.template.options.workdir,
        included=planned.included, nonce=new_nonce(), version=__version__,
    )  # fmt: skip


__all__ = [
    "NEWEST", "Found", "RunHandle", "collect", "draw_elbow", "find", "listing", "notebooks", "open_database", "plan", "start",
]  # fmt: skip
