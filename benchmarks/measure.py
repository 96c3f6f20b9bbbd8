"""What the benchmarks share: whole commands timed with the processor time of their children, and tables of ratios."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Timing:
    """One command, from start to exit."""

    wall: float
    cpu: float
    """Of the command and all its children that it waited for."""
    memory: int
    """Bytes: the most that one process of them held."""


def command(arguments: Sequence[str], cwd: Path, env: dict[str, str] | None = None) -> Timing:
    """Run a command that must succeed, and return what it took."""
    code = (
        "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "u = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print('TOOK', u.ru_utime + u.ru_stime, u.ru_maxrss, file=sys.stderr); sys.exit(r.returncode)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env={**os.environ, **(env or {})}, stderr=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    _, cpu, memory = done.stderr.splitlines()[-1].split()
    return Timing(wall, float(cpu), int(memory) * (1 if sys.platform == "darwin" else 1024))


def interleaved(peers: dict[str, Callable[[], Timing]], rounds: int) -> dict[str, list[Timing]]:
    """Time each peer once a round, in turn, so that a drift of the machine meets them all."""
    timings: dict[str, list[Timing]] = {name: [] for name in peers}
    for number in range(rounds):
        for name, run in peers.items():
            timings[name].append(run())
            print(f"  round {number + 1}: {name} {timings[name][-1].wall:.2f} s", file=sys.stderr, flush=True)
    return timings


def median(timings: Sequence[Timing], what: str = "wall") -> float:
    """Return the median of one figure."""
    return statistics.median(getattr(timing, what) for timing in timings)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a Markdown table under a line that says when and where."""
    print(f"\n**{title}** ({date.today()}, {machine()})\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row) + " |")
    print(flush=True)


def machine() -> str:
    """Return the machine's shape."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def write_notebook(path: Path, cells: Sequence[tuple[str, str, Sequence[str]]]) -> Path:
    """Write a Python notebook of (type, source, tags) cells."""
    made = []
    for kind, source, tags in cells:
        cell: dict[str, Any] = {"cell_type": kind, "metadata": {"tags": list(tags)} if tags else {}, "source": source}
        made.append(cell | ({"outputs": [], "execution_count": None} if kind == "code" else {}))
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": made, "metadata": spec, "nbformat": 4, "nbformat_minor": 4}))
    return path


def own_cpu() -> float:
    """Return the processor seconds that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
