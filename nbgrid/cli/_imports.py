"""
Imports of the driver, made quick.

Where JupyterLab is installed, `import jsonschema` (which nbformat makes) spends more than a second in `rfc3987_syntax`,
building a grammar for checking IRIs, which no notebook has (python-jsonschema/jsonschema#1428). In a process of our own that
package is hidden while jsonschema is first imported. Not in anyone else's: a program that calls `nbgrid.run` keeps its IRIs.
"""

from __future__ import annotations

import importlib
import sys

_SLOW = "rfc3987_syntax"


def load_quickly() -> None:
    """Import jsonschema without its slow grammar; call it before anything that imports nbformat."""
    if "jsonschema" in sys.modules or _SLOW in sys.modules:
        return
    sys.modules[_SLOW] = None  # type: ignore[assignment]  # this is how Python says: there is no such module
    try:
        importlib.import_module("jsonschema")
    finally:
        del sys.modules[_SLOW]
