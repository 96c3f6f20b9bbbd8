"""The kernel engine under papermill's own command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from nbgrid.testing import code_notebook, is_running, printed, statuses, wait_until

# As the entry point does in an installed nbgrid.
COMMAND = """
from papermill.engines import papermill_engines
from nbgrid.engines.papermill import KernelEngineAdapter
papermill_engines.register("nbgrid-kernel", KernelEngineAdapter)
from papermill.cli import papermill
papermill()
"""


@pytest.fixture
def papermill(tmp_path):
    """Run papermill with our engine on the cells *sources*; return its exit code, what it wrote, and what it said."""

    def run(*sources, options=(), **tags):
        notebook = code_notebook(*sources, **tags)
        notebook["metadata"]["kernelspec"] = {"name": "python3", "display_name": "Python", "language": "python"}
        (tmp_path / "in.ipynb").write_text(json.dumps(notebook))
        command = [sys.executable, "-c", COMMAND, "in.ipynb", "out.ipynb", "--engine", "nbgrid-kernel",
                   "--no-progress-bar", *options]  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip
        return done.returncode, nbformat.read(tmp_path / "out.ipynb", 4), done.stderr

    return run


def codes(notebook):
    """Return *notebook* without the cells that papermill adds to tell of an error."""
    kept = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {**notebook, "cells": kept}


def test_a_notebook_is_executed(papermill):
    """
    Parameters, outputs and metadata are as with papermill's own engine.
    """
    code, notebook, _ = papermill("a = 1", "print(a + 1)", options=["-p", "a", "41"], cell0=["parameters"])
    assert code == 0
    assert printed(codes(notebook)) == "42\n"
    assert set(statuses(codes(notebook))) == {"completed"}
    told = notebook.metadata.papermill
    assert (told.exception, told.parameters, told.duration > 0) == (None, {"a": 41}, True)


def test_an_exception_is_papermills_error(papermill):
    """
    Exit code 1, papermill's two error cells, the failed cell marked, the later ones pending.
    """
    code, notebook, said = papermill("1", "1 / 0", "3")
    assert code == 1
    assert "ZeroDivisionError" in said
    assert statuses(codes(notebook)) == ["completed", "failed", "pending"]
    assert notebook.metadata.papermill.exception is True
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "markdown", "code", "code"]


@pytest.mark.parametrize(
    ("source", "options", "code", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", [], 138, "DeadKernelError"),
        ("import os; os._exit(0)", [], 138, "DeadKernelError"),
        ("import time; time.sleep(600)", ["--execution-timeout", "1"], 1, "CellTimeoutError"),
    ],
    ids=["r1_killed", "r1_left", "r2_timed_out"],
)
def test_no_cell_is_called_completed_that_was_not(papermill, source, options, code, error):
    """
    A kernel that is gone and a cell that took too long keep papermill's exit codes, and the file says what happened.
    """
    found, notebook, said = papermill("print(1)", source, "print(3)", options=options)
    assert (found, error in said) == (code, True)
    assert statuses(notebook) == ["completed", "failed", "pending"]
    assert notebook.metadata.papermill.exception is True
    assert printed(notebook) == "1\n"


def test_a_kernel_that_does_not_start_completes_no_cell(papermill, tmp_path, monkeypatch):
    """
    Exit code 1, every cell pending.
    """
    spec = tmp_path / "jupyter/kernels/dies/kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false"], "display_name": "dies", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    code, notebook, said = papermill("1", "2", options=["-k", "dies"])
    assert code == 1
    assert "the kernel dies died at its start" in said
    assert statuses(notebook) == ["pending", "pending"]


def test_r4__sys_exit_0_ends_well(papermill):
    """
    Exit code 0, and the file calls neither notebook nor cell failed; the cells after it stay pending.
    """
    code, notebook, _ = papermill("import sys; sys.exit(0)", "2")
    assert code == 0
    assert statuses(notebook) == ["completed", "pending"]
    assert notebook.metadata.papermill.exception is None


def test_cwd_and_output_files_are_papermills(papermill, tmp_path):
    """
    `--cwd`, `--stdout-file`, `--stderr-file` and `--log-output` do what they do.
    """
    (tmp_path / "there").mkdir()
    code, notebook, said = papermill(
        "import os, sys\nprint(os.getcwd())\nprint('wrong', file=sys.stderr)",
        options=[
            "--cwd",
            "there",
            "--stdout-file",
            str(tmp_path / "o"),
            "--stderr-file",
            str(tmp_path / "e"),
            "--log-output",
        ],
    )
    assert code == 0
    assert printed(notebook) == f"{(tmp_path / 'there').resolve()}\n"
    assert (tmp_path / "o").read_text() == printed(notebook)
    assert (tmp_path / "e").read_text() == "wrong\n"
    assert str(tmp_path / "there") in said


LIVE = """
import time
print("first", flush=True)
while not __import__("os").path.exists("go"):
    time.sleep(0.01)
    print(".", end="", flush=True)
"""


def test_the_file_grows_while_a_cell_runs(tmp_path):
    """
    The running cell and its outputs so far are saved every `--autosave-cell-every` seconds; SIGTERM leaves no kernel.
    """
    notebook = code_notebook("import os; print(os.getpid())", LIVE)
    notebook["metadata"]["kernelspec"] = {"name": "python3", "display_name": "Python", "language": "python"}
    (tmp_path / "in.ipynb").write_text(json.dumps(notebook))
    command = [sys.executable, "-c", COMMAND, "in.ipynb", "out.ipynb", "--engine", "nbgrid-kernel", "--no-progress-bar",
               "--autosave-cell-every", "1"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def saved():
        try:
            return nbformat.read(tmp_path / "out.ipynb", 4)
        except (OSError, ValueError):  # papermill's own writing is not atomic
            return code_notebook()

    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL) as running:
        wait_until(lambda: "first" in printed(saved()), "the first output in the file")
        wait_until(lambda: statuses(saved()) == ["completed", "running"], "the running cell in the file")
        pid = wait_until(lambda: saved()["cells"] and int(printed({"cells": saved()["cells"][:1]})), "the kernel's pid")
        running.send_signal(signal.SIGTERM)
        running.wait()
    wait_until(lambda: not is_running(pid), "the kernel's end")
