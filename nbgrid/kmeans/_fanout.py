"""
A sweep on Dask's workers: tasks for each k, which run the kernels in the worker's own thread.

The client is used, never imported: whoever has one has distributed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from nbgrid.kmeans._fits import Fit, Settings, fits, refit
from nbgrid.kmeans._threads import Workers, thread_count
from nbgrid.kmeans._typing import Float64s, Floats


def fan_out(
    client: Any, X: Floats, weight: Float64s, ks: list[int], settings: Settings, random_state: np.random.RandomState
) -> Iterator[Fit]:
    """
    Yield the `Fit` of each of *ks*, which ascend, as *client*'s workers find them.

    X is sent to each worker once. A k is fitted from fresh seeds and from where the fresh fit of the k before it
    ended; if its inertia is still above that of the k before, once more from there. What has not ended is cancelled
    when the iterator is closed or raises.
    """
    if getattr(client, "asynchronous", False):
        raise ValueError("client is asynchronous, and sweep waits for its results; give it a Client that is not.")
    tasks: list[Any] = []

    def submit(task: Any, *args: Any) -> Any:
        tasks.append(client.submit(task, *sent, *args, settings, slots, pure=False))
        return tasks[-1]

    slots = min(slots_of_a_host(client), len(ks))
    seed = int(random_state.randint(np.iinfo(np.int32).max))
    # Not by their hash: equal data that another sweep is just giving up would go with it.
    sent = client.scatter([X, weight], broadcast=True, hash=False)
    try:
        # The largest k takes longest, so it is begun first.
        fresh = {k: submit(fit_one, k, seed) for k in reversed(ks)}
        better = {k: submit(fit_from, fresh[j], fresh[k]) for j, k in itertools.pairwise(ks)}
        best: Fit | None = None
        for k in ks:
            fit: Fit = client.gather(better.get(k, fresh[k]))
            if best is not None and fit.inertia > best.inertia:
                fit = client.gather(submit(fit_from, best, fit))
            best = fit
            yield fit
    finally:
        client.cancel([*tasks, *sent])


def slots_of_a_host(client: Any) -> int:
    """
    Return how many tasks may run at once on one machine, the one with the most slots.
    """
    slots: Counter[str | None] = Counter()
    for address, threads in client.nthreads().items():
        slots[urlsplit(address).hostname] += threads
    return max(slots.values(), default=1)


def fit_one(X: Floats, weight: Float64s, k: int, seed: int, settings: Settings, slots: int) -> Fit:
    """Return the `Fit` of *k*: what a worker runs."""
    with _share(slots) as workers:
        return next(fits(X, weight, [k], settings, np.random.RandomState(seed), workers))


def fit_from(X: Floats, weight: Float64s, before: Fit, fit: Fit, settings: Settings, slots: int) -> Fit:
    """Return the better of *fit* and one that starts where *before*, of fewer clusters, ended: what a worker runs."""
    with _share(slots) as workers:
        warm = refit(X, weight, grown(before.centers, fit.centers), settings, workers)
    best = min(warm, fit, key=lambda one: one.inertia)
    return replace(best, seconds=fit.seconds + warm.seconds)


def _share(slots: int) -> Workers:
    """Return the threads that one of *slots* tasks on this machine may use."""
    return Workers(max(1, thread_count() // slots))


def grown(centers: Floats, others: Floats) -> Floats:
    """
    Return *centers* and as many of *others* as make them equally many, each the farthest from those there already.
    """
    chosen = [*centers]
    gaps = np.full(len(others), np.inf)
    for center in chosen:
        gaps = np.minimum(gaps, ((others - center) ** 2).sum(axis=1))
    while len(chosen) < len(others):
        chosen.append(others[int(np.argmax(gaps))])
        gaps = np.minimum(gaps, ((others - chosen[-1]) ** 2).sum(axis=1))
    return np.array(chosen, dtype=centers.dtype)
