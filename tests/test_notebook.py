"""Notebooks in and out: what is read, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import copy
import json
from typing import Any

import nbformat
import pytest
from making import code, markdown, notebook_content, raw, strict_json

from nbgrid import notebook as notebooks
from nbgrid.notebook import kernel_name, language, notebook_bytes, parse_notebook

OUTPUTS: list[dict[str, Any]] = [
    {"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]},
    {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {
        "text/plain": ["1\n", "2"], "application/json": ["a\n", "b"], "application/x+json": {"a": ["b"]},
        "text/html": "<b>\n</b>", "image/png": "aGVsbG8=\n",
    }},
    {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["a", "b"]},
]  # fmt: skip
RICH = json.dumps({
    "cells": [
        {"cell_type": "raw", "metadata": {}, "source": ["prefix: a\n", "grid: {n: [1]}"], "id": "a"},
        {"cell_type": "markdown", "metadata": {}, "source": "# T\nü", "id": "b", "attachments": {"x": {"image/png": "aa"}}},
        {"cell_type": "code", "metadata": {"tags": ["t"]}, "source": ["x\n", "y"], "id": "c", "execution_count": 1,
         "outputs": OUTPUTS},
    ],
    "metadata": {"kernelspec": {"name": "python3", "language": "python"}},
    "nbformat": 4, "nbformat_minor": 5,
}, indent=1).encode()  # fmt: skip


def test_multi_line_strings_are_joined() -> None:
    """
    Sources, streams and text outputs are one string each; JSON outputs stay what they are.
    """
    notebook = parse_notebook(RICH, "x")
    assert [cell["source"] for cell in notebook["cells"]] == ["prefix: a\ngrid: {n: [1]}", "# T\nü", "x\ny"]
    stream, result, error = notebook["cells"][2]["outputs"]
    assert stream["text"] == "a\nb"
    assert result["data"] == {
        "text/plain": "1\n2", "application/json": ["a\n", "b"], "application/x+json": {"a": ["b"]},
        "text/html": "<b>\n</b>", "image/png": "aGVsbG8=\n",
    }  # fmt: skip
    assert error["traceback"] == ["a", "b"]


def test_what_is_read_agrees_with_nbformat() -> None:
    """
    nbformat reads the same notebook from the same bytes, and from what nbgrid writes.
    """
    notebook = parse_notebook(RICH, "x")
    assert nbformat.reads(RICH.decode(), as_version=4) == notebook
    assert nbformat.reads(notebook_bytes(notebook).decode(), as_version=4) == notebook


def test_writing_and_reading_gives_the_same() -> None:
    """
    Text of any kind survives: JSON that is a string, exotic line ends, half surrogates, nothing at all.
    """
    notebook = parse_notebook(RICH, "x")
    data = notebook["cells"][2]["outputs"][1]["data"]
    for text in ("a\nb", "", "\u2028 \x0b \x1c \x85", "\ud800", "a\r\nb\r", "é😀"):
        data |= {
            "text/plain": text,
            "application/json": text,
            "application/vnd.x+json": [text, "\n"],
            "image/svg+xml": text,
        }
        notebook["cells"][0]["source"] = text
        assert parse_notebook(notebook_bytes(notebook), "x") == notebook
    before = copy.deepcopy(notebook)
    notebook_bytes(notebook)
    assert notebook == before


def test_a_notebook_is_written_as_jupyter_writes_it() -> None:
    """
    The bytes are nbformat's own, so that a file does not change when Jupyter saves it.
    """
    notebook = parse_notebook(notebook_content(raw("a\nb"), markdown("ü"), code("x\ny")), "x")
    assert notebook_bytes(notebook).decode() == nbformat.writes(nbformat.from_dict(notebook)) + "\n"


def test_numbers_that_json_lacks_become_null() -> None:
    """
    GP-10: a strict parser reads what is written, whatever an output holds; a bare NaN in a file is no reason to refuse it.
    """
    notebook = parse_notebook(RICH.replace(b'"execution_count": 1', b'"execution_count": NaN', 1), "x")
    assert notebook["cells"][2]["execution_count"] == "NaN"
    notebook["cells"][2]["outputs"][1]["data"]["application/json"] = {"a": [float("nan"), float("inf"), 1.5]}
    written = strict_json(notebook_bytes(notebook))
    assert written["cells"][2]["outputs"][1]["data"]["application/json"] == {"a": [None, None, 1.5]}


def test_a_byte_order_mark_does_no_harm() -> None:
    """
    NB-01: what Windows editors put before the text is passed over.
    """
    assert parse_notebook(b"\xef\xbb\xbf" + RICH, "x") == parse_notebook(RICH, "x")


def test_nbformat_3_is_brought_to_4_and_is_the_same_each_time() -> None:
    """
    NB-01: an old notebook is read, its cells get ids that are not random, and what is left is plain dictionaries.
    """
    old = {
        "nbformat": 3, "nbformat_minor": 0, "metadata": {"name": "old"},
        "worksheets": [{"metadata": {}, "cells": [
            {"cell_type": "heading", "level": 1, "metadata": {}, "source": "Title"},
            {"cell_type": "code", "language": "python", "metadata": {}, "collapsed": False, "input": ["n = 1\n", "n"],
             "prompt_number": 1, "outputs": [{"output_type": "pyout", "prompt_number": 1, "text": ["1"], "metadata": {}}]},
        ]}],
    }  # fmt: skip
    data = json.dumps(old).encode()
    notebook = parse_notebook(data, "x")
    assert [cell["source"] for cell in notebook["cells"]] == ["# Title", "n = 1\nn"]
    assert notebook["cells"][1]["outputs"][0]["data"] == {"text/plain": "1"}
    assert parse_notebook(data, "x") == notebook and type(notebook["cells"][0]) is dict
    assert type(notebook["metadata"]) is dict


@pytest.mark.parametrize("minor", range(6))
def test_each_minor_version_of_4_is_read_with_and_without_ids(minor: int) -> None:
    """
    NB-01: 4.0 to 4.5 are read; from 4.5 on a cell without an id gets one that follows from its place.
    """
    bare = {
        "nbformat": 4,
        "nbformat_minor": minor,
        "cells": [{"cell_type": "code", "source": "a"}, {"cell_type": "raw"}],
    }
    notebook = parse_notebook(json.dumps(bare).encode(), "x")
    assert notebook["metadata"] == {} and notebook["nbformat_minor"] == minor
    assert notebook["cells"][0] == {
        "cell_type": "code", "source": "a", "metadata": {}, "outputs": [], "execution_count": None,
        **({"id": "cell-0"} if minor >= 5 else {}),
    }  # fmt: skip
    assert notebook["cells"][1]["source"] == ""
    nbformat.validate(nbformat.from_dict(notebook))


def test_ids_are_distinct_whatever_stands_in_the_file() -> None:
    """
    NB-01: doubled, missing and wrong ids become distinct ones, and those that were right stay.
    """
    ids = ["cell-1", None, "cell-1", "cell-2", 5, "cell-4", "cell-5", "", ""]
    cells = [{"cell_type": "raw", "source": "", "id": name} for name in ids]
    data = json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": cells, "metadata": {}}).encode()
    found = [cell["id"] for cell in parse_notebook(data, "x")["cells"]]
    assert len(set(found)) == len(ids)
    assert [found[place] for place in (0, 3, 5, 6)] == ["cell-1", "cell-2", "cell-4", "cell-5"]
    assert found == [cell["id"] for cell in parse_notebook(data, "x")["cells"]]


def test_reading_makes_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Reading costs what `json` costs: cells and outputs are the very objects that it made.
    """
    made = json.loads(RICH)
    monkeypatch.setattr(notebooks.json, "loads", lambda *_, **__: made)
    notebook = parse_notebook(b"x", "x")
    assert all(read is cell for read, cell in zip(notebook["cells"], made["cells"], strict=True))
    assert notebook["cells"][2]["outputs"][1]["data"] is made["cells"][2]["outputs"][1]["data"]


def test_the_language_and_the_kernel_are_what_the_metadata_says() -> None:
    """
    The kernelspec's language comes before language_info's name.
    """
    both = {"kernelspec": {"name": "ir", "language": "R"}, "language_info": {"name": "python"}}
    assert language({"metadata": both}) == "r" and kernel_name({"metadata": both}) == "ir"
    assert language({"metadata": {"language_info": {"name": "Julia"}, "kernelspec": {"name": ""}}}) == "julia"
    assert kernel_name({"metadata": {"kernelspec": {"name": ""}}}) is None


def test_a_new_cell_fits_its_notebook() -> None:
    """
    An id where the format has ids, the same for the same source.
    """
    assert "id" not in notebooks.new_cell({"nbformat_minor": 4}, "a", [])
    one, two = (notebooks.new_cell({"nbformat_minor": 5}, "a\ud800", ["t"]) for _ in range(2))
    assert one == two and one["id"] != notebooks.new_cell({"nbformat_minor": 5}, "b", [])["id"]
    assert notebooks.has_parameters_marker({"source": "\n # parameters"}) and not notebooks.has_parameters_marker(
        {"source": ""}
    )
