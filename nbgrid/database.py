"""
Where runs, tasks, attempts, events and metrics are recorded: SQLite by default, any SQLAlchemy URL.

A run has one writer, its driver. Each write is a transaction that takes SQLite's lock at once (BEGIN IMMEDIATE), so that two
drivers wait for each other rather than fail; WAL is used on local file systems only, since it corrupts on shared ones.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nbgrid.errors import DatabaseError, RunNotFoundError
from nbgrid.parameters import decode, encode
from nbgrid.states import Attempt, Reason, Run, RunState, Task, TaskState

SCHEMA_VERSION = 1
_BUSY_SECONDS = 30.0
_SHARED_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "fuse.sshfs", "afs", "lustre", "gpfs"}

_METADATA = sa.MetaData()
_RUNS = sa.Table(
    "runs", _METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("template", sa.Text, nullable=False),
    sa.Column("output_root", sa.Text, nullable=False),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("kernel", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("executor", sa.Text, nullable=False),
    sa.Column("started", sa.Text, nullable=False),
    sa.Column("ended", sa.Text),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("pid", sa.Integer),
    sa.Column("host", sa.Text),
)  # fmt: skip
_TASKS = sa.Table(
    "tasks", _METADATA,
    sa.Column("run", sa.String(32), sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("point", sa.JSON, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("output", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer),
)  # fmt: skip
_ATTEMPTS = sa.Table(
    "attempts", _METADATA,
    sa.Column("run", sa.String(32), sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.JSON),
    sa.Column("started", sa.Text),
    sa.Column("ended", sa.Text),
    sa.Column("seconds", sa.Float),
    sa.Column("worker", sa.Text),
    sa.Column("peak_memory", sa.BigInteger),
)  # fmt: skip
_EVENTS = sa.Table(
    "events", _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run", sa.String(32), sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("index", sa.Integer),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("data", sa.JSON),
)  # fmt: skip
_METRICS = sa.Table(
    "metrics", _METADATA,
    sa.Column("run", sa.String(32), sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("value", sa.JSON),
)  # fmt: skip
_SCHEMA = sa.Table("schema", _METADATA, sa.Column("version", sa.Integer, primary_key=True))


class Database:
    """Runs and their tasks in a database; open one with `open`."""

    def __init__(self, engine: sa.Engine, url: str) -> None:
        self._engine, self.url = engine, url

    @classmethod
    def open(cls, url: str) -> Database:
        """
        Open the database at *url*, making its tables if it is new.

        Raises `DatabaseError` for what cannot be opened, is no database of nbgrid's, or was made by a newer nbgrid.
        """
        database = cls(_engine(url), url)
        with database._transaction("opening") as connection:
            if sa.inspect(connection).get_table_names() == []:
                _METADATA.create_all(connection)
                connection.execute(_SCHEMA.insert().values(version=SCHEMA_VERSION))
            version = connection.execute(sa.select(_SCHEMA.c.version)).scalar()
        if version != SCHEMA_VERSION:
            raise DatabaseError(
                f"{shown_url(url)} has version {version} of nbgrid's tables and this nbgrid knows {SCHEMA_VERSION}: "
                "upgrade nbgrid, or name another database with NBGRID_DATABASE_URL"
            )
        return database

    # -- the driver writes ------------------------------------------------------------------------------------------

    def begin_run(self, run: Run, tasks: Sequence[Task]) -> None:
        """Record *run* and its *tasks*."""
        with self._transaction("recording the run") as connection:
            last = connection.execute(sa.select(sa.func.max(_RUNS.c.sequence))).scalar() or 0
            connection.execute(_RUNS.insert().values(**run.record(), sequence=last + 1))
            rows = [_task_row(task) for task in tasks]
            if rows:
                connection.execute(_TASKS.insert(), rows)

    def save_task(self, task: Task) -> None:
        """Record *task* and its newest attempt as they are now."""
        with self._transaction("recording a task") as connection:
            here = (_TASKS.c.run == task.run) & (_TASKS.c.index == task.index)
            connection.execute(_TASKS.update().where(here).values(_task_row(task)))
            if task.attempt:
                self._save_attempt(connection, task, task.attempt)

    def end_run(self, run: Run) -> None:
        """Record how *run* ended."""
        with self._transaction("recording the run's end") as connection:
            connection.execute(_RUNS.update().where(_RUNS.c.id == run.id).values(state=run.state, ended=run.ended))

    # -- everyone reads ---------------------------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        """Return all runs, the newest first."""
        with self._transaction("reading runs") as connection:
            rows = connection.execute(sa.select(_RUNS).order_by(_RUNS.c.sequence.desc())).mappings()
            return [_run(row) for row in rows]

    def run(self, run: str) -> Run:
        """Return the run of that whole id; raise `RunNotFoundError` if there is none."""
        with self._transaction("reading a run") as connection:
            row = connection.execute(sa.select(_RUNS).where(_RUNS.c.id == run)).mappings().first()
        if row is None:
            raise RunNotFoundError(f"there is no run {run!r}")
        return _run(row)

    def tasks(self, run: str) -> list[Task]:
        """Return the tasks of the run of that id, by index, each with its newest attempt."""
        on = (_ATTEMPTS.c.run == _TASKS.c.run) & (_ATTEMPTS.c.index == _TASKS.c.index)
        on &= _ATTEMPTS.c.number == _TASKS.c.attempt
        attempt = [_ATTEMPTS.c[name].label(f"attempt_{name}") for name in _ATTEMPT_COLUMNS]
        query = sa.select(_TASKS, *attempt).outerjoin(_ATTEMPTS, on).where(_TASKS.c.run == run).order_by(_TASKS.c.index)
        with self._transaction("reading tasks") as connection:
            return [_task(row) for row in connection.execute(query).mappings()]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return, for each run, how many of its tasks are in each state."""
        query = sa.select(_TASKS.c.run, _TASKS.c.state, sa.func.count()).group_by(_TASKS.c.run, _TASKS.c.state)
        counted: dict[str, dict[str, int]] = {}
        with self._transaction("counting tasks") as connection:
            for run, state, count in connection.execute(query):
                counted.setdefault(run, {})[state] = count
        return counted

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _save_attempt(self, connection: sa.Connection, task: Task, attempt: Attempt) -> None:
        here = (_ATTEMPTS.c.run == task.run) & (_ATTEMPTS.c.index == task.index) & (_ATTEMPTS.c.number == attempt.number)
        values = {**asdict(attempt), "state": str(attempt.state)}
        if connection.execute(_ATTEMPTS.update().where(here).values(values)).rowcount == 0:
            connection.execute(_ATTEMPTS.insert().values(run=task.run, index=task.index, **values))

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError, ValueError, KeyError) as error:
            cause = getattr(error, "orig", None) or error
            first = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
            raise DatabaseError(
                f"the database {shown_url(self.url)}: {doing}: {first}; NBGRID_DATABASE_URL names another"
            ) from error


