"""The shared prefix: which cells it is, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from making import code, markdown, notebook_content, raw, simple, strict_json

import nbgrid
from nbgrid.errors import TemplateError
from nbgrid.plan import make_plan
from nbgrid.shared import shared_cells
from nbgrid.source import leading_imports, names
from nbgrid.states import TaskState


def shared(*cells: dict[str, Any], language: str = "python") -> tuple[int, ...]:
    """Return the shared prefix of a notebook of *cells*."""
    return shared_cells(json.loads(notebook_content(*cells, language=language)), "t.ipynb")


PARAMETERS = code("# PARAMETERS\nk = 1\nhalf = k / 2", "parameters")


def test_the_prefix_is_all_shared_cells_and_the_imports_above_the_last() -> None:
    """
    Markdown and the parameters cell may stand between; empty cells and imports below are no part of it.
    """
    cells = (
        raw("grid: {k: [1]}"), code("import os"), markdown("# text"), PARAMETERS, code("x = 1", "shared"), code(""),
        code("%matplotlib inline\nimport math"), code("y = math.pi", "shared", "result"), code("import wave"), code("k"),
    )  # fmt: skip
    assert shared(*cells) == (1, 4, 6, 7)
    assert shared(*cells[:4]) == ()


def test_another_language_shares_nothing() -> None:
    """
    The tag means something for Python only.
    """
    assert shared(code("x <- 1", "shared"), language="R") == ()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("x = k + 1", "k"), ("k = 3", "k"), ("def f():\n    return half", "half"), ("import k", "k"), ("!echo {k}", "k"),
        ("%time y = k", "k"), ("[k for z in range(3)]", "k"), ("for k in range(3): pass", "k"), ("print(f'{k}')", "k"),
        ("class A:\n    size = k", "k"), ("global k", "k"), ("del k", "k"), ("async def g(): return await k", "k"),
    ],
)  # fmt: skip
def test_a_shared_cell_that_has_to_do_with_a_parameter_is_refused(source: str, name: str) -> None:
    """
    Whether it reads or binds it, in a function or in a magic; names that the parameters cell derives are parameters too.
    """
    with pytest.raises(
        TemplateError, match=rf"t\.ipynb: cell 1 is executed once for all tasks, but has to do with {name}, "
    ):
        shared(code(source, "shared"), PARAMETERS)


@pytest.mark.parametrize(
    "source",
    ["def fit(k):\n    return k", "KMeans(k=2)", "lambda k: k", "x.k = 1", "'k'", "[k for k in range(3)]",
     "class A:\n    def f(self, k): return k"],
)  # fmt: skip
def test_a_name_that_is_local_or_no_name_is_no_parameter(source: str) -> None:
    """
    Arguments, keywords, attributes, strings and what a comprehension binds are their own affair.
    """
    assert shared(code(source, "shared"), PARAMETERS) == (0,)


def test_what_stands_above_a_shared_cell_is_shared_too_or_refused() -> None:
    """
    A cell that does something, and would do it after the shared cell, is refused with its number.
    """
    with pytest.raises(TemplateError, match="cell 2 stands above the shared cell 3, and neither is it tagged `shared`"):
        shared(PARAMETERS, code("import os\nos.chdir('/')"), code("x = 1", "shared"))


def test_the_plan_refuses_it_before_anything_starts(place: Path) -> None:
    """
    With the grid's parameters, whether the parameters cell assigns them plainly or not.
    """
    simple("bad.ipynb", "grid:\n  a: [1, 2]\n", code("b = a", "shared"))
    with pytest.raises(TemplateError, match="cell 3 is executed once for all tasks, but has to do with a,"):
        make_plan("bad.ipynb")
    simple("good.ipynb", "grid:\n  a: [1, 2]\n", code("b = 1", "shared"))
    assert make_plan("good.ipynb").sharing.cells == (2,)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a\nfrom b.c import d as e, f", (["import a", "from b.c import d as e, f"], True)),
        ("'''What it does.'''\nimport a  # why\n%matplotlib inline\n%load_ext autoreload", (["import a"], True)),
        ("%%time\nimport a", (["import a"], True)),
        ("import a\na.use('x')\nimport b", (["import a"], False)),
        ("try:\n    import a\nexcept ImportError:\n    pass", ([], False)),
        ("%run other.py\nimport a", ([], False)),
        ("# nothing", ([], True)),
        ("if", ([], False)),
    ],
)
def test_leading_imports__are_those_that_nothing_precedes(source: str, expected: tuple[list[str], bool]) -> None:
    """
    Docstrings, comments and magics for display do not count; whatever else comes first ends them.
    """
    assert leading_imports(source) == expected


def test_names__of_what_is_no_python_are_all_its_words() -> None:
    """
    So that nothing can hide in a magic.
    """
    assert names("%%bash\necho $size") >= {"echo", "size"}
    assert names("if size") >= {"size"}


# -- in a run -----------------------------------------------------------------------------------------------------------


def test_a_run_executes_a_shared_cell_once(place: Path) -> None:
    """
    One process has executed it, each task is another, every notebook has its output, and the record says how they ran.
    """
    simple(
        "t.ipynb", "grid:\n  a: [1, 2, 3]\n", code("import os\nfirst = os.getpid()\nprint('loaded')", "shared"),
        code("first", "first"), code("os.getpid()", "own"),
    )  # fmt: skip
    frame = nbgrid.run("t.ipynb", workers=2).wait().collection().to_frame()
    assert frame["square"].tolist() == [1, 4, 9]
    assert frame["first"].nunique() == 1
    assert frame["own"].nunique() == 3
    for path in Path("t/output").iterdir():
        executed = strict_json(path.read_bytes())
        assert executed["metadata"]["nbgrid"]["engine"] == "fork"
        assert executed["cells"][2]["outputs"][0]["text"] == ["loaded\n"]


def test_a_shared_cell_that_fails_ends_the_run(place: Path) -> None:
    """
    The task that met it failed with the traceback, and those that had not begun are aborted with the reason.
    """
    simple("t.ipynb", "grid:\n  a: 1..6\n", code("{}['none']", "shared"))
    handle = nbgrid.run("t.ipynb", workers=1).wait()
    states = [task.state for task in handle.tasks]
    assert states == [TaskState.FAILED, *[TaskState.ABORTED] * 5]
    assert str(handle.tasks[0].reason) == "cell 3, which is executed once for all tasks, raised KeyError: 'none'"
    assert str(handle.tasks[1].reason) == f"not begun: {handle.tasks[0].reason}"


def test_a_run_says_once_why_kernels_were_not_forked(place: Path) -> None:
    """
    The tasks finish, in kernels of their own, and one note tells the reason.
    """
    thread = (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True, name='clock').start()"
    )
    simple("t.ipynb", "grid:\n  a: [1, 2]\n", code(thread, "shared"))
    handle = nbgrid.run("t.ipynb", workers=1).wait()
    assert [task.state for task in handle.tasks] == [TaskState.FINISHED] * 2
    assert [note for note in handle.notes if "fork" in note] == [
        "some kernels were not forked: clock is a thread that a fork would end"
    ]
    engines = [strict_json(path.read_bytes())["metadata"]["nbgrid"]["engine"] for path in Path("t/output").iterdir()]
    assert engines == ["kernel"] * 2


def test_the_kernel_engine_takes_shared_cells_for_ordinary_ones(place: Path) -> None:
    """
    Each task executes them itself, and the results are the same.
    """
    simple("t.ipynb", "grid:\n  a: [1, 2]\n", code("import os\nfirst = os.getpid()", "shared"), code("first", "first"))
    frame = nbgrid.run("t.ipynb", workers=2, engine="kernel").wait().collection().to_frame()
    assert frame["square"].tolist() == [1, 4]
    assert frame["first"].nunique() == 2


def test_a_run_that_shares_what_it_can_gives_the_same(place: Path) -> None:
    """
    A cell below the parameters cell is executed once, the plan says so, and a task executed from scratch agrees.
    """
    simple(
        "t.ipynb", "grid:\n  a: [1, 2, 3]\n", code("import os"), code("first = [1] * 3"), code("len(first) * a", "size"),
        code("own = os.getpid()"),
    )  # fmt: skip
    planned = make_plan("t.ipynb", share="auto").sharing
    assert planned.cells == planned.found == (2, 3)
    assert planned.reasons[5].startswith("uses os.getpid, which differs from process to process")
    handle = nbgrid.run("t.ipynb", share="auto", workers=2, verify=1).wait()
    assert handle.collection().to_frame()["size"].tolist() == [3, 6, 9]
    assert [note for note in handle.notes if "size" in note] == handle.notes
    started = {
        strict_json(path.read_bytes())["cells"][3]["metadata"]["papermill"]["start_time"]
        for path in Path("t/output").iterdir()
    }
    assert len(started) == 1


def test_a_run_says_which_cells_were_not_shared_after_all(place: Path) -> None:
    """
    Once, among its notes; every task has drawn its own.
    """
    (place / "helper.py").write_text("import random\n\ndef draw():\n    return random.random()\n")
    simple("t.ipynb", "grid:\n  a: [1, 2, 3]\n", code("from helper import draw\nx = draw()"), code("x", "drawn"))
    handle = nbgrid.run("t.ipynb", share="auto", workers=2).wait()
    assert handle.collection().to_frame()["drawn"].nunique() == 3
    (note,) = handle.notes
    assert note.startswith(
        "cell 3 was not shared, nor what could be below it: it draws random numbers from random's global"
    )
