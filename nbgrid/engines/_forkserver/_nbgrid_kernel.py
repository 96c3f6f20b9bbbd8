"""
What becomes a kernel: the application with all that does not depend on a task, and what is left to do after the fork.
"""

from __future__ import annotations

import ast
import atexit
import ctypes
import importlib
import importlib.util
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from nbgrid.engines._forkserver._nbgrid_shared import Shared

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def adopt_orphans() -> None:
    """Have what the children of this process leave become its own children."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def warm(wanted: dict[str, Any]) -> Any:
    """Return the kernel's application with all that does not depend on a task: configuration, shell, loaded modules."""
    import comm
    import ipykernel.debugger  # noqa: F401  each kernel would load it: 60 ms
    from ipykernel.ipkernel import IPythonKernel
    from ipykernel.kernelapp import IPKernelApp
    from IPython.core.application import BaseIPythonApplication

    app: Any = IPKernelApp.instance()
    base: Any = BaseIPythonApplication
    base.initialize(app, wanted["arguments"])
    app.init_pdb()
    app.init_path()
    factory = IPythonKernel.shell_class.default_value
    app.shell = factory.instance(
        parent=app, profile_dir=app.profile_dir, user_ns=None, compiler_class=IPythonKernel.compiler_class.default_value
    )
    # In the order in which a kernel would list them.
    app.shell.configurables += [comm.get_comm_manager(), app]
    app.init_gui_pylab()
    app.init_extensions()
    app.init_code()
    return app


def preload(statements: list[str]) -> list[str]:
    """Load what import statements of the notebook's would, and return those that made themselves heard."""
    loud = []
    with tempfile.TemporaryFile() as heard:
        kept = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(heard.fileno(), number)
        for statement in statements:
            before = os.fstat(heard.fileno()).st_size
            # A missing or broken module is for the notebook's own cell to meet, with its traceback.
            with suppress(BaseException), _grammar_when_asked():
                _load(statement)
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # a module may have put anything there
                    stream.flush()
            if os.fstat(heard.fileno()).st_size != before:
                loud.append(statement)
        for copy, number in zip(kept, (1, 2), strict=True):
            os.dup2(copy, number)
            os.close(copy)
    return loud


_GRAMMAR = "rfc3987_syntax"


@contextmanager
def _grammar_when_asked() -> Iterator[None]:
    """
    Have jsonschema, which altair and nbformat import, load its grammar of IRIs when it checks one.

    Building that grammar takes a second, and hardly any notebook asks for it (python-jsonschema/jsonschema#1428).
    """
    spec = None if _GRAMMAR in sys.modules else importlib.util.find_spec(_GRAMMAR)
    if spec is None:
        yield
        return
    sys.modules[_GRAMMAR] = stands_in = _Grammar(spec)
    try:
        yield
    finally:
        if sys.modules.get(_GRAMMAR) is stands_in:
            del sys.modules[_GRAMMAR]


class _Grammar(ModuleType):
    """Stands in for the module of that name, which is loaded when one of its functions is called or anything else is asked."""

    def __init__(self, spec: Any) -> None:
        super().__init__(_GRAMMAR)
        self.__spec__, self.__path__ = spec, spec.submodule_search_locations

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._checks if name == "is_valid_syntax" else getattr(self._loaded(), name)

    def _checks(self, *arguments: Any, **options: Any) -> Any:
        return self._loaded().is_valid_syntax(*arguments, **options)

    def _loaded(self) -> ModuleType:
        if sys.modules.get(_GRAMMAR) is self:
            del sys.modules[_GRAMMAR]
        return importlib.import_module(_GRAMMAR)


def _load(statement: str) -> None:
    """Load what an import statement would."""
    (node,) = ast.parse(statement).body
    if isinstance(node, ast.Import):
        for alias in node.names:
            importlib.import_module(alias.name)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        __import__(node.module, fromlist=[alias.name for alias in node.names if alias.name != "*"])


def become_kernel(app: Any, asked: dict[str, Any], server: int, tells: int, shared: Shared) -> None:
    """Turn this child of the server into a kernel that has only to be started."""
    os.setsid()
    with suppress(AttributeError):
        threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # Python keeps the server's
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != server:
        raise SystemExit(1)
    adopt_orphans()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.argv[1:] = ["-f", asked["connection_file"], *sys.argv[1:]]
    _redirect(asked["log"])
    os.chdir(asked["cwd"])
    _set_environment(asked["env"])
    if (process := sys.modules.get("multiprocessing.process")) is not None:
        process.ORIGINAL_DIR = asked["cwd"]  # type: ignore[attr-defined]  # where spawned children look for modules
    _forget_fork_server()
    _fresh_entropy(shared.seeded)
    _give_threads()
    shared.go_on()
    app.connection_file = asked["connection_file"]
    _open(app, asked["connection"])
    os.close(tells)


