"""The fork engine: the contract, what it shares, what it must not, and its falls back to a kernel of its own."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from nbgrid.engines import make_engine
from nbgrid.engines._fork import ForkEngine
from nbgrid.engines.base import ExecutionSpec, Shared, no_event, thread_limits
from nbgrid.engines.environment import Kernel, fork_command
from nbgrid.errors import PreflightError
from nbgrid.states import TaskState
from nbgrid.testing import DEADLINE, EngineTests, code_notebook, printed, statuses, wait_until


class TestForkEngine(EngineTests):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def engine_of_the_class(cls):
        cls.engine = make_engine("fork")
        yield
        cls.engine.close()

    def make_engine(self):
        return self.engine


class TestForkEngineWithImports:
    """What keeps notebooks apart, where modules that one changes were loaded before it was forked."""

    kernel, execute_in_a_row = EngineTests.kernel, EngineTests.execute_in_a_row
    test_two_notebooks_in_a_row_share_no_state = EngineTests.test_two_notebooks_in_a_row_share_no_state
    test_random_numbers_differ_unless_they_are_seeded = EngineTests.test_random_numbers_differ_unless_they_are_seeded

    @pytest.fixture(autouse=True)
    def engine_of_the_test(self):
        modules = "builtins, json, logging, random, threading, warnings, uuid, psutil, numpy, pandas, matplotlib.pyplot"
        with closing(make_engine("fork", Shared(imports=(f"import {modules}",)))) as self.engine:
            yield

    def make_engine(self):
        return self.engine


@pytest.fixture
def forked(tmp_path):
    """Execute notebooks, given as sources, with one engine whose shared cells are given; return outcome and notebook."""
    engines = {}

    def run(*sources, shared=(), imports=(), found=(), apart=(), **options):
        key = shared, imports, found
        if key not in engines:
            engines[key] = ForkEngine(Shared(cells=shared, imports=imports, found=found, apart=apart))
        notebook = code_notebook(*sources)
        spec = ExecutionSpec(**{"kernel": "python3", "cwd": str(tmp_path), **options})
        execution = engines[key].execute(notebook, spec, no_event)
        return asyncio.run(asyncio.wait_for(execution, DEADLINE)), notebook

    run.engines = engines
    yield run
    for engine in engines.values():
        engine.close()


def results(notebook):
    """Return the text of each cell's result, or None."""
    found = [[o for o in cell["outputs"] if o["output_type"] == "execute_result"] for cell in notebook["cells"]]
    return [outputs[0]["data"]["text/plain"] if outputs else None for outputs in found]


# -- shared cells -------------------------------------------------------------------------------------------------------


def test_shared_cells__are_executed_once_and_appear_in_every_notebook(forked):
    """
    Their process is one, their outputs are in each notebook, and counts, In and Out are as if all had run there.
    """
    cells = (
        "import os", "# PARAMETERS\nk = 1",
        "print('hello'); os.system('echo from below')\nfirst = os.getpid(); display({'a': 1}); first",
        "first, os.getpid(), k", "In[1], In[2][-5:], In[3][:5], Out[3] == first",
    )  # fmt: skip
    seen = []
    for _ in range(2):
        outcome, notebook = forked(*cells, shared=(0, 2))
        assert (outcome.state, outcome.engine, outcome.fallback) == (TaskState.FINISHED, "fork", None)
        assert [cell["execution_count"] for cell in notebook["cells"]] == [1, 2, 3, 4, 5]
        assert statuses(notebook) == ["completed"] * 5
        assert printed(notebook) == "hello\nfrom below\n"
        assert results(notebook)[4] == "('import os', 'k = 1', 'print', True)"
        seen.append(ast.literal_eval(results(notebook)[3]))
    assert seen[0][0] == seen[1][0]
    assert len({seen[0][0], seen[0][1], seen[1][1]}) == 3


