"""
k-means on shapes drawn at random, beside scikit-learn, scikit-learn-intelex and faiss.

    python benchmarks/bench_kmeans.py [iters] [fit] [sweep] [paths] [threads] [cold] [--shapes 20] [--seed 0] [--rounds 3]

`iters` takes all from the same centres for 20 steps, so that the inertias must agree; `fit` gives each its own seeding, and
another seed each round; `sweep` is a curve over k = 1..12. Each prints a table with the time of the fastest peer over ours, then
the geometric mean and the worst. `paths` is each `algorithm` from the same start beside what BLAS and memory allow,
`threads` one thread beside two and the peak of memory beside the input, `cold` a fresh process's first fit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import print_table

warnings.filterwarnings("ignore")

Peer = Callable[..., Any]


def shapes(count: int, seed: int) -> Iterator[tuple[int, int, int, str, float]]:
    """Yield rows, features, clusters, dtype and spread of *count* data sets; the work of a step stays below 2e10."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < count:
        n = int(10 ** rng.uniform(2.5, 6.2))
        d = round(2 ** rng.uniform(0.6, 9))
        k = round(2 ** rng.uniform(1, 10))
        if k <= n // 10 and n * d <= 8e7 and n * d * k <= 2e10:
            made += 1
            yield n, d, k, str(rng.choice(["f4", "f8"])), float(10 ** rng.uniform(-0.5, 1))


def blobs(n: int, d: int, k: int, dtype: str, spread: float, seed: int) -> np.ndarray[Any, Any]:
    """Return rows around centres that are sometimes more and sometimes fewer than *k*."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(-10, 10, (max(2, int(k * rng.choice([0.5, 1, 2]))), d))
    X = np.empty((n, d), dtype)
    for start in range(0, n, 100_000):
        stop = min(n, start + 100_000)
        X[start:stop] = centers[rng.integers(0, len(centers), stop - start)]
        X[start:stop] += spread * rng.standard_normal((stop - start, d))
    return X


def inertia(X: Any, centers: Any) -> float:
    """Return the inertia of *X* about *centers*, in float64."""
    total, centers = 0.0, np.asarray(centers, dtype=np.float64)
    mean = X.mean(axis=0, dtype=np.float64)
    centers = centers - mean
    for start in range(0, len(X), 20_000):
        rows = X[start : start + 20_000] - mean
        nearest = ((centers**2).sum(axis=1) - 2 * rows @ centers.T).min(axis=1)
        total += float(np.maximum((rows**2).sum(axis=1) + nearest, 0).sum())
    return total


def _sklearn(algorithm: str) -> Peer:
    def run(X: Any, k: int, init: Any, seed: int) -> Any:
        from sklearn.cluster import KMeans

        return KMeans(k, n_init=1, algorithm=algorithm, **_options(init, seed)).fit(X).cluster_centers_

    return run


def _intelex(X: Any, k: int, init: Any, seed: int) -> Any:
    from sklearnex.cluster import KMeans

    return KMeans(k, n_init=1, **_options(init, seed)).fit(X).cluster_centers_


def _faiss(X: Any, k: int, init: Any, seed: int) -> Any:
    import faiss

    steps = 25 if init is None else 20
    model = faiss.Kmeans(
        X.shape[1], k, niter=steps, seed=seed + 1, max_points_per_centroid=10**9, min_points_per_centroid=1
    )
    model.train(np.ascontiguousarray(X, "f4"), init_centroids=None if init is None else init.astype("f4"))
    return model.centroids


def _nbgrid(X: Any, k: int, init: Any, seed: int) -> Any:
    from nbgrid.kmeans import KMeans

    return KMeans(k, n_init=1, **_options(init, seed)).fit(X).cluster_centers_


def _options(init: Any, seed: int) -> dict[str, Any]:
    return {"random_state": seed} if init is None else {"init": init, "max_iter": 20, "tol": 0}


def peers() -> dict[str, Peer]:
    """Return ours and those of the others that are installed."""
    found: dict[str, Peer] = {"nbgrid": _nbgrid, "lloyd": _sklearn("lloyd"), "elkan": _sklearn("elkan")}
    for module, run in (("sklearnex", _intelex), ("faiss", _faiss)):
        try:
            __import__(module)
        except ImportError:
            print(f"{module} is not installed: left out", file=sys.stderr)
        else:
            found[module] = run
    return found


def compare(mode: str, count: int, seed: int, rounds: int) -> None:
    """Print the table of one mode."""
    rows, ratios, losses = [], [], []
    for number, (n, d, k, dtype, spread) in enumerate(shapes(count, seed)):
        X = blobs(n, d, k, dtype, spread, seed + number)
        start = X[np.random.default_rng(number).choice(n, k, replace=False)].copy() if mode == "iters" else None
        ks = list(range(1, min(k, 12) + 1))
        times: dict[str, list[float]] = {}
        ends: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            for name, run in peers().items():
                if name == "elkan" and n * k > 2e7:
                    continue  # its bounds alone would take gigabytes, and it is never the fastest there
                if turn and sum(times.get(name, [])) > 60:
                    continue
                began = time.perf_counter()
                centers = _curve(name, run, X, ks, turn) if mode == "sweep" else [run(X, k, start, turn)]
                took = time.perf_counter() - began
                if turn:
                    times.setdefault(name, []).append(took)
                    ends.setdefault(name, []).append(
                        float(np.exp(np.mean([np.log(max(inertia(X, found), 1e-300)) for found in centers])))
                    )
        ours = statistics.median(times.pop("nbgrid"))
        fastest = min(times, key=lambda name: statistics.median(times[name]))
        ratio = statistics.median(times[fastest]) / ours
        mean = {name: statistics.mean(values) for name, values in ends.items()}
        loss = mean.pop("nbgrid") / min(mean.values())
        ratios.append(ratio)
        losses.append(loss)
        rows.append([n, d, k, dtype, ours, fastest, f"{ratio:.2f}×", f"{loss:.6f}"])
        print(*rows[-1], file=sys.stderr, flush=True)
    header = [
        "rows",
        "features",
        "k",
        "dtype",
        "nbgrid s",
        "fastest peer",
        "its time over ours",
        "inertia over the best's",
    ]
    print_table(f"{mode}: {count} random shapes, seed {seed}, median of {rounds}", header, rows)
    print(
        f"Geometric mean {statistics.geometric_mean(ratios):.2f}×, worst {min(ratios):.2f}×; inertia over the best "
        f"peer's: geometric mean {statistics.geometric_mean(losses):.6f}, worst {max(losses):.6f}.\n"
    )


def _curve(name: str, run: Peer, X: Any, ks: list[int], seed: int) -> list[Any]:
    if name != "nbgrid":
        return [run(X, k, None, seed) for k in ks]
    from nbgrid.kmeans import sweep

    return [fit.cluster_centers_ for fit in sweep(X, ks, random_state=seed)]


FIT = """
import ctypes, gc, sys, time
import numpy as np
from nbgrid.kmeans import KMeans
X = np.load(sys.argv[1])
k = int(sys.argv[2])

