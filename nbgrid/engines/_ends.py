"""How the end of an execution is told, and what a kernel tells of itself before it goes."""

from __future__ import annotations

import ast
import json
import re
import signal
from contextlib import suppress
from typing import Any

from nbgrid.states import Reason, TaskState

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# Asked of a Python kernel when the notebook has ended; it names nothing in the user's namespace.
PROBE = (
    "(lambda m: __import__('json').dumps(["
    "{n: v for n, v in ((n, getattr(x, '__version__', None)) for n, x in list(m.items()) if '.' not in n"
    " and 'site-packages' in (getattr(x, '__file__', None) or '')) if isinstance(v, str)},"
    " list(getattr(m.get('nbgrid.kmeans'), 'compiled_kernels', list)())]))(__import__('sys').modules)"
)

# Asked of an ipykernel before the first cell: zmq drops what a reader is more than a thousand messages behind with.
KEEP_ALL = (
    "(lambda thread: thread.schedule(lambda: thread.socket.setsockopt(__import__('zmq').SNDHWM, 0)))"
    "(__import__('IPython').get_ipython().kernel.iopub_thread)"
)

# Asked of an ipykernel that is to leave its main loop.
LEAVE = "(lambda loop: loop.call_later(0.001, loop.stop))(__import__('IPython').get_ipython().kernel.io_loop)"


class End(Exception):  # noqa: N818  no error: it carries the outcome out of the loop over cells
    """The notebook has come to an end before its last cell."""

    def __init__(self, state: TaskState, reason: Reason | None) -> None:
        super().__init__(state, reason)
        self.state, self.reason = state, reason


def end_of_kernel(code: int | None, index: int, said: str | None) -> End:
    """Return how the kernel's own end, with exit code *code* in cell *index*, is told; *said* is the end of its log."""
    if code is not None and code < 0:
        message = f"the kernel was killed by {_signal_name(-code)} in cell {index + 1}"
        return End(TaskState.KILLED, Reason("signal", message, index, traceback=said))
    message = f"the kernel left by itself in cell {index + 1}, with exit code {code}"
    return End(TaskState.KILLED, Reason("exit", message, index, traceback=said))


def probed(reply: Any, python: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the versions and the compiled kernels that the *reply* to `PROBE` tells of a kernel of that *python*."""
    text = reply["user_expressions"]["probe"]["data"]["text/plain"]
    versions, compiled = json.loads(ast.literal_eval(text))
    return {"python": str(python), **dict(sorted(versions.items()))}, tuple(compiled)


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def end_of_exception(error: Any, index: int) -> End:
    """Return how the exception *error* of cell *index* ended the notebook."""
    if error.ename == "SystemExit" and str(error.evalue) in {"", "0", "None"}:
        # sys.exit(0) is how a notebook says that it is done; the cells after it stay pending.
        return End(TaskState.FINISHED, Reason("exit", f"cell {index + 1} called sys.exit(0)", index))
    traceback = _COLOURS.sub("", str(error.traceback))
    message = f"cell {index + 1} raised {error.ename}: {error.evalue}".splitlines()[0][:300]
    reason = Reason("exception", message, index, str(error.ename), str(error.evalue)[:2000], traceback[-20_000:])
    return End(TaskState.FAILED, reason)


def end_of_shared(error: dict[str, Any], index: int) -> End:
    """Return how the *error* of cell *index*, which is executed once for all tasks, ends each of them."""
    message = f"cell {index + 1}, which is executed once for all tasks, raised {error['ename']}: {error['evalue']}"
    traceback = _COLOURS.sub("", "\n".join(error["traceback"]))
    reason = Reason(
        "shared", message.splitlines()[0][:300], index, str(error["ename"]), str(error["evalue"])[:2000], traceback[-20_000:]
    )  # fmt: skip
    return End(TaskState.FAILED, reason)


def end_of_shared_time(index: int, limit: float) -> End:
    """Return how it ends each task that a cell that is executed once for all takes longer than *limit* seconds."""
    message = f"cell {index + 1}, which is executed once for all tasks, took longer than its limit of {limit:g} s"
    return End(TaskState.TIMED_OUT, Reason("shared", message, index))