def test_shared_cells__give_what_the_kernel_engine_gives(forked, tmp_path):
    """
    Rich outputs, magics, awaits, updates of displays and errors that are allowed: the same outputs with either engine.
    """
    cells = (
        "from IPython.display import HTML, clear_output, display\nhandle = display('one', display_id='d')",
        "%env SHARED_CELL=7\nimport asyncio\nawait asyncio.sleep(0)\n"
        "print('gone'); clear_output(); print('stays')\nHTML('<b>x</b>')",
        "!echo $SHARED_CELL\nx = 1",
        "import sys; print('err', file=sys.stderr); get_ipython().execution_count",
        "In, get_ipython().execution_count; handle.update('two'); import os; x += 1; x, os.environ['SHARED_CELL']",
    )
    _, ours = forked(*cells, shared=(0, 1, 3))
    theirs = code_notebook(*cells)
    spec = ExecutionSpec(kernel="python3", cwd=str(tmp_path))
    asyncio.run(make_engine("kernel").execute(theirs, spec, no_event))
    for mine, other in zip(ours["cells"], theirs["cells"], strict=True):
        assert mine["outputs"] == other["outputs"]
        assert mine["execution_count"] == other["execution_count"]


def test_shared_cells__that_fail_end_the_task_with_their_traceback(forked):
    """
    The reason is `shared`, and names the cell and the error; the error is among its outputs, and nothing after it has run.
    """
    outcome, notebook = forked("x = 1", "print('before')\n1 / 0", "open('ran', 'w')", shared=(0, 1))
    assert (outcome.state, outcome.reason and outcome.reason.kind) == (TaskState.FAILED, "shared")
    assert outcome.reason
    assert (
        str(outcome.reason)
        == "cell 2, which is executed once for all tasks, raised ZeroDivisionError: division by zero"
    )
    assert "1 / 0" in str(outcome.reason.traceback)
    assert statuses(notebook) == ["completed", "failed", "pending"]
    assert [output["output_type"] for output in notebook["cells"][1]["outputs"]] == ["stream", "error"]


def test_shared_cells__that_take_too_long_are_ended(forked):
    """
    The limit of a cell is theirs too.
    """
    outcome, notebook = forked("x = 1", "import time; time.sleep(600)", "x", shared=(0, 1), cell_timeout=1.0)
    assert (outcome.state, outcome.reason and outcome.reason.kind) == (TaskState.TIMED_OUT, "shared")
    assert "cell 2, which is executed once for all tasks, took longer than its limit of 1 s" in str(outcome.reason)
    assert statuses(notebook) == ["pending", "failed", "pending"]


def test_shared_cells__ask_nobody(forked):
    """
    `input` in a shared cell fails as it does in any other.
    """
    outcome, _ = forked("input()", "1", shared=(0,))
    assert (outcome.state, outcome.reason and outcome.reason.ename) == (TaskState.FAILED, "StdinNotImplementedError")


@pytest.mark.parametrize("seeded", [False, True])
def test_random_state__is_fresh_in_each_task_unless_a_shared_cell_seeds_it(forked, seeded):
    """
    Two tasks draw other numbers, from `random` and from NumPy; the same where the shared cell has seeded the generators.
    """
    seed = "random.seed(1); np.random.seed(1)" if seeded else "random.random(), np.random.rand()"
    cells = ("import random\nimport numpy as np", seed, "random.random(), np.random.rand()")
    first, second = (results(forked(*cells, shared=(0, 1))[1])[2] for _ in range(2))
    assert (first == second) is seeded


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("import random\nx = random.random()", "it draws random numbers from random's global generator, which nothing has"),
        ("import numpy as np\nx = np.random.rand()", "it draws random numbers from numpy's global generator, which nothing"),
        ("import numpy as np\nx = np.random.default_rng().random()", "it draws random numbers without a seed"),
        ("import uuid\nx = uuid.uuid4()", "it draws random numbers without a seed"),
        ("import helper\nx = helper.draw()", "it draws random numbers from numpy's global generator, which nothing has seeded"),
        ("import threading\nx = threading.Thread(target=threading.Event().wait, daemon=True, name='waits')\nx.start()",
         "waits is a thread that a fork would end"),
        ("from comm import create_comm\nx = create_comm(target_name='jupyter.widget')", "it makes a widget"),
        ("before.append(2)\nassert len(before) == 2\nx = before[5]", "it raised IndexError"),
    ],
)  # fmt: skip
def test_a_cell_that_was_found_to_be_shared__is_not_if_executing_it_shows_otherwise(forked, tmp_path, cell, why):
    """
    It and the found ones below are executed in every task, with what is above as it was before; kernels are forked all the same.
    """
    (tmp_path / "helper.py").write_text("def draw():\n    import numpy.random\n    return numpy.random.rand()\n")
    cells = (
        "import os; before = [1]; first = os.getpid()",
        cell,
        "below = os.getpid()",
        "first, below == os.getpid(), str(x)",
    )
    told = [forked(*cells, shared=(0, 1, 2), found=(0, 1, 2)) for _ in range(2)]
    shown = []
    for outcome, notebook in told:
        assert (outcome.engine, outcome.fallback) == ("fork", None)
        assert outcome.unshared.startswith(f"cell 2 was not shared, nor what could be below it: {why}")
        if "IndexError" in why:
            assert (outcome.state, outcome.reason.kind, outcome.reason.cell) == (TaskState.FAILED, "exception", 1)
        else:
            assert outcome.state is TaskState.FINISHED
            shown.append(ast.literal_eval(results(notebook)[3]))
    if shown:
        assert shown[0][0] == shown[1][0]
        assert shown[0][1] and shown[1][1]
    if "draws" in why:
        assert shown[0][2] != shown[1][2]


