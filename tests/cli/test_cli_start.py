"""`nbgrid run` and `nbgrid plan`: what they take, what they print, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import making
import pytest
from making import code, nbgrid, raw, simple, strict_json, write_notebook

pytestmark = pytest.mark.usefixtures("place")


def names() -> set[str]:
    return {path.name for path in Path().glob("*/output/*.ipynb")}


# -- plan ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("plan", "simple.ipynb"), ("run", "simple.ipynb", "--dry-run")])
def test_a_plan_shows_the_count_and_the_ends_and_writes_nothing(arguments: tuple[str, ...]) -> None:
    """
    CL-07: the number of tasks, the first and last points and the names of their notebooks; no file, no run, no kernel.
    """
    simple(grid="grid:\n  a: 1..50\n")
    planned = nbgrid(*arguments)
    assert planned.returncode == 0, planned.stderr
    assert "50 tasks over a" in planned.stdout
    for name in ("notebook-a=1-0.ipynb", "notebook-a=3-2.ipynb", "notebook-a=48-47.ipynb", "notebook-a=50-49.ipynb"):
        assert name in planned.stdout
    assert "… 44 more …" in planned.stdout
    assert "notebook-a=4-3.ipynb" not in planned.stdout
    assert making.files_below(".") == {"simple.ipynb"}
    assert strict_json(nbgrid("list", "--json").stdout) == []


def test_a_plan_as_json_holds_the_names_that_a_run_will_use() -> None:
    """
    What `plan --json` names as outputs is what `run` then writes.
    """
    simple()
    planned = strict_json(nbgrid("plan", "simple.ipynb", "--json").stdout)
    assert planned["tasks"] == 3
    assert planned["result_tags"] == ["square"]
    assert nbgrid("run", "simple.ipynb").returncode == 0
    assert {task["output"] for task in planned["first"] + planned["last"]} == {
        f"simple/output/{name}" for name in names()
    }


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("x", "7", "x = 7  (int, fixed)"),
        ("x", "1e5", "x = 100000.0  (float, fixed)"),
        ("x", "true", "x = True  (bool, fixed)"),
        ("x", ".nan", "x = float('nan')  (float, fixed)"),
        ("x", "null", "x = None  (NoneType, fixed)"),
        ("x", " 5 ", "x = 5  (int, fixed)"),
        ("x", "word", "x = 'word'  (str, fixed)"),
        ("x", "٣", "x = '٣'  (str, fixed)"),
        ("x", "[1, a]", "x = [1, 'a']  (list, fixed)"),
        ("x", '"007"', "x = '007'  (str, fixed)"),
        ("x:=", '"5"', "x = '5'  (str, fixed)"),
        ("x:=", "[1, 2.0]", "x = [1, 2.0]  (list, fixed)"),
        ("x", "-3", "x = -3  (int, fixed)"),
    ],
)
def test_a_parameter_is_typed_as_documented_and_shown_with_its_type(
    name: str, text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    CL-01: `-p NAME VALUE` types as YAML 1.2, `-p NAME:= VALUE` as JSON; a dry run shows value and type.
    """
    from nbgrid.cli import main

    write_notebook("fixed.ipynb", code("# PARAMETERS\nx = 0"), code("x", "x"))
    with pytest.raises(SystemExit) as left:
        main(["run", "fixed.ipynb", "--dry-run", "-p", name, text])
    assert left.value.code == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize("text", ["007", "1_000", "yes", "nan", "1:30", "2024-01-01"])
