"""Runs, tasks and attempts: the legal moves, and the names of what they leave."""

from __future__ import annotations

import json
import ntpath
import posixpath
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from making import strict_json

from nbgrid.errors import IllegalMoveError
from nbgrid.states import Attempt, Reason, Run, RunState, Task, TaskState, output_name, run_state, slug

ENDS = [state for state in TaskState if state.is_end]
LEGAL = {
    ("pending", "running"), ("pending", "aborted"),
    *(("running", end) for end in ("finished", "failed", "timed_out", "killed", "aborted", "lost")),
    *((end, "running") for end in ("finished", "failed", "timed_out", "killed", "aborted", "lost")),
}  # fmt: skip
"""As the drawing has it; from an end a new attempt passes pending on its way."""


def task(state: TaskState = TaskState.PENDING, number: int | None = None) -> Task:
    attempt = None if number is None else Attempt(number=number, state=state)
    return Task(
        run="r1",
        index=3,
        name="p-3",
        point={"n": 1},
        digest="sha256:0",
        output="p/output/x.ipynb",
        state=state,
        attempt=attempt,
    )


def move(one: Task, to: TaskState) -> Task:
    """Ask for *to* in the one way there is."""
    if to is TaskState.RUNNING:
        return one.begin()
    if to is TaskState.ABORTED and one.state is TaskState.PENDING:
        return one.abort(Reason("request", "aborted"))
    return one.end(Attempt(number=one.attempt.number if one.attempt else 1, state=to))


@pytest.mark.parametrize(("before", "after"), list(product(TaskState, TaskState)))
def test_exactly_the_moves_of_the_drawing_are_legal(before: TaskState, after: TaskState) -> None:
    """
    Each state can become those that the drawing leads to, and asking for another is an error that names both.
    """
    one = task(before, None if before is TaskState.PENDING else 1)
    if (before, after) in LEGAL:
        assert move(one, after).state is after
    else:
        with pytest.raises(IllegalMoveError, match=r"task p-3"):
            move(one, after)
    assert one.state is before


