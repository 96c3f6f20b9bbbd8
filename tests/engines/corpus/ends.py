"""Exceptions that are shown, and the ways in which a notebook ends."""

from __future__ import annotations

from corpus.entry import Entry


def _end(name: str, last: str, state: str, *shows: str) -> Entry:
    """Return a notebook that ends in its second cell, *last*."""
    text = f"# %%\nimport os, signal, sys\nprint('before', flush=True)\n# %%\n{last}\n# %%\nprint('never')"
    return Entry(name=name, text=text, state=state, shows=("before", *shows))


_CHAINED = """
def inner(n):
    return {"one": 1}[n]

def outer(n):
    try:
        return inner(n)
    except KeyError as error:
        raise ValueError("chained") from error

outer("two")
"""

_FAILS = """
def fails(depth):
    if depth:
        return fails(depth - 1)
    raise LookupError("in a module")
"""

ENDS = (
    Entry(
        name="exceptions_that_are_shown",
        text="""
# %% raises-exception
1 / 0
# %% raises-exception
def broken(:
    pass
# %% raises-exception
if True:
print("indented wrongly")
# %% raises-exception
try:
    {}["k"]
except KeyError:
    int("x")
# %% raises-exception
try:
    {}["k"]
except KeyError:
    raise RuntimeError("of nothing") from None
# %% raises-exception
import json
json.loads("{")
# %% raises-exception
import fails
fails.fails(2)
# %% raises-exception
def for_ever(n): return for_ever(n + 1)
for_ever(0)
# %% raises-exception
raise ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError("k")])])
# %% raises-exception
error = ValueError("with notes"); error.add_note("the note")
raise error
# %% raises-exception
class Own(Exception):
    def __init__(self, n): super().__init__(n); self.n = n
    def __str__(self): return f"own {self.n}\\nin two lines"
def raises(): raise Own(3)
[raises() for _ in range(2)]
# %% raises-exception
class Unspeakable(Exception):
    def __str__(self): raise RuntimeError("no words")
raise Unspeakable
# %% raises-exception
class Rendered(Exception):
    def _render_traceback_(self): return ["rendered by itself"]
raise Rendered
# %% raises-exception
assert 1 == 2, "told by assert"
# %% raises-exception
raise KeyboardInterrupt
# %% raises-exception
import sys
sys.exit("with words")
# %% raises-exception
exec("1 +")
# %% raises-exception
eval("undefined + 1")
# %% raises-exception
import warnings
warnings.warn("before it"); lambda: (yield)
await no_such_coroutine()
# %%
get_ipython().showtraceback()
import traceback
print(sys.last_type, "".join(traceback.format_exception_only(sys.last_type, sys.last_value)))
# %% raises-exception
def shows_error(shell, kind, value, trace, tb_offset=None): print("custom handler", kind.__name__)
get_ipython().set_custom_exc((ArithmeticError,), shows_error)
1 / 0
""",
        files={"fails.py": _FAILS},
        varies=(r"\(\d+ times\)",),
        shows=("ZeroDivisionError", "SyntaxError", "IndentationError", "During handling", "of nothing", "JSONDecodeError",
               "in a module", "RecursionError", "ExceptionGroup", "the note", "in two lines", "rendered by itself",
               "told by assert", "KeyboardInterrupt", "with words", "no_such_coroutine", "custom handler"),
    ),
    _end("failed", "1 / 0", "failed", "ZeroDivisionError"),
    _end("failed_in_a_chain", _CHAINED, "failed", "KeyError", "direct cause", "chained"),
    _end("failed_syntax", "print('not run')\nx = = 1", "failed", "SyntaxError"),
    _end("failed_by_a_subprocess", "import subprocess\nsubprocess.run(['false'], check=True)", "failed", "exit status 1"),
    _end("asked_for_input", "print('asks', flush=True)\ninput('a name? ')", "failed", "asks", "StdinNotImplementedError"),
    _end("left_well", "sys.exit(0)", "finished"),
    _end("left_with_an_error", "sys.exit(3)", "failed", "SystemExit"),
    _end("left_at_once", "os._exit(3)", "killed"),
    _end("killed", "os.kill(os.getpid(), signal.SIGKILL)", "killed"),
    Entry(
        name="quit",
        text="# %%\nprint('before')\n# %%\nexit",
        shows=("before",),
    ),
)  # fmt: skip
