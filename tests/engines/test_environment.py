"""What a kernel's environment has."""

from __future__ import annotations

import json
import os
import sys

import pytest

from nbgrid.engines.environment import Kernel, find_kernel, install_line, missing_imports
from nbgrid.errors import PreflightError

HERE = Kernel("python3", "python", (sys.executable, "-m", "ipykernel_launcher"))


@pytest.fixture
def other_python(tmp_path):
    """A program that is this Python, but not by that name: it is asked as another environment's would be."""
    program = tmp_path / "python-of-another-environment"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return Kernel("other", "python", (str(program), "-m", "ipykernel_launcher"))


def test_find_kernel__returns_the_installed_one():
    """
    Its language in lower case, and the command that starts it.
    """
    kernel = find_kernel("python3")
    assert (kernel.name, kernel.language) == ("python3", "python")
    assert any("ipykernel" in part for part in kernel.argv)


def test_find_kernel__names_those_that_there_are(tmp_path, monkeypatch):
    """
    A wrong name is told with the nearest and all others.
    """
    folder = tmp_path / "kernels/julia-1.11"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": ["julia"], "display_name": "Julia", "language": "julia"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(PreflightError) as raised:
        find_kernel("julia-1.10")
    assert "did you mean 'julia-1.11'?" in str(raised.value)
    assert "python3" in str(raised.value)
    assert "--kernel NAME" in str(raised.value)


@pytest.mark.parametrize("which", ["here", "other"])
def test_missing_imports__are_those_that_the_kernel_does_not_find(tmp_path, other_python, which):
    """
    Built-in modules, the standard library, installed packages and files beside the template are found.
    """
    (tmp_path / "beside.py").write_text("raise SystemExit('it was imported')")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").touch()
    names = ["sys", "json", "numpy", "beside", "package", "no_such_module", "another_missing"]
    kernel = HERE if which == "here" else other_python
    assert missing_imports(kernel, names, tmp_path) == ["another_missing", "no_such_module"]


def test_missing_imports__nothing_is_missing_where_nobody_can_be_asked(tmp_path):
    """
    Kernels of other languages, and a Python that does not answer.
    """
    assert missing_imports(Kernel("r", "r", ("R",)), ["numpy"], tmp_path) == []
    assert missing_imports(Kernel("p", "python", ("/no/such/python",)), ["no_such"], tmp_path) == []
    assert missing_imports(Kernel("p", "python", ()), ["no_such"], tmp_path) == []


def test_missing_imports__leaves_this_process_as_it_was(tmp_path):
    """
    Looking changes neither the path, nor the modules, nor the directory.
    """
    before = (list(sys.path), set(sys.modules), os.getcwd())  # noqa: PTH109
    missing_imports(HERE, ["numpy", "no_such_module"], tmp_path)
    assert (list(sys.path), set(sys.modules), os.getcwd()) == before  # noqa: PTH109


def test_install_line__has_the_names_that_pip_knows():
    """
    A module's distribution is often called otherwise.
    """
    assert install_line(["sklearn", "PIL", "my_module"]) == "pip install scikit-learn Pillow my-module"