def test_a_seeded_generator__may_be_used_ahead_unless_a_cell_between_may_draw_from_it(forked):
    """
    Cells that nothing separates from the seed draw as they would in each task.
    """
    cells = ("import numpy as np\nnp.random.seed(0)", "x = np.random.rand()", "pass", "y = np.random.rand()", "x, y")
    whole, _ = forked(*cells, shared=(0, 1, 3), found=(0, 1, 3))
    assert whole.unshared is None
    outcome, notebook = forked(*cells, shared=(0, 1, 3, 4), found=(0, 1, 3, 4), apart=(3, 4))
    assert outcome.unshared.endswith(
        "it draws random numbers from numpy's global generator, after a cell that may do so, too"
    )
    assert outcome.state is TaskState.FINISHED
    assert results(notebook)[4] == "(0.5488135039273248, 0.7151893663724195)"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing__of_a_shared_cell_works_again_in_each_task(forked, method):
    """
    With whatever the first use has started, such as a process that watches resources.
    """
    use = (
        f"context = multiprocessing.get_context({method!r})\nwith context.Pool(2) as pool: print(pool.map(abs, [-1]))\n"
        "pool.join()\nmemory = shared_memory.SharedMemory(create=True, size=9); memory.close(); memory.unlink()"
    )
    for _ in range(2):
        outcome, notebook = forked(
            "import multiprocessing\nfrom multiprocessing import shared_memory", use, use, shared=(0, 1)
        )  # fmt: skip
        assert (outcome.state, outcome.fallback) == (TaskState.FINISHED, None)
        assert printed(notebook) == "[1]\n[1]\n"
        names = {output.get("name") for cell in notebook["cells"] for output in cell["outputs"]}
        assert names == {"stdout"}


def test_memory__that_is_shared_is_no_tasks_own(forked):
    """
    An array of 400 MB, made in a shared cell, is in every kernel and counts in none.
    """
    cells = ("import numpy as np", "big = np.ones(50_000_000)", "float(big.sum())")
    for _ in range(2):
        outcome, notebook = forked(*cells, shared=(0, 1))
        assert results(notebook)[2] == "50000000.0"
        assert 0 < (outcome.peak_memory or 0) < 200_000_000


