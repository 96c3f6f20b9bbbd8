"""What any engine must do with what notebooks do: show, compute in threads and processes, and keep to themselves."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from nbgrid.engines.base import CellEvent, Engine, ExecutionSpec, Outcome, no_event
from nbgrid.states import TaskState
from nbgrid.testing._fakes import DEADLINE, code_notebook, is_running, printed, statuses
from nbgrid.typing import Notebook

_IMPORTS = """
import builtins, json, logging, os, random, signal, sys, threading, types, warnings
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psutil
"""

_CHANGES = """
leaked = builtins.leaked = json.leaked = True
os.environ["LEAKED"] = "1"
os.chdir("/")
os.umask(0o077)
plt.rcParams["figure.dpi"] = 7
plt.figure()
random.seed(0)
np.random.seed(0)
np.set_printoptions(precision=1)
np.seterr(all="ignore")
pd.set_option("display.max_rows", 1)
sys.path.append("/leaked")
sys.modules["leaked"] = types.ModuleType("leaked")
sys.setrecursionlimit(900)
warnings.simplefilter("error")
logging.basicConfig(level=1)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
held = open("/dev/null")
beside = open(here + "/leaked", "w")
threading.Thread(target=threading.Event().wait, daemon=True).start()
get_ipython().ast_node_interactivity = "all"
get_ipython().register_magic_function(print, magic_name="leaked")
"""

_LOOKS = """
print(sorted(name for name in globals() if not name.startswith("_")), hasattr(builtins, "leaked"), hasattr(json, "leaked"))
print(sorted(os.environ), os.getcwd(), os.umask(0o022), sys.path, "leaked" in sys.modules, sys.getrecursionlimit())
print(plt.rcParams["figure.dpi"], plt.get_fignums(), np.get_printoptions(), np.geterr(), pd.get_option("display.max_rows"))
print(warnings.filters, logging.root.handlers, logging.root.level, signal.getsignal(signal.SIGUSR1))
print([file.path for file in psutil.Process().open_files() if "leaked" in file.path])
print([thread.name for thread in threading.enumerate() if thread.name.startswith("Thread-")])
print(get_ipython().ast_node_interactivity, "leaked" in get_ipython().magics_manager.magics["line"], In, Out)
"""

_CHILDREN = """
import multiprocessing, os, psutil, threading, time
context = multiprocessing.get_context({method!r})
with context.Pool(2) as pool: print(pool.map(abs, [-1, 2]))
for _ in range(2): context.Process(target=time.sleep, args=(600,)).start()
threading.Thread(target=time.sleep, args=(600,)).start()
children = psutil.Process().children(recursive=True)
print(len(children) >= 2)
open("pids", "w").write(" ".join(str(child.pid) for child in children))
"""

_WIDGET = """
from comm import create_comm
state = {"_model_name": "SliderModel", "_model_module": "sliders", "_model_module_version": "1.0", "value": 1}
slider = create_comm("jupyter.widget", data={"state": state, "buffer_paths": []}, comm_id="slider")
"""


class NotebookTests:
    """The part of the contract of `Engine` that is about what a Python notebook may do."""

    kernel = "python3"

    def make_engine(self) -> Engine:
        """Return an engine."""
        raise NotImplementedError

    def execute(self, tmp_path: Path, notebook: Notebook, on_event: Any = no_event, **options: Any) -> Outcome:
        """Return the outcome of *notebook*, executed in *tmp_path*."""
        spec = ExecutionSpec(kernel=self.kernel, **{"cwd": str(tmp_path), **options})
        return asyncio.run(asyncio.wait_for(self.make_engine().execute(notebook, spec, on_event), DEADLINE))

    def execute_in_a_row(self, *notebooks: tuple[Path, Notebook]) -> list[str]:
        """Execute each of the *notebooks* in its folder, one after the other by one engine, and return what they printed."""

        async def in_a_row() -> list[TaskState]:
            engine = self.make_engine()
            specs = [ExecutionSpec(kernel=self.kernel, cwd=str(folder)) for folder, _ in notebooks]
            return [
                (await engine.execute(notebook, spec, no_event)).state
                for (_, notebook), spec in zip(notebooks, specs, strict=True)
            ]

        ended = asyncio.run(asyncio.wait_for(in_a_row(), DEADLINE))
        assert ended == [TaskState.FINISHED] * len(notebooks)
        return [printed(notebook) for _, notebook in notebooks]

    # -- what is shown ----------------------------------------------------------------------------------------------

    def test_rich_outputs_have_all_their_kinds(self, tmp_path: Path) -> None:
        """A table is text and HTML, a figure text and PNG, and each stands where it was shown."""
        notebook = code_notebook(
            "import matplotlib.pyplot as plt\nimport pandas as pd",
            "print('before'); display(pd.DataFrame({'a': [1]})); print('after')",
            "plt.figure(figsize=(1, 1)); plt.plot([1, 2]);",
        )
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        before, table, after = notebook["cells"][1]["outputs"]
        assert (before["text"], after["text"]) == ("before\n", "after\n")
        assert "<th>a</th>" in table["data"]["text/html"]
        assert "a\n0  1" in table["data"]["text/plain"]
        (figure,) = notebook["cells"][2]["outputs"]
        assert figure["data"]["image/png"].startswith("iVBOR")
        assert figure["data"]["text/plain"].startswith("<Figure size")

    def test_an_update_changes_what_was_displayed(self, tmp_path: Path) -> None:
        """`update_display` of a later cell changes the output of the earlier one, and adds none."""
        notebook = code_notebook(
            "from IPython.display import update_display", "display('old', display_id='it')",
            "update_display('new', display_id='it')",
        )  # fmt: skip
        notebook["cells"][1]["source"] += ";"
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        assert [output["data"]["text/plain"] for output in notebook["cells"][1]["outputs"]] == ["'new'"]
        assert notebook["cells"][2]["outputs"] == []

    def test_what_is_cleared_is_gone(self, tmp_path: Path) -> None:
        """`clear_output` empties the cell, with `wait` as soon as something else is shown."""
        clearing = "from IPython.display import clear_output\nprint('gone', flush=True); clear_output({}); {}"
        notebook = code_notebook(
            clearing.format("", "print('kept')"),
            clearing.format("", ""),
            clearing.format("wait=True", "print('kept')"),
            clearing.format("wait=True", "").replace("gone", "kept"),
        )
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        texts = ["".join(output["text"] for output in cell["outputs"]) for cell in notebook["cells"]]
        assert texts == ["kept\n", "", "kept\n", "kept\n"]

    def test_the_state_of_widgets_is_in_the_metadata(self, tmp_path: Path) -> None:
        """As they were at the end, so that the notebook shows them without a kernel."""
        notebook = code_notebook(_WIDGET, "slider.send({'method': 'update', 'state': {'value': 7}})")
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        states = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
        assert (states["slider"]["model_name"], states["slider"]["state"]["value"]) == ("SliderModel", 7)
        notebook = code_notebook("1")
        self.execute(tmp_path, notebook)
        assert "widgets" not in notebook["metadata"]

    def test_magics_and_commands_work(self, tmp_path: Path) -> None:
        """Of a line, of a cell, of the shell; with variables in both directions."""
        notebook = code_notebook(
            "%env ASKED=yes\nword = 'said'\nlines = !echo {word}; echo $$ASKED\nprint(lines)",
            "%%bash\necho from bash; echo wrong >&2",
            "%%time\n1 + 1",
            "timing = %timeit -n 1 -r 1 -q -o 1\nprint(timing.loops)",
            "%%writefile written.py\nx = 5",
            "%run written.py\nprint(x)\n%cd ..\n%pwd",
        )
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        said = printed(notebook)
        for words in ("['said', 'yes']", "from bash\n", "Wall time", "1\n", "5\n"):
            assert words in said
        assert {output["text"] for output in notebook["cells"][1]["outputs"]} == {"from bash\n", "wrong\n"}
        assert notebook["cells"][5]["outputs"][-1]["data"]["text/plain"] == repr(str(tmp_path.resolve().parent))

    def test_a_traceback_shows_the_notebooks_own_lines(self, tmp_path: Path) -> None:
        """From the cell to the function that raised, through other cells; nothing of what executes the notebook is in it."""
        notebook = code_notebook("def inner(n):\n    return 1 / n", "def outer(n):\n    return inner(n)\n\nouter(0)")
        outcome = self.execute(tmp_path, notebook)
        assert outcome.reason
        told = str(outcome.reason.traceback)
        lines = ["----> 4 outer(0)", "----> 2     return inner(n)", "----> 2     return 1 / n"]
        places = [told.find(line) for line in lines]
        assert -1 not in places
        assert places == sorted(places)
        assert told.count("---> ") == 3
        assert told.rstrip().endswith("ZeroDivisionError: division by zero")
        assert "site-packages" not in told
        assert notebook["cells"][1]["outputs"][0]["ename"] == "ZeroDivisionError"

    @pytest.mark.parametrize(
        ("source", "ename"),
        [
            ("while True: pass", "KeyboardInterrupt"),
            ("import asyncio\nwhile True: await asyncio.sleep(0.01)", "CancelledError"),
        ],
        ids=["loop", "coroutine"],
    )
    def test_an_interrupt_is_shown_where_it_came(self, tmp_path: Path, source: str, ename: str) -> None:
        """A cell that ran out of time has the traceback of its interrupt."""
        notebook = code_notebook(source)
        assert self.execute(tmp_path, notebook, cell_timeout=1.0).state is TaskState.TIMED_OUT
        assert [output["ename"] for output in notebook["cells"][0]["outputs"]] == [ename]

    # -- threads and processes --------------------------------------------------------------------------------------

    def test_threads_print_while_cells_run(self, tmp_path: Path) -> None:
        """Also one that an earlier cell started."""
        notebook = code_notebook(
            "import threading\ngo = threading.Event()\ndef waits(): go.wait(); print('late')\n"
            "thread = threading.Thread(target=waits); thread.start()\n"
            "early = threading.Thread(target=print, args=['early']); early.start(); early.join()",
            "go.set(); thread.join()",
        )
        assert self.execute(tmp_path, notebook).state is TaskState.FINISHED
        assert printed(notebook) == "early\nlate\n"

    @pytest.mark.parametrize(
        ("method", "last", "state"),
        [
            ("fork", "1 / 0", TaskState.FAILED),
            ("spawn", "os._exit(1)", TaskState.KILLED),
            ("forkserver", "os.kill(os.getpid(), 9)", TaskState.KILLED),
            ("fork", "'the end'", TaskState.FINISHED),
        ],
    )
    def test_kn_05__children_of_a_notebook_work_and_are_gone(
        self, tmp_path: Path, method: str, last: str, state: TaskState
    ) -> None:
        """multiprocessing gives its results; whatever the end, it comes, and none of the children outlives it."""
        notebook = code_notebook(_CHILDREN.format(method=method), last)
        assert self.execute(tmp_path, notebook).state is state
        assert printed(notebook) == "[1, 2]\nTrue\n"
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert [pid for pid in pids if is_running(pid)] == []

    @pytest.mark.parametrize(
        "last",
        [
            "'stopped'",
            "import atexit, time; atexit.register(time.sleep, 600);",
            "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()",
        ],
        ids=["stopped", "atexit", "thread"],
    )
    def test_ex_08__a_kernel_that_does_not_leave_is_ended(self, tmp_path: Path, last: str) -> None:
        """One that answers no more after the last cell is waited for in vain, but not for long, and the results are kept."""
        notebook = code_notebook("import os; open('pid', 'w').write(str(os.getpid())); print('kept')", last)

        def stop(event: CellEvent) -> None:
            if (event.kind, event.cell, last) == ("ended", 1, "'stopped'"):
                os.kill(int((tmp_path / "pid").read_text()), signal.SIGSTOP)

        outcome = self.execute(tmp_path, notebook, stop)
        assert (outcome.state, outcome.reason) == (TaskState.FINISHED, None)
        assert (statuses(notebook), printed(notebook)) == (["completed"] * 2, "kept\n")
        assert not is_running(int((tmp_path / "pid").read_text()))

    # -- keeping to themselves --------------------------------------------------------------------------------------

    def test_two_notebooks_in_a_row_share_no_state(self, tmp_path: Path) -> None:
        """A notebook finds the same before and after another one that changed whatever it could."""
        here = f"here = {str(tmp_path)!r}"
        looks, changes = code_notebook(_IMPORTS, here, _LOOKS), code_notebook(_IMPORTS, here, _CHANGES)
        again = copy.deepcopy(looks)
        before, _, after = self.execute_in_a_row((tmp_path, looks), (tmp_path, changes), (tmp_path, again))
        assert (tmp_path / "leaked").exists()
        assert before == after

    def test_each_notebook_has_the_modules_beside_it(self, tmp_path: Path) -> None:
        """Two modules of one name, in two folders, are not mixed up, and neither are two versions of one file."""
        notebooks = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "beside.py").write_text(f"import os\nNAME, WHERE = {name!r}, os.getcwd()\n")
            notebooks.append((tmp_path / name, code_notebook("import beside", "print(beside.NAME, beside.WHERE)")))
        told = self.execute_in_a_row(*notebooks)
        assert told == [f"{folder.name} {folder.resolve()}\n" for folder, _ in notebooks]
        (tmp_path / "two/beside.py").write_text("NAME = 'of a later version'\nWHERE = 2\n")
        assert self.execute_in_a_row(notebooks[1]) == ["of a later version 2\n"]

    def test_random_numbers_differ_unless_they_are_seeded(self, tmp_path: Path) -> None:
        """Two executions draw different numbers, from each generator; with a seed they draw the same."""
        imports = "import random\nimport uuid\nimport numpy as np"
        draws = "print(random.random(), np.random.rand(), np.random.default_rng().random(), uuid.uuid4())"
        one, other = code_notebook(imports, draws), code_notebook(imports, draws)
        drawn, drawn_again = self.execute_in_a_row((tmp_path, one), (tmp_path, other))
        assert len({*drawn.split(), *drawn_again.split()}) == 8
        seeded = "random.seed(0); np.random.seed(0)\nprint(random.random(), np.random.rand())"
        one, other = code_notebook(imports, seeded), code_notebook(imports, seeded)
        drawn, drawn_again = self.execute_in_a_row((tmp_path, one), (tmp_path, other))
        assert drawn == drawn_again
