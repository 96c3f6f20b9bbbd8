"""The source of the parameters cell: what it assigns, and values filled into it in place."""

from __future__ import annotations

import ast
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbgrid.parameters import literal
from nbgrid.source import assigned, fill, imports, is_literal, masked, parse


def filled(source: str, **values: Any) -> str:
    return fill(source, {name: literal(value) for name, value in values.items()})[0]


def settled(source: str, **values: Any) -> set[str]:
    return fill(source, {name: literal(value) for name, value in values.items()})[1]


def namespace(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {}
    exec(source, space)
    return space


@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("n = 1", "n = 5  # default: 1"),
        ("n=1", "n=5  # default: 1"),
        ("n: int = 1", "n: int = 5  # default: 1"),
        ("n = 1  # how many", "n = 5  # how many; default: 1"),
        ("n = '#'", "n = 5  # default: '#'"),
        ("n = (1)", "n = (5)  # default: 1"),
        ("a = 0; n = 1; b = 2", "a = 0; n = 5; b = 2  # default: 1"),
        ("n = 1; m = 2", "n = 5; m = 6  # default: n = 1, m = 2"),
        ("n = 1;", "n = 5;  # default: 1"),
        ("n = 1 + \\\n    2", "n = 5  # default: 1 + 2"),
        ("n = \\\n    1", "n = \\\n    5  # default: 1"),
        ("n = [\n    1,  # one\n    2,  # two\n]  # all", "n = 5  # all; default: [1, 2]"),
        ("n = (\n    1  # one\n)", "n = (\n    5  # one\n)  # default: 1"),
        ("n = '''a\n# b'''", "n = 5  # default: 'a\\n# b'"),
        ("n = '''a\n# b'''  # c", "n = 5  # c; default: 'a\\n# b'"),
        ("é = 'ü'; n = 1", "é = 'ü'; n = 5  # default: 1"),
        ("n = '日本' + 'ö'  # ü", "n = 5  # ü; default: '日本' + 'ö'"),
        ("n = 1\r\nm = 2\r\n", "n = 5  # default: 1\r\nm = 6  # default: 2\r\n"),
        ("x = 0\rn = 1\r", "x = 0\rn = 5  # default: 1\r"),
        ("n = 1\n\n# the end", "n = 5  # default: 1\n\n# the end"),
        ("\n\n  # first\nn = 1\n", "\n\n  # first\nn = 5  # default: 1\n"),
        ("n = 'x' * 100 + 'a very long default, longer than a line of comment may be'",
         "n = 5  # default: 'x' * 100 + 'a very long default, longer than a line of com…"),
        ("n = 1\nn = n + 1", "n = 5  # default: 1\nn = 5  # default: n + 1"),
        ("x\x0c = 0\nn = 1", "x\x0c = 0\nn = 5  # default: 1"),
        ("s = 'a\u2028b'; n = 1", "s = 'a\u2028b'; n = 5  # default: 1"),
        ("ﬁ = 0; n = 1", "ﬁ = 0; n = 5  # default: 1"),
    ],
)  # fmt: skip
def test_a_plain_assignment_is_filled_in_place(source: str, after: str) -> None:
    """
    The value becomes the literal and the default a comment; nothing else changes.
    """
    assert filled(source, n=5, m=6) == after


def test_what_depends_on_a_parameter_is_computed_anew() -> None:
    """
    The order of the cell stays, so that `twice = n * 2` follows n.
    """
    space = namespace(filled("n = 1\ntwice = n * 2\nm = twice + 1\nlast = m", n=5, m=0))
    assert (space["n"], space["twice"], space["m"], space["last"]) == (5, 10, 0, 0)


def test_a_name_in_other_letters_is_the_same_name() -> None:
    """
    GP-08: Python takes `ﬁ` for `fi`, and so does filling.
    """
    assert filled("ﬁ = 1", fi=5) == "ﬁ = 5  # default: 1"


@pytest.mark.parametrize(
    "source",
    ["n, m = 1, 2", "n = m = 1", "if True:\n    n = 1", "for n in range(3):\n    pass", "n: int", "n = 1\nif True:\n    n = 2",
     "n = 1\nn += 1", "n = 1\n[n, x] = 1, 2", "n = 1\nwith open('x') as n:\n    pass", "n = 1\nprint(n := 3)"],
)  # fmt: skip
def test_a_name_that_is_bound_in_another_way_too_is_not_settled(source: str) -> None:
    """
    Where the literal may not be the last value, a cell after it has to say so.
    """
    assert settled(source, n=5) == set()
    parse(filled(source, n=5))


def test_a_name_that_is_bound_only_plainly_is_settled() -> None:
    """
    Functions, classes and comprehensions have names of their own.
    """
    source = "n = 1\nn = 2\nf = lambda n: n\nl = [n for n in range(3)]\ndef g():\n    n = 3\nclass C:\n    n = 4"
    assert settled(source, n=5) == {"n"}


def test_assigned_names_come_in_order_with_their_defaults() -> None:
    """
    R10: each assignment is found, whatever stands on the right; a value that is not plain has no default.
    """
    source = (
        "# PARAMETERS\nn = 1\nc = dict(x=1)\nk = 'x=y'\nd: datetime.date = None\ne: Literal['a', 'b'] = 'a'\nf, g = 1, 2\n"
        "h = 'a # not a comment'  # but this is\ni: int\nif n:\n    j = 3\nl = [\n  1,\n  2]\n"
    )
    assert assigned(source) == {
        "n": "1", "c": "dict(x=1)", "k": "'x=y'", "d": "None", "e": "'a'", "f": None, "g": None, "h": "'a # not a comment'",
        "i": None, "j": None, "l": "[1, 2]",
    }  # fmt: skip
    assert list(assigned(source)) == ["n", "c", "k", "d", "e", "f", "g", "h", "i", "j", "l"]


