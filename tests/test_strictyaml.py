"""Strict YAML: what the grid cell may hold, how it is typed, and what is refused."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbgrid import strictyaml
from nbgrid.errors import InputError
from nbgrid.strictyaml import MAX_BYTES, MAX_DEPTH, MAX_NODES, _Builder, load

# 236 bytes: each line stands for nine times the line before it, the last for 9 ** 7 values.
BOMB = "a: &a [" + ",".join("1" * 9) + "]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)  # fmt: skip


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        load(text, "grid cell")
    message = str(caught.value)
    assert message.startswith("grid cell") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("~", None), ("", None), ("true", True), ("FALSE", False), ("5", 5), ("-0", 0), ("+5", 5),
        ("0x1F", 31), ("0o17", 15), ("1e3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-1.5e-3", -0.0015), ("5e-324", 5e-324),
        (".inf", math.inf), ("-.INF", -math.inf), ("a b", "a b"), ("y", "y"), ("1:75", "1:75"), ("1.2.3", "1.2.3"),
        ("٣", "٣"), ("1..20", "1..20"), ("'012'", "012"), ('"on"', "on"), ("|-\n  no", "no"),
        ("'2024-01-01'", "2024-01-01"),
    ],
)  # fmt: skip
def test_a_scalar_is_typed_as_the_core_schema_of_yaml_1_2_has_it(text: str, value: Any) -> None:
    """
    GP-13: a value has the type that YAML 1.2 gives it, and a quoted one is text.
    """
    found = load(f"k: {text}", "x")["k"]
    assert (type(found), found) == (type(value), value)


def test_nan_is_written_with_a_dot() -> None:
    """
    `.nan` is not a number.
    """
    assert math.isnan(load("k: .nan", "x")["k"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("on", "a yes or no: write true or false"), ("NO", "a yes or no"), ("Yes", "a yes or no"),
        ("012", "a leading zero"), ("007", "a leading zero"), ("1_000", "underscores"), ("1:30", "base 60"),
        ("2024-01-01", "a date"), ("2024-01-01T10:00:00", "a date"), ("0b101", "a binary number"),
        ("None", "nothing: write null"), ("nan", "a float: write .nan"), ("-inf", "a float"),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused_with_both(text: str, words: str) -> None:
    """
    GP-13: what YAML 1.1 or Python reads otherwise is refused, with the line, what it could be and how the text is written.
    """
    message = refusal(f"grid:\n  k: [1, {text}]")
    assert words in message and "line 2" in message and f'(for the text: "{text}")' in message


def test_a_float_that_overflows_is_refused() -> None:
    """
    1e999 does not become infinity without a word.
    """
    assert "1e999 is more than a float can hold" in refusal("k: 1e999")


def test_an_integer_longer_than_python_reads_is_refused() -> None:
    """
    Ten thousand digits are refused in words.
    """
    assert "10,000 digits" in refusal("k: " + "9" * 10_000)


def test_a_key_that_stands_twice_is_an_error_with_both_lines() -> None:
    """
    GP-14: of two equal keys none wins.
    """
    assert "the key 'a' stands on line 1 and again on line 3" in refusal("a: 1\nb: 2\na: 3")


@pytest.mark.parametrize("text", ["1: 2", "~: 2", "[a]: 2", "true: 2"])
def test_a_key_that_is_no_text_is_refused(text: str) -> None:
    """
    A key is text.
    """
    assert "is no text: write it in quotes" in refusal(text)


def test_a_merge_key_is_refused() -> None:
    """
    `<<` is no YAML 1.2.
    """
    assert "merge keys" in refusal("a: &a {x: 1}\nb:\n  <<: *a")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [id]",
        "!!python/name:os.system",
        "!!str 012",
        "!!int '3'",
        "! 12",
        "!x [1]",
        "!!set {a}",
    ],
)
def test_no_tag_is_obeyed(text: str) -> None:
    """
    GP-16: a tag is refused wherever it stands, Python's and YAML's own.
    """
    assert "the tag !" in refusal(f"k: {text}")


def test_what_an_alias_bomb_costs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    GP-15: of 236 bytes of aliases, which stand for millions of values, only as many as are allowed are built.
    """
    built = itertools.count(1)
    one = _Builder.build
    monkeypatch.setattr(_Builder, "build", lambda self, node, depth: (next(built), one(self, node, depth))[1])
    assert f"stands for more than {MAX_NODES:,} values" in refusal(BOMB)
    assert next(built) <= MAX_NODES + 2
    assert len(BOMB) < 256 < MAX_NODES < 9**7


def test_one_megabyte_of_aliases_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    GP-15: an alias chain of 1 MB is refused for its size, before any of it is looked at.
    """
    monkeypatch.setattr(strictyaml, "_events", lambda text: pytest.fail("parsed"))
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 60_000))
    assert len(chain) > 2**20
    assert f"{MAX_BYTES:,} are the limit" in refusal(chain)


def test_a_chain_of_aliases_is_refused_for_its_depth() -> None:
    """
    GP-15: aliases nest as brackets do.
    """
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5_000))
    assert f"nested more than {MAX_DEPTH} deep" in refusal(chain)


@pytest.mark.parametrize("text", ["[" * 10_000, "[" * 10_000 + "]" * 10_000, "- " * 10_000 + "x", "{a: " * 10_000])
def test_deep_nesting_is_refused(text: str) -> None:
    """
    GP-15: 10 000 brackets are refused in words, closed or not.
    """
    assert f"nested more than {MAX_DEPTH} deep" in refusal(text)


def test_an_alias_of_itself_is_refused() -> None:
    """
    A list that holds itself has no end.
    """
    assert "deep" in refusal("a: &a [*a]")


def test_a_long_flat_list_is_refused_for_its_length() -> None:
    """
    More values than the limit are refused without aliases too.
    """
    assert f"more than {MAX_NODES:,} values" in refusal("[" + "1," * (MAX_NODES + 1) + "]")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1, 2", "no valid YAML: while parsing a flow sequence"),
        ("a: 1\n\tb: 2", "line 2: no valid YAML"),
        ("---\na: 1\n---\nb: 2", "single document"),
        ("a: \x01", "character 4 is not allowed"),
        ("a: \ud800", "character 4 is half of a surrogate pair"),
        ("a: *b", "undefined alias"),
        ("%YAML 3.0\n---\na: 1", "no valid YAML"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_is_refused_with_its_place(text: str, words: str) -> None:
    """
    A mistake in the YAML is one line that says where it is.
    """
    assert words in refusal(text)


@given(st.text(max_size=40))
def test_any_text_gives_a_value_or_an_input_error(text: str) -> None:
    """
    Whatever is typed into the grid cell, the answer is a value or one sentence.
    """
    try:
        load(text, "grid cell")
    except InputError as error:
        assert str(error).startswith("grid cell")


_YAML_WORDS = st.lists(st.sampled_from([*"[]{}:,-#&*!|>'\"%@`?\n \t0123456789ab", "null", "&a", "*a", ": ", "- "]))


@given(_YAML_WORDS.map("".join))
def test_any_mixture_of_indicators_gives_a_value_or_an_input_error(text: str) -> None:
    """
    YAML's own signs in any order raise nothing else.
    """
    try:
        load(text, "grid cell")
    except InputError as error:
        assert str(error).startswith("grid cell")