def test_a_parameter_that_could_be_two_things_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    CL-01: what YAML 1.1 would read otherwise is refused, with the way to write it as text; `-r` takes it as text.
    """
    from nbgrid.cli import main

    write_notebook("fixed.ipynb", code("# PARAMETERS\nx = 0"), code("x", "x"))
    with pytest.raises(SystemExit) as left:
        main(["plan", "fixed.ipynb", "-p", "x", text])
    assert left.value.code == 2
    assert f"for the text: -r x '{text}'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["plan", "fixed.ipynb", "-r", "x", text])
    assert left.value.code == 0
    assert f"x = '{text}'  (str, fixed)" in capsys.readouterr().out


def test_later_parameters_win_over_the_file() -> None:
    """
    `-f` comes first, `-p` over it, and `-r` over both, wherever they stand.
    """
    write_notebook("fixed.ipynb", code("# PARAMETERS\nx = y = z = 0\nx = 0\ny = 0\nz = 0"), code("x", "x"))
    Path("values.yaml").write_text("x: 1\ny: 1\nz: 1\n")
    planned = nbgrid(
        "plan", "fixed.ipynb", "-r", "z", "3", "-p", "y", "2", "-p", "z", "2", "-f", "values.yaml", "--json"
    )
    assert strict_json(planned.stdout)["parameters"] == {"x": 1, "y": 2, "z": "3"}


@pytest.mark.parametrize(
    ("spelled", "values"),
    [
        ("a=1..4", [1, 2, 3, 4]), ("a=1..7 step 3", [1, 4, 7]), ("a=[1, 2]", [1, 2]), ("a=1,2.0,x", [1, 2.0, "x"]),
        ("a=5", [5]), ('a="1,5"', ["1,5"]), ('a="1","2"', ["1", "2"]), ("a=[[1], [2]]", [[1], [2]]),
    ],
)  # fmt: skip
def test_a_grid_of_the_command_s_own_replaces_the_notebook_s(
    spelled: str, values: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    `--grid NAME=VALUES` takes ranges, lists, commas and single values, typed; the cell's grid is not used.
    """
    from nbgrid.cli import main

    simple(grid="grid:\n  a: [70, 80]\n")
    with pytest.raises(SystemExit):
        main(["plan", "simple.ipynb", "--grid", spelled, "--json"])
    planned = strict_json(capsys.readouterr().out)
    assert [task["point"]["a"] for task in planned["first"] + planned["last"]] == values


def test_grids_of_several_parameters_are_multiplied() -> None:
    """
    `--grid` given for two parameters is their product.
    """
    write_notebook("two.ipynb", code("# PARAMETERS\na = 0\nb = 0"), code("a + b", "sum"))
    assert (
        strict_json(nbgrid("plan", "two.ipynb", "--grid", "a=1..3", "--grid", "b=x,y", "--json").stdout)["tasks"] == 6
    )


def test_a_list_of_grids_is_their_union_and_runs_as_one() -> None:
    """
    Several grids in one cell are one run: each point once, with one column for each parameter.
    """
    write_notebook(
        "several.ipynb", raw("grid:\n  - a: [1, 2]\n    b: [5]\n  - a: [2, 3]\n    b: [5, 6]\n"),
        code("# PARAMETERS\na = 0\nb = 0"), code("a * b", "product"),
    )  # fmt: skip
    ran = nbgrid("run", "several.ipynb", "--json")
    assert ran.returncode == 0, ran.stderr
    points = [(task["parameters"]["a"], task["parameters"]["b"]) for task in strict_json(ran.stdout)["tasks"]]
    assert sorted(points) == [(1, 5), (2, 5), (2, 6), (3, 5), (3, 6)]
    rows = strict_json(nbgrid("collect", "--json").stdout)
    assert all(row["product"] == row["a"] * row["b"] for row in rows)


# -- what is refused ----------------------------------------------------------------------------------------------------

