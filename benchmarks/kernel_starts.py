"""
Kernels started at once: 64 in 8 processes, ten rounds, 640 starts; nbgrid's kernel engine beside nbclient.

    python benchmarks/kernel_starts.py [--rounds 10] [--processes 8] [--kernels 8] [--no-peer]

Prints a table: starts, failures, and seconds for one start to end; the ratio is nbclient's time over ours.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from typing import Any

NOTEBOOK: dict[str, Any] = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "cells": [
        {"cell_type": "code", "id": "a", "metadata": {}, "source": "1 + 1", "outputs": [], "execution_count": None}
    ],
}


async def ours(kernels: int) -> list[str]:
    """Return why each of *kernels* notebooks failed that did."""
    import copy

    from nbgrid.engines import make_engine
    from nbgrid.engines.base import ExecutionSpec, no_event

    spec, engine = ExecutionSpec(kernel="python3", cwd=".", startup_timeout=300.0), make_engine("kernel")
    notebooks = [copy.deepcopy(NOTEBOOK) for _ in range(kernels)]
    outcomes = await asyncio.gather(*(engine.execute(notebook, spec, no_event) for notebook in notebooks))
    return [str(outcome.reason) for outcome in outcomes if outcome.state != "finished"]


async def nbclient(kernels: int) -> list[str]:
    """Do the same with nbclient."""
    import nbformat
    from nbclient import NotebookClient

    async def one() -> None:
        await NotebookClient(nbformat.from_dict(NOTEBOOK), startup_timeout=60).async_execute()

    results = await asyncio.gather(*(one() for _ in range(kernels)), return_exceptions=True)
    return [f"{type(result).__name__}: {result}" for result in results if result is not None]


def one_process(task: tuple[str, int]) -> list[str]:
    """Start the kernels of one process."""
    which, kernels = task
    return asyncio.run({"nbgrid": ours, "nbclient": nbclient}[which](kernels))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rounds", 10), ("processes", 8), ("kernels", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-peer", action="store_true", help="leave nbclient out")
    options = parser.parse_args()
    starts = options.rounds * options.processes * options.kernels
    seconds: dict[str, float] = {}
    print(f"{'':10}{'starts':>8}{'failed':>8}{'s a start':>11}")
    for which in ("nbgrid",) if options.no_peer else ("nbgrid", "nbclient"):
        failed: list[str] = []
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            pool.map(one_process, [(which, 1)] * options.processes, chunksize=1)  # the imports
            began = time.perf_counter()
            for _ in range(options.rounds):
                tasks = [(which, options.kernels)] * options.processes
                failed += [why for process in pool.map(one_process, tasks, chunksize=1) for why in process]
            seconds[which] = (time.perf_counter() - began) / starts
        print(f"{which:10}{starts:>8}{len(failed):>8}{seconds[which]:>11.3f}", flush=True)
        for why in sorted(set(failed))[:5]:
            print(f"    {why.splitlines()[0]}")
    if "nbclient" in seconds:
        print(f"nbclient / nbgrid: {seconds['nbclient'] / seconds['nbgrid']:.2f}")


if __name__ == "__main__":
    main()