def test_names_of_inner_scopes_are_not_assigned() -> None:
    """
    GP-11: the variable of a comprehension is no parameter; a grid over it would change nothing.
    """
    source = "squares = [i**2 for i in range(3)]\ndef f(a):\n    b = a\n    return b\nclass C:\n    d = 1\ng = lambda: (e := 1)"
    assert list(assigned(source)) == ["squares", "g"]


@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("%matplotlib inline\nn = 1", "%matplotlib inline\nn = 5  # default: 1"),
        ("!pip list\nn = 1\nprint?", "!pip list\nn = 5  # default: 1\nprint?"),
        ("files = !ls\nn = 1", "files = !ls\nn = 5  # default: 1"),
        ("n = !nproc", "n = 5  # default: !nproc"),
        ("n = !echo é # ö\nm = 'ä'", "n = 5  # default: !echo é # ö\nm = 6  # default: 'ä'"),
        ("n = %env HOME\n", "n = 5  # default: %env HOME\n"),
        ("!echo a \\\n  b\nn = 1", "!echo a \\\n  b\nn = 5  # default: 1"),
        ("n = !echo a \\\n  b\nm = 2", "n = 5  # default: []\nm = 6  # default: 2"),
        ("if True:\n    %time x = 1\nn = 1", "if True:\n    %time x = 1\nn = 5  # default: 1"),
        ("%%time\nn = 1", "%%time\nn = 5  # default: 1"),
        ("%%capture out\n%env X=1\nn = 1", "%%capture out\n%env X=1\nn = 5  # default: 1"),
        ("%%bash\nn=1", "%%bash\nn=1"),
        ("%pwd\r\nn = 1\r\n", "%pwd\r\nn = 5  # default: 1\r\n"),
    ],
)  # fmt: skip
def test_magics_stay_and_do_not_disturb(source: str, after: str) -> None:
    """
    IPython's magics in the parameters cell are left alone, or replaced where they are the value.
    """
    assert filled(source, n=5, m=6) == after


@given(
    st.lists(
        st.sampled_from(["n = 1", "%x", "!y \\", "z?", "é = 'ü'", "n = %é", "a = !b", "", "    ", "# c"]), max_size=6
    )
)
def test_masking_keeps_every_place(lines: list[str]) -> None:
    """
    A masked cell has the length and the line breaks of the cell.
    """
    source = "\n".join(lines)
    text = masked(source)
    assert len(text) == len(source)
    assert [index for index, char in enumerate(text) if char == "\n"] == [
        index for index, c in enumerate(source) if c == "\n"
    ]


@pytest.mark.parametrize(
    "source", ["n = ", "n = 1\n  m = 2", "n = (1", "\0", "x" + " + x" * 100_000 + " +", "[" * 1000, "'\ud800"]
)
def test_what_is_no_python_is_a_syntax_error_and_nothing_else(source: str) -> None:
    """
    Broken, deep or strange source raises `SyntaxError`.
    """
    with pytest.raises(SyntaxError):
        parse(source)


def test_a_long_sum_is_no_obstacle() -> None:
    """
    A default with hundreds of terms over many lines is read, or said to be nested too deeply.
    """
    source = "n = (1\n" + "+ 1\n" * 900 + ")"
    try:
        assert filled(source, n=5).startswith("n = (5")
    except SyntaxError as error:
        assert "nested too deeply" in str(error)


def test_reading_a_cell_warns_of_nothing() -> None:
    """
    An escape such as "\\d" in the user's string is for the kernel to mention; filters stay as they are.
    """
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert filled("n = '\\d'\nif 1 is 1: pass", n=5).startswith("n = 5  # default: '\\d'")
    assert caught == [] and warnings.filters == before


def test_only_certain_imports_are_told() -> None:
    """
    What a `try`, an `if` or a function imports may be missing.
    """
    source = (
        "%matplotlib inline\nimport numpy as np, os.path\nfrom sklearn.cluster import KMeans\nfrom . import here\n"
        "try:\n    import cupy\nexcept ImportError:\n    pass\nif False:\n    import torch\ndef f():\n    import dask"
    )
    assert list(imports(source)) == ["numpy", "os", "sklearn"]
    assert list(imports("this is no python")) == []


@pytest.mark.parametrize("text", ["f()", "float('1')", "float(nan)", "a", "[f()]", "{**a}", "{f(): 1}", "-a", "1 + 1", "(1,)",
                                  "f'{a}'", "__import__('os')", "[x for x in y]", "lambda: 1", "+1", "not 1"])  # fmt: skip
def test_what_runs_code_is_no_literal(text: str) -> None:
    """
    GP-07: a call, a name or an operation is none, but for the three floats that have no literal.
    """
    assert not is_literal(ast.parse(text, mode="eval").body)


@given(
    st.text(), st.sampled_from(["n = 1", "a = 0; n = 1  # c", "n = '''x\n#y'''", "n = [\n1]\n", "n: str = 'é'; b = 2"])
)
def test_no_text_breaks_out_of_its_cell(text: str, source: str) -> None:
    """
    GP-07: whatever the text, the cell has the same statements after filling, and n is the text.
    """
    after = filled(source, n=text)
    assert [type(node) for node in ast.parse(after).body] == [type(node) for node in ast.parse(source).body]
    assert namespace(after)["n"] == text