def test_memory__of_kernels_that_live_at_once_is_not_so_many_times_the_shared(forked, tmp_path):
    """
    Four kernels and their server hold an array of 400 MB once among them, though each has read all of it; a page that a kernel
    writes to is its own, and counts.
    """
    size, own, count = 400_000_000, 50_000_000, 4
    cells = (
        "import numpy as np\nbig = np.ones(50_000_000)", "import os, time",
        f"total = float(big.sum()); big[:{own // 8}] = 2\nopen(f'{{os.getpid()}}.p', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\ntotal",
    )  # fmt: skip

    def look():
        try:
            wait_until(lambda: len(list(tmp_path.glob("*.p"))) == count, "the kernels")
            (engine,) = forked.engines.values()
            pids = [engine._server.process.pid, *(int(path.stem) for path in tmp_path.glob("*.p"))]
            return sum(proportional_memory(pid) for pid in pids)
        finally:
            (tmp_path / "go").touch()

    forked(cells[0], shared=(0,))  # so that the server is ready
    with ThreadPoolExecutor(count + 1) as pool:
        looking = pool.submit(look)
        done = [pool.submit(forked, *cells, shared=(0,)) for _ in range(count)]
        held = looking.result()
        ended = [future.result() for future in done]
    assert [results(notebook)[2] for _, notebook in ended] == ["50000000.0"] * count
    assert size + count * own < held < 2 * size + count * own
    assert all(own < (outcome.peak_memory or 0) < size / 2 for outcome, _ in ended)


