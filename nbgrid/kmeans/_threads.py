"""
How a pass over the data is shared out: slabs of rows, a few Python threads, and BLAS held to one thread meanwhile.

The slabs depend on the problem alone and their partial sums are added in order, so that a result does not depend on
the number of threads. The threads live as long as one fit, and numba's threading layers are never entered: a fit may
run in any number of threads at once, and in a forked child.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")

# Handing a slab to a thread costs some 10 µs; 2^19 multiplications take about ten times that.
SLAB_WORK = 2**19
# Enough for 64 cores, few enough that partial sums stay small.
MOST_SLABS = 64


def slabs(n_samples: int, n_clusters: int, n_features: int) -> list[tuple[int, int]]:
    """
    Return the row ranges in which a pass over the data is computed, in order.

    A slab has at least 8 rows a cluster, so that the slabs' partial sums take at most a quarter of the data's memory.
    """
    work = -(-SLAB_WORK // (n_clusters * n_features))
    rows = max(-(-n_samples // MOST_SLABS), 8 * n_clusters, work)
    return [(start, min(start + rows, n_samples)) for start in range(0, n_samples, rows)]


def thread_count() -> int:
    """
    Return how many threads numba may use here: its mask where one was set, else NUMBA_NUM_THREADS; at most the cores
    that this process may run on.
    """
    import numba

    try:
        numba.threading_layer()
    except ValueError:
        # No layer is up, so no mask was set, and asking for one would start the layer's threads.
        allowed = numba.config.NUMBA_NUM_THREADS
    else:
        allowed = numba.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(allowed), cores))


class Workers:
    """
    The threads of one fit; a context manager. None is started before the first pass that has several slabs.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = thread_count() if threads is None else threads
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def map(self, task: Callable[[int, int, int], Result], ranges: list[tuple[int, int]]) -> list[Result]:
        """
        Return *task*(index, start, stop) for each of *ranges*, in order; the calling thread works too.
        """
        results: list[Any] = [None] * len(ranges)
        # next() on a count is atomic under the GIL, and a queue of futures would cost more than small slabs take.
        turns = itertools.count()

        def work() -> None:
            while (turn := next(turns)) < len(ranges):
                results[turn] = task(turn, *ranges[turn])

        helpers = min(self.threads, len(ranges)) - 1
        if helpers and self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="nbgrid-kmeans")
        futures = [self._pool.submit(work) for _ in range(helpers)] if self._pool else []
        try:
            work()
        finally:
            # Nothing of a pass outlives it, not even when Ctrl-C ends this thread's share early.
            turns = itertools.count(len(ranges))
            failures = [future.exception() for future in futures]
        for failure in failures:
            if failure is not None:
                raise failure
        return results


@cache
def _blas() -> Any:
    import scipy.linalg  # noqa: F401  # numba's np.dot goes to SciPy's BLAS, which must be loaded to be found
    import threadpoolctl

    # Looking for the loaded libraries takes milliseconds: once a process is enough.
    return threadpoolctl.ThreadpoolController()


class _SingleThreadedBlas:
    """
    Holds BLAS to one thread while anyone is inside, for the whole process.

    threadpoolctl's own limits restore what they found, so two that overlap can leave the process at one thread for
    ever; here the first in sets the limit and the last out lifts it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._limit = _blas().limit(limits=1, user_api="blas")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._limit.restore_original_limits()
                    self._limit = None

    def reset(self) -> None:
        """Forget the threads that a fork has left behind, and give BLAS back what they had taken."""
        self._lock = threading.Lock()
        self._inside = 0
        if self._limit is not None:
            self._limit.restore_original_limits()
            self._limit = None


single_threaded_blas = _SingleThreadedBlas()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=single_threaded_blas.reset)
