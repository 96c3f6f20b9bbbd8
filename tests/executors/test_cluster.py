"""The Dask executor with a cluster of other processes, started as a person starts one, in another directory."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import cloudpickle
import pytest
from distributed import Client

from nbgrid.errors import PreflightError
from nbgrid.executors import WorkerLostError, make_executor
from nbgrid.states import Reason
from nbgrid.testing import DEADLINE, ExecutorTests, FakeWork, code_notebook, is_running, printed, wait_until

# Workers cannot import this file, so that its functions are sent to them whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class TestClusterDask(ExecutorTests):
    @pytest.fixture(autouse=True)
    def use(self, lasting):
        self.cluster = lasting

    def make_executor(self):
        return make_executor("dask", address=self.cluster.address)

    def test_slots_are_the_workers_threads(self, executor):
        """
        One slot for each thread of each worker.
        """
        self.start(executor, double)
        assert executor.slots == 3

    def test_it_takes_a_client_and_leaves_it_open(self):
        """
        A client that was given is used and stays its owner's.
        """
        with Client(self.cluster.address, set_as_default=False) as client:
            executor = make_executor("dask", client=client)
            executor.start(FakeWork(double), print)
            assert executor.submit(4).result(DEADLINE) == 8
            executor.close()
            assert client.submit(pow, 2, 5).result() == 32

    def test_two_runs_share_the_slots(self, executor, tmp_path):
        """
        Two drivers together perform no more at once than there are slots.
        """
        second = self.make_executor()
        try:
            self.start(executor, linger)
            self.start(second, linger)
            futures = [each.submit(str(tmp_path)) for _ in range(9) for each in (executor, second)]
            assert max(future.result(DEADLINE) for future in futures) <= 3
        finally:
            second.close()

    def test_dk_11__large_reports_do_not_pass_through_the_scheduler(self, executor):
        """
        A worker that can be reached sends its report straight to the driver.
        """
        with Client(self.cluster.address, set_as_default=False) as client:
            client.run_on_scheduler(count_gathers)
            self.start(executor, large)
            assert len(executor.submit(3_000_000).result(DEADLINE)) == 3_000_000
            assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.gathers) == 0

    def test_a_worker_keeps_its_threads_for_the_notebooks(self, executor):
        """
        What runs in a slot has seceded: other work of the cluster's finds the threads free.
        """
        messages = self.start(executor, tell_and_wait)
        futures = [executor.submit(number) for number in range(3)]
        wait_until(lambda: len(messages) == 3, "the begin of three")
        with Client(self.cluster.address, set_as_default=False) as client:
            assert client.submit(pow, 2, 5).result(DEADLINE) == 32
        executor.stop()
        assert [future.result(DEADLINE) for future in futures] == [True] * 3


def double(assignment, doing):
    return assignment * 2


def large(assignment, doing):
    return bytes(assignment)


def linger(folder, doing):
    mine = Path(folder, os.urandom(8).hex())
    mine.touch()
    time.sleep(0.1)
    found = len(list(Path(folder).iterdir()))
    mine.unlink()
    return found


def tell_and_wait(assignment, doing):
    doing.emit({"pid": os.getpid(), "worker": doing.worker})
    return doing.stopped.wait(DEADLINE)


def tell_and_hang(assignment, doing):
    doing.emit({"pid": os.getpid(), "worker": doing.worker})
    if assignment == "hang":
        time.sleep(DEADLINE)
    return doing.worker


def count_gathers(dask_scheduler):
    dask_scheduler.gathers = 0
    gather = dask_scheduler.handlers["gather"]

    async def counted(*arguments, **options):
        dask_scheduler.gathers += 1
        return await gather(*arguments, **options)

    dask_scheduler.handlers["gather"] = counted


@pytest.fixture
def executor(cluster):
    """An executor of `cluster`, closed after the test."""
    executor = make_executor("dask", address=cluster.address, no_workers_timeout=1.0)
    yield executor
    executor.close()


def test_dk_08__a_worker_with_another_version_is_refused(cluster, executor):
    """
    The message names the worker, both versions and what mends it.
    """
    cluster.worker("old", shim=cluster.other_version)
    with pytest.raises(PreflightError) as raised:
        executor.start(FakeWork(double), print)
    assert "tcp://127.0.0.1:" in str(raised.value)
    assert "nbgrid is 0.0.1, the driver has" in str(raised.value)
    assert "pip install nbgrid==" in str(raised.value)


def test_dk_09__a_worker_without_nbgrid_is_named(cluster, executor):
    """
    One line says so, with no traceback of pickle's; the worker goes on, for others.
    """
    worker = cluster.worker("bare", shim=cluster.no_nbgrid)
    with pytest.raises(PreflightError) as raised:
        executor.start(FakeWork(double), print)
    assert "nbgrid is not installed" in str(raised.value).splitlines()[1]
    assert len(str(raised.value).splitlines()) == 2
    assert worker.poll() is None


def test_workers_that_join_are_checked_as_they_join(cluster, executor):
    """
    One with nbgrid brings its slots; one without joins all the same, and gets no task.
    """
    cluster.worker("first")
    executor.start(FakeWork(lambda assignment, doing: doing.worker), print)
    assert executor.slots == 1
    bare = cluster.worker("bare", shim=cluster.no_nbgrid)
    cluster.worker("second", threads=2)
    wait_until(lambda: executor.slots == 3, "the slots of the worker that joined")
    done = {future.result(DEADLINE) for future in [executor.submit(number) for number in range(12)]}
    assert done == {"first", "second"}
    assert bare.poll() is None


def test_the_scheduler_needs_no_nbgrid(cluster_without_nbgrid):
    """
    Only workers do: assignments, reports and what is raised pass a scheduler that could not import any of it.
    """
    cluster = cluster_without_nbgrid
    executor = make_executor("dask", address=cluster.address)
    try:
        cluster.worker("one")
        executor.start(FakeWork(lambda assignment, doing: doing.missing if assignment is None else assignment), print)
        assert executor.submit(Reason("kind", "message")).result(DEADLINE) == Reason("kind", "message")
        with pytest.raises(AttributeError, match="missing"):
            executor.submit(None).result(DEADLINE)
    finally:
        executor.close()


def test_dk_10__a_cluster_without_workers_is_refused_after_a_while(executor):
    """
    After no_workers_timeout, with the command that starts a worker.
    """
    with pytest.raises(PreflightError, match=r"has had no worker for 1 s: start one with `dask worker tcp://127"):
        executor.start(FakeWork(double), print)


def test_no_scheduler_is_one_line(monkeypatch):
    """
    An address at which nothing answers is named, with what to do.
    """
    monkeypatch.setattr("nbgrid.executors._dask._CONNECT_SECONDS", 1.0)
    executor = make_executor("dask", address="tcp://127.0.0.1:1")
    with pytest.raises(
        PreflightError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1 \(.*\): start one"
    ) as raised:
        executor.start(FakeWork(double), print)
    assert "\n" not in str(raised.value)
    executor.close()


class HasKernel(FakeWork):
    """Refuses as a run's work does: where no kernel is installed."""

    def check(self):
        from jupyter_client.kernelspec import KernelSpecManager

        return None if "toy" in KernelSpecManager().find_kernel_specs() else "the kernel 'toy' is not installed"


