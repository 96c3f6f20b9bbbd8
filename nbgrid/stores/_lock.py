"""The lock by which a live run holds its prefix."""

from __future__ import annotations

import errno
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from nbgrid.errors import LockedError, StoreError

# What a file system says that has no locks, as Lustre does on many clusters: a run without its lock is better than none.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


class PrefixLock:
    """
    Holds the folder of a prefix for one driver.

    The system's advisory lock decides, so that a driver that was killed holds nothing; the file's text is for the message.
    """

    def __init__(self, file: str | Path) -> None:
        self._file = Path(file)
        self._descriptor: int | None = None

    def acquire(self, run: str) -> None:
        """Take the lock for *run*; raise `LockedError`, naming the driver that holds it, if it is taken."""
        about = {"run": run, "pid": os.getpid(), "host": socket.gethostname(),
                 "since": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip
        descriptor = None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
            if not _try_lock(descriptor):
                raise LockedError(_sentence(os.read(descriptor, 4096), self._file))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(about).encode(), 0)
            self._descriptor, descriptor = descriptor, None
        except OSError as error:
            raise StoreError(f"locking {self._file}: {error.strerror or error}") from None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: msvcrt locks ranges of bytes, and this one is beyond the text
        import msvcrt

        os.lseek(descriptor, 2**20, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _sentence(holder: bytes, file: Path) -> str:
    try:
        about = json.loads(holder)
        who = f"run {about['run']} (pid {about['pid']} on {about['host']}, since {about['since']})"
    except (ValueError, KeyError, TypeError):
        who = "another run"
    return f"{who} is still running under {file.parent.parent}: wait for it, or choose another --prefix"
