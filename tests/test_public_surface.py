"""The public surface: the names that the documentation promises, and errors that survive the way from a worker."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import nbgrid
from nbgrid import errors

REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "python.md"


@pytest.mark.skipif(not REFERENCE.exists(), reason="this checkout has no docs/reference/python.md")
def test_the_public_names_are_exactly_the_documented_ones() -> None:
    """
    `nbgrid.__all__` is what docs/reference/python.md has a heading for, no more and no less.
    """
    headings = re.findall(r"^#+ `nbgrid\.(\w+)", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(nbgrid.__all__) == sorted(set(headings))


def test_every_public_name_is_there_and_listed() -> None:
    """
    Each name of `__all__` can be imported; `dir` shows them all; another name is refused as Python does.
    """
    for name in nbgrid.__all__:
        assert getattr(nbgrid, name) is not None
    assert set(nbgrid.__all__) <= set(dir(nbgrid))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nbgrid.nothing  # noqa: B018


def test_a_star_import_brings_the_public_names_alone() -> None:
    """
    `from nbgrid import *` defines exactly `__all__`.
    """
    program = (
        "import nbgrid; before = set(globals()); from nbgrid import *; print(*(set(globals()) - before - {'before'}))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert sorted(told.split()) == sorted(nbgrid.__all__)


def all_errors() -> list[type[errors.NbgridError]]:
    found, waiting = [], [errors.NbgridError]
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].__subclasses__()
    return [error for error in found if error.__module__.startswith("nbgrid")]


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=lambda pickler: pickler.__name__)
def test_an_error_keeps_its_sentence_on_the_wire(error: type[errors.NbgridError], pickler: object) -> None:
    """
    Every error of ours comes out of pickle as what it was, saying the same.
    """
    made = (
        error("n", ["n_clusters"], "t.ipynb")
        if error is errors.UnknownParameterError
        else error("what, where, what next")
    )
    again = pickle.loads(pickler.dumps(made))  # type: ignore[attr-defined]
    assert type(again) is error
    assert str(again) == str(made)
    assert again.args == made.args


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """
    The drawing on top of nbgrid/errors.py names every error, each below its parent.
    """
    drawing = (errors.__doc__ or "").split("\n\n")[1]
    below: list[str] = []
    drawn = {}
    for line in drawing.splitlines():
        name = re.search(r"\w+", line)
        assert name is not None
        depth = name.start() // 4
        below = [*below[:depth], name[0]]
        drawn[name[0]] = below[-2] if depth else None
    real = {error.__name__: error.__bases__[0].__name__ for error in all_errors() if error is not errors.NbgridError}
    assert drawn == {"NbgridError": None, **real}


def test_run_s_options_are_given_by_name() -> None:
    """
    `nbgrid.run` takes one argument by place; all its options are keyword-only.
    """
    parameters = list(inspect.signature(nbgrid.run).parameters.values())
    assert parameters[0].name == "template"
    assert {parameter.kind for parameter in parameters[1:]} == {inspect.Parameter.KEYWORD_ONLY}
