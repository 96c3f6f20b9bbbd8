"""The Dask executor with its embedded cluster."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import psutil
import pytest

from nbgrid.executors import make_executor
from nbgrid.executors._throttle import MAX_BYTES, Throttle, shortened
from nbgrid.testing import DEADLINE, ExecutorTests, FakeWork, wait_until

# Dask keeps one of each for the life of the process, whoever used it first.
KEPT = ("Dask-Offload", "Dask-Callback-Thread", "IO loop", "asyncio_")


class TestEmbeddedDask(ExecutorTests):
    def make_executor(self):
        return make_executor("dask", workers=3)

    def test_every_worker_is_used(self, executor):
        """
        As many assignments as workers run on different workers.
        """
        together = threading.Barrier(3)
        executor.start(Together(together), print)
        workers = [future.result(DEADLINE) for future in [executor.submit(n) for n in range(3)]]
        assert sorted(workers) == ["worker-0", "worker-1", "worker-2"]


class Together(FakeWork):
    """A work whose assignments wait for each other; it stays in this process."""

    held: dict = {}  # noqa: RUF012

    def __init__(self, barrier):
        super().__init__(lambda assignment, doing: (Together.held["barrier"].wait(DEADLINE), doing.worker)[1])
        Together.held["barrier"] = barrier


def double(assignment, doing):
    return assignment * 2


def listening():
    return [(c.laddr.ip, c.laddr.port) for c in psutil.Process().net_connections("inet") if c.status == "LISTEN"]


def test_dk_13__nothing_listens_beyond_this_machine():
    """
    Whatever the embedded cluster listens on is the loopback interface.
    """
    before = listening()
    executor = make_executor("dask", workers=2)
    executor.start(FakeWork(double), print)
    try:
        assert executor.submit(2).result(DEADLINE) == 4
        assert {ip for ip, _ in set(listening()) - set(before)} <= {"127.0.0.1", "::1"}
    finally:
        executor.close()
    assert listening() == before


def test_close__leaves_no_thread_no_process_and_no_descriptor():
    """
    Ten executors, one after another: afterwards there is what there was after the first.
    """
    process = psutil.Process()

    def cycle():
        executor = make_executor("dask", workers=2)
        executor.start(FakeWork(double), print)
        assert executor.submit(2).result(DEADLINE) == 4
        executor.close()

    def threads():
        return sorted(t.name for t in threading.enumerate() if not t.name.startswith(KEPT))

    cycle()
    before, descriptors, children = threads(), process.num_fds(), process.children()
    for _ in range(10):
        cycle()
    wait_until(lambda: threads() <= before, "the end of the threads")
    wait_until(lambda: process.num_fds() <= descriptors, "the end of the descriptors")
    assert process.children() == children


def test_dk_16__it_works_while_an_event_loop_runs_in_the_calling_thread():
    """
    As in Jupyter, where cells run inside a running loop.
    """

    async def cell():
        executor = make_executor("dask", workers=2)
        executor.start(FakeWork(double), print)
        try:
            return executor.submit(21).result(DEADLINE)
        finally:
            executor.close()

    assert asyncio.run(cell()) == 42


def test_close__gives_the_loggers_back():
    """
    A process that uses Dask for its own ends hears of it as before.
    """
    logger = logging.getLogger("distributed.worker")
    level = logger.level
    executor = make_executor("dask")
    executor.start(FakeWork(double), print)
    executor.close()
    assert logger.level == level


def test_close__settles_what_was_never_begun():
    """
    A future that nobody can fulfil any more is done all the same.
    """
    executor = make_executor("dask", workers=1)
    work = FakeWork(lambda assignment, doing: doing.stopped.wait(DEADLINE))
    executor.start(work, print)
    futures = [executor.submit(number) for number in range(3)]
    wait_until(lambda: executor._sent, "the sending")
    executor.stop()
    executor.close()
    assert all(future.done() for future in futures)


# -- messages -----------------------------------------------------------------------------------------------------------


def test_throttle__sends_four_at_once_then_four_a_second_and_the_newest():
    """
    A flood becomes a trickle, in which the last message is never missing.
    """
    sent = []
    throttle = Throttle(lambda message: sent.append((time.monotonic(), message["n"])))
    began = time.monotonic()
    number = 0
    while time.monotonic() < began + 1.0:
        throttle({"n": number})
        number += 1
    throttle.close()
    assert [n for _, n in sent[:4]] == [0, 1, 2, 3]
    assert sent[-1][1] == number - 1
    assert len(sent) <= 4 + 4 * (sent[-1][0] - began) + 2


def test_throttle__a_message_that_waited_is_sent_without_another():
    """
    The last of a burst arrives although nothing follows it.
    """
    sent = []
    throttle = Throttle(sent.append)
    for number in range(6):
        throttle({"n": number})
    wait_until(lambda: {"n": 5} in sent, "the last message")
    assert {"n": 4} not in sent


@pytest.mark.parametrize(
    ("message", "kept"),
    [({"text": "x" * 10_000, "cell": 3}, True), ({"many": ["x" * 100] * 100}, False), ({"cell": 3}, True)],
)
def test_throttle__keeps_messages_small(message, kept):
    """
    Long texts are cut; what stays too long is dropped.
    """
    short = shortened(message)
    assert (short is not None) == kept
    assert len(str(short)) <= MAX_BYTES
