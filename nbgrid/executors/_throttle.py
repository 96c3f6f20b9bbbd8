"""Messages, bounded in size and in number, so that no notebook can flood a scheduler that others use too."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

MAX_BYTES = 4096
PER_SECOND = 4
_TEXT = 500


class Throttle:
    """
    Passes messages on to *send*: bursts of four at once, then four a second.

    Of the messages that come faster, the newest is sent as soon as its turn comes; those that it overtook are dropped.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._room, self._at = float(PER_SECOND), time.monotonic()
        self._waiting: dict[str, Any] | None = None
        self._timer: threading.Timer | None = None

    def __call__(self, message: dict[str, Any]) -> None:
        """Send *message* now or soon, or never if another comes meanwhile."""
        with self._lock:
            now = time.monotonic()
            self._room = min(self._room + (now - self._at) * PER_SECOND, float(PER_SECOND))
            self._at = now
            if self._timer is None and self._room >= 1:
                self._room -= 1
                self._pass(message)
                return
            self._waiting = message
            if self._timer is None:
                self._timer = threading.Timer((1 - self._room) / PER_SECOND, self._turn)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Send the message that waits; none may come after it."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            self._flush()

    def _turn(self) -> None:
        with self._lock:
            if self._timer is not None:  # else `close` was faster
                self._timer, self._room, self._at = None, 0.0, time.monotonic()
                self._flush()

    def _flush(self) -> None:
        if self._waiting is not None:
            message, self._waiting = self._waiting, None
            self._pass(message)

    def _pass(self, message: dict[str, Any]) -> None:
        if (short := shortened(message)) is not None:
            self._send(short)


def shortened(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return *message* within 4 kB, its texts cut if need be; None if that does not help."""
    if len(json.dumps(message)) <= MAX_BYTES:
        return message
    cut = {name: f"{value[:_TEXT]}…" if isinstance(value, str) and len(value) > _TEXT else value
           for name, value in message.items()}  # fmt: skip
    return cut if len(json.dumps(cut)) <= MAX_BYTES else None
