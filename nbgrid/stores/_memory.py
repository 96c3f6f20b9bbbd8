"""A store in the memory of one process: for tests, and for what no other process is to reach."""

from __future__ import annotations

from collections.abc import Iterator

from nbgrid.errors import StoreError
from nbgrid.stores.base import checked, parts_of


class MemoryStore:
    """A dictionary of names and bytes."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    @property
    def root(self) -> str:
        """`memory:`, which no worker can reach."""
        return "memory:"

    def path(self, name: str) -> str:
        """Return the name behind the root."""
        return f"{self.root}{self._checked(name)}"

    def put(self, name: str, content: bytes) -> None:
        """Keep *content*."""
        self._held[self._checked(name)] = bytes(content)

    def get(self, name: str) -> bytes:
        """Return what is kept under *name*."""
        try:
            return self._held[self._checked(name)]
        except KeyError:
            raise StoreError(f"reading {self.path(name)}: there is nothing") from None

    def exists(self, name: str) -> bool:
        """Tell whether anything is kept under *name*."""
        return self._checked(name) in self._held

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names below *folder*."""
        top = "".join(f"{part}/" for part in parts_of(folder, self.root))
        yield from sorted(name for name in list(self._held) if name.startswith(top))

    def move(self, old: str, new: str) -> None:
        """Keep under *new* what was kept under *old*."""
        new, content = self._checked(new), self.get(old)
        del self._held[self._checked(old)]
        self.put(new, content)

    def delete(self, name: str) -> None:
        """Forget what is kept under *name*."""
        self._held.pop(self._checked(name), None)

    def sweep(self, folder: str, older_than: float = 3600.0) -> None:
        """Do nothing: nothing is half-made in memory."""

    def probe(self) -> None:
        """Do nothing: memory can always be written."""

    def _checked(self, name: str) -> str:
        return checked(name, self.root)
