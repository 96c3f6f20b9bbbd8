"""Where runs are recorded."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbgrid import database as databases
from nbgrid.database import Database, default_url, shown_url, sqlite_url
from nbgrid.errors import DatabaseError, RunNotFoundError
from nbgrid.parameters import canonical
from nbgrid.states import Attempt, Reason, Run, RunState, Task, TaskState

ROOT = Path(__file__).parents[1]


def a_run(name="r1", **changes):
    return Run(**{"id": name, "template": "/t.ipynb", "output_root": "/out", "prefix": "p", "parameters": {}, "kernel": "python3",
                  "language": "python", "engine": "kernel", "started": "2025-01-01T00:00:00Z"} | changes)  # fmt: skip


def a_task(run="r1", index=0, **changes):
    return Task(**{"run": run, "index": index, "name": f"p-{index}", "point": {"k": index}, "digest": "d",
                   "output": f"p/output/{index}.ipynb"} | changes)  # fmt: skip


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data/nbgrid.db"


@pytest.fixture
def database(file):
    database = Database.open(sqlite_url(file))
    yield database
    database.close()


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text().filter("$float".__ne__), inner, max_size=3),
)
POINTS = st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), VALUES, max_size=4)
WORDS = st.none() | st.text()
REASONS = st.none() | st.builds(
    Reason, st.sampled_from(["exception", "signal"]), st.text(), st.none() | st.integers(0, 99), WORDS, WORDS, WORDS
)
ENDS = st.sampled_from([state for state in TaskState if state.is_end])
ATTEMPTS = st.none() | st.builds(
    Attempt, number=st.integers(1, 99), state=ENDS, reason=REASONS,
    started=st.none() | st.just("2025-01-01T00:00:00.000+00:00"), seconds=st.none() | st.floats(0, 1e9),
    worker=st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    peak_memory=st.none() | st.integers(0, 2**60),
)  # fmt: skip


def plain(task):
    """Return *task* so that NaN equals NaN and 1 does not equal True."""
    return replace(task, point=canonical(task.point))


@settings(max_examples=60, deadline=None)
@given(parameters=POINTS, points=st.lists(st.tuples(POINTS, ATTEMPTS), max_size=4))
def test_what_is_written_is_what_is_read(parameters, points):
    """
    Runs, tasks, attempts and reasons come back as they went in, whatever values they hold.
    """
    database = Database.open("sqlite://")
    run = a_run(parameters=parameters, pid=1, host="h", executor="e")
    tasks = [a_task(index=index, point=point) for index, (point, _) in enumerate(points)]
    database.begin_run(run, tasks)
    tasks = [replace(task, state=attempt.state if attempt else TaskState.PENDING, attempt=attempt)
             for task, (_, attempt) in zip(tasks, points, strict=True)]  # fmt: skip
    for task in tasks:
        database.save_task(task)
    ended = replace(run, state=RunState.FAILED, ended="2025-01-01T00:00:01Z")
    database.end_run(ended)
    (found,) = database.runs()
    assert replace(found, parameters={}) == replace(ended, parameters={})
    assert canonical(found.parameters) == canonical(parameters)
    assert [plain(task) for task in database.tasks("r1")] == [plain(task) for task in tasks]
    database.close()


def test_values_that_json_lacks_are_recorded_as_strict_json(database, file):
    """
    NaN and the infinities stand in the file as JSON that every reader takes.
    """
    point = {"a": float("nan"), "b": [float("inf"), -float("inf")]}
    database.begin_run(a_run(parameters=point), [a_task(point=point)])
    with sqlite3.connect(file) as plain_connection:
        texts = [*plain_connection.execute("select parameters from runs").fetchone(),
                 *plain_connection.execute("select point from tasks").fetchone()]  # fmt: skip
    plain_connection.close()
    for text in texts:
        assert "NaN" not in text
        assert json.loads(text, parse_constant=pytest.fail) == {
            "a": {"$float": "nan"}, "b": [{"$float": "inf"}, {"$float": "-inf"}],
        }  # fmt: skip


def test_the_newest_attempt_is_the_tasks(database):
    """
    Earlier attempts stay recorded; a task comes with its newest.
    """
    database.begin_run(a_run(), [a_task()])
    task = a_task()
    for number in (1, 2, 3):
        task = task.begin().end(Attempt(number=number, state=TaskState.FAILED))
        database.save_task(task)
        database.save_task(task)
    assert database.tasks("r1") == [task]
    assert task.attempt.number == 3
    assert database.counts() == {"r1": {"failed": 1}}


def test_runs_come_newest_first(database):
    """
    The order is that of recording, not of clocks.
    """
    for name, started in (("b", "2025-01-02"), ("a", "2025-01-01"), ("c", "2024-01-01")):
        database.begin_run(a_run(name, started=started), [])
    assert [run.id for run in database.runs()] == ["c", "a", "b"]
    with pytest.raises(RunNotFoundError, match="'d'"):
        database.run("d")
    assert (database.run("a").id, database.tasks("d")) == ("a", [])


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_the_file_is_its_owners(database, file):
    """
    Nobody else may read what parameters were used: 0600 in a directory of 0700.
    """
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert oct(file.parent.stat().st_mode & 0o777) == "0o700"


def test_opening_again_keeps_everything(database, file):
    """
    A second opening finds the tables and their content.
    """
    database.begin_run(a_run(), [a_task()])
    again = Database.open(sqlite_url(file))
    assert (again.runs(), again.tasks("r1")) == (database.runs(), database.tasks("r1"))
    again.close()


def test_a_newer_schema_is_refused_and_not_touched(database, file):
    """
    One line says both versions and what to do.
    """
    with database._transaction("") as connection:
        connection.exec_driver_sql("update schema set version = 7")
    with pytest.raises(DatabaseError) as raised:
        Database.open(sqlite_url(file))
    assert "has version 7 of nbgrid's tables and this nbgrid knows 1: upgrade nbgrid" in str(raised.value)
    assert "\n" not in str(raised.value)


def a_foreign_database(file):
    connection = sqlite3.connect(file)
    connection.execute("create table photos (name text)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda file: file.write_bytes(b"\x89PNG" * 4000), "file is not a database"),
        (lambda file: file.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000), "database"),
        (lambda file: file.mkdir(), "unable to open database file"),
        (a_foreign_database, "is no database of nbgrid's (it has the tables photos)"),
    ],
    ids=["no_database", "broken_header", "directory", "foreign"],
)
def test_what_is_no_database_of_ours_is_one_line_and_stays_as_it_is(tmp_path, make, said):
    """
    A `DatabaseError` that names the file and the variable that names another; not a byte is changed.
    """
    file = tmp_path / "x.db"
    make(file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(DatabaseError) as raised:
        Database.open(sqlite_url(file))
    assert said in str(raised.value)
    assert str(file) in str(raised.value)
    assert "NBGRID_DATABASE_URL" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (file.read_bytes() if file.is_file() else None) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.db"]


def test_a_file_that_was_cut_short_is_told(database, file):
    """
    A database of ours that lost its end is a `DatabaseError`, when it is opened or read.
    """
    database.begin_run(a_run(), [a_task(index=index, point={"text": "x" * 500}) for index in range(200)])
    database.close()
    os.truncate(file, file.stat().st_size // 3)
    with pytest.raises(DatabaseError, match=r"malformed|not a database"):
        Database.open(sqlite_url(file)).tasks("r1")


@pytest.mark.parametrize(
    "url", ["", "not a url", "nosuch://x", "sqlite:////dev/null/x/nbgrid.db", "postgresql+nosuch://u:secret@h/d"]
)
def test_a_url_that_cannot_be_opened_is_one_line_without_the_password(url):
    """
    Whatever is wrong with it.
    """
    with pytest.raises(DatabaseError) as raised:
        Database.open(url)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "secret" not in shown_url(url)


WRITER = """
import sys
from nbgrid.database import Database
from nbgrid.states import *
from test_database import a_run, a_task
database = Database.open(sys.argv[1])
me = sys.argv[2]
database.begin_run(a_run(me), [a_task(me, index) for index in range(40)])
for index in range(40):
    task = a_task(me, index).begin()
    database.save_task(task)
    database.save_task(task.end(Attempt(number=1, state=TaskState.FINISHED)))
    database.counts()