def test_kn_09__tasks_go_only_where_the_kernel_is(cluster, executor, tmp_path):
    """
    The workers that lack the kernel are named, and get nothing; the others do the work.
    """
    spec = tmp_path / "jupyter/kernels/toy/kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["true"], "display_name": "toy", "language": "toy"}))
    cluster.worker("has", JUPYTER_PATH=str(tmp_path / "jupyter"))
    cluster.worker("lacks")
    executor.start(HasKernel(lambda assignment, doing: doing.worker), print)
    assert len(executor.notes) == 1
    assert executor.notes[0].startswith("no task goes to tcp://127.0.0.1:")
    assert executor.notes[0].endswith("the kernel 'toy' is not installed")
    assert executor.slots == 1
    assert {future.result(DEADLINE) for future in [executor.submit(number) for number in range(6)]} == {"has"}


def test_a_lost_worker_loses_its_attempt_and_no_other(cluster, executor):
    """
    kill -9 of a worker: its assignment is `WorkerLostError`, is performed nowhere else, and others go on.
    """
    cluster.worker("one")
    cluster.worker("two")
    messages = []
    executor.start(FakeWork(tell_and_hang), messages.append)
    doomed = executor.submit("hang")
    wait_until(lambda: messages, "the begin")
    os.kill(messages[0]["pid"], signal.SIGKILL)
    others = [executor.submit(number) for number in range(4)]
    with pytest.raises(WorkerLostError, match="is gone"):
        doomed.result(DEADLINE)
    survivor = ({"one", "two"} - {messages[0]["worker"]}).pop()
    for other in others:  # those that went to the killed worker before it was missed are lost with it
        with suppress(WorkerLostError):
            assert other.result(DEADLINE) == survivor
    assert executor.submit("again").result(DEADLINE) == survivor
    wait_until(lambda: executor.slots == 1, "the loss of its slot")
    begun = [message["worker"] for message in messages]
    assert begun.count(messages[0]["worker"]) == 1


