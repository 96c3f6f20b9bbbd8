"""The store in a folder: whole files whatever happens, and the lock of a prefix."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nbgrid.errors import LockedError, StoreError
from nbgrid.stores import LocalStore, PrefixLock
from nbgrid.stores._local import replace_file
from nbgrid.testing import FailingStore, StoreTests, wait_until


def python(code, *arguments, cwd=None):
    """Run *code* in a fresh Python and return what it printed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestLocalStore(StoreTests):
    def make_store(self, tmp_path):
        return LocalStore(tmp_path / "root")

    def test_a_pickled_store_reads_the_same(self, store):
        """
        A store that was sent to another process reads what is there.
        """
        store.put("name", b"x")
        assert pickle.loads(pickle.dumps(store)).get("name") == b"x"

    def test_a_relative_root_stays_where_it_was(self, tmp_path, monkeypatch):
        """
        A store is of the folder that its root named when it was made, wherever the process goes.
        """
        monkeypatch.chdir(tmp_path)
        store = LocalStore("root")
        monkeypatch.chdir("/")
        store.put("name", b"x")
        assert (tmp_path / "root/name").read_bytes() == b"x"


KILL = """
import os, random, signal, sys, time
from nbgrid.stores import LocalStore
store, trials, wrong, torn = LocalStore(sys.argv[1]), int(sys.argv[2]), 0, 0
contents = [bytes([number]) * 5_000_000 for number in (1, 2)]
store.put("output/name", contents[0])
dice = random.Random(0)
for trial in range(trials):
    pid = os.fork()
    if pid == 0:
        while True:
            for content in contents:
                store.put("output/name", content)
    time.sleep(dice.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wrong += store.get("output/name") not in contents
    torn += len(os.listdir(sys.argv[1] + "/output")) - 1
    assert list(store.names("output")) == ["output/name"]
    store.sweep("output", older_than=0)
    assert os.listdir(sys.argv[1] + "/output") == ["name"]
print(wrong, torn > 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_st_01__a_kill_at_any_moment_leaves_old_or_new(tmp_path):
    """
    Writers of 5 MB killed at a hundred random moments: the name always holds whole bytes, and what they left is swept.
    """
    assert python(KILL, tmp_path, 100).split() == ["0", "True"]


def test_sweep__leaves_what_is_young_and_what_is_no_part(tmp_path):
    """
    What another process may be writing now is left to it.
    """
    store = LocalStore(tmp_path)
    store.put("run/name", b"x")
    (tmp_path / "run/.young.partial").write_bytes(b"")
    (tmp_path / "run/.old.partial").write_bytes(b"")
    os.utime(tmp_path / "run/.old.partial", (0, 0))
    os.utime(tmp_path / "run/name", (0, 0))
    store.sweep("run")
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [".young.partial", "name"]


FULL = """
import os, resource, sys
from nbgrid.errors import StoreError
from nbgrid.stores import LocalStore
store = LocalStore(sys.argv[1])
store.put("name", b"old")
for limit in (0, 1, 4096, 1_000_000, 2_999_999):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        store.put("name", bytes(3_000_000))
    except StoreError as error:
        print(error)
    else:
        print("taken")
    assert store.get("name") == b"old", limit
    assert os.listdir(sys.argv[1]) == ["name"], limit
"""


def test_st_02__a_write_that_fails_midway_leaves_the_old_file_alone(tmp_path):
    """
    The disk is full after n bytes, for several n: a `StoreError`, the old bytes, and no part of the new ones.
    """
    said = python(FULL, tmp_path).splitlines()
    assert said == [f"writing {tmp_path / 'name'}: File too large"] * 5


def test_st_03__the_file_is_synced_before_it_is_moved_and_the_folder_after(tmp_path, monkeypatch):
    """
    The order of calls is: sync the file, move it, sync its folder.
    """
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("move"), replace(old, new)))
    replace_file(tmp_path / "name", b"x")
    assert calls == ["file", "move", "folder"]


@pytest.mark.parametrize("root", ["/proc/nbgrid", "/dev/null/root"])
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_st_07__probe_refuses_where_nothing_can_be_written(root):
    """
    A root that no file can be made in is one `StoreError` that names it, not a traceback of the system's.
    """
    with pytest.raises(StoreError, match=root):
        LocalStore(root).probe()


DENIED = """
import os, sys
from nbgrid.errors import StoreError
from nbgrid.stores import LocalStore
if os.geteuid() == 0:  # nothing is denied to root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.chmod("secret", 0)
os.chmod(".", 0o555)
store = LocalStore(".")
for ask in (store.probe, lambda: store.put("a", b""), lambda: store.get("secret/x"), lambda: store.exists("secret/x"),
            lambda: store.move("name", "b"), lambda: store.delete("name")):
    try:
        ask()
    except StoreError as error:
        print("Permission denied" in str(error))
    else:
        print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_st_07__a_folder_without_permission_is_a_store_error():
    """
    In a read-only folder every method says `Permission denied` in a `StoreError`.
    """
    with tempfile.TemporaryDirectory() as folder:  # which other users may enter, unlike pytest's own
        (Path(folder) / "secret").mkdir()
        (Path(folder) / "name").write_bytes(b"x")
        if os.geteuid() == 0:
            for place in (Path(folder), Path(folder, "secret"), Path(folder, "name")):
                os.chown(place, 65534, 65534)
        assert python(DENIED, cwd=folder).split() == ["True"] * 6
        Path(folder).chmod(0o755)
        Path(folder, "secret").chmod(0o755)


HOLD = """
import sys, time
from nbgrid.stores import PrefixLock
lock = PrefixLock(sys.argv[1])
lock.acquire("r1")
print("held", flush=True)
time.sleep(600)
"""


def test_st_08__a_prefix_has_one_driver_and_a_killed_one_holds_nothing(tmp_path):
    """
    A second driver is told who holds the prefix; when that one is killed, the prefix is free.
    """
    file = tmp_path / "elbow-curve/.nbgrid/lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, file], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError) as raised:
            PrefixLock(file).acquire("r2")
        assert f"run r1 (pid {holder.pid} on" in str(raised.value)
        assert str(tmp_path / "elbow-curve") in str(raised.value)
        holder.send_signal(signal.SIGKILL)
    lock = PrefixLock(file)
    lock.acquire("r2")
    with pytest.raises(LockedError, match="run r2"):
        PrefixLock(file).acquire("r3")
    lock.release()
    lock.release()
    PrefixLock(file).acquire("r3")


def test_lock__survives_a_file_system_without_locks(tmp_path, monkeypatch):
    """
    Where the system knows no locks, as on some clusters' file systems, a run goes on without.
    """
    import errno
    import fcntl

    def refuse(descriptor, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    PrefixLock(tmp_path / "lock").acquire("r1")


def test_lock__where_nothing_can_be_written_is_a_store_error():
    """
    A lock that cannot be made is told as a store's trouble, with the file.
    """
    with pytest.raises(StoreError, match="/dev/null/root/lock"):
        PrefixLock("/dev/null/root/lock").acquire("r1")


def test_failing_store__fails_as_it_is_told(tmp_path):
    """
    The fake raises on the calls it was told of and passes on all others.
    """
    store = FailingStore(LocalStore(tmp_path), lambda call, name: call == 2 and name == "put")
    store.put("a", b"1")
    with pytest.raises(StoreError, match="call 2, put"):
        store.put("b", b"2")
    store.put("b", b"2")
    assert (list(store.names(".")), store.root) == (["a", "b"], str(tmp_path))
    wait_until(lambda: store.calls == 4)
