"""Parameters for kernels of other languages, written by papermill's translators where these are right."""

from __future__ import annotations

import math
import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import code, notebook_content

from nbgrid.errors import TemplateError
from nbgrid.template import Template

KERNELS = {"bash": "bash", "R": "ir", "julia": "julia-1.11", "scala": "scala", "C#": ".net-csharp", "matlab": "matlab",
           "PowerShell": ".net-powershell"}  # fmt: skip


def template(language: str) -> Template:
    content = notebook_content(code("n=1", "parameters"), code("echo"), kernel=KERNELS[language], language=language)
    return Template.parse(content, "a.ipynb")


def written(language: str, value: Any) -> str:
    """Return what stands for *value* in the injected cell."""
    cells = template(language).render({"n": value})["cells"]
    assert [cell["metadata"].get("tags") for cell in cells] == [["parameters"], ["injected-parameters"], None]
    assert cells[0]["source"] == "n=1"
    text: str = cells[1]["source"].split("\n", 1)[1].removesuffix("\n")
    return text


@pytest.mark.parametrize(
    ("language", "value", "text"),
    [
        ("bash", 5, "n=5"), ("bash", "a b", "n='a b'"), ("bash", True, "n=true"), ("bash", [1, "b c"], "n=(1 'b c')"),
        ("bash", "$(id) `id` $HOME 'x'", "n=" + shlex.quote("$(id) `id` $HOME 'x'")), ("bash", "é", "n='é'"),
        ("bash", 10**30, f"n={10**30}"),
        ("R", 5, "n = 5"), ("R", None, "n = NULL"), ("R", True, "n = TRUE"), ("R", [1, "a"], 'n = list(1, "a")'),
        ("R", {"a": 1}, 'n = list("a" = 1)'), ("R", "é\n\\\"'", "n = \"\\u00e9\\n\\\\\\\"'\""),
        ("R", "😀", 'n = "\\U0001f600"'), ("R", 0.1, "n = 0.1"),
        ("julia", "$(run(`id`))", 'n = "\\u0024(run(`id`))"'), ("julia", {"a": [None]}, 'n = Dict("a" => [nothing])'),
        ("scala", "😀$", 'val n = "\\ud83d\\ude00\\u0024"'), ("scala", 2**40, f"val n = {2**40}L"),
        ("C#", "é9", 'var n = "\\u00e99";'),
        ("matlab", "plain", 'n = "plain";'), ("PowerShell", math.inf, "$n = [double]::PositiveInfinity"),
        ("PowerShell", True, "$n = $True"),
    ],
)  # fmt: skip
def test_a_value_is_written_in_the_notebook_s_language(language: str, value: Any, text: str) -> None:
    """
    A cell tagged `injected-parameters` after the parameters cell assigns the value as it is, and none of it is computed.
    """
    assert written(language, value) == text


@pytest.mark.parametrize(
    ("language", "value"),
    [
        ("bash", {"a": 1}), ("bash", [[1]]), ("bash", "a\0b"), ("bash", "\ud800"), ("R", math.nan), ("R", [math.inf]),
        ("R", 10**30),
        ("R", "\0"), ("R", {"a": "\ud800"}), ("julia", -math.inf), ("julia", 10**30), ("scala", math.nan),
        ("matlab", "C:\\new"), ("matlab", "é"),
        ("C#", None), ("PowerShell", "$HOME"), ("PowerShell", "`n"), ("PowerShell", "a\\b"),
        ("PowerShell", ["$(id)"]), ("matlab", 2**60),
    ],
)  # fmt: skip
def test_what_cannot_be_written_truthfully_is_refused(language: str, value: Any) -> None:
    """
    GP-07: where a language has no literal for a value, or papermill's would be another value, rendering refuses.
    """
    with pytest.raises(TemplateError, match=r"a\.ipynb: n cannot be written in") as caught:
        template(language).render({"n": value})
    assert "\n" not in str(caught.value)


def test_a_language_that_papermill_does_not_know_is_refused_by_name() -> None:
    """
    A parameter for a kernel without a translator is an error before anything starts.
    """
    content = notebook_content(code("n=1", "parameters"), kernel="brainfuck", language="brainfuck")
    with pytest.raises(TemplateError, match="n cannot be written in brainfuck"):
        Template.parse(content, "a.ipynb").render({"n": 1})
    assert Template.parse(content, "a.ipynb").render({})["cells"][0]["source"] == "n=1"


def test_rendering_twice_gives_the_same_in_any_language() -> None:
    """
    The injected cell, its id too, follows from the values.
    """
    for language in KERNELS:
        assert template(language).render({"n": 5}) == template(language).render({"n": 5})


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_bash_reads_the_text_that_was_meant(text: str) -> None:
    """
    GP-07: whatever the text, bash splits the assignment into one word that is the text.
    """
    assert shlex.split(written("bash", text)) == [f"n={text}"]


def test_bash_runs_nothing_of_a_value() -> None:
    """
    GP-07: bash itself prints the value back.
    """
    text = "$(id) `id`; echo \"$HOME\" 'x' \\ \n!! * ~ é"
    shown = subprocess.run(
        ["bash", "-c", written("bash", text) + '\nprintf %s "$n"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == text