def test_without_any_worker_what_waits_is_lost_in_bounded_time(cluster, executor):
    """
    When the last worker is killed, what it ran and what comes after is `WorkerLostError`, until a new worker joins.
    """
    worker = cluster.worker("only")
    messages = []
    executor.start(FakeWork(tell_and_hang), messages.append)
    doomed = executor.submit("hang")
    wait_until(lambda: messages, "the begin")
    worker.kill()
    with pytest.raises(WorkerLostError):
        doomed.result(DEADLINE)
    with pytest.raises(WorkerLostError, match="no worker that can run it for 1 s"):
        executor.submit("later").result(DEADLINE)
    cluster.worker("new")
    wait_until(lambda: executor._slots, "the new worker's slot")
    assert executor.submit("now").result(DEADLINE) == "new"


def test_dk_03__a_killed_scheduler_loses_the_attempts_and_hangs_nothing(cluster, executor):
    """
    Every future is done, `submit`, `stop` and `close` return.
    """
    cluster.worker("one")
    messages = []
    executor.start(FakeWork(tell_and_hang), messages.append)
    doomed = [executor.submit("hang") for _ in range(3)]
    wait_until(lambda: messages, "the begin")
    cluster.scheduler.kill()
    for future in doomed:
        with pytest.raises(WorkerLostError):
            future.result(DEADLINE)
    with pytest.raises(WorkerLostError):
        executor.submit("later").result(DEADLINE)
    finishing = threading.Thread(target=lambda: (executor.stop(), executor.close()))
    finishing.start()
    finishing.join(DEADLINE)
    assert not finishing.is_alive()


def test_a_worker_that_cannot_reach_the_store_sends_the_notebook(cluster, executor, tmp_path):
    """
    The bytes come back in the report, as long as the worker does not find the driver's nonce below the output root.
    """
    from nbgrid import states
    from nbgrid.work import Assignment, NotebookWork, nonce_name

    (tmp_path / "t.ipynb").write_text(json.dumps(code_notebook("# PARAMETERS\nk = 1", "print(k + 1)")))
    run = states.Run(
        id="r1", template=str(tmp_path / "t.ipynb"), output_root=str(tmp_path / "out"), prefix="p", parameters={},
        kernel="python3", language="python", engine="kernel", started="",
    )  # fmt: skip
    work = NotebookWork(
        run=run, template=(tmp_path / "t.ipynb").read_bytes(), engine="kernel", env={}, cell_timeout=None,
        startup_timeout=60.0, memory=None, workdir="", included={}, nonce="the driver's", version="0",
    )  # fmt: skip
    cluster.worker("far")
    executor.start(work, print)

    def perform():
        assignment = Assignment(0, "p-0", {"k": 41}, "digest", "p/output/0.ipynb", 1)
        return executor.submit(assignment).result(DEADLINE)

    nonce = tmp_path / "out" / nonce_name(run)
    nonce.parent.mkdir(parents=True)
    nonce.write_text("another's")
    report = perform()
    assert printed(json.loads(report.notebook)) == "42\n"
    assert hashlib.sha256(report.notebook).hexdigest() == report.checksum
    assert not list((tmp_path / "out").rglob("*.ipynb"))
    nonce.write_text("the driver's")
    report = perform()
    assert report.notebook is None
    (written,) = (tmp_path / "out").rglob("*.ipynb")
    assert hashlib.sha256(written.read_bytes()).hexdigest() == report.checksum


def test_stop__cancels_what_waits_for_a_slot(cluster, executor):
    """
    What runs is asked to end and reports; what no worker has begun is cancelled.
    """
    worker = cluster.worker("one")
    messages = []
    executor.start(FakeWork(tell_and_wait), messages.append)
    futures = [executor.submit(number) for number in range(3)]
    wait_until(lambda: messages, "the begin")
    executor.stop()
    assert futures[0].result(DEADLINE) is True
    wait_until(lambda: all(future.done() for future in futures), "the end of all")
    assert [future.cancelled() for future in futures[1:]] == [True, True]
    assert is_running(worker.pid)
