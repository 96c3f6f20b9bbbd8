"""Tagged outputs decoded into values."""

from __future__ import annotations

import ast
import base64
import datetime
import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbgrid.outputs import MAX_TEXT, Gap, Image, decode, parse

PIXEL = b"\x89PNG\r\n\x1a\n and so on"


def cell(*outputs: dict[str, Any], execution_count: int | None = 1) -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": execution_count, "metadata": {}, "outputs": list(outputs)}


def result(**data: Any) -> dict[str, Any]:
    """Return an execute_result; `text_plain` stands for text/plain."""
    kinds = {kind.replace("_", "/"): content for kind, content in data.items()}
    return {"output_type": "execute_result", "data": kinds, "metadata": {}, "execution_count": 1}


def shown(data: dict[str, Any]) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": {}}


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def error(ename: str, evalue: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": ename, "evalue": evalue, "traceback": []}


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are equal, of the same type, and NaN where the other is."""
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or left == right
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return type(left) is type(right) and bool(left == right)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_characters="([{"))
nested = st.recursive(
    plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner) | st.tuples(inner, inner),
    max_leaves=15,
)  # fmt: skip
scalars = (
    st.floats().map(np.float64)
    | st.floats(width=32).map(np.float32)
    | st.integers(-(2**63), 2**63 - 1).map(np.int64)
    | st.integers(0, 255).map(np.uint8)
    | st.booleans().map(np.bool_)
    | st.text(max_size=10).map(np.str_)
)


@given(nested)
def test_the_repr_of_plain_values_gives_the_value_back(value: Any) -> None:
    """
    Numbers, nan, ±inf, text, None, and lists, tuples and mappings of them survive being shown.
    """
    assert same(parse(repr(value)), value)


@given(scalars)
def test_the_repr_of_a_numpy_scalar_gives_its_python_kin(value: Any) -> None:
    """
    R16: np.float64(0.25) is 0.25, np.True_ is True; float32 keeps the digits that it shows.
    """
    found = parse(repr(value))
    assert type(found) is type(value.item())
    assert same(type(value)(found).item(), value.item())


@given(st.lists(scalars, max_size=5), st.dictionaries(st.text(max_size=3), scalars, max_size=5))
def test_numpy_scalars_within_containers_are_read(values: list[Any], mapping: dict[str, Any]) -> None:
    """
    Containers of numpy's scalars come back as containers, never as text.
    """
    assert [type(item) for item in parse(repr(values))] == [type(item.item()) for item in values]
    assert parse(repr(mapping)).keys() == mapping.keys()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.array([1, math.nan, -math.inf]),
        np.array([[True, False]]),
        np.array([1, 2], np.uint8),
        np.array([0.1, 2], np.float32),
        np.array([1 + 2j, 3]),
        np.array(["a", "long"]),
        np.array([b"a"]),
        np.array(["2026-01-02"], "datetime64[D]"),
        np.array(["two words", "it's"], "<U9"),
        np.empty((0, 3), np.int64),
        np.array([]),
        np.array(2.5),
        np.arange(300) / 64,
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_the_repr_of_a_whole_array_gives_the_array_back(array: Any) -> None:
    """
    Values, dtype and shape are those of the array, on however many lines it was shown.
    """
    found = parse(repr(array))
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_an_elided_array_stays_text() -> None:
    """
    What was left out cannot be read, so nothing pretends to be the array.
    """
    for array in (np.arange(5000), np.ones((2000, 3))):
        assert parse(repr(array)) == repr(array)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1.5", -1.5),
        ("-inf", -math.inf),
        ("(1-2j)", 1 - 2j),
        ("numpy.int64(3)", 3),
        ("np.longdouble('0.1')", 0.1),
        ("float('-inf')", -math.inf),
        ("{1, 2}", {1, 2}),
        ("set()", set()),
        ("frozenset({1})", frozenset({1})),
        ("b'x'", b"x"),
        ("datetime.timedelta(days=1, seconds=2)", datetime.timedelta(days=1, seconds=2)),
        ("datetime.datetime(2026, 1, 2, 3, 4)", datetime.datetime(2026, 1, 2, 3, 4)),
        ("datetime.date(2026, 1, 2)", datetime.date(2026, 1, 2)),
        ("Timedelta('0 days 00:00:03.500000')", pd.Timedelta(seconds=3.5)),
        ("Timedelta('-1 days +23:59:59')", pd.Timedelta(seconds=-1)),
        ("Timestamp('2026-01-02 03:04:00')", pd.Timestamp(2026, 1, 2, 3, 4)),
        ("\n  [1,\n 2]\n", [1, 2]),
    ],
)
def test_what_spells_a_value_is_read(text: str, value: Any) -> None:
    """
    Each repr that says exactly what it was gives a value of the same type.
    """
    found = parse(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "text",
    [
        "", "five", "1 2", "9**9**9", "[1] * 10**9", "1 + 1", "__import__('os').getcwd()", "np.load('x')",
        "f'{1}'", "not 1", "-True", "-'a'", "[*[1]]", "{**{}}", "{[]: 1}", "{{1}}", "lambda: 1", "...", "Ellipsis",
        "<Axes: title={'center': 'Elbow Plot'}>", "array([1], dtype=object)", "array([1], dtype=evil)", "np.int64",
        "array(['a'], dtype='<U999999')" + " " * 10 + "x", "array([1, [2]])", "array([None])", "array([1], shape=(9,))",
        "array([], shape=(0, 99999999999999999999999))", "int64(1, dtype=2)", "Timestamp('now')", "Timedelta('today')",
        "Timestamp('2026-99-99')", "datetime.date(1, 2, 99)", "np.int64([1])", "print(**{'a': 1})", "x.np.nan", "1;2",
        "\x00", "\ud800", "9" * 5000,
    ],
)  # fmt: skip
def test_anything_else_stays_the_text_that_it_is(text: str) -> None:
    """
    Code, half reprs and prose are text: nothing is evaluated, and nothing raises.
    """
    assert parse(text) == text


@pytest.mark.parametrize(
    "text",
    ["(" * 10_000, "-" * 100_000 + "1", "[" * 51 + "]" * 51, "1+" * 50_000 + "1j", "lambda:" * 20_000 + "1",
     "a." * 50_000 + "a", "x if y else " * 10_000 + "1", "1," * MAX_TEXT, "{0:" * 60 + "1" + "}" * 60],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_hostile_text_stays_text(text: str) -> None:
    """
    Neither depth nor length brings the reader down.
    """
    assert parse(text) == text


def test_a_short_repr_cannot_become_a_huge_array() -> None:
    """
    Element width times number is capped before numpy takes the memory.
    """
    many = ", ".join(["'a'"] * 9999)
    for text in (f"array([{many}], dtype='<U9999')", f"array(['{'x' * 9999}', {many}])"):
        assert parse(text) == text


def test_blank_lines_around_text_are_dropped_and_spaces_kept() -> None:
    """
    A table that was printed keeps the spaces that align its first line.
    """
    assert parse("\n   a  b\n0  1  2\n") == "   a  b\n0  1  2"


def test_the_last_result_counts() -> None:
    """
    Of several results the last is the value; what was printed is not, and stderr never is.
    """
    made = cell(stream("1\n"), result(text_plain="2"), shown({"text/plain": "3"}), stream("4"), stream("5", "stderr"))
    assert decode(made) == 3


def test_without_a_result_all_that_was_printed_counts() -> None:
    """
    print(5) is 5, and the pieces of a stream belong together.
    """
    assert decode(cell(stream("1"), stream("oops", "stderr"), stream("2\n"))) == 12
    assert decode(cell(stream("k = 5\nok\n"))) == "k = 5\nok"


def test_scrapbooks_form_is_preferred_and_exact() -> None:
    """
    A glued value is taken from its scrap, not from what is shown beside it.
    """
    scrap = {"name": "a", "data": {"x": [1, None]}, "encoder": "json", "version": 1}
    made = shown({"text/plain": "9", "application/scrapbook.scrap.json+json": scrap})
    assert decode(cell(made)) == {"x": [1, None]}


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("pandas", {"data": "UEFSMQ==", "encoder": "pandas"}, "encoded as pandas"),
        ("json", {"name": "a"}, "holds no data"),
        ("json", [1], "holds no data"),
    ],
)
def test_a_scrap_that_cannot_be_read_is_a_gap(kind: str, content: Any, reason: str) -> None:
    """
    A scrap of another encoder or shape gives its reason, not some other form that would differ from it.
    """
    found = decode(cell(shown({f"application/scrapbook.scrap.{kind}+json": content, "text/plain": "1"})))
    assert isinstance(found, Gap)
    assert reason in found.reason


def test_json_is_taken_as_it_is() -> None:
    """
    application/json is already a value.
    """
    made = shown({"application/json": {"a": [1]}, "text/plain": "<IPython.core.display.JSON object>"})
    assert decode(cell(made)) == {"a": [1]}


FRAME = pd.DataFrame({"n": [1, 2], "x": [0.5, math.nan], "name": ["x < y", "é"]})
FRAMES = {
    "plain": FRAME,
    "named index": FRAME.set_index(pd.Index([3, 4], name="k")),
    "two index levels": FRAME.set_index(["name", "n"]),
    "sparse index": pd.DataFrame({"a": range(4)}, index=pd.MultiIndex.from_product([["u", "v"], [1, 2]])),
    "two column levels": pd.DataFrame({("a", "min"): [1, 2], ("a", "max"): [3, 4], ("b", "min"): [5, 6]}),
    "both": FRAME.groupby("name").agg({"n": ["min", "max"]}),
    "truths": pd.DataFrame({"ok": [True, False]}),
    "numbered columns": pd.DataFrame([[1.5, -2.5], [math.inf, 0.0]]),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_table_of_pandas_is_a_dataframe(name: str) -> None:
    """
    Values, index, columns and their types are those of the frame that was shown.
    """
    frame = FRAMES[name]
    found = decode(cell(result(text_html=frame.to_html(), text_plain=repr(frame))))
    pd.testing.assert_frame_equal(found, frame, check_names=False)


def test_an_elided_or_foreign_table_is_not_a_dataframe() -> None:
    """
    A table that pandas cut, two tables, and tables of others fall back to their text.
    """
    cut = pd.DataFrame(np.ones((100, 2)))
    wide = pd.DataFrame(np.ones((2, 100)))
    foreign = "<table><tr><td>dataframe</td></tr></table>"
    for page in (cut._repr_html_(), wide._repr_html_(), FRAME.to_html() * 2, foreign):
        assert decode(cell(result(text_html=page, text_plain="the text"))) == "the text"


def test_a_table_with_absurd_spans_is_refused_quickly() -> None:
    """
    A few bytes of colspan cannot fill the memory.
    """
    page = '<table class="dataframe"><thead>' + '<tr><th colspan="9999" rowspan="9999">a</th></tr>' * 9999 + "</thead>"
    assert decode(cell(result(text_html=page, text_plain="7"))) == 7


def test_a_picture_is_its_bytes() -> None:
    """
    image/png becomes an `Image` that Jupyter can show, before the text beside it.
    """
    encoded = base64.b64encode(PIXEL).decode()
    found = decode(cell(shown({"image/png": encoded[:8] + "\n" + encoded[8:], "text/plain": "<Figure>"})))
    assert found == Image(PIXEL)
    assert (found._repr_png_(), found.mime) == (PIXEL, "image/png")
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_broken_picture_falls_back_to_its_text() -> None:
    """
    What is not base64 is no picture.
    """
    assert decode(cell(shown({"image/png": "!!!", "text/plain": "'fig'"}))) == "fig"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (cell(error("ValueError", "\x1b[31mno\x1b[0m\nmore")), "the cell raised ValueError: no"),
        (cell(result(text_plain="1"), error("KeyboardInterrupt", "")), "the cell raised KeyboardInterrupt"),
        (cell(error("E", "x" * 1000)), "the cell raised E: " + "x" * 299 + "…"),
        (cell(), "the cell has no output"),
        (cell(stream("careful", "stderr")), "the cell has no output"),
        (cell(execution_count=None), "the cell did not run"),
        (cell(shown({})), "the cell's output has no form that can be read (it is empty)"),
        (cell(shown({"text/latex": "$x$"})), "the cell's output has no form that can be read (text/latex)"),
    ],
)
def test_no_value_is_a_gap_with_its_reason(made: dict[str, Any], reason: str) -> None:
    """
    A cell that raised, said nothing or never ran is a gap, and says which.
    """
    assert decode(made) == Gap(reason)


def test_malformed_outputs_never_raise() -> None:
    """
    Whatever stands where outputs should be gives a value or a gap.
    """
    shapeless = {"output_type": "display_data", "data": 3}
    for outputs in ([None, 1], [{}], [shapeless], [{"output_type": "stream", "text": 5}]):
        assert isinstance(decode({"outputs": outputs, "execution_count": 1}), Gap | str)
    assert decode({}) == Gap("the cell did not run")


def test_numpy_and_pandas_are_loaded_only_for_their_values() -> None:
    """
    Reading plain numbers loads neither.
    """
    code = (
        "from nbgrid.outputs import parse; import sys\n"
        "parse('[1, np.float64(0.5)]'); assert not {'numpy', 'pandas'} & set(sys.modules)\n"
        "parse('array([1])'); assert 'pandas' not in sys.modules and 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.from_regex(r"-?[0-9]{1,4}(\.[0-9]{0,3})?(e[-+]?[0-9]{1,3})?", fullmatch=True))
def test_every_spelling_of_a_number_means_what_python_says(text: str) -> None:
    """
    Numbers read on the short way are those that Python's own literals are: -0.0 and 1e5 too; 007 is text.
    """
    try:
        expected = ast.literal_eval(text)
    except SyntaxError:
        expected = text
    assert same(parse(text), expected)
    assert str(parse(text)) == str(expected)
