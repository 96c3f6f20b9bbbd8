"""
Every error that nbgrid raises on purpose.

NbgridError
├── InputError (ValueError)                 what was asked cannot be done; nothing has started
│   ├── NotebookError                       a file is no notebook that can be read
│   ├── TemplateError                       a notebook's grid cell, parameters cell or options are wrong
│   │   └── UnknownParameterError           a parameter that the template's parameters cell does not assign
│   ├── GridError                           a grid cannot be expanded into points
│   ├── ParameterError                      a value that no parameter may have
│   ├── ConfigError                         a setting of nbgrid.toml or the environment is wrong
│   ├── PreflightError                      a kernel, a package or a worker that the run needs is not there
│   ├── RunNotFoundError (LookupError)      no recorded run answers to that name
│   └── LockedError                         a live run holds the prefix
├── StoreError (OSError)                    executed notebooks cannot be written or read
├── DatabaseError                           runs cannot be recorded
└── IllegalMoveError                        a task was asked to become what its state does not allow

Each survives pickling, since a worker sends what it raises to the driver: `args` are exactly what `__init__` took.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NbgridError(Exception):
    """The base of all errors below."""


class InputError(NbgridError, ValueError):
    """What was asked cannot be done; nothing has started."""


class NotebookError(InputError):
    """A file is no notebook that can be read."""


class TemplateError(InputError):
    """A notebook's grid cell, parameters cell or options are wrong."""


class UnknownParameterError(TemplateError):
    """A parameter that the template's parameters cell does not assign."""

    def __init__(self, name: str, known: Iterable[str], where: str) -> None:
        self.name, self.known, self.where = name, tuple(known), where
        super().__init__(name, self.known, where)

    def __str__(self) -> str:
        has = ", ".join(self.known) or "nothing"
        return f"{self.where} has no parameter {self.name!r}{nearest(self.name, self.known)} (it assigns {has})"


class GridError(InputError):
    """A grid cannot be expanded into points."""


class ParameterError(InputError):
    """A value that no parameter may have."""


class ConfigError(InputError):
    """A setting of nbgrid.toml or of the environment is wrong."""


class PreflightError(InputError):
    """A kernel, a package or a worker that the run needs is not there."""


class RunNotFoundError(InputError, LookupError):
    """No recorded run answers to that name."""


class LockedError(InputError):
    """A live run holds the prefix."""


class StoreError(NbgridError, OSError):
    """Executed notebooks cannot be written or read."""

    def __init__(self, message: str) -> None:
        # OSError rewrites args when it is given two or three; one sentence keeps it simple and pickles.
        super().__init__(message)


class DatabaseError(NbgridError):
    """Runs cannot be recorded."""


class IllegalMoveError(NbgridError):
    """A task was asked to become what its state does not allow."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean '…'?` for the *known* name that is most like *name*, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