def held(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

def fit():
    return KMeans(k, n_init=1, random_state=0, max_iter=20, tol=0).fit(X)

fit()  # loads the kernels, whose code is no part of what the data costs
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")  # forgets the peak
before = held("VmRSS")
began = time.perf_counter()
model = fit()
print(time.perf_counter() - began, held("VmHWM") - before)
"""

LARGE = [(2_000_000, 2, 8, "f8"), (1_000_000, 8, 16, "f4"), (500_000, 26, 12, "f4"), (100_000, 100, 20, "f8"),
         (200_000, 400, 100, "f4"), (200_000, 128, 500, "f4")]  # fmt: skip


def alone(X: Any, k: int, threads: int) -> tuple[float, int]:
    """Return seconds and bytes, beyond the input, of a fit in a process of its own (Linux tells them)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        np.save(path, X)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FIT, str(path), str(k)],
            env={**os.environ, "NUMBA_NUM_THREADS": str(threads)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
    seconds, kilobytes = done.stdout.split()
    return float(seconds), int(kilobytes) * 1024


def threads_and_memory() -> None:
    """Print how two threads compare with one, and the peak of memory beyond the input."""
    rows = []
    for n, d, k, dtype in LARGE:
        X = blobs(n, d, k, dtype, 4.0, 0)
        alone(X, k, 2)
        (one, _), (two, memory) = alone(X, k, 1), alone(X, k, 2)
        share = f"{memory / X.nbytes:.1%}"
        labels = f"{(memory - 4 * n) / X.nbytes:.1%}"
        rows.append([n, d, k, dtype, one, two, f"{one / two:.2f}×", share, labels])
    header = [
        "rows",
        "features",
        "k",
        "dtype",
        "1 thread s",
        "2 threads s",
        "speed-up",
        "memory beyond input",
        "labels aside",
    ]
    print_table("threads and memory, 20 steps from k-means++ starts", header, rows)


PATHS = [(1_000_000, 2, 8, "f8"), (1_000_000, 8, 16, "f4"), (500_000, 26, 12, "f4"), (100_000, 100, 20, "f4"),
         (100_000, 100, 20, "f8"), (200_000, 128, 100, "f4"), (100_000, 128, 1000, "f4"), (60_000, 784, 64, "f4")]  # fmt: skip


def paths(rounds: int) -> None:
    """Print each `algorithm` from the same start, its work a second, and what the machine could do at most."""
    from concurrent.futures import ThreadPoolExecutor

    from nbgrid.kmeans import KMeans

    halves = ThreadPoolExecutor(2)
    rows = []
    for n, d, k, dtype in PATHS:
        for spread in (1.0, 8.0):
            X = blobs(n, d, k, dtype, spread, 0)
            start = X[np.random.default_rng(0).choice(n, k, replace=False)].copy()
            product = np.empty((4096, k), X.dtype)
            times: dict[str, list[float]] = {}
            for turn in range(rounds + 1):
                for name in ("lloyd", "hamerly", "auto"):
                    began = time.perf_counter()
                    model = KMeans(k, init=start, max_iter=20, tol=0, algorithm=name).fit(X)
                    times.setdefault(name, []).append(time.perf_counter() - began)
                began = time.perf_counter()
                for first in range(0, n - 4096, 4096):
                    np.dot(X[first : first + 4096], start.T, out=product)
                times.setdefault("product", []).append(time.perf_counter() - began)
                began = time.perf_counter()
                list(halves.map(np.add.reduce, np.array_split(X.reshape(-1), 2)))
                times.setdefault("reading", []).append(time.perf_counter() - began)
                if not turn:
                    times.clear()  # kernels and BLAS threads are awake now
            lloyd, hamerly, auto, product_s, reading = (statistics.median(times[name]) for name in times)
            work = 2e-9 * n * d * k
            rows.append([
                n, d, k, dtype, spread, model.n_iter_, lloyd, hamerly, auto, f"{work * model.n_iter_ / lloyd:.0f}",
                f"{work / product_s:.0f}", f"{X.nbytes * model.n_iter_ / lloyd / 1e9:.1f}", f"{X.nbytes / reading / 1e9:.1f}",
            ])  # fmt: skip
            print(*rows[-1], file=sys.stderr, flush=True)
    header = ["rows", "features", "k", "dtype", "spread", "steps", "lloyd s", "hamerly s", "auto s", "lloyd Gflop/s",
              "product alone Gflop/s", "lloyd GB/s", "reading alone GB/s"]  # fmt: skip
    print_table(f"paths: each algorithm from the same start, 2 threads, median of {rounds}", header, rows)


COLD = "import numpy as np; X = np.random.default_rng(0).standard_normal((1000, 8)); {}; KMeans(5, n_init=1).fit(X)"


def cold(rounds: int) -> None:
    """Print what a fresh process pays until its first fit has ended, imports included."""
    codes = {"nbgrid": "from nbgrid.kmeans import KMeans", "scikit-learn": "from sklearn.cluster import KMeans"}
    times: dict[str, list[float]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "NUMBA_CACHE_DIR": folder}
        for turn in range(rounds + 1):
            for name, code in codes.items():
                began = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-c", COLD.format(code)], env=env, check=True, stderr=subprocess.DEVNULL
                )
                times[name].append(time.perf_counter() - began)
                if turn == 0:
                    first = times[name].pop()
                    print(f"{name}, very first: {first:.1f} s", file=sys.stderr)
                    times.setdefault(f"{name}, very first", []).append(first)
    base = statistics.median(times["scikit-learn"])
    rows = [
        [name, statistics.median(values), f"{statistics.median(values) / base:.2f}×"] for name, values in times.items()
    ]
    print_table("cold start: process, imports and a fit of 1000 rows", ["what", "s", "over scikit-learn's"], rows)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["iters", "fit", "sweep", "paths", "threads", "cold"])
    parser.add_argument("--shapes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for what in options.what:
        if what == "cold":
            cold(options.rounds)
        elif what == "threads":
            threads_and_memory()
        elif what == "paths":
            paths(options.rounds)
        else:
            compare(what, options.shapes, options.seed, options.rounds)


if __name__ == "__main__":
    main()
