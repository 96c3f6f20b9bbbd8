"""Where tasks are sent: `serial` for tests and debugging, `dask` for everything else."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from nbgrid.errors import InputError
from nbgrid.executors._serial import SerialExecutor
from nbgrid.executors.base import Executor, Work, WorkerLostError

ExecutorName: TypeAlias = Literal["dask", "serial"]
EXECUTORS: tuple[ExecutorName, ...] = get_args(ExecutorName)


def make_executor(
    name: ExecutorName,
    *,
    address: str | None = None,
    client: Any = None,
    workers: int = 1,
    no_workers_timeout: float = 60.0,
) -> Executor:
    """
    Return the executor of that name; nothing is started before its `start`.

    With *address* or a `distributed.Client` *client*, "dask" is that cluster; else an embedded one of *workers* workers.
    """
    if name == "serial":
        if address or client is not None:
            raise InputError("the serial executor has no scheduler: leave out --executor serial or --scheduler")
        return SerialExecutor()
    from nbgrid.executors._dask import DaskExecutor

    return DaskExecutor(address, client=client, workers=workers, no_workers_timeout=no_workers_timeout)


__all__ = ["EXECUTORS", "Executor", "ExecutorName", "SerialExecutor", "Work", "WorkerLostError", "make_executor"]
