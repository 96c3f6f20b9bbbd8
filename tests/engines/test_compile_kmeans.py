"""k-means kernels are compiled once, before tasks start."""

from __future__ import annotations

import sys

from nbgrid.engines.environment import Kernel, compile_kmeans


def test_compile_kmeans__fills_the_cache_of_the_kernels_python(tmp_path, monkeypatch):
    """
    Afterwards the cache holds compiled kernels and says that it is complete; the second time nothing is compiled.
    """
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compile_kmeans(Kernel("python3", "python", (sys.executable, "-m", "ipykernel_launcher")))
    compiled = sorted(tmp_path.glob("kmeans-*/**/*.nbc"))
    assert compiled
    assert len(list(tmp_path.glob("kmeans-*/complete"))) == 1
    times = [path.stat().st_mtime_ns for path in compiled]
    compile_kmeans(Kernel("python3", "python", (sys.executable, "-m", "ipykernel_launcher")))
    assert times == [path.stat().st_mtime_ns for path in compiled]


def test_compile_kmeans__leaves_a_python_without_nbgrid_to_the_notebook(tmp_path):
    """
    A kernel whose program is not there, or knows no nbgrid, raises nothing here.
    """
    compile_kmeans(Kernel("other", "python", (str(tmp_path / "no-python"),)))
    compile_kmeans(Kernel("other", "python", ("false",)))
