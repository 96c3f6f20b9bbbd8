"""Cells executed once because the data flow allows it: which they are, why others are not, and that it is true."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from making import code, markdown, notebook_content, raw

from nbgrid.shared import Sharing, sharing

EXAMPLES = int(os.environ.get("NBGRID_EXAMPLES", "50"))
PARAMETERS = code("# PARAMETERS\nk = 1", "parameters")


def found(*cells: dict[str, Any] | str, language: str = "python") -> Sharing:
    """Return what the data flow says of a notebook of *cells*."""
    whole = [code(cell) if isinstance(cell, str) else cell for cell in cells]
    return sharing(json.loads(notebook_content(*whole, language=language)), "t.ipynb", ["k"], "auto")


def test_what_no_parameter_reaches_is_executed_once() -> None:
    """
    The seed's notebook: data are made below the parameters cell, and the same in every task.
    """
    told = found(
        raw("grid: {k: [1, 2]}"),
        "import time\nimport matplotlib.pyplot as plt\nfrom sklearn.cluster import KMeans\n%matplotlib inline",
        PARAMETERS,
        markdown("# Data"),
        "from sklearn.datasets import make_blobs\nX, _ = make_blobs(n_samples=100, centers=5, random_state=0)",
        "model = KMeans(n_clusters=k, random_state=0)",
        "then = time.time()",
        "score = model.fit(X).score(X)\nelapsed = time.time() - then",
        "score",
    )
    assert told.cells == told.found == (1, 4)
    assert told.apart == ()
    assert told.reasons == {
        5: "depends on k, a parameter",
        6: "asks what time it is (time.time)",
        7: "asks what time it is (time.time)",
        8: "uses score, which cell 8 binds",
    }


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("x = k", "depends on k, a parameter"),
        ("def f():\n    return k", "depends on k, a parameter"),
        ("k = 3", "depends on k, a parameter"),
        ("%time x = 1", r"holds a magic \(%time\)"),
        ("!ls", r"holds a magic \(!ls\)"),
        ("%%bash\nls", r"holds a magic \(%%bash\)"),
        ("x?", r"holds a magic \(\?\)"),
        ("from math import *", r"imports \* from math"),
        ("globals()['x'] = 1", "calls globals"),
        ("x = eval('1')", "calls eval"),
        ("setattr(int, 'x', 1)", "calls setattr"),
        ("import time\nx = time.time()", r"asks what time it is \(time.time\)"),
        ("from time import time\nx = time()", "uses time.time, which differs from process to process"),
        ("import datetime as dt\nx = dt.datetime.now()", r"asks what time it is \(dt.datetime.now\)"),
        ("import pandas as pd\nx = pd.Timestamp.today()", r"asks what time it is \(pd.Timestamp.today\)"),
        ("import os\nx = os.getpid()", "uses os.getpid, which differs from process to process"),
        ("import os\nx = os.environ.get('A')", "uses os.environ.get, which differs"),
        ("import os\ny = os", "uses os, which differs"),
        ("import numpy as np\nr = np.random.default_rng()", r"makes a generator of random numbers without a seed"),
        ("import numpy as np\nr = np.random.RandomState(None)", r"makes a generator of random numbers without a seed"),
        ("import pandas as pd\npd.DataFrame().to_csv('x.csv')", r"may write something \(to_csv\)"),
        ("f = open('x')", "opens a file otherwise"),
        ("with open('x', 'w') as f: pass", "opens a file otherwise"),
        ("await f()", "awaits"),
        ("x = id(3)", "calls id"),
        ("this is no Python", "is no Python that can be read"),
        (code("1 / 0", "raises-exception"), "is expected to raise an exception"),
    ],
)
def test_what_may_differ_between_tasks_is_executed_in_each(source: Any, why: str) -> None:
    """
    Parameters, magics, names that nobody can foresee, time, processes, random numbers, files that are written.
    """
    ((index, reason),) = found(PARAMETERS, source).reasons.items()
    assert index == 1
    assert re.match(why, reason), reason


@pytest.mark.parametrize(
    "source",
    [
        "import os\nx = os.path.join('a', 'b')", "import sys\nsys.path.append('lib')",
        "with open('x.json') as f:\n    y = f.read()",
        "import numpy as np\nr = np.random.default_rng(3)", "import numpy as np\nnp.random.seed(1)\nx = np.random.rand(3)",
        "import datetime\nd = datetime.timedelta(days=1)", "import pandas as pd\nf = pd.read_csv('x.csv')\nf.head()",
        "def f(k):\n    return k", "x = [k for k in range(3)]", "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()",
        "class A:\n    k = 1", "print('k')", "f = lambda k: k",
    ],
)  # fmt: skip
def test_what_is_the_same_in_every_task_is_not_held_back(source: str) -> None:
    """
    Local names, files that are read, generators with a seed, modules that only look like what differs.
    """
    assert found(PARAMETERS, source).found == (1,)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["x = k", "y = x"], "uses x, which cell 2 binds"),
        (["x = []", "x.append(k)", "y = x"], "uses x, which cell 3 may change"),
        (["x = []", "y = x", "y.append(k)", "z = x"], "uses x, which cell 4 may change"),
        (["x = []\ndef f(a):\n    x.append(a)", "f(k)", "z = x"], "uses x, which cell 3 may change"),
        (["x = {}", "x['a'] = k", "z = x"], "uses x, which cell 3 may change"),
        (["x = iter([1])", "for a in x: k", "z = next(x)"], "uses x, which cell 3 may change"),
        (["x = 1", "y = x + k", "x = 2"], "binds x, which cell 3 uses before"),
        (["x = [1]", "y = x[0] + k", "x.append(1)"], "may change x, which cell 3 uses before"),
        (["import warnings", "y = int(k)\nprint(warnings)", "%run other.py", "z = 1"], "stands below cell 4, which may bind or"),
        (["import seaborn as s", "s.set_theme(k)", "z = s.load_dataset('a')"], "calls something after cell 3 has done"),
        (["import seaborn as s", "p = s.plot(k)", "s.set_theme()"], "does what may matter to cell 3, which stands before it"),
        (["class A:\n    all = []\n    def __init__(self):\n        self.all.append(1)", "a = A()\nk", "b = A()"],
         "uses A, which cell 3 may change"),
        (["def f(a, seen=[]):\n    seen.append(a)\n    return seen", "f(k)", "b = f(2)"], "uses f, which cell 3 may change"),
        (["k", "x = 1", "print(_)", "x"], "looks back with _"),
    ],
)  # fmt: skip
def test_the_order_of_cells_is_kept_where_it_matters(cells: list[str], why: str) -> None:
    """
    A cell is not executed before one above it that binds, uses or may change what it has to do with, by another name too.
    """
    reasons = found(PARAMETERS, *cells).reasons
    assert any(reason.startswith(why) for reason in reasons.values()), reasons


def test_what_only_looks_connected_is_not() -> None:
    """
    Numbers that are never changed, functions that keep nothing, arguments and locals of a known name connect no cells.
    """
    told = found(
        "size = 5", "def double(x):\n    return x * 2", PARAMETERS, "X = double([size])", "a = double([k, size])",
        "b = double([size])", "c = sorted([k])", "d = sorted([size])",
    )  # fmt: skip
    assert told.found == (0, 1, 3, 5, 7)
    assert told.apart == (5, 7)


def test_what_nobody_executes_has_no_say() -> None:
    """
    Skipped and empty cells are neither shared nor reasons; another language shares nothing.
    """
    assert found(PARAMETERS, code("x = k", "skip-execution"), "", "x = 1").found == (3,)
    assert found(PARAMETERS, "x <- 1", language="R") == Sharing()


def test_a_value_that_is_looked_back_at_is_made_in_its_turn() -> None:
    """
    A cell that ends with a value sets `_`; where a cell reads that, none such is executed ahead.
    """
    told = found(PARAMETERS, "x = [1]", "x", "y = _", "z = 1")
    assert told.found == (1, 4)
    assert told.reasons[2] == "ends with a value, and the notebook looks back at those with `_` or `Out`"


def test_tagged_cells_come_first_and_are_never_doubted() -> None:
    """
    What is tagged is shared as ever; what the data flow adds is told apart.
    """
    told = found(code("import time\nt = time.time()", "shared"), PARAMETERS, "u = t + 1", "v = k")
    assert told.cells == (0, 2)
    assert told.found == (2,)


# -- proof --------------------------------------------------------------------------------------------------------------

NAMES = ["a", "b", "c"]
name = st.sampled_from(NAMES)
value = st.one_of(
    name, name, st.just("[]"), st.builds("[{}]".format, name), st.builds("{}[:]".format, name), st.builds("[*{}]".format, name),
    st.builds("f({})".format, name), st.builds("keep({})".format, name), st.builds("len(str({}))".format, name),
    st.just("make()"), st.builds("A({})".format, name), st.builds("(lambda: {})()".format, name), st.just("kept"),
)  # fmt: skip
statement = st.one_of(
    st.builds("print({})".format, name), st.builds("print({})".format, name), st.builds("{} = {}".format, name, value),
    st.builds("{} = {}".format, name, value), st.builds("{}.append({})".format, name, value),
    st.builds("{}.append({})".format, name, value), st.builds("{} += [1]".format, name),
    st.builds("{}[:1] = {}".format, name, value),
    st.builds("f({})".format, value), st.builds("keep({})".format, value),
    st.builds("for {} in list({})[:3]: {}.append(1)".format, name, name, name),
    st.builds("def f(x):\n    {}.append(0)\n    return {}".format, name, name),
    st.builds("def f(x, seen=[]):\n    seen.append(len(str({})))\n    return seen".format, name),
    st.builds("f = lambda x: {}".format, name), st.builds("{}.x = {}".format, name, value),
    st.builds("{}, *{} = {}".format, name, name, name), st.builds("{} = [{} for x in {}[:3]]".format, name, value, name),
    st.builds("{}.items.append({})".format, name, value), st.builds("if {}: {} = {}".format, name, name, value),
)  # fmt: skip
BEGIN = (
    "a, b, c = [1], [2], [3]\nkept = []\n"
    "def f(x):\n    return x\n"
    "def keep(x):\n    kept.append(len(str(x)))\n    return kept\n"
    "def make():\n    global a\n    a = list(kept)\n    return a\n"
    "class A:\n    items = []\n    def __init__(self, x):\n        self.x = x\n    def __repr__(self):\n"
    "        return f'A({type(self.x).__name__}, {len(self.items)}, {sorted(self.__dict__)})'\n"
)
cell = st.builds(
    "{}{}".format, st.sampled_from(["", "", "k\n"]), st.lists(statement, min_size=1, max_size=2).map("\n".join)
)
notebooks = st.lists(cell, min_size=2, max_size=7)


def run(sources: dict[int, str], order: list[int], k: int) -> tuple[dict[int, str], list[int], str]:
    """Execute cells in *order* and return what each printed, which of them raised, and the namespace at the end."""
    space: dict[str, Any] = {}
    told, failed = {}, []
    for index in order:
        heard = io.StringIO()
        with contextlib.redirect_stdout(heard):
            try:
                exec(compile(sources[index].replace("k = 1", f"k = {k}"), f"cell {index}", "exec"), space)
            except Exception:
                failed.append(index)
        told[index] = re.sub("0x[0-9a-f]+", "", heard.getvalue())
    left = repr({name: space.get(name) for name in [*NAMES, "kept", "k"]})
    return told, failed, re.sub("0x[0-9a-f]+", "", left)


@settings(max_examples=EXAMPLES * 10, deadline=None)
@given(notebooks)
@example(["a = b", "k\na.append(1)", "c = b[:]"])
@example(["def f(x):\n    b.append(0)\n    return b", "k\nf(1)", "c = b[:]"])
@example(["def f(x):\n    return b", "a = f(1)", "k\na.append(1)", "print(b)"])
@example(["a = [b]", "k\nfor c in list(a)[:3]: c.append(1)", "print(b)"])
@example(["def f(x, seen=[]):\n    seen.append(1)\n    return seen", "k\nf(1)", "print(f(2))"])
@example(["a = A(b)", "k\na.items.append(1)", "print(A(c))"])
def test_no_notebook_can_tell_that_cells_were_executed_ahead(cells: list[str]) -> None:
    """
    Whatever cells do with names, aliases, functions and objects: executed in the order of the plan they print the same and
    leave the same behind as in the notebook's own, for every value of the parameter, as long as no cell that was moved raises.
    """
    sources = dict(enumerate([BEGIN, "# PARAMETERS\nk = 1", *cells]))
    plan = found(BEGIN, PARAMETERS, *cells)
    assert 0 in plan.found
    for k in (0, 1):
        ahead = run(sources, [*plan.found, *(index for index in sources if index not in plan.found)], k)
        if not set(ahead[1]) & {*plan.found}:  # such a cell is executed in every task after all
            usual = run(sources, list(sources), k)
            first = min(usual[1], default=len(sources))  # nothing is executed below a cell that raised
            assert {i: s for i, s in ahead[0].items() if i <= first} == {
                i: s for i, s in usual[0].items() if i <= first
            }
            if not usual[1]:
                assert ahead[2] == usual[2]
