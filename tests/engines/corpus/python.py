"""What is Python's: where it finds itself, imports, classes, coroutines, threads, signals and random numbers."""

from __future__ import annotations

from corpus.entry import Entry

_SPEAKING = """
import logging, os, sys, warnings
print("module", __name__, "is imported")
print("wrong", file=sys.stderr)
warnings.warn("at the import", stacklevel=1)
logging.getLogger("speaking").warning("logged at the import")
os.environ["SET_BY_THE_IMPORT"] = "1"
WHERE, ARGUMENTS = os.getcwd(), len(sys.argv)
"""

PYTHON = (
    Entry(
        name="where_it_finds_itself",
        text="""
# %%
import builtins, os, signal, sys, threading, warnings
# %%
print(__name__, __doc__, sys.modules["__main__"].__dict__ is globals(), sys.modules["__main__"].__name__)
print("__file__" in globals(), __builtin__ is builtins, globals().get("__spec__", "no spec"), __package__, __loader__)
# %% raises-exception
__file__
# %%
print(os.path.basename(sys.argv[0]), sys.argv[1], os.path.isfile(sys.argv[2]), sys.orig_argv[0] == sys.executable)
import argparse
parser = argparse.ArgumentParser(); parser.add_argument("--k", default=3)
parser.parse_known_args()[0]
# %%
print(*map(repr, sys.path), sep="\\n")
# %%
print(os.getcwd(), open("beside.txt").read(), os.listdir("folder"), os.environ.get("PWD") is not None)
# %%
private = ("_NBGRID", "JPY_", "COLUMNS", "LINES")
print(*sorted(name for name in os.environ if not name.startswith(private)))
print(os.environ["GIVEN"], os.environ["MPLBACKEND"], os.environ["TERM"], os.environ["PAGER"], os.environ["FORCE_COLOR"])
# %%
print(sys.executable, sys.prefix, sys.flags, sys.version, sys.getrecursionlimit(), sys.getswitchinterval())
print(sys.stdin.encoding, sys.getfilesystemencoding(), sys.stdout.errors, sys.dont_write_bytecode, sys.pycache_prefix)
import locale
print(locale.setlocale(locale.LC_ALL), os.umask(0o022), os.nice(0))
# %%
print(os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(), os.getpid() == __import__("psutil").Process().pid)
main = threading.current_thread()
print(main is threading.main_thread(), main.name, main.native_id == os.getpid())
print(sys.gettrace(), sys.getprofile(), sys.excepthook.__name__, sys.displayhook.__class__.__name__, threading.excepthook)
# %%
for name in ("SIGINT", "SIGTERM", "SIGCHLD", "SIGPIPE", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGSEGV"):
    print(name, signal.getsignal(getattr(signal, name)))
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getitimer(signal.ITIMER_REAL))
import faulthandler, gc, resource
print(faulthandler.is_enabled(), gc.isenabled(), gc.get_threshold(), gc.callbacks)
print([resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")])
# %%
for one in warnings.filters: print(one)
# %%
import logging
print(logging.getLogger().handlers, logging.getLogger().level, logging.lastResort, logging.raiseExceptions)
print(sorted(set(dir(builtins)) & {"display", "get_ipython", "exit", "quit", "copyright", "help", "input", "_"}))
# %%
print([name for name in ("numpy", "pandas", "matplotlib", "scipy", "sklearn", "numba", "dask", "pyarrow") if name in sys.modules])
# %%
import multiprocessing
print(multiprocessing.current_process().name, multiprocessing.parent_process(), multiprocessing.get_start_method())
print(multiprocessing.active_children(), multiprocessing.current_process().daemon)
# %%
import inspect, tempfile
print(os.path.dirname(tempfile.mkstemp(dir=".")[1]) == os.getcwd(), os.path.basename(inspect.currentframe().f_code.co_filename))
""",
        files={"beside.txt": "the file beside", "folder/inside.txt": ""},
        shows=("__main__", "name '__file__' is not defined", "-f True", "k=3", "the file beside", "MainThread", "by the run",
               "module://matplotlib_inline.backend_inline", "default_int_handler", "MainProcess None"),
    ),
    Entry(
        name="a_module_beside_it_among_the_first_imports",
        text="""
# %%
import json
import speaking
from package import part
# %%
print(speaking.WHERE, speaking.__file__, speaking.ARGUMENTS > 0, part.NAME)
import os
print(os.environ["SET_BY_THE_IMPORT"])
# %%
import speaking
import importlib
importlib.reload(speaking)
""",
        files={"speaking.py": _SPEAKING, "package/__init__.py": "", "package/part.py": "NAME = __name__"},
        shows=("module speaking is imported", "wrong", "at the import", "logged at the import", "package.part"),
    ),
    Entry(
        name="an_import_that_prints",
        text="""
# %%
import this
from __future__ import annotations
# %%
def f(x: no_such_name): return x
f.__annotations__
""",
        shows=("Beautiful is better than ugly", "no_such_name"),
    ),
    Entry(
        name="a_first_import_that_fails",
        text="""
# %%
import json
import breaks
# %%
print("never")
""",
        files={"breaks.py": "value = 1\n\ndef fails():\n    raise RuntimeError('at the import')\n\nfails()\n"},
        shows=("RuntimeError", "in fails()", "at the import"),
        state="failed",
    ),
    Entry(
        name="a_first_import_that_is_missing",
        text="""
# %%
import no_such_module_anywhere
""",
        shows=("ModuleNotFoundError",),
        state="failed",
    ),
    Entry(
        name="classes",
        text="""
# %%
import copy, dataclasses, doctest, enum, functools, inspect, pickle, typing
# %%
@dataclasses.dataclass(order=True)
class Point:
    '''A point of a plane.'''
    x: int
    y: "list[int]" = dataclasses.field(default_factory=list)
class Colour(enum.Enum):
    RED = 1
def twice(n: int, *, by: float = 2.0) -> float:
    # a comment
    return n * by
# %%
(pickle.loads(pickle.dumps(Point(1, [2]))), Point.__module__, copy.deepcopy(Point(3)), pickle.loads(pickle.dumps(Colour.RED)))
# %%
print(inspect.getsource(twice)); print(inspect.signature(twice), typing.get_type_hints(Point))
print(inspect.getmodule(twice).__name__, inspect.getsourcelines(twice)[1], twice.__module__, twice.__qualname__)
# %% raises-exception
inspect.getsource(Point)
# %%
pickle.loads(pickle.dumps(twice)) is twice
# %%
@functools.lru_cache
def fibonacci(n):
    '''
    >>> fibonacci(3)
    2
    '''
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
print(fibonacci(90), fibonacci.cache_info(), doctest.testmod())
# %%
class Meta(type):
    def __repr__(cls): return "<of a metaclass>"
class Own(metaclass=Meta):
    def __del__(self): print("deleted")
own = Own(); del own
Own
# %%
import unittest
class Tests(unittest.TestCase):
    def test_of_the_notebook(self): self.assertEqual(1, 1)
unittest.main(argv=["notebook"], exit=False).result
""",
        varies=(r"in \d+\.\d+s",),
        shows=("Point(x=1, y=[2])", "__main__", "# a comment", "2880067194370816120", "deleted", "<of a metaclass>", "run=1"),
    ),
    Entry(
        name="coroutines",
        text="""
# %%
import asyncio
# %%
async def double(n):
    await asyncio.sleep(0)
    return n * 2
await double(21)
# %%
await asyncio.gather(*(double(n) for n in range(3)))
# %%
async def numbers():
    for n in range(3):
        yield n
        await asyncio.sleep(0)
async for n in numbers(): print(n)
[n async for n in numbers()]
# %%
gate = asyncio.Event()
async def waits():
    print("waits"); await gate.wait(); print("printed when its cell had ended")
    return "done"
task = asyncio.create_task(waits())
await asyncio.sleep(0)
# %%
gate.set()
await task
# %% raises-exception
asyncio.run(double(1))
# %% raises-exception
await asyncio.wait_for(asyncio.Event().wait(), 0.01)
# %%
loop = asyncio.get_running_loop()
print(type(loop).__name__, type(asyncio.get_event_loop_policy()).__name__, await loop.run_in_executor(None, sum, [1, 2]))
process = await asyncio.create_subprocess_exec("echo", "by a child", stdout=asyncio.subprocess.PIPE)
print(await process.communicate(), process.returncode)
# %%
async with asyncio.timeout(60), asyncio.TaskGroup() as group:
    tasks = [group.create_task(double(n)) for n in range(2)]
[task.result() for task in tasks]
# %%
import contextvars
variable = contextvars.ContextVar("variable", default="unset")
variable.set("set")
# %%
variable.get()
""",
        shows=("42", "[0, 2, 4]", "waits", "'done'", "cannot be called from a running event loop", "TimeoutError",
               "by a child"),
    ),
    Entry(
        name="threads",
        text="""
# %%
import concurrent.futures, threading
from IPython.display import display
# %%
def says(*words): print(*words)
thread = threading.Thread(target=says, args=("in the same cell",))
thread.start(); thread.join()
# %%
go = threading.Event()
def waits():
    go.wait(); print("while the next cell ran"); display("shown by a thread")
late = threading.Thread(target=waits)
late.start()
print("its own cell has ended")
# %%
print("next cell", flush=True)
go.set(); late.join()
# %%
with concurrent.futures.ThreadPoolExecutor(4) as pool: print(list(pool.map(abs, range(-3, 0))))
# %%
def fails(): raise ValueError("in a thread")
thread = threading.Thread(target=fails, name="failing"); thread.start(); thread.join()
# %%
timer = threading.Timer(0, says, ["by a timer"]); timer.start(); timer.join()
local = threading.local(); local.x = 1; local.x
# %%
for_ever = threading.Event()
threading.Thread(target=for_ever.wait, daemon=True).start()
"a daemon is left"
""",
        shows=("in the same cell", "next cell", "[3, 2, 1]", "in a thread", "by a timer", "a daemon is left"),
    ),
    Entry(
        name="signals_and_leaving",
        text="""
# %%
import atexit, os, signal, sys, time, weakref
# %%
def interrupted():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        while True: time.sleep(0.01)
    except KeyboardInterrupt:
        return "caught"
interrupted()
# %%
signal.signal(signal.SIGUSR1, lambda number, frame: print("signal", signal.Signals(number).name))
signal.raise_signal(signal.SIGUSR1)
# %%
class Alarm(Exception): pass
def ring(number, frame): raise Alarm
before = signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.01)
try:
    while True: time.sleep(0.01)
except Alarm: print("it rang", before)
# %%
child = os.fork()
if child == 0: os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
# %%
import subprocess
print(subprocess.run(["sh", "-c", "kill -9 $$"]).returncode, subprocess.run(["false"]).returncode)
# %%
atexit.register(lambda: open("at-exit.txt", "a").write("left in peace\\n"))
atexit.register(print, "nobody hears it")
class Thing: pass
thing = Thing()
weakref.finalize(thing, lambda: open("finalized.txt", "w").write("finalized"))
buffered = open("buffered.txt", "w"); buffered.write("never flushed by the notebook");
""",
        shows=("caught", "signal SIGUSR1", "it rang", "7", "-9 1", "left in peace", "finalized", "never flushed"),
    ),
    Entry(
        name="random_numbers",
        needs=("numpy",),
        text="""
# %%
import random
import numpy as np
# %%
random.seed(0); np.random.seed(0)
print(random.random(), np.random.rand(2), np.random.default_rng(0).integers(100, size=3), random.sample(range(99), 3))
# %%
import tempfile, uuid
print("unseeded", random.SystemRandom().random(), np.random.default_rng().random(), uuid.uuid4(), tempfile.mktemp())
""",
        varies=(r"unseeded .*",),
        shows=("0.8444218515250481", "0.5488135"),
    ),
    Entry(
        name="standard_library",
        text="""
# %%
import csv, datetime, decimal, hashlib, io, json, math, re, shutil, sqlite3, statistics, zipfile, zoneinfo
# %%
connection = sqlite3.connect("numbers.db")
with connection:
    connection.execute("create table numbers (n integer, word text)")
    connection.executemany("insert into numbers values (?, ?)", [(1, "one"), (2, "two")])
connection.execute("select sum(n), group_concat(word) from numbers").fetchall()
# %%
print(decimal.Decimal(1) / 7, math.fsum([0.1] * 10), datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("UTC")))
json.loads(json.dumps({"a": [1, None, 2.5]})), re.findall(r"\\d+", "1 and 22"), hashlib.sha256(b"x").hexdigest()
# %%
with zipfile.ZipFile("packed.zip", "w") as packed: packed.writestr("inside.txt", "zipped")
print(zipfile.ZipFile("packed.zip").read("inside.txt"), statistics.median([3, 1, 2]))
# %%
open("written.txt", "w").write("by the notebook")
""",
        shows=("[(3, 'one,two')]", "0.1428571428571428571428571429", "zipped", "by the notebook"),
    ),
)  # fmt: skip
