"""The contract of a store: where executed notebooks lie, whatever holds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Protocol

from nbgrid.errors import StoreError


class Store(Protocol):
    """
    Named bytes below one root. A name is a relative path with `/`; none leads out of the root.

    Every method raises `StoreError` for what the medium refuses. What `put` and `move` leave under a name is whole: the old
    bytes or the new, never a part, whatever kills the process meanwhile.
    """

    @property
    def root(self) -> str:
        """The folder or URL that all names lie below."""

    def path(self, name: str) -> str:
        """Return where *name* lies, as other tools take it; raise `StoreError` for a name that leads out of the root."""

    def put(self, name: str, content: bytes) -> None:
        """Let *name* hold *content*."""

    def get(self, name: str) -> bytes:
        """Return what *name* holds; raise `StoreError` if there is nothing."""

    def exists(self, name: str) -> bool:
        """Tell whether *name* holds anything."""

    def names(self, folder: str) -> Iterator[str]:
        """
        Yield the names below *folder*, its subfolders' too, in alphabetical order; none if there is no such folder.

        `.` is the root itself.
        """

    def move(self, old: str, new: str) -> None:
        """Let *new* hold what *old* holds, and *old* nothing."""

    def delete(self, name: str) -> None:
        """Let *name* hold nothing; it may hold nothing already."""

    def sweep(self, folder: str, older_than: float = 3600.0) -> None:
        """Delete what writers that were killed left half-made below *folder*, unless it is younger than so many seconds."""

    def probe(self) -> None:
        """Raise `StoreError` unless a name can be written, read and deleted now."""


def parts_of(name: str, root: str) -> tuple[str, ...]:
    """Return the parts of *name*, none for `.`; raise `StoreError` for a name that leads out of *root* on any system."""
    parts = PurePosixPath(name).parts
    if (
        not name
        or name.startswith(("/", "~"))
        or "\\" in name
        or "\0" in name
        or ".." in parts
        or ":" in "".join(parts[:1])
    ):
        raise StoreError(f"{name!r} does not stay below {root}")
    return parts


def checked(name: str, root: str) -> str:
    """Return *name* in its one form; raise `StoreError` for a name that leads out of *root*, or is the root itself."""
    if not parts_of(name, root):
        raise StoreError(f"{name!r} is no name, but the whole of {root}")
    return PurePosixPath(name).as_posix()
