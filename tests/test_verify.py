"""`verify`: tasks executed again from scratch, and their results compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from making import code, files_below, nbgrid, simple

import nbgrid as library
from nbgrid.states import Task, TaskState
from nbgrid.verify import chosen


def test_results_that_are_the_same_and_those_that_differ_are_told(place: Path) -> None:
    """
    Each note names the task, the tags that agree, and what the others were and are; what was kept is not touched.
    """
    simple(
        "t.ipynb", "grid:\n  a: 1..4\n", code("import os", "shared"), code("os.getpid()", "pid"),
        code("import numpy as np\nnp.arange(3)", "array"), code("float('nan')", "nothing"),
    )  # fmt: skip
    handle = library.run("t.ipynb", workers=2, verify=2).wait()
    notes = [note for note in handle.notes if "from scratch" in note]
    assert [note.split()[0] for note in notes] == ["t-1", "t-3"]
    for note in notes:
        assert "again from scratch: array, nothing, square the same; pid was " in note
    assert {name for name in files_below("t") if name.startswith("output/")} == {
        f"output/notebook-a={index + 1}-{index}.ipynb" for index in range(4)
    }


def test_a_task_that_does_not_finish_again_is_told(place: Path) -> None:
    """
    A notebook that works once only is found out.
    """
    once = "from pathlib import Path\nassert not Path(f'seen-{a}').exists()\nPath(f'seen-{a}').touch()"
    simple("t.ipynb", "grid:\n  a: [1, 2]\n", code(once))
    told = nbgrid("run", "t.ipynb", "--verify", "1")
    assert told.returncode == 0
    assert (
        "t-1 did not finish when it was executed again from scratch: cell 3 raised AssertionError"
        in told.stdout + told.stderr
    )


@pytest.mark.parametrize(("count", "names"), [(0, ""), (1, "2"), (2, "13"), (4, "0123"), (9, "0123")])
def test_tasks_are_chosen_all_over_the_grid(count: int, names: str) -> None:
    """
    As many as asked, of those that finished, evenly spread.
    """
    tasks = [
        Task(run="r", index=i, name=str(i), point={}, digest="", output="", state=TaskState.FINISHED) for i in range(4)
    ]
    unfinished = Task(run="r", index=4, name="4", point={}, digest="", output="")
    assert [task.name for task in chosen([*tasks, unfinished], count)] == [*names]
