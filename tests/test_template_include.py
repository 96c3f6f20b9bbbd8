"""Included files, and the digest of what decides a task's results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from making import code, markdown, notebook_content, raw, write_notebook

from nbgrid.errors import TemplateError
from nbgrid.template import Template


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data, and something beside it that is nobody's business."""
    home = tmp_path / "home"
    for name in ("data/a.csv", "data/deep/b.csv", "helper.py", "data/__pycache__/x.pyc", "data/.ipynb_checkpoints/y"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    (tmp_path / "secret.txt").write_text("secret")
    return home


def including(folder: Path, *entries: str) -> Template:
    return Template.read(
        write_notebook(folder / "a.ipynb", raw(f"include: {json.dumps(entries)}"), code("n = 1", "parameters"))
    )


def refusal(folder: Path, *entries: str) -> str:
    with pytest.raises(TemplateError) as caught:
        including(folder, *entries).included()
    message = str(caught.value)
    assert message.startswith(f"{folder / 'a.ipynb'}: include: ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        (["helper.py"], ["helper.py"]),
        (["data"], ["data/a.csv", "data/deep/b.csv"]),
        (["data/*.csv"], ["data/a.csv"]),
        (["**/*.csv"], ["data/a.csv", "data/deep/b.csv"]),
        (["data", "data/a.csv", "helper.py"], ["data/a.csv", "data/deep/b.csv", "helper.py"]),
        (["./data/../helper.py"][:0], []),
    ],
)  # fmt: skip
def test_files_folders_and_patterns_are_included_once(folder: Path, entries: list[str], names: list[str]) -> None:
    """
    A file is itself, a folder all files below it but caches, a pattern what it matches; each comes once, in order.
    """
    content = including(folder, *entries).included()
    assert list(content) == names and all(content[name] == name.encode() for name in names)


@pytest.mark.parametrize(
    "entry",
    ["../secret.txt", "/etc/passwd", "data/../../secret.txt", "~/x", "~root", "a\0b", "..", "data/..", "/", "../*"],
)
def test_nothing_outside_the_notebook_s_folder_is_included(folder: Path, entry: str) -> None:
    """
    ST-09: .., absolute paths and homes are refused, whether they exist or not.
    """
    assert "must lie in the notebook's folder or below it" in refusal(folder, entry)


@pytest.mark.parametrize("entry", ["link.txt", "linked", "linked/secret.txt", "data", "data/out", "*.txt", "**/*"])
def test_no_link_leads_out_of_the_folder(folder: Path, entry: str) -> None:
    """
    ST-09: a link out of the folder is refused, wherever on the way it stands.
    """
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "linked").symlink_to(folder.parent)
    (folder / "data" / "out").symlink_to(folder.parent)
    assert "leads out of the notebook's folder by a link" in refusal(folder, entry)


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    """
    What a link leads to is included under the link's name.
    """
    (folder / "same.csv").symlink_to(folder / "data" / "a.csv")
    assert including(folder, "same.csv").included() == {"same.csv": b"data/a.csv"}


@pytest.mark.parametrize(
    "entry", ["no.csv", "*.no", "nowhere/x.csv", "data/deep/b.csv/x", "", "x" * 300, "a**b/[", "round"]
)
def test_what_is_not_there_is_refused(folder: Path, entry: str) -> None:
    """
    A name that no file answers to is told, before anything starts.
    """
    (folder / "round").symlink_to(folder / "round")
    refusal(folder, entry)


