"""Bounds, prefixes and tiles: whatever is passed over, every label is that of the comparison with all centres."""

from __future__ import annotations

import warnings
from unittest.mock import patch

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbgrid.kmeans import _iterate
from nbgrid.kmeans._data import measure
from nbgrid.kmeans._iterate import Passes, lloyd
from nbgrid.kmeans._threads import Workers

EMPTY = np.empty(0)


def run(X, start, algorithm, *, weight=EMPTY, max_iter=30, prefixes_from=8):
    """Return the clustering, with prefixes of ranked centres where there are so many centres as *prefixes_from*."""
    with Workers() as workers, patch.object(_iterate, "PREFIXES_FROM", prefixes_from):
        data = measure(X, weight, workers)
        shift = data.mean.astype(data.X.dtype).astype(np.float64)
        passes = Passes(data=data, shift=shift, n_clusters=len(start), workers=workers)
        return lloyd(passes, start, max_iter=max_iter, tol=0, algorithm=algorithm)


def same(a, b):
    return (
        a.centers.tobytes() == b.centers.tobytes()
        and np.array_equal(a.labels, b.labels)
        and a.inertia == b.inertia
        and a.n_iter == b.n_iter
    )


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize(
    ("n", "d", "k", "spread"),
    [(4000, 5, 3, 2), (9000, 24, 12, 3), (6000, 40, 70, 4), (5000, 130, 33, 9), (3000, 3, 200, 1)],
)
def test_hamerly__changes_no_bit_of_lloyd(rng, dtype, n, d, k, spread):
    """
    With bounds, with prefixes of ranked centres or without, kept or given up, a run is bit for bit the run without.
    """
    mu = rng.uniform(-10, 10, (k, d))
    X = (mu[rng.integers(0, k, n)] + spread * rng.standard_normal((n, d))).astype(dtype)
    plain = run(X, X[:k], "lloyd")
    for prefixes_from in (8, 10**6):
        assert same(run(X, X[:k], "hamerly", prefixes_from=prefixes_from), plain)
    assert same(run(X, X[:k], "auto"), plain)