class Life(RuleBasedStateMachine):
    """A task's life under any sequence of what a driver may ask, beside a model of what should come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.task = task()
        self.state, self.attempts = "pending", 0
        self.stale: list[Attempt] = []

    @precondition(lambda self: self.state not in {"running"})
    @rule()
    def begin(self) -> None:
        self.task = self.task.begin()
        self.state, self.attempts = "running", self.attempts + 1

    @precondition(lambda self: self.state == "running")
    @rule()
    def begin_again(self) -> None:
        with pytest.raises(IllegalMoveError):
            self.task.begin()

    @precondition(lambda self: self.state == "running")
    @rule(end=st.sampled_from(ENDS), seconds=st.floats(0, 9))
    def end(self, end: TaskState, seconds: float) -> None:
        report = Attempt(number=self.attempts, state=end, seconds=seconds)
        self.task = self.task.end(report)
        assert self.task.attempt is report
        self.state = end.value
        self.stale.append(report)

    @rule(data=st.data())
    def report_of_an_earlier_attempt(self, data: st.DataObject) -> None:
        stale = data.draw(st.sampled_from(self.stale)) if self.stale else Attempt(number=7, state=TaskState.FINISHED)
        with pytest.raises(IllegalMoveError):
            self.task.end(stale)

    @rule(state=st.sampled_from([TaskState.PENDING, TaskState.RUNNING]))
    def report_of_no_end(self, state: TaskState) -> None:
        with pytest.raises(IllegalMoveError):
            self.task.end(Attempt(number=self.attempts, state=state))

    @rule()
    def abort(self) -> None:
        if self.state == "pending":
            self.task = self.task.abort(Reason("request", "aborted before it began"))
            self.state = "aborted"
            assert self.task.reason is not None
        else:
            with pytest.raises(IllegalMoveError):
                self.task.abort(Reason("request", "too late"))

    @invariant()
    def the_task_is_what_the_model_says(self) -> None:
        assert self.task.state == self.state
        assert (self.task.attempt.number if self.task.attempt else 0) == self.attempts
        assert self.task.attempt is None or self.task.attempt.state is self.task.state
        assert (self.task.index, self.task.point, self.task.digest) == (3, {"n": 1}, "sha256:0")

    @invariant()
    def the_run_follows(self) -> None:
        expected = {"pending": "running", "running": "running", "finished": "finished", "aborted": "aborted"}
        assert run_state([self.task.state]) == expected.get(self.state, "failed")


test_a_task_makes_only_legal_moves = Life.TestCase
test_a_task_makes_only_legal_moves.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@given(st.lists(st.sampled_from(TaskState)))
def test_a_run_s_state_follows_from_its_tasks(states: list[TaskState]) -> None:
    """
    Running while a task may still move; then aborted if one was, finished only if all are, else failed.
    """
    found = run_state(states)
    if any(not state.is_end for state in states):
        assert found is RunState.RUNNING
    elif TaskState.ABORTED in states:
        assert found is RunState.ABORTED
    elif set(states) <= {TaskState.FINISHED}:
        assert found is RunState.FINISHED
    else:
        assert found is RunState.FAILED
    assert run_state(reversed(states)) is found


def test_attempts_have_names_of_their_own() -> None:
    """
    Two attempts never share a file.
    """
    first = task().begin()
    second = replace(first, state=TaskState.FAILED).begin()
    assert (first.attempt_name, second.attempt_name) == ("r1-3-1.ipynb", "r1-3-2.ipynb")
    assert first.id == second.id == "r1-3"


def test_a_run_is_recorded_in_strict_json() -> None:
    """
    GP-10: NaN among the fixed parameters does not reach the record bare.
    """
    run = Run(id="r", template="/a.ipynb", output_root="/", prefix="p", parameters={"x": float("nan")}, kernel="python3",
              language="python", engine="fork", started="2026-01-01T00:00:00Z")  # fmt: skip
    record = strict_json(json.dumps(run.record()))
    assert record["parameters"] == {"x": {"$float": "nan"}} and record["state"] == "running"


# -- names --------------------------------------------------------------------------------------------------------------


def test_names_are_the_seed_s() -> None:
    """
    A finished notebook of the seed's grid is called what the seed calls it.
    """
    name = output_name("elbow-curve", {"n_clusters": 19}, 18)
    assert name == "elbow-curve/output/notebook-n_clusters=19-18.ipynb"
    assert output_name("p", {}, 0) == "p/output/notebook-0.ipynb"
    assert output_name("p", {"a": -0.5, "b": "k-means"}, 1) == "p/output/notebook-a=-0.5-b=k-means-1.ipynb"


COLLIDING = ["a/b", "a_b", "a\\b", "a:b", "a b", "A", "a", 1, "1", 1.0, "1.0", True, "True", None, "None", "", " ", "é",
             "e\u0301", "x" * 300, "x" * 301, [1], "[1]", float("nan"), "nan", ".", "..", "con", "a.", "a~"]  # fmt: skip


def test_points_whose_values_look_alike_have_distinct_names() -> None:
    """
    GP-18: values that clean to the same text, or differ in case or type alone, give names that no file system confuses.
    """
    names = [output_name("p", {"k": value}, index) for index, value in enumerate(COLLIDING)]
    assert len({name.casefold() for name in names}) == len(COLLIDING)
    cleaned = [slug(value) for value in ("a/b", "a_b", "a:b", "a b", "a\\b")]
    assert len(set(cleaned)) == 5 and cleaned[1] == "a_b"


NAMES = st.text(st.characters(categories=["Ll", "Lo"]), min_size=1, max_size=60).filter(str.isidentifier)
VALUES: Any = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=3)
HOSTILE = st.sampled_from(["../../etc/x", "{a.__class__}", "{a!r:>99999999}", "{0}", "{", "/etc/passwd", "a\0b", "~", "%2e%2e",
                           "C:\\x", "a\nb", "\ud800", "CON", "$(id)", "`id`", "x" * 5000])  # fmt: skip


@given(st.dictionaries(NAMES, VALUES | HOSTILE, max_size=5), st.integers(0, 10**9))
def test_every_name_is_one_file_in_the_output_folder(point: dict[str, Any], index: int) -> None:
    """
    GP-17: whatever the values, the name stays in the output folder, is safe on every file system, and is not too long.
    """
    name = output_name("p", point, index)
    folder, _, file = name.rpartition("/")
    assert folder == "p/output" and file.startswith("notebook-") and file.endswith(f"{index}.ipynb")
    assert not set(file) & set('/\\:*?"<>|\0\n\r\t{}$` ') and len(file.encode()) <= 200
    assert posixpath.normpath(f"/root/{name}") == f"/root/{name}" and ntpath.splitdrive(file)[0] == ""
    assert output_name("p", dict(point), index) == name


@given(VALUES | HOSTILE)
def test_a_slug_is_short_and_plain(value: Any) -> None:
    """
    ST-09: a value in a file name has letters of ASCII, digits and - + _ . ~ alone.
    """
    text = slug(value)
    assert text.isascii() and 0 < len(text) <= 40 and all(char.isalnum() or char in "-+_.~" for char in text)
    assert not text.startswith(".") and not text.endswith(".")
