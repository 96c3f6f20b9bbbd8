"""Clusters of other processes; and the contract's assertions tell what they compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from distributed import Client

pytest.register_assert_rewrite("nbgrid.testing")

from nbgrid.testing import wait_until  # noqa: E402

ROOT = Path(__file__).parents[2]

OTHER_VERSION = "import nbgrid; nbgrid.__version__ = '0.0.1'"
NO_NBGRID = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'nbgrid':
            raise ModuleNotFoundError("No module named 'nbgrid'", name='nbgrid')
sys.meta_path.insert(0, Block())
"""


class Cluster:
    """A scheduler and workers, each a process of its own."""

    other_version, no_nbgrid = OTHER_VERSION, NO_NBGRID

    def __init__(self, folder, shim=""):
        self.folder, self.processes = folder, []
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show",
            "--scheduler-file", str(file), shim=shim,
        )  # fmt: skip
        wait_until(lambda: file.exists() and file.read_text().strip().endswith("}"), "the scheduler")
        self.address = json.loads(file.read_text())["address"]

    def _start(self, module, *options, shim="", **env):
        """Start Dask's command *module*, after the Python code *shim*."""
        code = f"{shim}\nimport runpy, sys\nsys.argv[0] = {module!r}\nrunpy.run_module({module!r}, run_name='__main__')"
        command = [sys.executable, "-c", code, *options]
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with (self.folder / f"log-{len(self.processes)}").open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, "PYTHONPATH": paths, **env}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def worker(self, name, threads=1, shim="", **env):
        """Start a worker and wait until the scheduler knows it."""
        process = self._start(
            "distributed.cli.dask_worker", self.address, "--nthreads", str(threads), "--no-nanny", "--name", name,
            "--host", "127.0.0.1", "--no-dashboard", "--local-directory", str(self.folder), shim=shim, **env,
        )  # fmt: skip
        with Client(self.address, set_as_default=False) as client:
            wait_until(lambda: name in self.names(client), f"the worker {name}")
        return process

    @staticmethod
    def names(client):
        return [worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]

    def close(self):
        """Kill the processes that were started here, and what these started."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A cluster of two workers with three slots, for tests that leave it as it is."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.worker("one")
        cluster.worker("two", threads=2)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(tmp_path):
    """A scheduler without workers."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture
def cluster_without_nbgrid(tmp_path):
    """A scheduler that cannot import nbgrid, without workers."""
    cluster = Cluster(tmp_path, shim=NO_NBGRID)
    yield cluster
    cluster.close()