@settings(max_examples=naive.EXAMPLES, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_km_24__bounds_hold_for_awkward_data(seed):
    """
    Duplicates, k near n, constant columns, huge offsets, weights with zeros: bounds change nothing.
    """
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 300)), int(rng.integers(1, 40))
    k = int(rng.integers(1, n + 1)) if rng.random() < 0.3 else int(rng.integers(1, min(n, 60) + 1))
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4)
    if rng.random() < 0.4:
        X = np.rint(X)  # ties
    if rng.random() < 0.3:
        X[:, rng.integers(0, d)] = 7
    if rng.random() < 0.3:
        X += 10.0 ** rng.integers(2, 7)
    if rng.random() < 0.3:
        X = X[rng.integers(0, max(1, n // 4), n)]
    X = np.ascontiguousarray(X, dtype=rng.choice(["f4", "f8"]))
    weight = rng.integers(0, 3, n).astype(float) if rng.random() < 0.3 else EMPTY
    if weight.size and not weight.any():
        weight[0] = 1
    start = X[rng.choice(n, k, replace=False)]
    plain = run(X, start, "lloyd", weight=weight)
    for prefixes_from in (8, 10**6):
        assert same(run(X, start, "hamerly", weight=weight, prefixes_from=prefixes_from), plain)
    exact = naive.inertia(X, plain.centers, plain.labels, weight if weight.size else None)
    rounding = (np.finfo(np.float64).eps ** 2) * X.size * float(np.square(X, dtype=np.float64).max())
    assert plain.inertia == pytest.approx(exact, rel=1e-9 if X.dtype == np.float64 else 1e-6, abs=rounding)


@settings(max_examples=naive.EXAMPLES, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_labels__are_those_of_exact_arithmetic_in_float32_too(seed):
    """
    A float32 row's label is the nearest of the float32 centres when both are taken in float64, near-ties included.
    """
    rng = np.random.default_rng(seed)
    n, d, k = 200, int(rng.integers(1, 60)), int(rng.integers(2, 40))
    X = (rng.standard_normal((n, d)) + 10.0 ** rng.integers(-1, 4)).astype("f4")
    centers = X[rng.choice(n, k, replace=False)] + rng.choice([0, 1e-6], k)[:, np.newaxis].astype("f4")
    with Workers() as workers:
        data = measure(X, EMPTY, workers)
        shift = data.mean.astype("f4").astype(np.float64)
        labels, _ = Passes(data=data, shift=shift, n_clusters=k, workers=workers).assign(centers)
    distances = naive.sq_distances(X, centers)
    taken = distances[np.arange(n), labels]
    assert (taken <= distances.min(axis=1) * (1 + 1e-12)).all()


@pytest.mark.parametrize("prefixes_from", [8, 10**6])
def test_bounds__pass_most_rows_over_once_few_centres_move(rng, capsys, prefixes_from):
    """
    On clustered data the last steps compare few rows: verbose says how many.
    """
    mu = rng.uniform(-50, 50, (60, 20))
    X = np.ascontiguousarray(mu[rng.integers(0, 60, 20000)] + rng.standard_normal((20000, 20)))
    with Workers() as workers, patch.object(_iterate, "PREFIXES_FROM", prefixes_from):
        data = measure(X, EMPTY, workers)
        passes = Passes(data=data, shift=data.mean, n_clusters=60, workers=workers)
        lloyd(passes, mu + 1.0, max_iter=30, tol=0, verbose=True)
    compared = [int(line.split()[-3]) for line in capsys.readouterr().out.splitlines() if line.startswith("Iteration")]
    assert compared[0] == 20000
    assert compared[-1] < 2000


def test_bounds__are_left_alone_where_they_pay_nothing(rng):
    """
    On data without clusters many steps keep no bounds, since those before saved too little; "hamerly" keeps them always.
    """
    X = rng.standard_normal((20_000, 13))
    seen = {}
    for algorithm in ("auto", "hamerly"):
        states = []
        with Workers() as workers, patch.object(_iterate._State, "decide", _noting(states)):
            data = measure(X, EMPTY, workers)
            passes = Passes(data=data, shift=data.mean, n_clusters=20, workers=workers)
            lloyd(passes, X[:20], max_iter=20, tol=0, algorithm=algorithm)
        seen[algorithm] = states.count(_iterate.NO_BOUNDS)
    assert seen["auto"] >= 6
    assert seen["hamerly"] == 0


def _noting(states):
    decide = _iterate._State.decide

    def noted(self):
        states.append(self.bounds)
        decide(self)

    return noted


@pytest.mark.parametrize("features", ["+avx2,+avx,+fma,+sse4.2", "+sse2"])
def test_kernels__give_the_same_clustering_on_machines_with_narrower_vectors(fresh, features):
    """
    Compiled for 32- and 16-byte vectors, with and without fused multiply-add, labels and inertia are the same.
    """
    code = """
import warnings
import zlib
import numpy as np
from nbgrid.kmeans import KMeans
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X = rng.standard_normal((3000, 11)) + 5 * rng.integers(0, 4, (3000, 1))
model = KMeans(40, init=X[:40], n_init=1, max_iter=12, tol=0).fit(X)
print(zlib.crc32(model.labels_.tobytes()), f"{model.inertia_:.9f}")
"""
    narrow = fresh(code, env={"NUMBA_CPU_FEATURES": features})
    assert narrow == fresh(code)


def test_lloyd__ends_at_its_deadline(rng):
    """
    A deadline that has passed ends the run after one step, with labels and inertia of the centres it returns.
    """
    X = rng.standard_normal((500, 3))
    with Workers() as workers, warnings.catch_warnings():
        data = measure(X, EMPTY, workers)
        passes = Passes(data=data, shift=data.mean, n_clusters=7, workers=workers)
        result = lloyd(passes, X[:7], max_iter=100, tol=0, deadline=0.0)
        labels, inertia = passes.assign(result.centers)
    assert result.n_iter == 1
    assert not result.converged
    assert np.array_equal(result.labels, labels)
    assert result.inertia == pytest.approx(inertia, rel=1e-12)
