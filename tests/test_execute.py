"""The driver: attempts are promoted by their number, retried, and recorded; stores and executors are told apart from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import making
import pytest
from making import code, raw, strict_json, write_notebook

from nbgrid.errors import StoreError
from nbgrid.execute import GridExecutor, new_nonce
from nbgrid.executors import SerialExecutor, WorkerLostError
from nbgrid.plan import make_plan
from nbgrid.states import Attempt, Reason, Run, Task, TaskState
from nbgrid.stores import LocalStore, MemoryStore
from nbgrid.work import NotebookWork, Report, attempt_name, nonce_name

RUN = Run(
    id="r", template="/t.ipynb", output_root="/nowhere", prefix="p", parameters={}, kernel="python3", language="python",
    engine="kernel", started="2026-01-01T00:00:00+00:00",
)  # fmt: skip


def work(run: Run = RUN, template: bytes = b"", **changes: Any) -> NotebookWork:
    whole: dict[str, Any] = {
        "run": run, "template": template, "engine": "kernel", "env": {}, "cell_timeout": None, "startup_timeout": 60.0,
        "memory": None, "workdir": "template", "included": {}, "nonce": new_nonce(), "version": "0",
    }  # fmt: skip
    return NotebookWork(**{**whole, **changes})


def tasks(count: int) -> list[Task]:
    return [
        Task(
            run="r",
            index=index,
            name=f"p-{index}",
            point={"a": index},
            digest=f"d{index}",
            output=f"p/output/{index}.ipynb",
        )
        for index in range(count)
    ]


class Ledger:
    """A recorder that keeps what it was told."""

    def __init__(self) -> None:
        self.saved: list[Task] = []

    def begin_run(self, run: Run, tasks: Sequence[Task]) -> None:
        pass

    def save_task(self, task: Task) -> None:
        self.saved.append(task)

    def end_run(self, run: Run) -> None:
        pass


class Scripted:
    """An executor whose attempts end as a script says, one after another."""

    slots = 2
    description = "a script"

    def __init__(self, script: dict[int, list[Any]]) -> None:
        self.script, self.stopped, self.assigned = script, 0, []

    def start(self, work: Any, on_message: Any) -> None:
        pass

    def submit(self, assignment: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.assigned.append((assignment.index, assignment.attempt))
        step = self.script[assignment.index].pop(0)
        if isinstance(step, BaseException):
            future.set_exception(step)
            return future
        state, content = step
        reason = None if state is TaskState.FINISHED else Reason("exception", "because")
        attempt = Attempt(number=assignment.attempt, state=state, reason=reason)
        future.set_result(Report(assignment.index, attempt, hashlib.sha256(content).hexdigest(), content))
        return future

    def stop(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        pass


def finished(text: bytes = b"good") -> tuple[TaskState, bytes]:
    return TaskState.FINISHED, text


def failed(text: bytes) -> tuple[TaskState, bytes]:
    return TaskState.FAILED, text


def test_a_task_is_finished_only_with_its_notebook_under_the_final_name() -> None:
    """
    When a task is yielded as finished, its notebook is whole under its final name, and no attempt of it is left.
    """
    store, ledger = MemoryStore(), Ledger()
    grid = GridExecutor(work(), Scripted({0: [finished(b"zero")], 1: [finished(b"one")]}), store, ledger)
    for task in grid.execute(tasks(2), retries=0):
        if task.state.is_end:
            assert store.get(task.output) == (b"zero", b"one")[task.index]
    assert list(store.names("p")) == ["p/output/0.ipynb", "p/output/1.ipynb"]
    assert [str(task.state) for task in ledger.saved].count("finished") == 2


def test_attempts_keep_their_numbers_even_when_one_was_lost() -> None:
    """
    A failed attempt's notebook makes room for a later one under its own number, though the one between left none.
    """
    store, ledger = MemoryStore(), Ledger()
    script = {0: [failed(b"first"), WorkerLostError("gone"), failed(b"third"), finished(b"fourth")]}
    ended = list(GridExecutor(work(), Scripted(script), store, ledger).execute(tasks(1), retries=3))
    assert ended[-1].state is TaskState.FINISHED
    assert ended[-1].attempt is not None
    assert ended[-1].attempt.number == 4
    assert store.get("p/output/0.ipynb") == b"fourth"
    assert store.get(attempt_name(RUN, 0, 1)) == b"first"
    assert store.get(attempt_name(RUN, 0, 3)) == b"third"
    assert not store.exists(attempt_name(RUN, 0, 2))
    states = [(task.attempt.number if task.attempt else 0, str(task.state)) for task in ledger.saved]
    assert states == [
        (1, "running"), (1, "failed"), (2, "running"), (2, "lost"), (3, "running"), (3, "failed"), (4, "running"),
        (4, "finished"),
    ]  # fmt: skip


def test_a_retry_waits_behind_the_tasks_that_have_not_begun() -> None:
    """
    A task that fails does not keep the others from their first attempt.
    """
    executor = Scripted({index: [failed(b"x"), failed(b"x")] for index in range(4)})
    executor.slots = 1
    list(GridExecutor(work(), executor, MemoryStore(), Ledger()).execute(tasks(4), retries=1))
    assert executor.assigned == [(index, number) for number in (1, 2) for index in range(4)]


def test_a_notebook_that_is_not_what_the_worker_wrote_is_not_promoted() -> None:
    """
    ST-14: a checksum that does not agree fails the task, and nothing lies under its final name.
    """

    class Lying(MemoryStore):
        def get(self, name: str) -> bytes:
            return super().get(name)[:-1]

    store = Lying()
    (*_, task) = GridExecutor(work(), Scripted({0: [finished()]}), store, Ledger()).execute(tasks(1), retries=0)
    assert task.state is TaskState.FAILED
    assert task.reason is not None
    assert task.reason.kind == "store"
    assert not store.exists(task.output)


def test_a_store_that_refuses_fails_its_task_and_no_other() -> None:
    """
    ST-02: what cannot be kept is told as the store's reason; the run goes on.
    """

    class Full(MemoryStore):
        def put(self, name: str, content: bytes) -> None:
            if content == b"large":
                raise StoreError("no space left")
            super().put(name, content)

    store = Full()
    script = Scripted({0: [finished(b"large")], 1: [finished()]})
    ended = {task.index: task for task in GridExecutor(work(), script, store, Ledger()).execute(tasks(2), retries=0)}
    assert ended[0].state is TaskState.FAILED
    assert ended[0].reason is not None
    assert (ended[0].reason.kind, "no space left" in ended[0].reason.message) == ("store", True)
    assert ended[1].state is TaskState.FINISHED
    assert list(store.names("p")) == ["p/output/1.ipynb"]


def test_what_a_worker_raises_ends_its_task_and_no_other() -> None:
    """
    An error that nobody foresaw on a worker is that task's reason.
    """
    script = Scripted({0: [RuntimeError("odd")], 1: [finished()]})
    ended = {
        task.index: task for task in GridExecutor(work(), script, MemoryStore(), Ledger()).execute(tasks(2), retries=0)
    }
    assert ended[0].reason == Reason("worker", "RuntimeError: odd")
    assert ended[1].state is TaskState.FINISHED


def test_a_recorder_that_fails_stops_the_workers() -> None:
    """
    When the driver cannot go on, what runs is stopped.
    """

    class Broken(Ledger):
        def save_task(self, task: Task) -> None:
            if self.saved:
                raise OSError("gone")
            super().save_task(task)

    executor = Scripted({0: [finished()], 1: [finished()]})
    with pytest.raises(OSError, match="gone"):
        list(GridExecutor(work(), executor, MemoryStore(), Broken()).execute(tasks(2), retries=0))
    assert executor.stopped == 1


def test_a_partial_notebook_stays_an_attempt() -> None:
    """
    The notebook of a task that was aborted is kept, but never under the final name.
    """
    store = MemoryStore()
    script = Scripted({0: [(TaskState.ABORTED, b"part")]})
    (*_, task) = GridExecutor(work(), script, store, Ledger()).execute(tasks(1), retries=5)
    assert task.state is TaskState.ABORTED
    assert list(store.names("p")) == [attempt_name(RUN, 0, 1)]


def test_a_store_that_cannot_be_written_is_found_before_any_worker_is_asked(tmp_path: Path) -> None:
    """
    ST-07: `open` probes the store first.
    """
    (tmp_path / "file").write_text("")
    executor = Scripted({})
    executor.start = lambda *_: pytest.fail("a worker was asked")  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        GridExecutor(work(), executor, LocalStore(tmp_path / "file"), Ledger()).open(lambda _: None)


def test_a_store_that_no_worker_reaches_gets_the_notebooks_whole(place: Path) -> None:
    """
    With a store in the driver's memory, the notebook travels to the driver, valid and with its results, and nothing is left
    on the disk.
    """
    import nbformat

    template = write_notebook(
        place / "template.ipynb", raw("grid:\n  a: [1, 2]\n"), code("# PARAMETERS\na = 0"), code("a * 10", "ten")
    )
    planned = make_plan(template, prefix="p")
    run = Run(**{**RUN.record(), "template": str(template), "output_root": "memory:", "state": RUN.state})
    store = MemoryStore()
    grid = GridExecutor(work(run, planned.template.content), SerialExecutor(), store, Ledger())
    grid.open(lambda _: None)
    assert store.exists(nonce_name(run))
    ended = [task for task in grid.execute(list(planned.tasks("r")), retries=0) if task.state.is_end]
    grid.close()
    assert [str(task.state) for task in ended] == ["finished", "finished"]
    assert not store.exists(nonce_name(run))
    for task in ended:
        content = store.get(task.output)
        nbformat.validate(nbformat.reads(content.decode(), 4))
        record = strict_json(content)
        assert record["metadata"]["nbgrid"]["digest"] == task.digest
        assert record["cells"][-1]["outputs"][0]["data"]["text/plain"] in (
            str(10 * task.point["a"]),
            [str(10 * task.point["a"])],
        )
    assert making.files_below(place) == {"template.ipynb"}
