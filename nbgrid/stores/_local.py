"""A store in a folder of this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from nbgrid.errors import StoreError
from nbgrid.stores.base import checked, parts_of

_PARTIAL = ".partial"


class LocalStore:
    """Files below *root*; each is written beside its target, synced, and moved into place."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()

    @property
    def root(self) -> str:
        """The folder."""
        return str(self._root)

    def path(self, name: str) -> str:
        """Return the path of the file that *name* is."""
        return str(self._file(name))

    def put(self, name: str, content: bytes) -> None:
        """Write *content* as `Store.put` says."""
        file = self._file(name)
        with _told(f"writing {file}"):
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, content)

    def get(self, name: str) -> bytes:
        """Return the bytes of the file that *name* is."""
        with _told(f"reading {self._file(name)}"):
            return self._file(name).read_bytes()

    def exists(self, name: str) -> bool:
        """Tell whether the file that *name* is exists."""
        file = self._file(name)
        with _told(f"looking for {file}"):
            return file.is_file()

    def names(self, folder: str) -> Iterator[str]:
        """Yield the files below *folder*; what a killed writer left half-made is not among them."""
        top = self._root.joinpath(*parts_of(folder, self.root))
        with _told(f"listing {top}"):
            found = [file for file in top.rglob("*") if not file.name.endswith(_PARTIAL) and file.is_file()]
        yield from sorted(file.relative_to(self._root).as_posix() for file in found)

    def move(self, old: str, new: str) -> None:
        """Move the file, within the same file system, in one step."""
        source, target = self._file(old), self._file(new)
        with _told(f"moving {source} to {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            _sync_folder(target.parent)

    def delete(self, name: str) -> None:
        """Delete the file that *name* is."""
        with _told(f"deleting {self._file(name)}"):
            self._file(name).unlink(missing_ok=True)

    def sweep(self, folder: str, older_than: float = 3600.0) -> None:
        """Delete old parts of files; a young one may be what another process is writing now."""
        top = self._root.joinpath(*parts_of(folder, self.root))
        with _told(f"tidying {top}"):
            for file in top.rglob(f".*{_PARTIAL}"):
                with suppress(FileNotFoundError):
                    if time.time() - file.stat().st_mtime >= older_than:
                        file.unlink()

    def probe(self) -> None:
        """Write a file of its own in the root, read it and delete it."""
        name = f".nbgrid-probe-{uuid4().hex}"
        try:
            self.put(name, b"nbgrid")
            if self.get(name) != b"nbgrid":
                raise StoreError(f"{self.root}: a file does not hold what was written to it")
        finally:
            with suppress(StoreError):
                self.delete(name)

    def _file(self, name: str) -> Path:
        return self._root / checked(name, self.root)


def replace_file(file: Path, content: bytes) -> None:
    """Let *file* hold *content*: written beside it, synced to the disk, then moved into its place in one step."""
    partial = file.with_name(f".{uuid4().hex}{_PARTIAL}")
    try:
        with partial.open("xb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(file)
        _sync_folder(file.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the folder's entries last, where the system lets a folder be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _told(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{doing}: {error.strerror or error}") from None
