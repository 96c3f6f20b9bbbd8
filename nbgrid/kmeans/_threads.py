"""
How a pass over the data is shared out: slabs of rows and a few Python threads.

The slabs depend on the problem alone and their partial sums are added in order, so that a result does not depend on
the number of threads. The threads live as long as one fit, and numba's threading layers are never entered: a fit may
run in any number of threads at once, and in a forked child.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from nbgrid.kmeans._typing import Indices

Result = TypeVar("Result")

# Taking a slab costs next to nothing, but a pass that is shared costs some 50 µs; 2^19 multiplications take as long.
SLAB_WORK = 2**19
# Enough for 64 cores, few enough that partial sums stay small.
MOST_SLABS = 64
# Partial sums may take this share of the data's memory, or this many bytes where that is more.
SUMS_SHARE = 0.05
SUMS_BYTES = 2**22


def slabs(n_samples: int, n_clusters: int, n_features: int, itemsize: int = 8) -> Indices:
    """
    Return the rows at which the slabs in which a pass over the data is computed start, and the last one's end.
    """
    sums = 8 * n_clusters * n_features
    afford = int(max(SUMS_SHARE * n_samples * n_features * itemsize, SUMS_BYTES) / sums)
    useful = n_samples * n_clusters * n_features // SLAB_WORK
    count = max(1, min(MOST_SLABS, afford, useful, n_samples))
    return np.arange(count + 1, dtype=np.intp) * n_samples // count


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

    def together(self, work: Callable[[], object], shares: int) -> None:
        """
        Run *work* in this thread and in as many others as *shares* and threads allow; return when all are done.
        """
        helpers = min(self.threads, shares) - 1
        if helpers < 1:
            work()
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="nbgrid-kmeans")
        futures = [self._pool.submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            # Nothing of a pass outlives it, not even when Ctrl-C ends this thread's share early.
            failures = [future.exception() for future in futures]
        for failure in failures:
            if failure is not None:
                raise failure

    def map(self, task: Callable[[int, int, int], Result], edges: Indices) -> list[Result]:
        """
        Return *task*(index, start, stop) for each slab between *edges*, in order; the calling thread works too.
        """
        ends = edges.tolist()
        results: list[Any] = [None] * (len(ends) - 1)
        # next() on a count is atomic under the GIL, and a queue of futures would cost more than small slabs take.
        turns = itertools.count()

        def work() -> None:
            while (turn := next(turns)) < len(results):
                results[turn] = task(turn, ends[turn], ends[turn + 1])

        self.together(work, len(results))
        return results
