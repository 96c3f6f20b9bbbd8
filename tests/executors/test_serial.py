"""The serial executor."""

from __future__ import annotations

import threading

import pytest

from nbgrid.errors import InputError
from nbgrid.executors import SerialExecutor, make_executor
from nbgrid.testing import ExecutorTests, FakeWork


class TestSerialExecutor(ExecutorTests):
    def make_executor(self):
        return SerialExecutor()

    def test_it_performs_in_the_thread_that_asks(self, executor):
        """
        So that a debugger and a traceback see what a notebook's execution does.
        """
        executor.start(FakeWork(lambda assignment, doing: threading.current_thread().name), print)
        assert executor.submit(1).result() == threading.current_thread().name


def test_make_executor__refuses_a_serial_one_with_a_scheduler():
    """
    One of the two was meant, and we do not guess which.
    """
    with pytest.raises(InputError, match="leave out"):
        make_executor("serial", address="tcp://127.0.0.1:8786")
