"""The contract of a store: where executed notebooks lie, whatever holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


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
        """Yield the names below *folder*, its subfolders' too, in alphabetical order; none if there is no such folder."""

    def move(self, old: str, new: str) -> None:
        """Let *new* hold what *old* holds, and *old* nothing."""

    def delete(self, name: str) -> None:
        """Let *name* hold nothing; it may hold nothing already."""

    def probe(self) -> None:
        """Raise `StoreError` unless a name can be written, read and deleted now."""
