"""
The cells that are executed once for all tasks.
"""

from __future__ import annotations

import base64
import ctypes
import io
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any


class Shared:
    """
    The cells that are executed here, once: what they send is kept, to be sent again in each notebook.

    The shell's session only notes messages, its streams note text, and what is written to the descriptors below them comes
    from a file after each cell.
    """

    def __init__(self, app: Any, channel: socket.socket) -> None:
        self.app, self.channel = app, channel
        self.messages: list[dict[str, Any]] = []
        self.inputs: dict[int, tuple[str, str]] = {}
        """By number: each cell as it was executed, and as it was written."""
        self.seeded: dict[str, Any] = {}
        """The generators that a cell has seeded, and what else would be lost in the fork, to put back after it."""

    def run(self, cells: list[dict[str, Any]], unsafe: Callable[[], str | None]) -> list[dict[str, Any]]:
        """
        Execute *cells* and return what became of each, up to the first that failed.

        Raises `UnsharedError` for one that nobody asked to share, and that should not be; *unsafe* tells what hinders forks.
        """
        done: list[dict[str, Any]] = []
        if not cells:
            return done
        if any("numpy" in cell["source"] for cell in cells):
            with suppress(ImportError):  # there before a cell seeds it, so that this is noticed
                import numpy.random  # noqa: F401  # type: ignore[import-not-found,unused-ignore]
        with self._noted(), _noticed_seeds() as seeded:
            for cell in cells:
                watch = _Watch(seeded) if cell["found"] else None
                done.append(self._one(cell))
                if watch is not None and (why := watch.why(cell, done[-1]) or unsafe()) is not None:
                    raise UnsharedError(cell["number"], why)
                if done[-1]["error"] is not None and not cell["may_raise"]:
                    break
        _forget_event_loops()
        random = sys.modules.get("random")
        self.seeded = {
            "numpy": "numpy" in seeded,
            "random": random.getstate() if random and "random" in seeded else None,
        }
        return done

    def go_on(self) -> None:
        """In a kernel: count the cells, and list their inputs, as they stand in the notebook, though some are behind us."""
        if not self.inputs:
            return
        shell = self.app.shell
        parsed, raw = shell.history_manager.input_hist_parsed, shell.history_manager.input_hist_raw
        del parsed[1:], raw[1:]

        def skip(*_: Any) -> None:
            while (inputs := self.inputs.get(shell.execution_count)) is not None:
                parsed.append(inputs[0])
                raw.append(inputs[1])
                shell.execution_count += 1

        shell.execution_count = 1
        skip()
        shell.events.register("post_run_cell", skip)

    def _one(self, cell: dict[str, Any]) -> dict[str, Any]:
        shell, number = self.app.shell, cell["number"]
        self.channel.sendall(json.dumps({"began": number}).encode() + b"\n")
        self.messages = []
        shell.execution_count = number
        started = _now()
        result = shell.run_cell(cell["source"], store_history=True)
        history = shell.history_manager
        self.inputs[number] = history.input_hist_parsed[-1], history.input_hist_raw[-1]
        self._read_descriptors()
        error = result.error_before_exec or result.error_in_exec
        told = next((m["content"] for m in reversed(self.messages) if m["msg_type"] == "error"), None)
        if error is not None and told is None:
            told = {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
        return {
            "number": number, "messages": self.messages, "started": started, "ended": _now(),
            "error": None if error is None else told,
        }  # fmt: skip

    @contextmanager
    def _noted(self) -> Iterator[None]:
        import builtins
        import getpass

        from ipykernel.comm import comm as comms
        from ipykernel.jsonutil import json_clean
        from IPython.core.error import StdinNotImplementedError
        from jupyter_client.session import Session

        note = self.note

        class Noting(Session):
            def send(self, stream: Any, msg_or_type: Any, content: Any = None, *_: Any, **__: Any) -> Any:
                message = msg_or_type if isinstance(msg_or_type, dict) else self.msg(msg_or_type, content)
                note(message["header"]["msg_type"], message["content"], message.get("metadata") or {})
                return message

        def refuse(*_: Any, **__: Any) -> str:
            raise StdinNotImplementedError("a cell that is executed once for all tasks was asked for input")

        shell = self.app.shell
        for publisher in (shell.displayhook, shell.display_pub):
            publisher.session = Noting(parent=self.app)
            publisher.pub_socket = self.channel  # never written to

        def publish(
            comm: Any, kind: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
        ) -> None:  # fmt: skip
            clean: Any = json_clean
            content = clean({"data": data or {}, "comm_id": comm.comm_id, **keys})
            note(kind, content, clean(metadata or {}), [base64.b64encode(one).decode() for one in buffers or ()])

        base: Any = comms.BaseComm
        publish_msg, base.publish_msg = base.publish_msg, publish
        kept = sys.stdout, sys.stderr, sys.displayhook, builtins.input, getpass.getpass
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  closed below
        descriptors = [(os.dup(number), number) for number in (1, 2)]
        for _, number in descriptors:
            os.dup2(self.file.fileno(), number)
        self.place = 0
        sys.stdout, sys.stderr = _Noted(self, "stdout"), _Noted(self, "stderr")
        builtins.input = getpass.getpass = refuse
        try:
            yield
        finally:
            sys.stdout, sys.stderr, sys.displayhook, builtins.input, getpass.getpass = kept
            base.publish_msg = publish_msg
            for copy, number in descriptors:
                os.dup2(copy, number)
                os.close(copy)
            self.file.close()

    def note(self, kind: str, content: dict[str, Any], metadata: dict[str, Any], buffers: Sequence[str] = ()) -> None:
        """Keep a message, with what was written to the descriptors before it; text that goes on where text was is joined."""
        self._read_descriptors()
        self._note(kind, content, metadata, buffers)

    def _note(self, kind: str, content: dict[str, Any], metadata: dict[str, Any], buffers: Sequence[str] = ()) -> None:
        last = self.messages[-1] if self.messages else None
        if kind == "stream" and last and last["msg_type"] == kind and last["content"]["name"] == content["name"]:
            last["content"]["text"] += content["text"]
            return
        message = {"msg_type": kind, "content": dict(content), "metadata": dict(metadata), "buffers": list(buffers)}
        self.messages.append(message)

    def _read_descriptors(self) -> None:
        ctypes.CDLL(None).fflush(None)
        size = os.fstat(self.file.fileno()).st_size
        text = os.pread(self.file.fileno(), size - self.place, self.place).decode(errors="replace")
        self.place = size
        if text:
            self._note("stream", {"name": "stdout", "text": text}, {})


class _Noted(io.TextIOBase):
    """A stream whose text becomes messages."""

    encoding = "utf-8"

    def __init__(self, shared: Shared, name: str) -> None:
        self.shared, self.name = shared, name

    def write(self, text: str) -> int:
        if text:
            self.shared.note("stream", {"name": self.name, "text": text}, {})
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1 if self.name == "stdout" else 2


@contextmanager
def _noticed_seeds() -> Iterator[set[str]]:
    """Yield a set that gets the names of the global generators that are seeded meanwhile."""
    seeded: set[str] = set()
    kept = []
    for module, name in (("random", "random"), ("numpy.random", "numpy")):
        if (place := sys.modules.get(module)) is not None:
            kept.append((place, place.seed))
            place.seed = _noticing(place.seed, seeded, name)  # type: ignore[attr-defined]
    try:
        yield seeded
    finally:
        for place, seed in kept:
            place.seed = seed  # type: ignore[attr-defined]


def _noticing(seed: Callable[..., Any], seeded: set[str], name: str) -> Callable[..., Any]:
    def noticed(*arguments: Any, **options: Any) -> Any:
        seeded.add(name)
        return seed(*arguments, **options)

    return noticed


class UnsharedError(Exception):
    """A cell is to be executed in every task after all."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(number, why)
        self.number, self.why = number, why


class _Watch:
    """Notices what a cell does that its text does not show, and that each task should do for itself."""

    def __init__(self, seeded: set[str]) -> None:
        self.seeded, self.before = seeded, {*seeded}
        self.states = {name: _state(name) for name in ("random", "numpy")}
        self.draws = False
        numpy = sys.modules.get("numpy.random")
        self.replaced: list[tuple[Any, str, Any]] = [(os, "urandom", os.urandom)]
        if numpy is not None:
            # Not deeper: a RandomState draws entropy even when it is given a seed.
            self.replaced.append((numpy, "default_rng", numpy.default_rng))
        os.urandom = self._noticing(os.urandom, lambda *_: True)
        if numpy is not None:
            numpy.default_rng = self._noticing(  # type: ignore[attr-defined]
                numpy.default_rng, lambda seed=None: seed is None
            )

    def _noticing(self, function: Callable[..., Any], draws: Callable[..., bool]) -> Callable[..., Any]:
        def noticing(*arguments: Any, **options: Any) -> Any:
            self.draws = self.draws or draws(*arguments, **options)
            return function(*arguments, **options)

        return noticing

    def why(self, cell: dict[str, Any], done: dict[str, Any]) -> str | None:
        """Return why the *cell*, which is *done* now, should be executed in every task."""
        for module, name, function in self.replaced:
            setattr(module, name, function)
        if done["error"] is not None:
            return f"it raised {done['error']['ename']}"
        if any(message["msg_type"].startswith("comm_") for message in done["messages"]):
            return "it makes a widget"
        if self.draws:
            return "it draws random numbers without a seed"
        for name, state in self.states.items():
            now_seeded = name in self.seeded and name not in self.before
            if now_seeded or _state(name) in {state, None, _UNUSED}:
                continue
            if name not in self.seeded:
                return f"it draws random numbers from {name}'s global generator, which nothing has seeded"
            if cell["apart"]:
                return f"it draws random numbers from {name}'s global generator, after a cell that may do so, too"
        return None


_UNUSED = "nobody has drawn from it yet"


def _state(name: str) -> str | None:
    """Return what is the same as long as nobody draws from that global generator; None where there is none."""
    if name == "random":
        module = sys.modules.get("random")
        return str(module.getstate()) if module else None
    module = sys.modules.get("numpy.random")
    if module is None:
        return None
    state = module.get_state(legacy=False)
    # A generator that was just made, or seeded, is at the end of its buffer.
    return _UNUSED if state["state"].get("pos") == len(state["state"].get("key", ())) else str(state)


def _forget_event_loops() -> None:
    """Close the loop that a cell with `await` has run on: its descriptors must not be shared."""
    import asyncio

    from IPython.core import async_helpers

    loop = getattr(async_helpers, "_asyncio_event_loop", None)
    if loop is not None:
        loop.close()
        async_helpers._asyncio_event_loop = None
    asyncio.set_event_loop(None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
