"""
Where runs, tasks, attempts, events and metrics are recorded: SQLite by default, any SQLAlchemy URL.

A run has one writer, its driver. Each write is a transaction that takes SQLite's lock at once (BEGIN IMMEDIATE), so that two
drivers wait for each other rather than fail; WAL is used on local file systems only, since it corrupts on shared ones.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nbgrid.errors import DatabaseError, RunNotFoundError
from nbgrid.parameters import decode, encode
from nbgrid.states import Attempt, Reason, Run, RunState, Task, TaskState

SCHEMA_VERSION = 1
_BUSY_SECONDS = 30.0
_SHARED_FILE_SYSTEMS = {
    "9p", "afs", "beegfs", "ceph", "cifs", "drvfs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "panfs",
    "prl_fs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs",
}  # fmt: skip

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
        try:
            version = database._version()
            if version != SCHEMA_VERSION:
                raise DatabaseError(
                    f"{shown_url(url)} has version {version} of nbgrid's tables and this nbgrid knows {SCHEMA_VERSION}: "
                    "upgrade nbgrid, or name another database with NBGRID_DATABASE_URL"
                )
            database._set_journal()
        except BaseException:
            database.close()
            raise
        return database

    def _version(self) -> int | None:
        """Return the version of the tables, making them if there are none at all."""
        with self._transaction("opening", writes=False) as connection:
            tables = sa.inspect(connection).get_table_names()
        if tables and not {_SCHEMA.name, _RUNS.name} <= set(tables):
            raise DatabaseError(
                f"{shown_url(self.url)} is no database of nbgrid's (it has the tables {', '.join(sorted(tables)[:5])}): "
                "name another with NBGRID_DATABASE_URL"
            )
        if not tables:
            with self._transaction("opening") as connection:
                if not sa.inspect(connection).get_table_names():  # another process may have been faster
                    _METADATA.create_all(connection)
                    connection.execute(_SCHEMA.insert().values(version=SCHEMA_VERSION))
        with self._transaction("opening", writes=False) as connection:
            return connection.execute(sa.select(_SCHEMA.c.version)).scalar()

    def _set_journal(self) -> None:
        """Choose SQLite's journal: readers and the writer do not wait for each other with WAL, where that is safe."""
        file = _sqlite_file(sa.make_url(self.url))
        if file is None or not os.access(file, os.W_OK):
            return
        wanted = "wal" if _is_local(file) else "delete"
        with self._transaction("opening", writes=None) as connection:
            if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != wanted:
                # Refused while others use the file; then it stays as it is, and the next to open it tries again.
                with suppress(sa.exc.OperationalError):
                    connection.exec_driver_sql(f"PRAGMA journal_mode = {wanted}")

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
        with self._transaction("reading runs", writes=False) as connection:
            rows = connection.execute(sa.select(_RUNS).order_by(_RUNS.c.sequence.desc())).mappings()
            return [_run(row) for row in rows]

    def run(self, run: str) -> Run:
        """Return the run of that whole id; raise `RunNotFoundError` if there is none."""
        with self._transaction("reading a run", writes=False) as connection:
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
        with self._transaction("reading tasks", writes=False) as connection:
            return [_task(row) for row in connection.execute(query).mappings()]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return, for each run, how many of its tasks are in each state."""
        query = sa.select(_TASKS.c.run, _TASKS.c.state, sa.func.count()).group_by(_TASKS.c.run, _TASKS.c.state)
        counted: dict[str, dict[str, int]] = {}
        with self._transaction("counting tasks", writes=False) as connection:
            for run, state, count in connection.execute(query):
                counted.setdefault(run, {})[state] = count
        return counted

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _save_attempt(self, connection: sa.Connection, task: Task, attempt: Attempt) -> None:
        here = (
            (_ATTEMPTS.c.run == task.run) & (_ATTEMPTS.c.index == task.index) & (_ATTEMPTS.c.number == attempt.number)
        )
        values = {**asdict(attempt), "state": str(attempt.state)}
        if connection.execute(_ATTEMPTS.update().where(here).values(values)).rowcount == 0:
            connection.execute(_ATTEMPTS.insert().values(run=task.run, index=task.index, **values))

    @contextmanager
    def _transaction(self, doing: str, *, writes: bool | None = True) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction: one that *writes*, one that reads, or, for None, none at all."""
        try:
            with self._engine.connect() as plain:
                connection = plain.execution_options(nbgrid_writes=writes)
                with connection.begin():
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
            return sa.create_engine(parsed, json_serializer=_strict_json)
        if (file := _sqlite_file(parsed)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):  # parameters and paths in it are nobody else's
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        engine = sa.create_engine(
            parsed, json_serializer=_strict_json, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False}
        )
    except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise DatabaseError(
            f"the database {shown_url(url)} cannot be opened: {why}; NBGRID_DATABASE_URL names another"
        ) from None
    sa.event.listen(engine, "connect", lambda connection, _: _set_up_sqlite(connection))
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _sqlite_file(url: sa.URL) -> Path | None:
    """Return the file of the SQLite database at *url*, or None if it is in memory, on a server, or a URI of SQLite's own."""
    name = url.database
    is_file = url.get_backend_name() == "sqlite" and name and name != ":memory:" and not name.startswith("file:")
    return Path(name) if is_file and name else None


def _strict_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _set_up_sqlite(connection: Any) -> None:
    connection.isolation_level = None  # so that the begin below is the only one
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = NORMAL")
    finally:
        cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("nbgrid_writes")
    if writes is not None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _is_local(file: Path) -> bool:
    """Tell whether *file* lies on a file system of this machine, as far as Linux tells; elsewhere it is taken to be."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    whole, longest, kind = Path(os.path.realpath(file)), -1, ""
    for line in mounts:
        _, place, found, *_ = line.split(" ")
        place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place)
        if whole.is_relative_to(place) and len(place) >= longest:  # of two at one place, the later hides the earlier
            longest, kind = len(place), found
    return not (kind in _SHARED_FILE_SYSTEMS or kind.startswith("fuse."))


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
