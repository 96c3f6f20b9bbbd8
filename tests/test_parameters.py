"""Parameters: which values there are, how they are written and recorded, and what is refused."""

from __future__ import annotations

import ast
import datetime
import decimal
import enum
import json
import math
import pathlib
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbgrid.errors import ParameterError
from nbgrid.parameters import canonical, check_name, check_value, decode, encode, from_text, literal, shown
from nbgrid.source import is_literal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are equal with their types, bit for bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def refusal(value: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        check_value(value, "grid, k[2]")
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(5), 5), (np.uint8(5), 5), (np.float32(0.1), float(np.float32(0.1))), (np.float64(0.1), 0.1),
        (np.bool_(True), True), (np.str_("a"), "a"), (np.array(3), 3), ([np.int64(1)], [1]),
        ({"a": np.int8(1)}, {"a": 1}),
    ],
)  # fmt: skip
def test_a_numpy_scalar_becomes_its_python_kin(value: Any, plain: Any) -> None:
    """
    GP-05: the kernel sees an int, a float, a bool, never a numpy repr or text.
    """
    assert same(check_value(value, "k"), plain)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


class Code:
    def __str__(self) -> str:
        return "__import__('os').system('id')"

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1, 2), "tuple is none that a parameter can have: use a list"), ({1}, "set"), (frozenset(), "frozenset"),
        (decimal.Decimal("1"), "Decimal"), (datetime.datetime(2024, 1, 1), "datetime"),
        (datetime.date(2024, 1, 1), "date"),
        (pathlib.PurePosixPath("a"), "use str(path)"), (Colour.RED, "Colour"), (Level.LOW, "Level"),
        (Text("a"), "Text"),
        (b"a", "decode it to text"), (1j, "two parameters"), (np.arange(3), "use .tolist()"), (Code(), "Code"),
        (pd.NA, "use None"), (pd.Timestamp("2024"), "write it as text"), (np.datetime64("2024"), "write it as text"),
        (range(3), "range"), (object(), "use numbers, text or lists of these"), (np.longdouble(1), "use float(value)"),
    ],
)  # fmt: skip
def test_every_other_type_is_refused_with_the_parameter_and_what_to_use(value: Any, words: str) -> None:
    """
    GP-06: a type that no parameter can have is refused by name, with the place and what to use instead.
    """
    message = refusal(value)
    assert words in message and message.startswith("grid, k[2]: ") and "\n" not in message


def test_what_is_wrong_inside_a_list_is_named_by_its_place() -> None:
    """
    GP-06: the message leads to the item.
    """
    assert refusal([1, {"a": (2,)}]).startswith("grid, k[2][1]['a']: ")


def test_the_keys_of_a_mapping_are_text() -> None:
    """
    JSON has no other keys.
    """
    assert "the key 1 is a int; keys must be text" in refusal({1: 2})


def test_the_mapping_that_stands_for_nan_is_refused() -> None:
    """
    A user's {"$float": "nan"} would be read back as NaN.
    """
    assert "$float" in refusal({"$float": "nan"})
    assert check_value({"$float": "nan", "b": 1}, "k") == {"$float": "nan", "b": 1}


def test_a_value_above_one_mebibyte_is_refused() -> None:
    """
    GP-24: 50 MB of text are refused with the advice to pass a path; just under 1 MiB is not.
    """
    assert "50.0 MB is too large (limit 1 MB): pass a file's path" in refusal("x" * (50 * 2**20))
    assert "too large" in refusal(list(range(200_000)))
    assert len(str(check_value("x" * (2**20 - 10), "k"))) == 2**20 - 10


def test_an_integer_that_python_does_not_write_is_refused() -> None:
    """
    An integer of a million bits is refused in words; 10**30 is none.
    """
    assert "1,000,001 bits" in refusal(2**1_000_000)
    assert check_value(10**30, "k") == 10**30


def test_deep_nesting_is_refused_as_a_value_too() -> None:
    """
    A list in a list in a list has an end.
    """
    value: Any = 1
    for _ in range(1000):
        value = [value]
    assert "nested more than 40 deep" in refusal(value)


@given(VALUES)
def test_a_literal_evaluates_to_the_value_and_is_nothing_but_a_literal(value: Any) -> None:
    """
    GP-07: what is written for a value is a literal, on one line, and evaluates equal to the value.
    """
    text = literal(check_value(value, "k"))
    tree = ast.parse(text, mode="eval")
    assert is_literal(tree.body) and len(text.splitlines()) == 1
    assert same(eval(text, {"__builtins__": {"float": float}}), value)