def sqlite_url(file: Path) -> str:
    """Return the URL of the SQLite database in *file*."""
    return f"sqlite:///{file}"


def shown_url(url: str) -> str:
    """Return *url* without its password, for messages."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "(not a database URL)"


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(parsed)
        file = Path(parsed.database) if parsed.database and parsed.database != ":memory:" else None
        if file:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = sa.create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False})
    except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
        raise DatabaseError(f"the database {shown_url(url)} cannot be opened: {error}") from None
    sa.event.listen(engine, "connect", lambda connection, _: _set_up_sqlite(connection, file))
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _set_up_sqlite(connection: Any, file: Path | None) -> None:
    connection.isolation_level = None  # so that BEGIN IMMEDIATE above is the only begin
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    if file is not None:
        cursor.execute(f"PRAGMA journal_mode = {'WAL' if _is_local(file) else 'DELETE'}")
        cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _is_local(file: Path) -> bool:
    """Tell whether *file* lies on a file system of this machine, as far as Linux tells; elsewhere it is taken to be."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return True
    whole = os.path.realpath(file)
    holding = [(len(place), kind) for _, place, kind, *_ in mounts if Path(whole).is_relative_to(place)]
    return max(holding, default=(0, ""))[1] not in _SHARED_FILE_SYSTEMS


_ATTEMPT_COLUMNS = ("number", "state", "reason", "started", "ended", "seconds", "worker", "peak_memory")


def _task_row(task: Task) -> dict[str, Any]:
    return {
        "run": task.run, "index": task.index, "name": task.name, "point": encode(dict(task.point)), "digest": task.digest,
        "output": task.output, "state": str(task.state), "attempt": task.attempt.number if task.attempt else None,
    }  # fmt: skip


def _run(row: Any) -> Run:
    values = {name: row[name] for name in row if name != "sequence"}
    return Run(**{**values, "state": RunState(row["state"]), "parameters": _decoded(row["parameters"])})


def _task(row: Any) -> Task:
    attempt = None
    if row["attempt_number"] is not None:
        values = {name: row[f"attempt_{name}"] for name in _ATTEMPT_COLUMNS}
        reason = Reason(**values["reason"]) if values["reason"] else None
        attempt = Attempt(**{**values, "state": TaskState(values["state"]), "reason": reason})
    return Task(
        run=row["run"], index=row["index"], name=row["name"], point=_decoded(row["point"]), digest=row["digest"],
        output=row["output"], state=TaskState(row["state"]), attempt=attempt,
    )  # fmt: skip


def _decoded(point: Any) -> dict[str, Any]:
    decoded = decode(json.loads(point) if isinstance(point, str) else point)
    assert isinstance(decoded, dict)
    return decoded


def default_url(data_directory: Path) -> str:
    """Return the URL of the database that is used when none is named."""
    return sqlite_url(data_directory / "nbgrid.db")
