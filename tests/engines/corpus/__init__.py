"""
Notebooks of every kind, as plain data, which all engines execute with the same outputs.

A notebook that an engine cannot execute itself says why in its entry, and is otherwise a failure.
"""

from __future__ import annotations

from corpus.ends import ENDS
from corpus.entry import Entry
from corpus.libraries import LIBRARIES
from corpus.outputs import OUTPUTS
from corpus.processes import PROCESSES
from corpus.python import PYTHON
from corpus.shell import SHELL

CORPUS: tuple[Entry, ...] = (*OUTPUTS, *SHELL, *PYTHON, *ENDS, *LIBRARIES, *PROCESSES)

__all__ = ["CORPUS", "Entry"]
