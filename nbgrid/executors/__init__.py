"""Where tasks are sent: `serial` for tests and debugging, `dask` for everything else."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from nbgrid.executors._serial import SerialExecutor
from nbgrid.executors.base import Executor, Work, WorkerLostError

ExecutorName: TypeAlias = Literal["dask", "serial"]
EXECUTORS: tuple[ExecutorName, ...] = get_args(ExecutorName)

__all__ = ["EXECUTORS", "Executor", "ExecutorName", "SerialExecutor", "Work", "WorkerLostError"]
