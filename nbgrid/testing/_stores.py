"""What any store must do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from nbgrid.errors import StoreError
from nbgrid.stores.base import Store

ESCAPES = tuple(
    [f"{start}{up}{end}" for start in ("", "a/", "a/b/", "./") for up in ("..", "../..", "../../../..") for end in
     ("", "/x", "/etc/passwd", "/x/y.ipynb")]
    + [f"{root}{rest}" for root in ("/", "//", "///", "~/", "~root/", "~", "C:\\", "c:/", "C:", "\\\\host\\", "\\", "Z:\\..\\")
       for rest in ("", "x", "etc/passwd", "../x", "a/../../x")]
    + [f"a{bad}{end}" for bad in ("\0", "\\..\\", "\\", "/..\\..", "\0/../") for end in ("", "b", "/../../b", ".ipynb")]
    + ["", ".", "./", "a/\0", "\0", "\0a", "a/b/../../../c", "a/../..", "..", "../", "a/b/c/../../../../d", "./..", "./../a"]
)  # fmt: skip
"""ST-09: names that lead, or on some system would lead, out of a root."""


class StoreTests:
    """The contract of `Store`."""

    def make_store(self, tmp_path: Path) -> Store:
        """Return a new, empty store."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """A store without names."""
        return self.make_store(tmp_path)

    def test_a_name_holds_what_was_put_last(self, store: Store) -> None:
        """`get` returns the bytes of the last `put`, none and many bytes too."""
        for content in (b"", b"\0\xff\r\n", b"x" * 3_000_000, b"short again"):
            store.put("folder/name.ipynb", content)
            assert store.get("folder/name.ipynb") == content

    def test_nothing_is_there_before_it_is_put(self, store: Store) -> None:
        """An unknown name does not exist, and reading or moving it raises `StoreError` in one line."""
        assert not store.exists("folder/name")
        for ask in (lambda: store.get("folder/name"), lambda: store.move("folder/name", "other")):
            with pytest.raises(StoreError) as raised:
                ask()
            assert "\n" not in str(raised.value)
        assert not store.exists("other")

    def test_names_are_those_below_the_folder(self, store: Store) -> None:
        """`names` tells the files of a folder and its subfolders, in order, and nothing of its neighbours; `.` is the root."""
        for name in ("run/b", "run/a/z", "run/a/y", "run-2/c", "run", "ru"):
            with suppress(StoreError):  # where a file and a folder cannot share a name, the later one is refused
                store.put(name, b"")
        assert list(store.names("run")) == ["run/a/y", "run/a/z", "run/b"]
        assert list(store.names("nothing")) == []
        assert set(store.names(".")) >= {"run/a/y", "run/b", "ru", "run-2/c"}

    def test_move_takes_the_bytes_along_and_replaces(self, store: Store) -> None:
        """After `move` the new name holds the bytes, whatever it held, and the old one nothing."""
        store.put("attempts/1", b"new")
        store.put("output/1", b"old")
        store.move("attempts/1", "output/1")
        assert (store.get("output/1"), store.exists("attempts/1")) == (b"new", False)
        store.move("output/1", "another/folder/1")
        assert store.get("another/folder/1") == b"new"

    def test_delete_may_be_asked_twice(self, store: Store) -> None:
        """A deleted name holds nothing, and deleting nothing is fine."""
        store.put("name", b"x")
        store.delete("name")
        store.delete("name")
        assert not store.exists("name")

    def test_probe_leaves_nothing(self, store: Store) -> None:
        """`probe` succeeds on a store that works, and leaves no name behind."""
        store.put("run/name", b"x")
        store.probe()
        assert list(store.names(".")) == ["run/name"]

    def test_st_09__no_name_leads_out_of_the_root(self, store: Store) -> None:
        """Every name with `..`, a root, a drive, `~`, a backslash or NUL is refused by every method."""
        assert len(ESCAPES) > 120
        store.put("safe", b"x")
        for name in ESCAPES:
            for ask in (
                store.path,
                store.get,
                store.exists,
                store.delete,
                lambda n: store.put(n, b"y"),
                lambda n: store.move("safe", n),
                lambda n: store.move(n, "b"),
            ):
                with pytest.raises(StoreError):
                    ask(name)
                    pytest.fail(f"{name!r} was taken")
        for name in set(ESCAPES) - {".", "./"}:
            with pytest.raises(StoreError):
                list(store.names(name))
        assert store.get("safe") == b"x"

    def test_odd_names_stay_themselves(self, store: Store) -> None:
        """A percent sign, spaces, other scripts and leading dots in a name mean nothing special."""
        for name in ("%2e%2e/x", "a b", "größe/模型", ".nbgrid/attempts/x", "a..b", "...", "n=1~2", "-rf", "*"):
            store.put(name, name.encode())
            assert store.get(name) == name.encode()

    def test_writers_at_once_leave_one_whole(self, store: Store) -> None:
        """Many writers of one name leave the whole bytes of one of them, and readers never see a part."""
        contents = [bytes([number]) * 200_000 for number in range(8)]
        store.put("name", contents[0])
        seen: set[bytes] = set()
        with ThreadPoolExecutor(8) as threads:
            writes = [threads.submit(store.put, "name", content) for content in contents * 3]
            while not all(write.done() for write in writes):
                seen.add(store.get("name"))
            for write in writes:
                write.result()
        assert seen | {store.get("name")} <= set(contents)
        assert list(store.names(".")) == ["name"]