def _redirect(path: str) -> None:
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)


def _set_environment(changed: dict[str, str | None]) -> None:
    for name, value in changed.items():
        if value is not None:
            os.environ[name] = value
        elif name != "NUMBA_THREADING_LAYER" or _free_numba():
            os.environ.pop(name, None)


def _forget_fork_server() -> None:
    """Have multiprocessing start a fork server of the kernel's own: that of a shared cell is no child of this process."""
    theirs: Any = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    if getattr(theirs, "_forkserver_pid", None) is not None:
        with suppress(Exception):
            os.close(theirs._forkserver_alive_fd)
        theirs._forkserver_pid = theirs._forkserver_alive_fd = theirs._forkserver_address = None


def _free_numba() -> bool:
    """
    Have numba choose its layer as in any kernel, and return whether it can: not after a shared cell has used it.

    The server's, workqueue, survives a fork, but ends the process when two threads use it at once.
    """
    numba = sys.modules.get("numba")
    if numba is None:
        return True
    with suppress(Exception):  # raised as long as no layer is up
        numba.threading_layer()
        return False
    with suppress(Exception):
        numba.config.THREADING_LAYER = "default"
        # Else numba would notice that the variable is gone, and forget what a shared cell has configured.
        numba.config._env_reloader.old_environ.pop("NUMBA_THREADING_LAYER", None)
    return True


def _open(app: Any, connection: dict[str, Any]) -> None:
    """Do what is left of `IPKernelApp.initialize`, but for a heartbeat, which nobody listens to."""
    import zmq

    for name in ("transport", "ip", "shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"):
        setattr(app, name, connection[name])
    app.session.key = connection["key"].encode()
    app.session.signature_scheme = connection["signature_scheme"]
    app.session.pid = os.getpid()
    init_iopub = app.init_iopub

    def without_limit(context: Any) -> None:
        context.setsockopt(zmq.SNDHWM, 0)  # else what a reader is more than a thousand messages behind with is dropped
        init_iopub(context)

    app.init_iopub = without_limit
    app.init_sockets()
    app._ports = {name: getattr(app, f"{name}_port") for name in ("shell", "iopub", "stdin", "hb", "control")}
    app.init_io()
    app.init_signal()
    listed = list(app.shell.configurables)
    app.init_kernel()
    app.shell.configurables[:] = listed
    app.shell.kernel = app.kernel
    sys.stdout.flush()
    sys.stderr.flush()


def _fresh_entropy(seeded: dict[str, Any]) -> None:
    """Seed the generators that every kernel would continue from the same state, unless a shared cell has seeded them."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and not seeded.get("numpy"):
        numpy.seed()
    random = sys.modules.get("random")
    if random is not None and seeded.get("random") is not None:
        random.setstate(seeded["random"])  # it seeds itself in a forked process


@cache
def openmp() -> Any:
    """Return threadpoolctl, out of the notebook's sight, where a library with OpenMP was loaded before the fork; else None."""
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        if re.search(r"/lib(gomp|omp|iomp)[^/]*$", file.read(), re.MULTILINE) is None:
            return None
    was_loaded = "threadpoolctl" in sys.modules
    try:
        return importlib.import_module("threadpoolctl")
    except ImportError:
        return None
    finally:
        if not was_loaded:
            sys.modules.pop("threadpoolctl", None)


def _give_threads() -> None:
    """Raise the threads of OpenMP, of which the server has one, and of what has asked it, to the task's share."""
    with suppress(Exception):  # a library that cannot be asked keeps what it has
        told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
        share = int(told) if told else len(os.sched_getaffinity(0))
        if openmp() is not None:
            openmp().threadpool_limits(share, user_api="openmp")
        arrow = sys.modules.get("pyarrow.lib")
        if arrow is not None and arrow.cpu_count() == 1:
            arrow.set_cpu_count(share)


def leave(code: int) -> NoReturn:
    """End this process as the interpreter does, but without clearing its memory, which would copy every shared page."""
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(BaseException):
            stream.flush()  # type: ignore[union-attr]
    os._exit(code)