def test_too_much_is_refused_before_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    More than 1 GB is refused by its size alone; a sparse file of 2 GB is not read.
    """
    with (folder / "large.bin").open("wb") as file:
        file.truncate(2**31)
    template = including(folder, "large.bin")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"read {path}"))
    with pytest.raises(TemplateError, match=r"include: 2.0 GB \(limit 1 GB\): let the notebook read it"):
        template.included()


def test_a_whole_folder_leaves_out_the_template_and_what_runs_wrote(folder: Path) -> None:
    """
    `include: .` does not make each run's results part of the next run's digest.
    """
    before = including(folder, ".").included()
    for name in ("sweep/output/notebook-n=1-0.ipynb", "sweep/.nbgrid/run-1.json", "sweep/.nbgrid/attempts/1.ipynb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    assert including(folder, ".").included() == before
    assert list(before) == ["data/a.csv", "data/deep/b.csv", "helper.py"]


# -- digest -------------------------------------------------------------------------------------------------------------

CELLS = (raw("prefix: p"), markdown("# Title"), code("# PARAMETERS\nn = 1"), code("n ** 2", "square"))


def digest(
    *cells: dict[str, Any],
    point: dict[str, Any] | None = None,
    files: Any = None,
    kernel: str = "python3",
    **options: Any,
) -> str:
    template = Template.parse(notebook_content(*(cells or CELLS), **options), "a.ipynb")
    return template.digest(point or {"n": 1}, files or {}, kernel)


CHANGES: dict[str, Callable[[], str]] = {
    "code": lambda: digest(*CELLS[:3], code("n ** 3", "square")),
    "a tag that names a result": lambda: digest(*CELLS[:3], code("n ** 2", "cube")),
    "a tag that papermill obeys": lambda: digest(*CELLS[:3], code("n ** 2", "square", "raises-exception")),
    "shared": lambda: digest(*CELLS[:3], code("n ** 2", "square", "shared")),
    "the order of cells": lambda: digest(CELLS[0], CELLS[1], CELLS[3], CELLS[2]),
    "another cell": lambda: digest(*CELLS, code("1")),
    "a parameter's value": lambda: digest(point={"n": 2}),
    "a parameter's type": lambda: digest(point={"n": 1.0}),
    "True for 1": lambda: digest(point={"n": True}),
    "text for 1": lambda: digest(point={"n": "1"}),
    "another parameter": lambda: digest(point={"n": 1, "m": 1}),
    "another name": lambda: digest(point={"m": 1}),
    "a file": lambda: digest(files={"a.csv": b"1"}),
    "a file's bytes": lambda: digest(files={"a.csv": b"2"}),
    "a file's name": lambda: digest(files={"b.csv": b"1"}),
    "the kernel": lambda: digest(kernel="other"),
}  # fmt: skip


def test_everything_that_decides_a_result_changes_the_digest() -> None:
    """
    Code, meaningful tags, parameters with their types, included files and the kernel each give another digest.
    """
    digests = {what: change() for what, change in CHANGES.items()} | {"nothing": digest()}
    assert len(set(digests.values())) == len(digests), digests


@pytest.mark.parametrize(
    "same",
    [
        lambda: digest(raw("prefix: q\ngrid: {n: [1, 2]}\ntimeout: 3"), *CELLS[1:]),
        lambda: digest(CELLS[0], markdown("# Another title"), markdown("more"), *CELLS[2:]),
        lambda: digest(*CELLS, code("  \n"), raw("more")),
        lambda: digest(*CELLS[:3], code("n ** 2", "hide-input", "square", "remove-cell")),
        lambda: digest(*CELLS[:3], {**CELLS[3], "outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}]}),
        lambda: digest(*CELLS[:3], {**CELLS[3], "execution_count": 3, "metadata": {"tags": ["square"], "collapsed": True}}),
        lambda: digest(kernel="python3", language="python"),
    ],
)  # fmt: skip
def test_what_does_not_decide_a_result_leaves_the_digest(same: Callable[[], str]) -> None:
    """
    The grid cell, markdown, outputs, empty cells, view tags and other metadata change nothing.
    """
    assert same() == digest()


def test_the_order_of_parameters_tags_and_files_leaves_the_digest() -> None:
    """
    GP-02: mappings are equal in any order.
    """
    assert digest(point={"n": 1, "m": 2}) == digest(point={"m": 2, "n": 1})
    assert digest(files={"a": b"1", "b": b"2"}) == digest(files={"b": b"2", "a": b"1"})
    two, other = code("n", "x", "y"), code("n", "y", "x")
    assert digest(*CELLS, two) == digest(*CELLS, other)


def test_a_digest_never_changes() -> None:
    """
    The digest of a known task is this one: a change of the recipe would run everything again.
    """
    assert digest() == "sha256:ed66770e45edf64f30138e55fe612eddd0117c85d9ff32115660166836b3ff56"
