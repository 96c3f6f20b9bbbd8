"""How the command ends: exit codes, errors in one line, closed pipes, Ctrl-C, and a second run on a live one."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import making
import psutil
import pytest
from making import code, nbgrid, raw, simple, strict_json, wait_until, write_notebook

# Tells that it has begun, then waits until it is told to go on.
WAITING = (
    "from pathlib import Path\nimport time\nPath(f'begun-{a}').touch()\nwhile not Path('go').exists(): time.sleep(0.02)"
)


@pytest.fixture
def live(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of four tasks, one of which has finished and two of which wait for the file `go`; its kernels bear MARK."""
    simple("live.ipynb", "grid:\n  a: 1..4\n", code(f"if a > 1:\n    exec({WAITING!r})"))
    mark = uuid4().hex
    process = subprocess.Popen(
        [making.COMMAND, "run", "live.ipynb", "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "MARK": mark},
    )  # fmt: skip
    process.mark = mark  # type: ignore[attr-defined]
    try:
        wait_until(
            lambda: (Path("begun-2").exists() and Path("begun-3").exists()) or process.poll() is not None, "two tasks"
        )
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        (place / "go").touch()
        process.kill()
        process.communicate()


def finished_tasks() -> dict[str, str]:
    told = strict_json(nbgrid("status", "--json").stdout)
    return {task["name"]: task["status"] for task in told["tasks"]}


# -- interrupts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_the_run_and_keeps_what_there_is(live: subprocess.Popen[str], number: signal.Signals) -> None:
    """
    CL-03: exit code 130; the finished notebook stays, partial ones are kept as attempts, no process of a kernel is left, and
    the database says aborted.
    """
    assert len(making.processes_with("MARK", live.mark)) >= 3
    live.send_signal(number)
    _, told = live.communicate(timeout=making.PATIENCE)
    assert live.returncode == 130, told
    assert "Traceback" not in told
    assert making.processes_with("MARK", live.mark) == []
    assert finished_tasks() == {"live-0": "finished", "live-1": "aborted", "live-2": "aborted", "live-3": "aborted"}
    assert [path.name for path in Path("live/output").iterdir()] == ["notebook-a=1-0.ipynb"]
    kept = sorted(Path("live/.nbgrid/attempts").iterdir())
    assert len(kept) == 2
    for path in kept:
        record = strict_json(path.read_bytes())["metadata"]["nbgrid"]
        assert (record["state"], record["point"]["a"]) in {("aborted", 2), ("aborted", 3)}
    shown = nbgrid("status")
    assert shown.returncode == 4
    assert str(kept[0]) in shown.stdout


def test_a_second_interrupt_leaves_at_once(place: Path) -> None:
    """
    CL-03: with a cell that will not be interrupted, a second Ctrl-C ends the command without waiting for it.
    """
    stubborn = (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    )
    simple("stubborn.ipynb", "grid:\n  a: [2]\n", code(stubborn + WAITING))
    mark = uuid4().hex
    process = subprocess.Popen(
        [making.COMMAND, "run", "stubborn.ipynb"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "MARK": mark},
    )  # fmt: skip
    try:
        wait_until(Path("begun-2").exists, "the task")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "stopping" not in (line := process.stderr.readline()):
            assert line, "it ended before it said that it stops"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=making.PATIENCE)
        assert process.returncode == 130
        wait_until(lambda: not making.processes_with("MARK", mark), "the kernel to end with its parent")
        assert set(finished_tasks().values()) <= {"lost", "aborted"}
    finally:
        (place / "go").touch()
        process.kill()
        process.communicate()


