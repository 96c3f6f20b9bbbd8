from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import make_blobs


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def blobs():
    """600 rows around 6 well separated centres in 5 dimensions."""
    X, _ = make_blobs(n_samples=600, centers=6, n_features=5, cluster_std=1.0, random_state=3)
    return X


@pytest.fixture
def fresh(tmp_path):
    """Run Python code in a new process whose numba cache is an empty folder; return what it printed."""
    cache = tmp_path / "cache"

    def run(code, *, env=None, wait=True):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code],
            env={**os.environ, "NUMBA_CACHE_DIR": str(cache), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if not wait:
            return process
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out

    run.cache = cache
    return run