@given(VALUES)
def test_what_is_recorded_is_strict_json_and_reads_back_equal(value: Any) -> None:
    """
    GP-10: a strict parser reads each record, and `decode` gives what `encode` was given, bit for bit.
    """
    text = json.dumps(encode(check_value(value, "k")), allow_nan=False)
    assert same(decode(json.loads(text, parse_constant=lambda name: pytest.fail(name))), value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**30, 5e-324, 1.7e308, -0.0])
def test_the_rims_of_numbers_are_written_exactly(value: Any) -> None:
    """
    GP-10: NaN, ±inf and the smallest and largest numbers reach the kernel bit for bit.
    """
    assert same(eval(literal(value)), value)
    assert same(decode(json.loads(json.dumps(encode(value), allow_nan=False))), value)


def test_canonical_text_tells_types_apart() -> None:
    """
    GP-03: 1, 1.0, true and "1" are four values, however equal Python holds them.
    """
    assert len({canonical(value) for value in (1, 1.0, True, "1", [1], None, "", 0, False, -0.0, 0.0)}) == 11


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_canonical_text_does_not_depend_on_the_order_of_keys(mapping: dict[str, Any]) -> None:
    """
    GP-02: two spellings of one point are one point.
    """
    assert canonical(mapping) == canonical(dict(reversed(mapping.items())))


@pytest.mark.parametrize("name", ["x = 1; import os", "class", "__builtins__", "get_ipython", "", "1a", "a-b", "a b", "In",
                                  "None", "𝐢𝐟", "__class__", 3, None, "a\nb", "a.b"])  # fmt: skip
def test_what_is_no_name_is_refused(name: Any) -> None:
    """
    GP-08: code, keywords, Python's and IPython's own names are no parameter's name, in any lettering.
    """
    with pytest.raises(ParameterError, match="cannot be a parameter's name") as caught:
        check_name(name)
    assert "\n" not in str(caught.value)


def test_names_are_compared_as_python_compares_them() -> None:
    """
    GP-08: `ﬁ` is `fi`.
    """
    assert check_name("ﬁ") == check_name("fi") == "fi"
    assert check_name("größe") == "größe"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), (" 5 ", 5), ("1e5", 100_000.0), ("true", True), ("null", None), ("", ""), ("٣", "٣"), ("a b", "a b"),
        ("[1, 2]", [1, 2]), ("{a: 1}", {"a": 1}), ("'007'", "007"), (".nan", math.nan), ("#5", "#5"), ("a: b", "a: b"),
    ],
)  # fmt: skip
def test_p_types_a_value_as_the_grid_cell_does(text: str, value: Any) -> None:
    """
    CL-01: `-p NAME VALUE` has the grid cell's typing.
    """
    name, found = from_text("k", text)
    assert name == "k" and same(found, value)


@pytest.mark.parametrize("text", ["007", "nan", "1_000", "on", "None", "2024-01-01", "1e999"])
def test_p_refuses_what_could_be_two_things_with_the_way_to_say_text(text: str) -> None:
    """
    CL-01: an ambiguous value is refused, with `-r` for the text.
    """
    with pytest.raises(ParameterError) as caught:
        from_text("id", text)
    assert str(caught.value).startswith(f"-p id: {text} ") and f"-r id '{text}'" in str(caught.value)


@pytest.mark.parametrize(("text", "value"), [("007", None), ("[1, 1.0]", [1, 1.0]), ('"on"', "on"), ("NaN", math.nan)])
def test_the_typed_form_takes_json(text: str, value: Any) -> None:
    """
    CL-01: `-p k:= JSON` takes JSON and nothing else.
    """
    if value is None:
        with pytest.raises(ParameterError, match="no valid JSON"):
            from_text("k:=", text)
    else:
        name, found = from_text("k:=", text)
        assert name == "k" and same(found, value)


def test_the_typed_form_refuses_what_no_parameter_can_be() -> None:
    """
    CL-01: JSON's depth and size have limits too.
    """
    for text in ("[" * 100_000, "[" * 60 + "]" * 60, '"' + "x" * 2**21 + '"'):
        with pytest.raises(ParameterError) as caught:
            from_text("k:=", text)
        assert len(str(caught.value)) < 300


def test_a_value_is_shown_on_one_short_line() -> None:
    """
    A long value is cut in messages.
    """
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown("x" * 1000)) == 60