REFUSED = {
    "GP-11: a parameter that is not there": (["--grid", "b=1..3"], "no parameter 'b'"),
    "a fixed parameter that is not there": (["-p", "aa", "1"], "did you mean 'a'?"),
    "a parameter fixed and in the grid": (["-p", "a", "1"], "a is in the grid and also a fixed parameter"),
    "GP-23: no values": (["--grid", "a=[]"], "0 points"),
    "no value": (["--grid", "a="], "write NAME=VALUES"),
    "no name": (["--grid", "=1"], "write NAME=VALUES"),
    "twice the same": (["--grid", "a=1", "--grid", "a=2"], "given twice"),
    "a range that goes down": (["--grid", "a=5..1"], "goes down"),
    "GP-01: ten thousand million points": (
        ["--grid", "a=1..100001"],
        "100,001 points are more than the limit of 10,000",
    ),
    "too many for --max-points": (["--max-points", "2"], "3 points are more than the limit of 2"),
    "GP-17: a way out of the folder": (["--prefix", "../out"], "--prefix ../out"),
    "ST-09: an absolute prefix": (["--prefix", "/tmp/out"], "--prefix /tmp/out"),
    "ST-09: a home folder": (["--prefix", "~root"], "--prefix ~root"),
    "ST-09: a drive": (["--prefix", "C:x"], "--prefix C:x"),
    "ST-09: an escape": (["--prefix", "%2e%2e"], "--prefix %2e%2e"),
    "an empty prefix": (["--prefix", ""], "a prefix has letters"),
    "a kernel that is not there": (
        ["--kernel", "pyton3"],
        "the kernel 'pyton3' is not installed; did you mean 'python3'?",
    ),
    "an option that is not there": (["--nonsense"], "No such option: --nonsense"),
    "half a pair": (["-p", "a"], "-p takes two words"),
    "a pair in one word": (["-pa"], "-p NAME VALUE"),
    "a parameters file that is not there": (["-f", "no.yaml"], "no.yaml: "),
    "serial and a scheduler": (["--executor", "serial", "--scheduler", "tcp://127.0.0.1:1"], "serial"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    """
    Bad input is refused before anything starts: exit code 2, one line that says what is wrong, and nothing written.
    """
    from nbgrid.cli import main

    arguments, said = REFUSED[case]
    simple()
    with pytest.raises(SystemExit) as left:
        main(["run", "simple.ipynb", *arguments])
    told = capfd.readouterr()
    assert left.value.code == 2
    assert said in told.err
    assert told.err.count("\n") == 1, told.err
    assert told.out == ""
    assert making.files_below(".") == {"simple.ipynb"}


def test_ten_thousand_million_points_are_counted_not_made() -> None:
    """
    GP-01: a grid of 10^10 points is refused with its exact count, with no kernel and no file.
    """
    names = "abcdefghij"
    write_notebook(
        "many.ipynb", raw("grid:\n" + "".join(f"  {name}: 1..10\n" for name in names)),
        code("# PARAMETERS\n" + "\n".join(f"{name} = 0" for name in names)),
    )  # fmt: skip
    for command in ("plan", "run"):
        refused = nbgrid(command, "many.ipynb")
        assert refused.returncode == 2
        assert "10,000,000,000 points" in refused.stderr
        assert "--max-points" in refused.stderr
    assert making.files_below(".") == {"many.ipynb"}


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ("grid: {}", "0 points"),
        ("grid:\n  a: []", "0 points"),
        ("grid:\nn_clusters: [1]", "indent it"),
        ("grid:\n  a: 1..3\ntimout: 3", "did you mean 'timeout'?"),
        ("prefix: ../x\ngrid:\n  a: 1..3", "a prefix has letters"),
        ("grid:\n  a: !!python/object/apply:os.system ['touch hit']", "is not allowed"),
        ("grid:\n  a: [1]\n  a: [2]", "stands on line"),
        ("grid:\n  a: 1..3\nretries: many", "retries"),
    ],
)
def test_a_grid_cell_that_is_wrong_is_told_with_its_place(
    grid: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    GP-23, GP-16: whatever is wrong with the grid cell is exit code 2 and names the notebook and the grid cell.
    """
    from nbgrid.cli import main

    simple(grid=grid)
    with pytest.raises(SystemExit) as left:
        main(["run", "simple.ipynb"])
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert said in told
    assert making.files_below(".") == {"simple.ipynb"}


def test_a_notebook_without_a_grid_says_how_to_give_one() -> None:
    """
    No grid cell and no --grid: the line shows both ways. A grid in a code cell is told of its type.
    """
    write_notebook("plain.ipynb", code("# PARAMETERS\na = 0"))
    told = nbgrid("run", "plain.ipynb").stderr
    assert "raw cell" in told
    assert "--grid" in told
    write_notebook("coded.ipynb", code("grid:\n  a: [1]"), code("# PARAMETERS\na = 0"))
    assert "must be of the type raw" in nbgrid("run", "coded.ipynb").stderr


def test_results_never_go_over_the_template() -> None:
    """
    NB-04: a template that lies where its results would go is refused, and stays as it is.
    """
    template = simple("here/output/simple.ipynb")
    before = template.read_bytes()
    refused = nbgrid("run", str(template), "--prefix", "here")
    assert refused.returncode == 2
    assert "choose another --prefix" in refused.stderr
    assert template.read_bytes() == before


def test_a_notebook_without_a_kernelspec_runs_on_the_default_kernel() -> None:
    """
    NB-02: a notebook that names no kernel runs on python3, and the run says so.
    """
    write_notebook("bare.ipynb", code("# PARAMETERS\na = 0"), code("a", "result"), kernel=None)
    ran = nbgrid("run", "bare.ipynb", "-p", "a", "5", "--json")
    assert ran.returncode == 0, ran.stderr
    assert strict_json(ran.stdout)["kernel"] == "python3"


# -- run ----------------------------------------------------------------------------------------------------------------


def test_run_prints_json_and_nothing_else_on_the_standard_output() -> None:
    """
    `run --json` is one strict JSON document on stdout, NaN and all, with a failed task in it and exit code 1.
    """
    simple("strict.ipynb", "grid:\n  a: [.nan, 2, .inf]\n", code("assert a != 2"))
    ran = nbgrid("run", "strict.ipynb", "--json")
    assert ran.returncode == 1
    told = strict_json(ran.stdout)
    assert [task["parameters"]["a"] for task in told["tasks"]] == [{"$float": "nan"}, 2, {"$float": "inf"}]
    assert [task["status"] for task in told["tasks"]] == ["finished", "failed", "finished"]
    assert told["tasks"][1]["reason"].startswith("cell 3 raised AssertionError")
    for command in (
        ("status", "--json"),
        ("list", "--json"),
        ("collect", "--json"),
        ("inspect", "strict.ipynb", "--json"),
    ):
        strict_json(nbgrid(*command).stdout)
    for path in Path("strict").rglob("*.ipynb"):
        strict_json(path.read_bytes())
    (record,) = Path("strict/.nbgrid").glob("run-*.json")
    strict_json(record.read_bytes())


def test_a_prefix_may_have_folders_and_the_results_go_there() -> None:
    """
    `--prefix a/b` puts the results below both folders of the working directory, wherever the template lies.
    """
    simple("elsewhere/simple.ipynb")
    ran = nbgrid("run", "elsewhere/simple.ipynb", "--prefix", "study/first", "--grid", "a=2")
    assert ran.returncode == 0, ran.stderr
    assert Path("study/first/output/notebook-a=2-0.ipynb").is_file()


def test_running_again_keeps_the_earlier_results_aside() -> None:
    """
    A second run over another grid leaves only its own notebooks under the final names; the first's lie, byte for byte, in
    .nbgrid/replaced/<the first run>, and each run's results are still read as its own.
    """
    simple()
    earlier = strict_json(nbgrid("run", "simple.ipynb", "--json").stdout)["id"]
    first = {path.name: path.read_bytes() for path in Path("simple/output").iterdir()}
    ran = nbgrid("run", "simple.ipynb", "--grid", "a=3,4", "--json")
    assert ran.returncode == 0, ran.stderr
    assert names() == {"notebook-a=3-0.ipynb", "notebook-a=4-1.ipynb"}
    replaced = Path("simple/.nbgrid/replaced", earlier)
    assert {path.name: path.read_bytes() for path in replaced.iterdir()} == first
    assert {row["run"] for row in strict_json(nbgrid("collect", earlier, "--json").stdout)} == {earlier}


@pytest.mark.parametrize(
    "arguments", [["--kernel", "none"], ["--scheduler", "tcp://127.0.0.1:1"], ["--grid", "b=1"], ["--max-points", "1"]]
)
def test_a_run_that_cannot_start_moves_nothing(
    arguments: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whatever keeps a run from starting is found before the earlier results are touched.
    """
    from nbgrid.cli import main
    from nbgrid.executors import _dask

    monkeypatch.setattr(_dask, "_CONNECT_SECONDS", 1.0)
    simple()
    Path("simple/output").mkdir(parents=True)
    Path("simple/output/notebook-a=1-0.ipynb").write_text("earlier")
    with pytest.raises(SystemExit) as left:
        main(["run", "simple.ipynb", *arguments])
    assert left.value.code == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert Path("simple/output/notebook-a=1-0.ipynb").read_text() == "earlier"
    assert not Path("simple/.nbgrid/replaced").exists()


def test_a_bash_notebook_runs_over_a_grid(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    NB-11: a template of another language gets its parameters by papermill's translator, and its results are read.
    """
    pytest.importorskip("bash_kernel")
    import subprocess
    import sys

    prefix = place.parent / "bash"
    subprocess.run(
        [sys.executable, "-m", "bash_kernel.install", "--prefix", str(prefix)], check=True, capture_output=True
    )
    monkeypatch.setenv("JUPYTER_PATH", str(prefix / "share" / "jupyter"))
    write_notebook(
        "shell.ipynb", raw("grid:\n  n: [2, 30]\n"), code("# PARAMETERS\nn=1"), code("echo $((n * 2))", "double"),
        kernel="bash", language="bash",
    )  # fmt: skip
    ran = nbgrid("run", "shell.ipynb")
    assert ran.returncode == 0, ran.stderr
    rows = strict_json(nbgrid("collect", "--json").stdout)
    assert [int(row["double"]) for row in rows] == [4, 60]