database.end_run(a_run(me, state=RunState.FINISHED))
"""


def test_writers_at_once_wait_for_each_other(file):
    """
    Four drivers make and write one new database at once: none fails, and nothing is lost.
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", WRITER, sqlite_url(file)]
    writers = [subprocess.Popen([*command, f"r{n}"], env=env, stderr=subprocess.PIPE, text=True) for n in range(4)]
    assert [writer.communicate(timeout=120)[1] for writer in writers] == [""] * 4
    database = Database.open(sqlite_url(file))
    assert database.counts() == {f"r{n}": {"finished": 40} for n in range(4)}
    assert {run.state for run in database.runs()} == {RunState.FINISHED}
    database.close()


def test_reading_does_not_wait_for_a_writer(database, file):
    """
    With a write under way, a reader gets what was there before it.
    """
    database.begin_run(a_run(), [a_task()])
    found = []
    with database._transaction("") as connection:
        connection.exec_driver_sql("update tasks set state = 'running'")
        reader = threading.Thread(target=lambda: found.extend(database.tasks("r1")))
        reader.start()
        reader.join(20)  # less than the time for which a writer would be waited for
    assert [task.state for task in found] == [TaskState.PENDING]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions that bind")
def test_a_file_that_may_only_be_read_can_be_read(database, file):
    """
    Runs of a colleague's are listed from a file that only they may write.
    """
    database.begin_run(a_run(), [])
    database.close()
    file.chmod(0o400)
    again = Database.open(sqlite_url(file))
    assert [run.id for run in again.runs()] == ["r1"]
    with pytest.raises(DatabaseError, match="readonly"):
        again.begin_run(a_run("r2"), [])
    again.close()