# -- a live run ---------------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused_and_the_first_runs_what_it_began_with(live: subprocess.Popen[str]) -> None:
    """
    CL-09: a second driver on the same prefix is told pid, host and since when, and touches nothing. NB-03: a template that is
    edited meanwhile changes no task of the live run.
    """
    import socket

    before = making.files_below("live")
    template = Path("live.ipynb").read_bytes()
    second = nbgrid("run", "live.ipynb")
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    for part in (f"pid {live.pid}", socket.gethostname(), "since 20", "--prefix"):
        assert part in second.stderr
    assert making.files_below("live") >= before
    assert nbgrid("run", "live.ipynb", "--prefix", "other", "--grid", "a=1").returncode == 0

    simple("live.ipynb", "grid:\n  a: [9]\n", code("raise SystemError('edited')"))
    Path("go").touch()
    _, told = live.communicate(timeout=making.PATIENCE)
    assert live.returncode == 0, told
    executed = [strict_json(path.read_bytes()) for path in Path("live/output").iterdir()]
    assert len(executed) == 4
    assert {"".join(cell["source"]) for notebook in executed for cell in notebook["cells"][2:]} == {
        cell["source"] for cell in strict_json(template)["cells"][2:]
    }


def test_a_run_goes_on_when_nobody_reads_its_output(place: Path) -> None:
    """
    CL-04: with stdout and stderr closed by their reader, every task still runs, and the exit code is theirs.
    """
    simple()
    process = subprocess.Popen([making.COMMAND, "run", "simple.ipynb"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    assert process.wait(making.PATIENCE) == 0
    assert set(finished_tasks().values()) == {"finished"}
    del place


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_run_goes_on_without_a_stream(place: Path, redirection: str) -> None:
    """
    CL-04: without stdout, stderr or stdin at all, as under some schedulers, a run ends as it should.
    """
    del place
    simple(grid="grid:\n  a: [1]\n")
    ran = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", making.COMMAND, "run", "simple.ipynb"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    refused = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", making.COMMAND, "run", "none.ipynb"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_a_reader_that_leaves_early_is_no_error(place: Path) -> None:
    """
    CL-04: `nbgrid … | head -1` of a long table prints one line, no traceback, and exits with 0.
    """
    simple(grid="grid:\n  a: 1..9000\n")
    for command in ("plan simple.ipynb --json", "inspect simple.ipynb --json"):
        piped = subprocess.run(
            ["bash", "-c", f'set -o pipefail; "{making.COMMAND}" {command} | head -1'],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (piped.returncode, piped.stdout, piped.stderr) == (0, "{\n", "")
    # A reader that has gone before the first word.
    process = subprocess.Popen([making.COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(making.PATIENCE)
    del place


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_that_lacks_letters_still_shows_the_rest(place: Path, encoding: str) -> None:
    """
    CL-06: what the encoding of the output lacks becomes `?`; nothing is lost and nothing is raised.
    """
    del place
    simple("süß.ipynb", "grid:\n  a: [1, 漢]\n", code("a = 2"))
    told = subprocess.run(
        [making.COMMAND, "plan", "süß.ipynb"], capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert b"2 tasks over a" in told.stdout
    assert ("漢".encode() in told.stdout) == (encoding == "utf-8")


# -- exit codes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database URL"),
        ("sqlite:////proc/no/nbgrid.db", "the database sqlite:////proc/no/nbgrid.db"),
        ("postgresql://user:secret@127.0.0.1:1/x", "the database postgresql://user:***@"),
        ("sqlite:///{place}/corrupt.db", "the database sqlite:///"),
        ("sqlite:///{place}/foreign.db", "foreign.db is no database of nbgrid's"),
    ],
)
def test_a_database_that_cannot_serve_is_exit_code_3(
    place: Path, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    """
    CL-12: a database that is none, corrupt, foreign or out of reach is one line without a password, and nothing starts.
    """
    import sqlite3

    simple()
    (place / "corrupt.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with sqlite3.connect(place / "foreign.db") as foreign:
        foreign.execute("CREATE TABLE mine (x)")
    foreign.close()
    before = making.files_below(place)
    monkeypatch.setenv("NBGRID_DATABASE_URL", url.format(place=place))
    for command in (("run", "simple.ipynb"), ("status",), ("list",)):
        told = nbgrid(*command)
        assert told.returncode == 3, told
        assert told.stderr.count("\n") == 1, told.stderr
        assert said in told.stderr
        assert "secret" not in told.stderr
    assert making.files_below(place) - before <= {"corrupt.db-wal", "corrupt.db-shm"}


def test_a_prefix_that_cannot_be_made_is_exit_code_3_before_any_kernel(place: Path) -> None:
    """
    ST-07: where the results cannot be written, exit code 3, one line, and no kernel has started.
    """
    simple("simple.ipynb", "grid:\n  a: [1]\n", code("open('ran', 'w').close()"))
    Path("simple").write_text("in the way")
    told = nbgrid("run", "simple.ipynb")
    assert told.returncode == 3, told
    assert told.stderr.count("\n") == 1
    assert making.files_below(place) == {"simple.ipynb", "simple"}


def can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, check=False)
    return tried.returncode == 0


@pytest.mark.skipif(not can_mount(), reason="a read-only or full file system takes root and unshare")
def test_a_read_only_output_root_is_exit_code_3_before_any_kernel(place: Path) -> None:
    """
    ST-07: on a read-only file system, exit code 3, one line, and no kernel has started.
    """
    simple("elsewhere/simple.ipynb", "grid:\n  a: [1]\n", code("open('ran', 'w').close()"))
    (place / "out").mkdir()
    told = in_mounted(place / "out", "-o ro", "../elsewhere/simple.ipynb")
    assert told.returncode == 3, told
    assert told.stderr.count("\n") == 1
    assert "Read-only file system" in told.stderr
    assert making.files_below("elsewhere") == {"elsewhere/simple.ipynb".removeprefix("elsewhere/")}


@pytest.mark.skipif(not can_mount(), reason="a read-only or full file system takes root and unshare")
def test_a_full_store_fails_the_task_that_it_cannot_hold(place: Path) -> None:
    """
    ST-02: the task whose notebook does not fit fails with the store as its reason; the others' results are whole.
    """
    simple(
        "elsewhere/simple.ipynb",
        "grid:\n  a: [1, 2, 3]\n",
        code("import os\nif a == 2: print(os.urandom(900_000).hex())"),
    )
    (place / "out").mkdir()
    (place / "kept").mkdir()
    told = in_mounted(place / "out", "-o size=800k", "../elsewhere/simple.ipynb", after="cp -r . ../kept")
    assert told.returncode == 1, told
    assert "No space left on device" in told.stderr
    shown = strict_json(nbgrid("status", "@latest", "--json").stdout)
    assert [task["status"] for task in shown["tasks"]] == ["finished", "failed", "finished"]
    kept = sorted((place / "kept/simple/output").iterdir())
    assert [strict_json(path.read_bytes())["metadata"]["nbgrid"]["index"] for path in kept] == [0, 2]
    assert not [name for name in making.files_below("kept") if "partial" in name]


def in_mounted(folder: Path, options: str, template: str, after: str = ":") -> subprocess.CompletedProcess[str]:
    script = f'mount -t tmpfs {options} none "{folder}" && cd "{folder}" && "{making.COMMAND}" run {template}; code=$?; {after}'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{script}; exit $code"], capture_output=True, text=True, check=False
    )  # fmt: skip


def test_a_limit_on_the_size_of_files_spares_earlier_results(place: Path) -> None:
    """
    ST-02: where a file may not grow beyond a limit, the notebook that does fails its task; nothing half-written is left.
    """
    simple("simple.ipynb", "grid:\n  a: [1, 2]\n", code("import os\nif a == 2: print(os.urandom(1_500_000).hex())"))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))  # noqa: E731
    told = nbgrid("run", "simple.ipynb", preexec_fn=limit)
    assert told.returncode == 1, told
    assert "File too large" in told.stderr
    assert [path.name for path in Path("simple/output").iterdir()] == ["notebook-a=1-0.ipynb"]
    assert not list(place.rglob("*.partial"))


def test_debug_adds_the_traceback_and_keeps_the_code(place: Path) -> None:
    """
    An error is one line; with --debug, anywhere on the line, its traceback stands before it, and the exit code is the same.
    """
    del place
    plain = nbgrid("run", "none.ipynb")
    for arguments in (("--debug", "run", "none.ipynb"), ("run", "none.ipynb", "--debug")):
        debug = nbgrid(*arguments)
        assert debug.returncode == plain.returncode == 2
        assert "Traceback" in debug.stderr
        assert debug.stderr.splitlines()[-1] == plain.stderr.strip()
    assert plain.stderr == "nbgrid: none.ipynb: No such file or directory\n"


def test_a_mistake_of_ours_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """
    What nobody foresaw is told as a mistake in nbgrid, with exit code 1, and not as a wall of text.
    """
    from nbgrid import runs
    from nbgrid.cli import main

    def wrong(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(runs, "open_database", wrong)
    with pytest.raises(SystemExit) as left:
        main(["list"])
    assert left.value.code == 1
    assert capsys.readouterr().err == (
        "nbgrid: ZeroDivisionError: by nothing (this is a mistake in nbgrid; --debug shows where)\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["run"], "nbgrid run: Missing argument 'NOTEBOOK'"),
        (["run", "x.ipynb", "--workers", "0"], "'--workers'"),
        (["collect", "--format", "xml"], "xml"),
    ],
)
def test_a_mistyped_command_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    What Typer refuses is told as everything else is: one line, with the help to ask for, and exit code 2.
    """
    from nbgrid.cli import main

    with pytest.raises(SystemExit) as left:
        main(words)
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert said in told
    assert "--help` shows" in told
    assert told.count("\n") == 1


def test_version_and_help_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """
    `--version` prints the version alone; `nbgrid` alone prints the help; both exit with 0.
    """
    import nbgrid as package
    from nbgrid.cli import main

    for words, said in (
        (["--version"], f"nbgrid {package.__version__}\n"),
        ([], "Usage: nbgrid"),
        (["run", "-h"], "--grid"),
    ):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
        assert said in capsys.readouterr().out


# Typer itself may load pydantic.
HEAVY = {
    "dask", "distributed", "numba", "numpy", "pandas", "matplotlib", "sqlalchemy", "papermill", "nbclient",
    "jupyter_client", "jupyter_core", "nbformat", "jsonschema", "yaml", "rich", "IPython", "zmq",
}  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"], ["run"], ["init"]])
def test_what_needs_no_library_imports_none(place: Path, words: list[str]) -> None:
    """
    Help, the version and `init` load none of the heavy libraries.
    """
    del place
    program = (
        "import sys, atexit\nfrom nbgrid.cli import main\n"
        f"atexit.register(lambda: print('LOADED', *sys.modules))\nmain({words})"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    loaded = {name.split(".")[0] for name in ran.stdout.split("LOADED")[1].split()}
    assert HEAVY & loaded == set()


def test_the_live_view_fits_the_terminal_and_leaves_the_results(place: Path) -> None:
    """
    On a terminal of 80 columns the bar and the running tasks are shown, no line is broken by a long value, failures are
    told as they happen, and the table of results stands at the end.
    """
    import pty

    write_notebook(
        place / "long.ipynb", raw("grid:\n  a: ['" + "x" * 200 + "', short]\n"), code("# PARAMETERS\na = ''"),
        code("import pathlib, time\nwhile not pathlib.Path('seen').exists():\n    time.sleep(0.01)"),
        code("assert a != 'short', 'no'"), code("len(a)", "length"),
    )  # fmt: skip
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [making.COMMAND, "run", "long.ipynb", "--workers", "1"], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    told = b""
    while True:
        try:
            told += os.read(ours, 65536)
        except OSError:
            break
        if b"cell 2/4" in told:  # the cell ends once the view has shown it
            (place / "seen").touch()
    os.close(ours)
    assert process.wait(making.PATIENCE) == 1
    text = told.decode()
    assert "0/2" in text
    assert "long-0  cell 2/4" in text
    assert "long-1 a=short failed: cell 4 raised AssertionError: no" in text
    assert "xxx…" in text
    assert "x" * 61 not in text
    assert "1 finished, 1 failed" in text


def test_no_process_of_the_tests_is_left() -> None:
    """
    No kernel that a test of this file started is a child of ours.
    """
    children = psutil.Process().children(recursive=True)
    assert [child for child in children if "ipykernel_launcher" in " ".join(child.cmdline())] == []
