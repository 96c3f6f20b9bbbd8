"""Planning: what a run will do, decided before anything starts."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import making
import pytest
from making import code, notebook_content, raw, simple

from nbgrid.errors import GridError, InputError, PreflightError
from nbgrid.grid import Grid
from nbgrid.options import Resources
from nbgrid.plan import make_plan, slots_and_threads
from nbgrid.template import Template

pytestmark = pytest.mark.usefixtures("place")


def test_a_plan_names_every_task_as_the_seed_does() -> None:
    """
    Names, indices and output names follow the grid's order, from 0.
    """
    tasks = list(make_plan(simple("elbow-curve.ipynb", "grid:\n  a: 1..20\n")).tasks("r"))
    assert [task.index for task in tasks] == list(range(20))
    assert tasks[10].name == "elbow-curve-10"
    assert tasks[18].output == "elbow-curve/output/notebook-a=19-18.ipynb"
    assert len({task.digest for task in tasks}) == 20


def test_planning_writes_nothing() -> None:
    """
    A plan leaves the folder as it was.
    """
    template = simple()
    make_plan(template)
    assert making.files_below(".") == {template.name}


def test_ten_thousand_million_points_take_no_time_and_no_memory() -> None:
    """
    GP-01: 10^10 points are counted at once and refused with the count; the same grid is planned where it is allowed.
    """
    names = "abcdefghij"
    template = Template.parse(
        notebook_content(code("# PARAMETERS\n" + "\n".join(f"{name} = 0" for name in names))), "t.ipynb"
    )
    grid = {name: list(range(10)) for name in names}
    make_plan(template, grid={"a": [1]})  # what is imported once is not counted
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(GridError, match=r"10,000,000,000 points .*--max-points"):
        make_plan(template, grid=grid)
    planned = make_plan(template, grid=grid, max_points=10**11)
    first, last = planned.first_and_last()
    assert time.process_time() - began < 5
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert planned.count == 10**10
    assert len(first) == 3
    assert last == []


def test_the_ends_of_a_plan_overlap_for_no_grid() -> None:
    """
    The first and the last tasks shown are never the same, however few there are.
    """
    template = simple()
    for count in range(1, 9):
        first, last = make_plan(template, grid={"a": list(range(count))}).first_and_last()
        shown = [task.index for task in first + last]
        assert shown == sorted(set(shown))
        assert len(shown) == min(count, 6)
        assert shown[-1] == count - 1


def test_the_grid_given_replaces_the_cell_s_exclusions_too() -> None:
    """
    What the cell excludes and samples belongs to its own grid.
    """
    template = simple(grid="grid:\n  a: 1..10\nexclude:\n  - {a: 3}\nsample: {n: 4, seed: 0}\n")
    assert make_plan(template).count == 4
    assert make_plan(template, grid={"a": [3]}).count == 1
    assert make_plan(template, grid=Grid({"a": [1, 2]})).count == 2


def test_a_missing_kernel_is_a_problem_of_the_plan_and_no_error() -> None:
    """
    A plan can be looked at on a machine that lacks the kernel; the problem names those that there are.
    """
    planned = make_plan(simple(), kernel="python4")
    assert planned.kernel == "python4"
    (problem,) = planned.problems
    assert "python3" in problem
    assert "--kernel" in problem


def test_missing_packages_are_one_problem_with_their_pip_install() -> None:
    """
    Each package that the kernel lacks stands in one line with the names that pip knows.
    """
    template = simple(
        "simple.ipynb", "grid:\n  a: [1]\n", code("import no_such_package, json\nfrom other_missing import x")
    )
    (problem,) = make_plan(template).problems
    assert "pip install no-such-package other-missing" in problem
    beside = Path("no_such_package.py")
    beside.write_text("")
    Path("other_missing").mkdir()
    Path("other_missing/__init__.py").write_text("")
    assert make_plan(template).problems == ()


def test_imports_that_may_fail_are_no_problem() -> None:
    """
    An import in a try, or of a notebook that installs packages itself, is not looked up.
    """
    tried = simple(
        "a.ipynb", "grid:\n  a: [1]\n", code("try:\n    import no_such_package\nexcept ImportError:\n    pass")
    )
    installs = simple("b.ipynb", "grid:\n  a: [1]\n", code("%pip install no-such-package\nimport no_such_package"))
    assert make_plan(tried).problems == make_plan(installs).problems == ()


@pytest.mark.parametrize(
    "prefix",
    [
        "..",
        "a/../b",
        "/a",
        "~",
        "~root",
        "a//b",
        "",
        ".",
        "C:\\x",
        "a\\b",
        "a\0b",
        "%2e%2e",
        "a/.",
        ".hidden",
        "x" * 101,
        "a\nb",
        "-",
    ],
)
def test_a_prefix_never_leads_out_of_the_output_root(prefix: str) -> None:
    """
    ST-09: whatever could leave the output root, on any system, is refused.
    """
    template = simple()
    try:
        planned = make_plan(template, prefix=prefix)
    except InputError:
        return
    assert (planned.output_root / planned.prefix).resolve().parent == planned.output_root.resolve()
    assert prefix == "-"


def test_no_point_s_name_leads_out_of_its_folder() -> None:
    """
    GP-17, ST-09: values that look like paths, templates or nothing at all become names of files in the output folder, each
    its own.
    """
    hostile = ["../../etc/x", "/abs", "~", "C:\\x", "a\0b", "%2e%2e", ".", "..", "", "{a.__class__}", "a/b", "a_b", "A", "a",
               "NUL", "x" * 300, "\n", "漢", " "]  # fmt: skip
    tasks = list(make_plan(simple(), grid={"a": hostile}).tasks("r"))
    names = [Path(task.output) for task in tasks]
    assert all(name.parent == Path("simple/output") for name in names)
    assert all(len(name.name.encode()) < 255 and name.name.startswith("notebook-a=") for name in names)
    assert len({str(name).lower() for name in names}) == len(hostile)


def test_slots_and_threads_stay_within_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As many tasks as fit, each with its share of the cores; a task that fits nowhere is refused with what there is.
    """
    from nbgrid import plan

    monkeypatch.setattr(plan, "_cores", lambda: 8)
    monkeypatch.setattr(plan, "_memory", lambda: 16 * 10**9)
    assert slots_and_threads(Resources(), None) == (8, 1)
    assert slots_and_threads(Resources(), 2) == (2, 4)
    assert slots_and_threads(Resources(cpus=3), None) == (2, 3)
    assert slots_and_threads(Resources(memory="5GB"), None)[0] == 3
    assert slots_and_threads(Resources(cpus=8), None) == (1, 8)
    with pytest.raises(PreflightError, match=r"9 cpus .* has 8"):
        slots_and_threads(Resources(cpus=9), None)
    with pytest.raises(PreflightError, match=r"20\.0 GB .* has 16\.0 GB"):
        slots_and_threads(Resources(memory="20GB"), None)


def test_a_template_without_a_grid_is_one_task_with_fixed_parameters() -> None:
    """
    Fixed parameters alone make a run of one task; without these, the error shows how a grid is written.
    """
    template = making.write_notebook("plain.ipynb", code("# PARAMETERS\na = 0"))
    planned = make_plan(template, parameters={"a": 3})
    assert planned.count == 1
    (task,) = planned.tasks("r")
    assert task.output == "plain/output/notebook-0.ipynb"
    with pytest.raises(InputError, match="--grid n_clusters"):
        make_plan(template)


def test_points_that_a_language_cannot_write_are_found_when_planning() -> None:
    """
    NB-11: a value that the notebook's language has no way to write is refused before anything starts.
    """
    template = making.write_notebook(
        "other.ipynb", raw("grid:\n  a: [1]\n"), code("# PARAMETERS\na = 1"), kernel="brainfuck", language="brainfuck"
    )
    with pytest.raises(InputError, match="brainfuck"):
        make_plan(template)
