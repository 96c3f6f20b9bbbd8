"""What any engine must do: how it tells what happens, and how every notebook ends."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from jupyter_client.session import Session

from nbgrid.engines.base import CellEvent, ExecutionSpec, Outcome, no_event
from nbgrid.states import TaskState
from nbgrid.testing._fakes import DEADLINE, code_notebook, is_running, printed, statuses, wait_until
from nbgrid.testing._notebooks import NotebookTests

_WAITS = """
import os, sys, time
from pathlib import Path
Path("begins").write_text(f"{os.getpid()}\\n{sys.argv[sys.argv.index('-f') + 1]}")
Path("begins").rename("waits")
while not Path("go").exists(): time.sleep(0.01)
"""


class EngineTests(NotebookTests):
    """The contract of `Engine`, shown with a Python kernel."""

    def test_outputs_are_filled_in(self, tmp_path: Path) -> None:
        """Each cell has the outputs and the count of this execution, none of an earlier one."""
        notebook = code_notebook("x = 2", "print(x)", "x * 21")
        notebook["cells"][0]["outputs"] = [
            {"output_type": "stream", "name": "stdout", "text": "of an earlier execution"}
        ]
        outcome = self.execute(tmp_path, notebook)
        assert (outcome.state, outcome.reason) == (TaskState.FINISHED, None)
        assert printed(notebook) == "2\n"
        assert notebook["cells"][2]["outputs"][0]["data"]["text/plain"] == "42"
        assert [cell["execution_count"] for cell in notebook["cells"]] == [1, 2, 3]
        assert statuses(notebook) == ["completed"] * 3
        assert notebook["metadata"]["language_info"]["name"] == "python"

    def test_events_tell_each_cell_as_it_begins_and_ends(self, tmp_path: Path) -> None:
        """Two events for each executed cell, with its index in the notebook and its place among the executed."""
        events: list[CellEvent] = []
        notebook = code_notebook("1", "skipped", "2", cell1=["skip-execution"])
        self.execute(tmp_path, notebook, events.append)
        assert [(event.kind, event.cell, event.number, event.cells) for event in events] == [
            ("started", 0, 1, 2), ("ended", 0, 1, 2), ("started", 2, 2, 2), ("ended", 2, 2, 2),
        ]  # fmt: skip
        assert statuses(notebook) == ["completed", "pending", "completed"]

    def test_ex_14__an_exception_ends_it_and_is_told(self, tmp_path: Path) -> None:
        """The reason names cell, ename, evalue and traceback; later cells are not run, and none is called completed."""
        notebook = code_notebook("print('one')", "print('two')\n{}['k']", "open('third', 'w')")
        outcome = self.execute(tmp_path, notebook)
        assert outcome.state is TaskState.FAILED
        assert outcome.reason
        assert (outcome.reason.kind, outcome.reason.cell) == ("exception", 1)
        assert (outcome.reason.ename, outcome.reason.evalue) == ("KeyError", "'k'")
        assert outcome.reason.message == "cell 2 raised KeyError: 'k'"
        assert "{}['k']" in str(outcome.reason.traceback)
        assert "\x1b" not in str(outcome.reason.traceback)
        assert statuses(notebook) == ["completed", "failed", "pending"]
        assert printed(notebook) == "one\ntwo\n"
        assert not (tmp_path / "third").exists()

    @pytest.mark.parametrize(
        ("source", "state", "kind", "marks"),
        [
            ("import sys; sys.exit(0)", "finished", "exit", ["completed", "pending"]),
            ("import sys; sys.exit()", "finished", "exit", ["completed", "pending"]),
            ("import sys; sys.exit(3)", "failed", "exception", ["failed", "pending"]),
            ("raise KeyboardInterrupt", "failed", "exception", ["failed", "pending"]),
            ("import os; os._exit(0)", "killed", "exit", ["failed", "pending"]),
            ("import os; os._exit(1)", "killed", "exit", ["failed", "pending"]),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed", "signal", ["failed", "pending"]),
            ("import os; os.abort()", "killed", "signal", ["failed", "pending"]),
        ],
    )
    def test_nb_06__only_sys_exit_0_ends_well(
        self, tmp_path: Path, source: str, state: str, kind: str, marks: list[str]
    ) -> None:
        """However a notebook leaves, the outcome says it; a kernel that is gone is no success, whatever its exit code."""
        notebook = code_notebook(source, "print('later')")
        outcome = self.execute(tmp_path, notebook)
        assert (outcome.state, outcome.reason and outcome.reason.kind) == (state, kind)
        assert outcome.reason
        assert outcome.reason.cell == 0
        assert (statuses(notebook), printed(notebook)) == (marks, "")

    def test_nb_06__a_tagged_exception_is_an_output(self, tmp_path: Path) -> None:
        """After a cell tagged `raises-exception` raised, the next cells run."""
        notebook = code_notebook("1 / 0", "print('later')", cell0=["raises-exception"])
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        assert notebook["cells"][0]["outputs"][0]["ename"] == "ZeroDivisionError"
        assert printed(notebook) == "later\n"

    def test_kn_03__a_killed_kernel_is_told_with_signal_and_cell(self, tmp_path: Path) -> None:
        """kill -9 from outside: killed, by SIGKILL, in cell 2; what it printed before is kept."""
        notebook = code_notebook(
            "import os, time", "print('before', flush=True)\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)"
        )

        def kill() -> None:
            pid = wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the cell")
            os.kill(int(pid), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        outcome = self.execute(tmp_path, notebook)
        killer.join()
        assert outcome.state is TaskState.KILLED
        assert str(outcome.reason) == "the kernel was killed by SIGKILL in cell 2"
        assert (printed(notebook), statuses(notebook)) == ("before\n", ["completed", "failed"])

    @pytest.mark.parametrize(
        "source",
        [
            "while True: pass",
            "import time\nwhile True:\n    try:\n        time.sleep(600)\n    except KeyboardInterrupt:\n        pass",
            "sum(range(10**15))",
            "import signal, time\nfor number in (2, 15): signal.signal(number, signal.SIG_IGN)\ntime.sleep(600)",
        ],
        ids=["ex_01_loop", "ex_02_swallows_interrupts", "ex_02_holds_the_gil", "ex_02_ignores_signals"],
    )
    def test_a_cell_that_runs_out_of_time_is_ended(self, tmp_path: Path, source: str) -> None:
        """Interrupted, terminated, killed: whatever the cell does, the outcome comes, and the notebook is whole."""
        notebook = code_notebook("print('before')", source)
        outcome = self.execute(tmp_path, notebook, cell_timeout=1.0)
        assert outcome.state is TaskState.TIMED_OUT
        assert outcome.reason
        assert (outcome.reason.kind, outcome.reason.cell) == ("timeout", 1)
        assert outcome.reason.message == "cell 2 took longer than its limit of 1 s"
        assert (statuses(notebook), printed(notebook)) == (["completed", "failed"], "before\n")

    @pytest.mark.parametrize("source", ["input()", "import getpass; getpass.getpass()"])
    def test_ex_05__nobody_is_asked(self, tmp_path: Path, source: str) -> None:
        """`input` and `getpass` fail at once, for there is nobody to answer."""
        outcome = self.execute(tmp_path, code_notebook(source))
        assert (outcome.state, outcome.reason and outcome.reason.ename) == (
            TaskState.FAILED,
            "StdinNotImplementedError",
        )

    def test_ex_10__each_kernel_has_its_own_directory(self, tmp_path: Path) -> None:
        """Eight notebooks at once read and write relative paths, each in its directory; this process keeps its own."""
        here = Path.cwd()
        folders = [tmp_path / str(number) for number in range(8)]
        for folder in folders:
            folder.mkdir()
            (folder / "in").write_text(folder.name)
        notebook = code_notebook("import os; print(os.getcwd())", "open('out', 'w').write(open('in').read())")
        notebooks = [copy.deepcopy(notebook) for _ in folders]
        specs = [ExecutionSpec(kernel=self.kernel, cwd=str(folder)) for folder in folders]

        async def together() -> list[Outcome]:
            engine = self.make_engine()
            return await asyncio.gather(
                *(engine.execute(n, s, no_event) for n, s in zip(notebooks, specs, strict=True))
            )

        assert {outcome.state for outcome in asyncio.run(together())} == {TaskState.FINISHED}
        assert [printed(notebook).strip() for notebook in notebooks] == [str(folder.resolve()) for folder in folders]
        assert [(folder / "out").read_text() for folder in folders] == [folder.name for folder in folders]
        assert Path.cwd() == here

    def test_ex_12__variables_reach_this_notebook_and_no_other(self, tmp_path: Path) -> None:
        """The spec's variables are in the kernel's environment, and neither in this process nor in the next kernel."""
        notebook = code_notebook("import os; print(os.environ.get('SECRET_OF_ONE'))")
        for env, told in (({"SECRET_OF_ONE": "7"}, "7\n"), ({}, "None\n")):
            self.execute(tmp_path, notebook, env=env)
            assert printed(notebook) == told
        assert "SECRET_OF_ONE" not in os.environ

    def test_cancelling_ends_the_kernel_and_tells_aborted(self, tmp_path: Path) -> None:
        """However often it is cancelled: aborted, the running cell is not called completed, and no process is left."""
        notebook = code_notebook(
            "import os; open('pid', 'w').write(str(os.getpid()))", "import time; time.sleep(600)", "3"
        )

        async def cancel() -> Outcome:
            spec = ExecutionSpec(kernel=self.kernel, cwd=str(tmp_path))
            began = asyncio.Event()
            task = asyncio.create_task(
                self.make_engine().execute(notebook, spec, lambda event: began.set() if event.cell == 1 else None)
            )
            await asyncio.wait_for(began.wait(), DEADLINE)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0.01)
            return task.result()

        outcome = asyncio.run(asyncio.wait_for(cancel(), DEADLINE))
        assert (outcome.state, outcome.reason and outcome.reason.kind) == (TaskState.ABORTED, "request")
        assert statuses(notebook) == ["completed", "failed", "pending"]
        assert not is_running(int((tmp_path / "pid").read_text()))

    def test_the_whole_tree_is_gone_when_it_ends(self, tmp_path: Path) -> None:
        """Children, those that ignore SIGTERM, and daemons that left both session and parent end with the notebook."""
        daemon = (
            "sh -c 'trap : TERM; (setsid sleep 600 & echo $!) ; echo $$; sleep 600 & echo $!; wait; wait; sleep 600'"
        )
        notebook = code_notebook(
            f"import subprocess, time\nchild = subprocess.Popen({daemon!r}, shell=True, stdout=open('pids', 'w'))\n"
            "while len(open('pids').read().split()) < 3: time.sleep(0.01)\nprint(child.pid)"
        )
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        pids = [*map(int, (tmp_path / "pids").read_text().split()), int(printed(notebook))]
        assert [pid for pid in pids if is_running(pid)] == []

    def test_kn_04__a_notebook_above_its_memory_is_killed_for_it(self, tmp_path: Path) -> None:
        """The reason tells what it held and what it might; the peak is in the outcome."""
        notebook = code_notebook("import time\nheld = bytearray(b'x') * 400_000_000\ntime.sleep(600)")
        outcome = self.execute(tmp_path, notebook, memory=200_000_000)
        assert (outcome.state, outcome.reason and outcome.reason.kind) == (TaskState.KILLED, "memory")
        assert "its limit is 200 MB" in str(outcome.reason)
        assert (outcome.peak_memory or 0) > 200_000_000

    def test_a_kernel_can_be_connected_to(self, tmp_path: Path) -> None:
        """What a notebook can ask about its connection, `%connect_info` included, is answered, for a debugger of one's own."""
        ask = "from ipykernel.connect import get_connection_file\nprint(json.load(open(get_connection_file()))['transport'])"
        notebook = code_notebook(f"import json\n{ask}", "%connect_info")
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        first, second = (cell["outputs"][0]["text"] for cell in notebook["cells"])
        assert f'"transport": "{first.strip()}"' in second

    def test_kn_16__nobody_else_can_talk_to_a_kernel(self, tmp_path: Path) -> None:
        """Its sockets are files that are closed to others, or on the loopback; only what is signed with its key is answered."""
        notebook = code_notebook(_WAITS)
        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(self._look_at_sockets, tmp_path)
            assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
            looking.result()

    @staticmethod
    def _look_at_sockets(folder: Path) -> None:
        try:
            wait_until((folder / "waits").exists, "the cell")
            pid, file = (folder / "waits").read_text().split("\n")
            kernel, told = psutil.Process(int(pid)), json.loads(Path(file).read_text())
            assert {connection.laddr.ip for connection in kernel.net_connections("inet")} <= {"127.0.0.1", "::1"}
            paths = {Path(str(connection.laddr)) for connection in kernel.net_connections("unix") if connection.laddr}
            files = {path for path in paths if path.is_socket()}
            address = f"tcp://{told['ip']}:{told['control_port']}"
            if told["transport"] == "ipc":
                address = f"ipc://{told['ip']}-{told['control_port']}"
                assert {Path(f"{told['ip']}-{told[name]}") for name in told if name.endswith("_port")} >= files
                assert Path(address.removeprefix("ipc://")) in files
            for path in {Path(file), *files}:
                assert any(place.stat().st_mode & 0o077 == 0 for place in (path, *path.parents))
            assert _answered(address, b"not the key", told["key"].encode()) == [told["key"].encode()]
        finally:
            (folder / "go").touch()

    def test_r11__a_large_output_makes_no_later_cell_slow(self, tmp_path: Path) -> None:
        """After 20 MB of text, thirty cells take about as long as thirty did before it."""
        notebook = code_notebook(*["1"] * 30, "print('x' * 20_000_000)", *["1"] * 30)
        taken = []
        for _ in range(3):
            times: dict[tuple[str, int], float] = {}

            def note(event: CellEvent, times: dict[tuple[str, int], float] = times) -> None:
                times[event.kind, event.cell] = time.monotonic()

            assert self.execute(tmp_path, notebook, note).state is TaskState.FINISHED
            assert len(printed(notebook)) == 20_000_001
            taken.append((times["ended", 29] - times["started", 0], times["ended", 60] - times["started", 31]))
        before, after = map(min, zip(*taken, strict=True))
        assert after < 4 * before

    def test_a_kernel_that_does_not_exist_is_an_outcome(self, tmp_path: Path) -> None:
        """An unknown kernel, or a directory that is not there, fails the start; nothing is raised."""
        for options in ({"kernel": "no-such-kernel"}, {"cwd": str(tmp_path / "nowhere")}):
            asked: dict[str, Any] = {"kernel": self.kernel, "cwd": str(tmp_path), **options}
            spec = ExecutionSpec(**asked)
            notebook = code_notebook("1")
            outcome = asyncio.run(self.make_engine().execute(notebook, spec, no_event))
            assert (outcome.state, outcome.reason and outcome.reason.kind) == (TaskState.FAILED, "start")
            assert statuses(notebook) == ["pending"]


def _answered(address: str, *keys: bytes) -> list[bytes]:
    """Ask the kernel that listens at *address*, once with each key, and return those that are answered until the last is."""
    asked: dict[str, bytes] = {}
    answered: list[bytes] = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as channel:
        channel.linger = 0
        channel.connect(address)
        for key in keys:
            session: Any = Session(key=key)
            asked[session.send(channel, "kernel_info_request")["header"]["msg_id"]] = key
        while keys[-1] not in answered:
            assert channel.poll(int(DEADLINE * 1000))
            _, reply = session.recv(channel)
            answered.append(asked[reply["parent_header"]["msg_id"]])
    return answered