MOUNTS = """\
overlay / overlay rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/me/local\\040disk ext4 rw 0 0
sshfs /mnt fuse.sshfs rw 0 0
/dev/sdc1 /mnt xfs rw 0 0
gcsfuse /bucket fuse.gcsfuse rw 0 0
"""


@pytest.mark.parametrize(
    ("place", "is_local"),
    [("/var/x.db", True), ("/home/me/x.db", False), ("/home/me/local disk/x.db", True), ("/mnt/x.db", True),
     ("/bucket/x.db", False), ("/homeless/x.db", True)],
)  # fmt: skip
def test_wal_is_for_local_file_systems_only(monkeypatch, place, is_local):
    """
    The mount that a file lies on decides, the longest and latest that holds it.
    """
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **o: MOUNTS if str(self) == "/proc/self/mounts" else real(self, **o)
    )
    monkeypatch.setattr(os.path, "realpath", str)
    assert databases._is_local(Path(place)) is is_local


@pytest.mark.parametrize(("is_local", "mode"), [(True, "wal"), (False, "delete")])
def test_the_journal_follows_the_file_system(file, monkeypatch, is_local, mode):
    """
    WAL here; on a shared file system not, although the file had it before.
    """
    Database.open(sqlite_url(file)).close()
    monkeypatch.setattr(databases, "_is_local", lambda file: is_local)
    Database.open(sqlite_url(file)).close()
    connection = sqlite3.connect(file)
    assert connection.execute("pragma journal_mode").fetchone() == (mode,)
    connection.close()


def test_default_url__is_a_file_in_the_data_directory(tmp_path):
    """
    SQLite, in a file named after us.
    """
    assert default_url(tmp_path) == f"sqlite:///{tmp_path}/nbgrid.db"
