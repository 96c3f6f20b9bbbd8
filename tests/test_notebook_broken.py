"""Files that are no notebook, or no whole one: each is read, or refused with its name and the reason."""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from making import code, markdown, notebook_content, raw

from nbgrid import notebook as notebooks
from nbgrid.errors import NotebookError
from nbgrid.notebook import code_cells, kernel_name, language, notebook_bytes, parse_notebook, read_notebook, tags

RICH = notebook_bytes(parse_notebook(notebook_content(
    raw("prefix: a\ngrid: {n: [1]}"), markdown("# T\nü"), code("x\ny", "t") | {"execution_count": 1, "outputs": [
        {"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]},
        {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {
            "text/plain": ["1\n", "2"], "application/json": ["a\n", "b"], "image/png": "aGVsbG8=\n"}},
        {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["a", "b"]},
    ]},
), "x"))  # fmt: skip


def refusal(data: bytes) -> str:
    with pytest.raises(NotebookError) as caught:
        parse_notebook(data, "folder/a.ipynb")
    message = str(caught.value)
    assert message.startswith("folder/a.ipynb: ") and len(message) > 20 and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"), (b" \n\t", "the file is empty"), (b"{", "invalid JSON at line 1"),
        (b"\xff\xfe{\x00}", "not UTF-8"),
        (b"[]", "no nbformat version"), (b"5", "no nbformat version"), (b'{"nbformat": "4"}', "no nbformat version"),
        (b'{"nbformat": true}', "no nbformat version"), (b'{"nbformat": 4}', "no list of cells"),
        (b'{"nbformat": 4, "cells": {}}', "no list of cells"), (b'{"nbformat": 5, "cells": []}', "nbformat 5 is newer"),
        (b'{"nbformat": 4, "cells": [1]}', "cell 1 is no code"),
        (b'{"nbformat": 4, "cells": [{}]}', "cell 1 is no code"),
        (b'{"nbformat": 4, "cells": [{"cell_type": ["code"]}]}', "cell 1 is no code"),
        (b'{"nbformat": 4, "cells": [{"cell_type": {"a": 1}}]}', "cell 1 is no code"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": 5}]}', "the source of cell 1 is no text"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": ["a", 5]}]}', "the source of cell 1 is no text"),
        (b"[" * 100_000, "nested too deeply"), (b'{"a": ' * 100_000, "nested too deeply"),
        (b"1" * 5000, "not a notebook"),
        (b'{"nbformat": 3}', "no whole notebook of nbformat 3"), (b'{"nbformat": -1}', "no whole notebook"),
        (b'{"nbformat": 3, "worksheets": [{"cells": [5]}]}', "no whole notebook of nbformat 3"),
    ],
)  # fmt: skip
def test_what_is_no_notebook_is_refused_with_the_reason(data: bytes, words: str) -> None:
    """
    NB-01: each kind of broken file has its reason, and the file's name.
    """
    assert words in refusal(data)


def test_a_notebook_cut_anywhere_is_refused() -> None:
    """
    NB-01: a file truncated at every kilobyte is a `NotebookError` each time.
    """
    notebook = parse_notebook(RICH, "x")
    notebook["cells"][2]["outputs"][0]["text"] = "line\n" * 4000
    data = notebook_bytes(notebook)
    assert len(data) > 30 * 1024
    for size in range(0, len(data) - 2, 1024):
        refusal(data[:size])
    assert parse_notebook(data, "x") == notebook


def test_what_is_missing_or_wrong_around_the_cells_is_filled_in() -> None:
    """
    NB-01: metadata that is no mapping, outputs that are no list, tags that are no texts: read as if they were not there.
    """
    cells = [
        {"cell_type": "code", "source": "a", "metadata": None, "outputs": None},
        {"cell_type": "code", "source": "b", "metadata": {"tags": "t"}, "outputs": [1, {"text": [1, None]}]},
        {"cell_type": "code", "source": "c", "metadata": {"tags": ["t", 5]}, "outputs": [{"data": {"text/plain": [1]}}]},
    ]  # fmt: skip
    data = json.dumps({"nbformat": 4, "nbformat_minor": "x", "cells": cells, "metadata": 3}).encode()
    notebook = parse_notebook(data, "x")
    assert (notebook["metadata"], notebook["nbformat_minor"]) == ({}, 0)
    assert [tags(cell) for cell in notebook["cells"]] == [[], [], ["t"]]
    assert (kernel_name(notebook), language(notebook)) == (None, "python")


def test_thousands_of_mutations_are_read_or_refused() -> None:
    """
    NB-01: 4000 random mutations of a notebook's bytes each give a notebook that can be written, or a `NotebookError`.
    """
    rng = random.Random(1)
    source = RICH + b"\n"
    pieces = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"5",
        b'"x"',
        b"-1",
        b"1e999",
        b"\xff",
        b"\\u0000",
        b"[[",
        b'{"a":',
        b"true",
        b",",
        b'"',
        b"code",
    ]
    read = 0
    for _ in range(4000):
        data = bytearray(source)
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(len(data))
            data[start : start + rng.choice((0, 1, 1, 2, 5, 12))] = (
                rng.choice(pieces) if rng.random() < 0.7 else bytes([rng.randrange(256)])
            )
        try:
            notebook = parse_notebook(bytes(data), "folder/a.ipynb")
        except NotebookError as error:
            assert str(error).startswith("folder/a.ipynb: ")
            continue
        read += 1
        assert parse_notebook(notebook_bytes(notebook), "x")["cells"] == notebook["cells"]
        assert all(isinstance(tags(cell), list) for _, cell in code_cells(notebook)) and language(notebook)
        assert kernel_name(notebook) in {"python3", None} or kernel_name(notebook)
    assert 100 < read < 3900


def test_any_value_in_any_place_is_read_or_refused() -> None:
    """
    NB-01: each value of a notebook replaced by each kind of JSON gives a notebook, or a `NotebookError`.
    """
    whole = json.loads(RICH)

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(place for key, item in inner for place in places(item, (*path, key)))]

    for place in places(whole)[1:]:
        for value in (None, True, 5, 1.5, "x", [], ["x"], [5], {}, {"a": "b"}, [{}], [[]], {"text/plain": [5]}):
            changed = copy.deepcopy(whole)
            parent = changed
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = value
            try:
                notebook = parse_notebook(json.dumps(changed).encode(), "x")
            except NotebookError:
                continue
            assert parse_notebook(notebook_bytes(notebook), "x")
            assert isinstance(language(notebook), str) and all(
                isinstance(tags(cell), list) for cell in notebook["cells"]
            )


def test_files_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    NB-01: a missing file, a folder, a pipe, a device and a name with NUL are told by name, and none is waited for.
    """
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe", "/dev/zero", "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(NotebookError) as caught:
            read_notebook(path)
        assert repr(str(path))[1:-1] in str(caught.value)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    NB-01: of a file above the limit one byte more than the limit is read.
    """
    monkeypatch.setattr(notebooks, "MAX_BYTES", 2**20)
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    assert len(notebooks.notebook_file(tmp_path / "a")) == 2**20 + 1
    (tmp_path / "b").write_bytes(b"x" * 2**20 + b"y")
    with pytest.raises(NotebookError, match="larger than the 1 MB that nbgrid reads"):
        read_notebook(tmp_path / "b")
