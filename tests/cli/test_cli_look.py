"""`nbgrid status`, `list`, `inspect`, `collect` and `plot`: finding runs again, and reading their results."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import making
import pytest
from making import code, nbgrid, simple, strict_json, write_notebook

from nbgrid import runs
from nbgrid.states import Attempt, Reason, Run, RunState, Task, TaskState


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with one run of three tasks, of which the second failed; a folder beside it without any."""
    base = tmp_path_factory.mktemp("look")
    environment = making.private_environment(base)
    (base / "place").mkdir()
    (base / "elsewhere").mkdir()
    simple(base / "place" / "simple.ipynb", "grid:\n  a: [1, 2, 3]\n", code("assert a != 2, '=odd'"))
    ran = nbgrid("run", "simple.ipynb", cwd=base / "place", env=environment)
    assert ran.returncode == 1, ran.stderr
    return base / "place", environment


def recorded(id: str, folder: str | Path, state: RunState = RunState.FINISHED, **changes: object) -> Run:  # noqa: A002
    """Record a run that was never driven."""
    run = Run(
        id=id, template="/t.ipynb", output_root=str(folder), prefix="p", parameters={}, kernel="python3",
        language="python", engine="kernel", started="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    run = replace(run, **changes)
    task = Task(run=id, index=0, name="p-0", point={"a": 1}, digest="sha256:0", output="p/output/x.ipynb")
    database = runs.open_database()
    database.begin_run(run, [task])
    if state is not RunState.RUNNING:
        task = task.begin()
        ended = {
            RunState.FINISHED: TaskState.FINISHED,
            RunState.ABORTED: TaskState.ABORTED,
            RunState.FAILED: TaskState.FAILED,
        }
        database.save_task(task.end(Attempt(number=1, state=ended[state], reason=Reason("request", "because"))))
        database.end_run(replace(run, state=state))
    database.close()
    return run


# -- status -------------------------------------------------------------------------------------------------------------


def test_status_shows_each_task_and_why_one_failed(looked_at: tuple[Path, dict[str, str]]) -> None:
    """
    The columns begin with taskid, name, runid and status; below stand the reason and the notebook to open. Exit code 1.
    """
    folder, environment = looked_at
    told = nbgrid("status", cwd=folder, env=environment)
    assert told.returncode == 1
    lines = told.stdout.splitlines()
    assert lines[0].split()[:5] == ["taskid", "name", "runid", "status", "a"]
    assert [line.split()[1:4:2] for line in lines[2:5]] == [
        ["simple-0", "finished"], ["simple-1", "failed"], ["simple-2", "finished"]
    ]  # fmt: skip
    assert "simple-1: cell 3 raised AssertionError: =odd" in told.stdout
    assert Path(lines[-1].strip()).is_file()


def test_status_summary_counts(looked_at: tuple[Path, dict[str, str]]) -> None:
    """
    `--summary` is a table of states and counts; with `--json` it is the counts without the tasks.
    """
    folder, environment = looked_at
    told = nbgrid("status", "--summary", cwd=folder, env=environment).stdout
    assert [line.split() for line in told.splitlines()[2:]] == [["finished", "2"], ["failed", "1"]]
    whole = strict_json(nbgrid("status", "--summary", "--json", cwd=folder, env=environment).stdout)
    assert whole["counts"] == {"finished": 2, "failed": 1}
    assert "tasks" not in whole


def test_status_as_json_names_the_seed_s_columns_first(looked_at: tuple[Path, dict[str, str]]) -> None:
    """
    Each task of `status --json` begins with taskid, name, runid and status.
    """
    folder, environment = looked_at
    told = strict_json(nbgrid("status", "--json", cwd=folder, env=environment).stdout)
    assert all(list(task)[:4] == ["taskid", "name", "runid", "status"] for task in told["tasks"])
    assert all(task["taskid"].startswith(told["id"]) for task in told["tasks"])


@pytest.mark.parametrize("name", ["@latest", "latest", "last", "@last"])
def test_latest_is_the_newest_below_this_folder(place: Path, name: str) -> None:
    """
    `@latest` is the newest run whose results lie here or below, though a newer one lies elsewhere.
    """
    recorded("aaaa", place / "below")
    recorded("bbbb", place)
    recorded("cccc", place.parent / "elsewhere")
    with runs_database() as database:
        assert runs.find(name, database).run.id == "bbbb"
        assert runs.find(name, database, cwd=place / "below").run.id == "aaaa"
        assert runs.find(name, database, cwd=place.parent / "nowhere").run.id == "cccc"


def test_status_says_which_run_the_latest_is(looked_at: tuple[Path, dict[str, str]]) -> None:
    """
    Where the name leaves it open, a line on stderr says which run was chosen, and whether it lies elsewhere.
    """
    folder, environment = looked_at
    here = nbgrid("status", "latest", cwd=folder, env=environment).stderr
    assert here.startswith("latest is ")
    assert here.count("\n") == 1
    assert str(folder) in here
    away = nbgrid("status", cwd=folder.parent / "elsewhere", env=environment).stderr
    assert "newest of all" in away


def test_a_run_is_found_by_the_beginning_of_its_id(place: Path) -> None:
    """
    A unique beginning names the run; one that several share is refused with their ids, and a whole id wins over both.
    """
    from nbgrid.errors import RunNotFoundError

    for id in ("abc1", "abc2", "abc", "d"):  # noqa: A001
        recorded(id, place)
    with runs_database() as database:
        assert runs.find("abc1", database).run.id == "abc1"
        assert runs.find("abc", database).run.id == "abc"
        assert runs.find("d", database).run.id == "d"
        with pytest.raises(RunNotFoundError, match=r"ab begins the ids of 3 runs: .*abc2"):
            runs.find("ab", database)
        for wrong in ("zz", "", "%", "ABC1"):
            with pytest.raises(RunNotFoundError):
                runs.find(wrong, database)


@pytest.mark.parametrize("command", ["status", "collect", "plot"])
def test_an_unknown_run_is_one_line_and_exit_code_2(place: Path, command: str) -> None:
    """
    With no runs at all, and with none of that name, the line says what to type next.
    """
    del place
    for name, said in (("@latest", "nbgrid run NOTEBOOK"), ("zzz", "nbgrid")):
        told = nbgrid(command, name)
        assert told.returncode == 2
        assert told.stderr.count("\n") == 1
        assert said in told.stderr


@pytest.mark.parametrize(
    ("state", "code"), [(RunState.FINISHED, 0), (RunState.FAILED, 1), (RunState.ABORTED, 4)]
)  # fmt: skip
def test_status_exits_as_the_run_ended(place: Path, state: RunState, code: int) -> None:
    """
    CL-02: 0 for a finished run, 1 for a failed one, 4 for an aborted one.
    """
    recorded("abc", place, state)
    assert nbgrid("status", "abc").returncode == code
    assert nbgrid("status", "abc", "--summary").returncode == code


def test_a_run_whose_driver_died_is_not_shown_as_running(place: Path) -> None:
    """
    A run that is recorded as running, by a process that is gone, is told as aborted, and its running task as lost.
    """
    import socket

    run = recorded("abc", place, RunState.RUNNING, pid=2**22 + 1, host=socket.gethostname())
    database = runs.open_database()
    task = database.tasks("abc")[0].begin()
    database.save_task(task)
    database.close()
    told = strict_json(nbgrid("status", "abc", "--json").stdout)
    assert told["state"] == "aborted"
    assert told["tasks"][0]["status"] == "lost"
    assert "driver" in told["tasks"][0]["reason"]
    assert strict_json(nbgrid("list", "--json").stdout)[0]["state"] == "aborted"
    assert run.state == "running"


# -- list ---------------------------------------------------------------------------------------------------------------


def test_list_shows_the_newest_first(place: Path) -> None:
    """
    One line a run, the newest on top; without runs, one line that says how to start one.
    """
    assert "nbgrid run NOTEBOOK" in nbgrid("list").stdout
    recorded("aaaa", place)
    recorded("bbbb", place, RunState.FAILED)
    told = nbgrid("list").stdout.splitlines()
    assert [line.split()[0] for line in told[2:]] == ["bbbb", "aaaa"]
    as_json = strict_json(nbgrid("list", "--json").stdout)
    assert [(run["id"], run["state"], run["counts"]) for run in as_json] == [
        ("bbbb", "failed", {"failed": 1}), ("aaaa", "finished", {"finished": 1})
    ]  # fmt: skip


# -- collect ------------------------------------------------------------------------------------------------------------


def test_collect_prints_a_table_with_a_gap_and_its_reason(looked_at: tuple[Path, dict[str, str]]) -> None:
    """
    The failed task leaves a gap in its row; what is missing, and why, is told on stderr.
    """
    folder, environment = looked_at
    told = nbgrid("collect", cwd=folder, env=environment)
    assert told.returncode == 0
    rows = [line.split() for line in told.stdout.splitlines()]
    assert rows[0][:3] == ["a", "square", "state"]
    assert [row[:3] for row in rows[2:5:2]] == [["1", "1", "finished"], ["3", "9", "finished"]]
    assert rows[3][:2] == ["2", "failed"]
    assert "gap: notebook-a=2-1.ipynb" in told.stderr
    assert "raised AssertionError" in told.stderr


def test_collect_writes_csv_json_and_parquet_that_agree(looked_at: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """
    The three formats hold the same rows; parquet needs a file.
    """
    import pandas as pd

    folder, environment = looked_at
    rows = strict_json(nbgrid("collect", "--json", cwd=folder, env=environment).stdout)
    assert [(row["a"], row["square"], row["state"]) for row in rows] == [
        (1, 1, "finished"), (2, None, "failed"), (3, 9, "finished")
    ]  # fmt: skip
    text = nbgrid("collect", "--format", "csv", cwd=folder, env=environment).stdout
    assert [(row["a"], row["square"]) for row in csv.DictReader(io.StringIO(text))] == [
        ("1", "1"),
        ("2", ""),
        ("3", "9"),
    ]
    refused = nbgrid("collect", "--format", "parquet", cwd=folder, env=environment)
    assert refused.returncode == 2
    assert "-o" in refused.stderr
    written = nbgrid("collect", "--format", "parquet", "-o", str(tmp_path / "r.parquet"), cwd=folder, env=environment)
    assert written.returncode == 0, written.stderr
    frame = pd.read_parquet(tmp_path / "r.parquet")
    assert frame["a"].tolist() == [1, 2, 3]
    assert frame["square"].isna().tolist() == [False, True, False]


def test_collect_takes_a_pattern_and_a_folder(looked_at: tuple[Path, dict[str, str]]) -> None:
    """
    Notebooks named by a pattern, or by their folder, need no database.
    """
    folder, environment = looked_at
    environment = {**environment, "NBGRID_DATABASE_URL": "sqlite:////nonexistent/folder/db"}
    for name in ("simple/**/*.ipynb", "simple"):
        rows = strict_json(nbgrid("collect", name, "--json", cwd=folder, env=environment).stdout)
        assert [row["a"] for row in rows] == [1, 2, 3]
    refused = nbgrid("collect", "none/*.ipynb", cwd=folder, env=environment)
    assert refused.returncode == 2
    assert refused.stderr == "nbgrid: no notebook matches none/*.ipynb\n"


def test_collect_into_a_file_that_cannot_be_written_is_exit_code_3(looked_at: tuple[Path, dict[str, str]]) -> None:
    """
    CL-02: what the store or the disk refuses is exit code 3, and one line.
    """
    folder, environment = looked_at
    for format in ("csv", "parquet"):  # noqa: A001
        refused = nbgrid("collect", "--format", format, "-o", "no/such/folder/r", cwd=folder, env=environment)
        assert refused.returncode == 3
        assert refused.stderr.splitlines()[-1].startswith("nbgrid: no/such/folder/r: ")


def test_a_spreadsheet_finds_no_formula_in_a_csv(place: Path) -> None:
    """
    Text that a spreadsheet would run is made inert in CSV; numbers, negative ones too, are left as they are.
    """
    write_notebook(
        place / "done.ipynb", code("# PARAMETERS\na = 0"),
        {**code("x", "text"), "execution_count": 1, "outputs": [
            {"output_type": "execute_result", "execution_count": 1, "metadata": {},
             "data": {"text/plain": "'=cmd|calc!A1'"}}]},
        {**code("y", "number"), "execution_count": 2, "outputs": [
            {"output_type": "execute_result", "execution_count": 2, "metadata": {}, "data": {"text/plain": "-5"}}]},
    )  # fmt: skip
    (row,) = csv.DictReader(io.StringIO(nbgrid("collect", "done.ipynb", "--format", "csv").stdout))
    assert row["text"] == "'=cmd|calc!A1"
    assert row["number"] == "-5"


# -- plot ---------------------------------------------------------------------------------------------------------------


def test_plot_draws_and_refuses_with_what_there_is(looked_at: tuple[Path, dict[str, str]]) -> None:
    """
    `plot` prints the path of the picture that it drew; a tag that is not there is refused with those that are.
    """
    folder, environment = looked_at
    drawn = nbgrid("plot", "--x", "a", "--y", "square", cwd=folder, env=environment)
    assert drawn.returncode == 0, drawn.stderr
    picture = Path(drawn.stdout.strip())
    assert picture == folder / "simple" / "elbow.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = nbgrid("plot", "--x", "a", "--y", "sqare", cwd=folder, env=environment)
    assert refused.returncode == 2
    assert "did you mean 'square'?" in refused.stderr
    assert nbgrid("plot", "--name", "../out.png", cwd=folder, env=environment).returncode == 2


# -- inspect ------------------------------------------------------------------------------------------------------------


def test_inspect_shows_a_template_and_an_executed_notebook(looked_at: tuple[Path, dict[str, str]]) -> None:
    """
    Of a template: grid, defaults, result tags. Of an executed notebook: run, state, parameters, results.
    """
    folder, environment = looked_at
    template = strict_json(nbgrid("inspect", "simple.ipynb", "--json", cwd=folder, env=environment).stdout)
    assert template["grid"] == {"a": [1, 2, 3]}
    assert template["parameters"] == {"a": "0"}
    assert template["result_tags"] == ["square"]
    name = "simple/output/notebook-a=3-2.ipynb"
    executed = strict_json(nbgrid("inspect", name, "--json", cwd=folder, env=environment).stdout)
    assert executed["state"] == "finished"
    assert executed["parameters"] == {"a": "3"}
    assert executed["results"] == {"square": "9"}
    assert nbgrid("inspect", "nothing.ipynb", cwd=folder, env=environment).returncode == 2


def test_tables_fit_an_eighty_column_terminal(looked_at: tuple[Path, dict[str, str]], place: Path) -> None:
    """
    On a terminal of 80 columns a table of long and wide text takes no more than these; numbers stay whole.
    """
    write_notebook(
        place / "long.ipynb", code("# PARAMETERS\na = 0"),
        *({**code("x", tag), "execution_count": 1, "outputs": [
            {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {"text/plain": text}}]}
          for tag, text in (("first", repr("x" * 90)), ("second", repr("漢" * 50)), ("number", "123456789"))),
    )  # fmt: skip
    told = on_a_terminal([making.COMMAND, "collect", "long.ipynb"], columns=80)
    lines = told.replace("\r", "").strip().splitlines()
    wide = {line: sum(2 if character == "漢" else 1 for character in line) for line in lines}
    assert max(wide.values()) <= 80, wide
    assert "123456789" in told
    assert "…" in told
    del looked_at


def on_a_terminal(command: list[str], *, columns: int) -> str:
    """Run *command* on a pseudo-terminal and return all that it printed."""
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "24", "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    told = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:
            break
        if not read:
            break
        told += read
    os.close(ours)
    process.wait(making.PATIENCE)
    return told.decode()


class runs_database:
    def __enter__(self) -> runs.Database:
        self.database = runs.open_database()
        return self.database

    def __exit__(self, *_: object) -> None:
        self.database.close()
