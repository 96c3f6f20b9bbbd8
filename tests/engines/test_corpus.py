"""Notebooks of every kind give the same under every engine."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import importlib.util
import itertools
import json
import re
from contextlib import closing
from dataclasses import replace

import pytest
from corpus import CORPUS

from nbgrid.engines import ENGINES, make_engine
from nbgrid.engines.base import ExecutionSpec, Shared, no_event, thread_limits
from nbgrid.shared import sharing
from nbgrid.template import Template

# A notebook that takes longer than this hangs; the slowest compiles for some seconds.
DEADLINE = 180.0
LARGEST_TEXT = 50_000
SHARING = "fork, with cells executed ahead"
# What a failure shows.
MOST_LINES, LONGEST_LINE = 60, 500
ENTRIES = pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: entry.name)

# What differs between any two executions.
VARIES = {
    r"0x[0-9a-f]{6,16}\b": "<address>",
    r"/\S*/ipykernel_\d+/": "<cells>/",
    r"Thread-\d+": "Thread-<number>",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return what an engine makes of an entry; each attempt is executed once, in a folder of its own."""
    ipython = tmp_path_factory.mktemp("ipython")
    startup = ipython / "profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "first.py").write_text("given_by_a_startup_file = 1\n")
    configuration = "c = get_config()\nc.InteractiveShellApp.exec_lines = ['given_by_the_configuration = 2']\n"
    (startup.parent / "ipython_config.py").write_text(configuration)
    found = {}

    def told(entry, engine, attempt=1):
        if missing := [name for name in entry.needs if importlib.util.find_spec(name) is None]:
            pytest.skip(f"{', '.join(missing)} is not installed")
        if (entry.name, engine, attempt) not in found:
            folder = tmp_path_factory.mktemp(entry.name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("IPYTHONDIR", str(ipython))
                # Under pytest, ipykernel would leave the descriptors 1 and 2 as they are.
                patch.delenv("PYTEST_CURRENT_TEST", raising=False)
                found[entry.name, engine, attempt] = execute(entry, engine, folder)
        return found[entry.name, engine, attempt]

    return told


def execute(entry, engine, folder):
    """Return all that is to be the same of *entry*, executed in *folder*."""
    for name, text in entry.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    notebook = entry.notebook()
    spec = ExecutionSpec(kernel="python3", cwd=str(folder), env={**thread_limits(2, {}), "GIVEN": "by the run"})
    shared = Shared(imports=leading_imports(notebook))
    if engine == SHARING:
        found = sharing(notebook, "corpus.ipynb", share="auto")
        shared = replace(shared, cells=found.cells, found=found.found, apart=found.apart)
    with closing(make_engine("fork" if engine == SHARING else engine, shared)) as made:
        outcome = asyncio.run(asyncio.wait_for(made.execute(notebook, spec, no_event), DEADLINE))
    assert outcome.fallback == (entry.fallback or None)
    metadata = notebook["metadata"]
    seen = {
        "state": str(outcome.state),
        "reason": told_reason(outcome.reason),
        "cells": [told_cell(cell, outcome) for cell in notebook["cells"]],
        "language": dict(metadata.get("language_info", {})),
        "widgets": json.loads(json.dumps(metadata.get("widgets"))),
        "files": {str(path.relative_to(folder)): content(path) for path in sorted(folder.rglob("*")) if is_left(path)},
    }
    return without_what_varies(seen, entry, folder)


def leading_imports(notebook):
    """Return the imports that the notebook begins with, as a template tells them."""
    return tuple(Template.parse(json.dumps(notebook).encode(), "corpus.ipynb").leading_imports())


def told_reason(reason):
    """Return what a *reason* says; the last words of a kernel that was killed are its log, and no part of the contract."""
    if reason is None:
        return None
    traceback = reason.traceback if reason.kind == "exception" else None
    return [reason.kind, reason.cell, reason.ename, reason.evalue, reason.message, traceback]


def told_cell(cell, outcome):
    """Return what an execution wrote into *cell*, times apart."""
    outputs = streams_together(json.loads(json.dumps(cell.get("outputs", []))))
    status = cell["metadata"].get("papermill", {}).get("status")
    # What a kernel sent at last is lost when it is killed at once: the count of that cell may come or not.
    is_lost = str(outcome.state) == "killed" and status == "failed"
    return {"status": status, "count": None if is_lost else cell.get("execution_count"), "outputs": outputs}


def streams_together(outputs):
    """
    Return *outputs* with the text between two other outputs in one piece for each stream, stdout first.

    Pieces are cut by a clock, and the two streams have one each; before anything else is shown both are flushed.
    """
    together = []
    for is_stream, group in itertools.groupby(outputs, lambda output: output["output_type"] == "stream"):
        pieces = list(group)
        if is_stream:
            texts = {name: [one["text"] for one in pieces if one["name"] == name] for name in ("stdout", "stderr")}
            pieces = [{"stream": name, "text": "".join(text)} for name, text in texts.items() if text]
        together += pieces
    return together


def is_left(path):
    """Tell whether the file at *path* is to be the same; caches and files with names by chance are not."""
    return path.is_file() and "__pycache__" not in path.parts and "cached" not in path.parts and path.name[:3] != "tmp"


def content(path):
    """Return the text at *path*, or nothing of what is no text."""
    return path.read_text() if path.suffix in {".txt", ".py"} else ""


def without_what_varies(told, entry, folder):
    """Return *told* without folders, addresses and what else may differ, and with long texts told by their digest."""
    folders = sorted({str(folder), str(folder.resolve())}, key=len, reverse=True)

    def tidy(value):
        if isinstance(value, dict):
            named = {}
            for key, item in value.items():
                name = tidy(key)
                while name in named:  # two ids by chance, of widgets, are told apart by their order
                    name += "'"
                named[name] = tidy(item)
            return named
        if isinstance(value, list):
            return [tidy(item) for item in value]
        if not isinstance(value, str):
            return value
        for path in folders:
            value = value.replace(path, "<folder>")
        for expression in entry.varies:
            value = re.sub(expression, "<varies>", value)
        for expression, instead in VARIES.items():
            value = re.sub(expression, instead, value)
        if len(value) > LARGEST_TEXT:
            return f"{len(value)} characters, {hashlib.sha256(value.encode()).hexdigest()}, at last {value[-100:]}"
        return value

    return tidy(told)


def differences(expected, found):
    """Return the lines in which two of what `execute` returns differ, as one text."""
    lines = [json.dumps(one, indent=1, ensure_ascii=False).splitlines() for one in (expected, found)]
    found = [line[:LONGEST_LINE] for line in difflib.unified_diff(*lines, lineterm="", n=1)]
    return "\n".join(found[:MOST_LINES])


def test_every_entry_has_its_own_name():
    """
    A name finds one notebook.
    """
    names = [entry.name for entry in CORPUS]
    assert sorted(set(names)) == sorted(names)


@ENTRIES
def test_a_notebook_of_the_corpus_is_deterministic(told, entry):
    """
    It ends as it says, shows what it says, and gives the same when it is executed again: so whatever differs is the engine's.
    """
    first = told(entry, "kernel")
    assert first["state"] == entry.state, first["reason"]
    said = json.dumps(first, ensure_ascii=False).replace('\\"', '"')
    assert [words for words in entry.shows if words not in said] == []
    differing = differences(first, told(entry, "kernel", attempt=2))
    assert not differing, differing


@pytest.mark.parametrize("engine", [*(name for name in ENGINES if name != "kernel"), SHARING])
@ENTRIES
def test_an_engine_gives_what_an_ordinary_kernel_gives(told, entry, engine):
    """
    State and reason, each cell's status, count and outputs, the notebook's metadata, and the files that it leaves.
    """
    differing = differences(told(entry, "kernel"), told(entry, engine))
    assert not differing, differing