def proportional_memory(pid):
    """Return the bytes of *pid*, of which each page counts as many times less as processes share it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def test_threads__of_openmp_and_blas_are_the_tasks_share_after_the_fork(forked):
    """
    Libraries used in a shared cell are used again in the task: no hang, the same result, and the share of threads again.
    """
    pools = "import threadpoolctl\n[sorted({p['num_threads'] for p in threadpoolctl.threadpool_info()})]"
    fit = (
        "bool(abs(KMeans(3, n_init=1, random_state=0).fit(X).inertia_ / inertia - 1) < 1e-9), "
        "bool(abs((X @ X.T).sum() / total - 1) < 1e-9)"
    )
    cells = (
        "import numpy as np\nfrom sklearn.cluster import KMeans",
        "X = np.random.RandomState(0).rand(2000, 8); total = float((X @ X.T).sum())\n"
        "inertia = KMeans(3, n_init=1, random_state=0).fit(X).inertia_",
        pools, fit, "import os; os.environ['OMP_NUM_THREADS']",
    )  # fmt: skip
    _, notebook = forked(*cells, shared=(0, 1), env=thread_limits(2, {}))
    assert results(notebook)[2:] == ["[[2]]", "(True, True)", "'2'"]


# -- what is not shared -------------------------------------------------------------------------------------------------


def test_tasks__share_no_state(forked):
    """
    What one task does to modules, the environment, the directory, matplotlib and its descriptors, the next does not see.
    """
    look = (
        "(hasattr(math, 'mine'), 'MINE' in os.environ, os.getcwd() == '/', mpl.rcParams['lines.linewidth'], "
        "len(os.listdir('/proc/self/fd')))"
    )
    imports = ("import math, os", "import matplotlib as mpl")
    spoil = (
        "math.mine = 1; os.environ['MINE'] = '1'; mpl.rcParams['lines.linewidth'] = 9; os.chdir('/')\n"
        "kept = open('/proc/self/maps')"
    )
    cells = ("import math, os\nimport matplotlib as mpl", look, spoil)
    first, second = (results(forked(*cells, imports=imports)[1])[1] for _ in range(2))
    assert first == second
    assert first.startswith("(False, False, False, 1.5")


def test_imports__are_loaded_before_the_fork_and_bound_by_the_cell(forked):
    """
    A module that the template begins with is there already; its name is not.
    """
    cells = ("import sys; 'wave' in sys.modules, 'wave' in globals()", "import wave; 'wave' in globals()")
    assert results(forked(*cells, imports=("import wave", "import no_such_module_at_all"))[1]) == [
        "(True, False)",
        "True",
    ]


def test_imports__of_jsonschema_load_its_grammar_when_it_is_asked(forked):
    """
    A check of an IRI is made as ever, though the second that it takes to build the grammar is not spent before.
    """
    pytest.importorskip("rfc3987_syntax")
    cells = (
        "import jsonschema, sys\n'rfc3987_syntax' in sys.modules",
        "check = lambda iri: jsonschema.FormatChecker().conforms(iri, 'iri')\ncheck('http://a.org/\u00e9'), check('no iri')",
        "import rfc3987_syntax\nrfc3987_syntax is sys.modules['rfc3987_syntax'], rfc3987_syntax.is_valid_syntax('iri', 'a:b')",
    )
    outcome, notebook = forked(*cells, imports=("import jsonschema",))
    assert (outcome.state, outcome.engine) == (TaskState.FINISHED, "fork")
    assert results(notebook) == ["False", "(True, False)", "(True, True)"]


def test_nothing_is_left_over(forked, tmp_path, monkeypatch):
    """
    After sixty tasks this process and the server have as many descriptors, threads, children and temporary files as after
    three, whatever the tasks leave behind; after the end, there is no server.
    """
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    ends = (
        "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)",
        "import tempfile; tempfile.mkdtemp()", "1 / 0", "import os; os._exit(1)", "import os; os.fork() or os._exit(0)",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    )  # fmt: skip

    def count():
        here = psutil.Process()
        return (
            [(one.num_fds(), one.num_threads()) for one in (here, server)],
            [process.pid for process in here.children(recursive=True)], sorted(folder.iterdir()),
        )  # fmt: skip

    forked("1")
    (engine,) = forked.engines.values()
    server = psutil.Process(engine._server.process.pid)
    counts = []
    for number in range(60):
        forked("pass", ends[number % len(ends)], env={"TMPDIR": str(tmp_path)})
        counts.append(count())
    assert counts[-1] == counts[2]
    assert counts[-1][1:] == ([server.pid], [])
    engine.close()
    assert not server.is_running()


# -- faults -------------------------------------------------------------------------------------------------------------


def test_a_lost_server__takes_its_task_along_and_the_next_gets_a_new_one(forked, tmp_path):
    """
    kill -9 of the server: the task is killed for that reason; the next runs; after three losses kernels are started.
    """
    outcomes = []
    for _ in range(4):
        (tmp_path / "pid").unlink(missing_ok=True)

        def kill():
            wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the cell")
            (engine,) = forked.engines.values()
            if engine._server is not None and engine._server.is_alive:
                engine._server.process.kill()
            else:  # a kernel of its own
                os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        cell = "import os, time; open('p', 'w').write(str(os.getpid())); os.rename('p', 'pid'); time.sleep(600)"
        outcomes.append(forked(cell)[0])
        killer.join()
    assert [outcome.state for outcome in outcomes] == [TaskState.KILLED] * 4
    assert [outcome.reason and outcome.reason.kind for outcome in outcomes] == ["server"] * 3 + ["signal"]
    assert "the fork server was lost" in str(outcomes[0].reason)
    assert [outcome.fallback for outcome in outcomes] == [None] * 3 + ["the fork server was lost 3 times"]


def test_a_thread__that_a_fork_would_end_means_a_kernel_of_its_own(forked):
    """
    A shared cell that leaves a thread running: the notebook is executed all the same, and the reason is told.
    """
    cell = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True, name='clock').start()"
    outcome, notebook = forked(cell, "1 + 1", shared=(0,))
    assert (outcome.state, outcome.engine) == (TaskState.FINISHED, "kernel")
    assert outcome.fallback == "clock is a thread that a fork would end"
    assert results(notebook)[1] == "2"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"), ([], [])),
        ((sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel", "-f", "{connection_file}", "--colors=NoColor"),
         (["-Xfrozen_modules=off"], ["--colors=NoColor"])),
        (("/opt/other/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"), "another Python, /opt/other"),
        (("bash", "-c", "exec python"), "does not start ipykernel"),
        (("python", "-m", "ipykernel_launcher", "--f={connection_file}"), "in an unusual way"),
    ],
)  # fmt: skip
def test_the_command_of_a_kernel__decides_whether_it_can_be_forked(argv, told):
    """
    An ipykernel of this Python can, with its options; another Python, another program or a strange command cannot.
    """
    kernel = Kernel("some", "python", argv)
    if isinstance(told, str):
        with pytest.raises(PreflightError, match=told):
            fork_command(kernel)
        return
    command, arguments = fork_command(kernel)
    assert command == [sys.executable, *told[0]]
    assert arguments[: len(told[1])] == told[1]
