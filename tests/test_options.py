"""What the grid cell says besides the grid, and what is said when it is wrong."""

from __future__ import annotations

import ntpath
import posixpath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbgrid.errors import InputError, TemplateError
from nbgrid.options import Options, Resources, check_prefix, memory_bytes, read_options, seconds
from nbgrid.strictyaml import load

WHOLE = """
prefix: deep/elbow-curve
grid:
  n_clusters: 1..20
exclude:
  - n_clusters: [3, 4]
sample: {n: 5, seed: 1}
timeout: 10m
retries: 2
resources: {cpus: 2, memory: 2GB}
include: data.csv
workdir: task
plots:
  - elbow: {x: n-clusters, y: sum-of-squares, time: elapsed}
"""


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        read_options(text, "a.ipynb, grid cell")
    assert str(caught.value).startswith("a.ipynb, grid cell")
    return str(caught.value)


def test_every_option_is_read() -> None:
    """
    A grid cell with all entries is read with their meanings.
    """
    options = read_options(WHOLE, "x")
    assert (options.prefix, options.grid) == ("deep/elbow-curve", {"n_clusters": "1..20"})
    assert options.exclude == [{"n_clusters": [3, 4]}]
    assert options.sample is not None and (options.sample.n, options.sample.seed) == (5, 1)
    assert (options.timeout, options.retries, options.workdir, options.include) == (600.0, 2, "task", ["data.csv"])
    assert (options.resources.cpus, options.resources.memory) == (2, 2_000_000_000)
    assert options.plots[0].elbow.time == "elapsed"


@pytest.mark.parametrize("text", ["", "# nothing yet", "prefix:", "timeout: null\nresources:\n  memory: null", "{}"])
def test_what_is_left_empty_has_its_default(text: str) -> None:
    """
    An empty grid cell, and an entry with nothing after it, mean the default.
    """
    assert read_options(text, "x") == Options(resources=Resources())


def test_a_number_can_be_a_prefix() -> None:
    """
    `prefix: 2024` is the folder 2024.
    """
    assert read_options("prefix: 2024", "x").prefix == "2024"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("girds: {a: [1]}", "there is no entry 'girds'; did you mean 'grid'? (known: prefix, grid, exclude"),
        ("resources: {cpu: 1}", "there is no entry 'resources.cpu'"),
        ("sample: {seed: 1}", "sample.n is missing"),
        ("sample: {n: 0}", "sample.n: must be greater than or equal to 1, not 0"),
        ("retries: many", "retries: must be a valid integer, not 'many'"),
        ("timeout: soon", "timeout: write a time such as 90s, 10m or 2h"),
        ("timeout: 0", "timeout: write a time"),
        ("resources: {memory: 2 apples}", "resources.memory: write an amount of memory such as 2GB or 512MiB"),
        ("resources: {memory: 0GB}", "write an amount of memory"),
        ("workdir: here", "workdir: must be 'template' or 'task', not 'here'"),
        ("exclude: {a: 1}", "exclude: must be a valid list"),
        ("prefix: ../x", "prefix: a prefix has letters, digits"),
        ("prefix: [a]", "prefix: a prefix has letters"),
        ("plots: [{elbow: {x: a}}]", "plots.0.elbow.y is missing"),
        ("- a\n- b", "write entries such as `grid:`, not a list"),
        ("just text", "write entries such as `grid:`, not a str"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_one_line_with_its_place_and_what_to_write(text: str, words: str) -> None:
    """
    What is wrong in the grid cell is said in one line: where, what, and what to write.
    """
    message = refusal(text)
    assert words in message and "\n" not in message


LOST = [
    "prefix: p\ngrid:\nn_clusters: [1, 2, 3]\n",
    "grid:\nn_clusters:\n- 1\n- 2\nprefix: p\n",
    "grid:\n\n# how many\nn_clusters:\n  - 1\n  - 2\ninit: [a]\nprefix: p",
    "prefix: p\ngrid:\ntimeout: 10\nn_clusters: [1]\n",
    "n_clusters: [1]\ngrid:\nprefix: p\n",
    "prefix: p\r\ngrid:\r\nn_clusters: [1]\r\n",
    "grid :\nn_clusters: [1]\nprefix: p\n",
    "prefix: p\ngrid:\nn_clusters:\n- a: 1\n  b: 2\n- a: 3\n",
]


@pytest.mark.parametrize("text", LOST)
def test_a_grid_that_lost_its_indent_is_shown_as_it_was_meant(text: str) -> None:
    """
    Parameters at the margin below `grid:` are refused with the corrected YAML, which reads as it was meant.
    """
    message, *lines = refusal(text).split("\n")
    assert "`grid:` is empty and n_clusters" in message
    assert message.endswith("indent them:" if "init" in text else "indent it:")
    meant, wrong = load("\n".join(lines), "x"), load(text, "x")
    assert meant["grid"] == {name: wrong[name] for name in wrong if name in {"n_clusters", "init"}}
    assert meant["prefix"] == "p" and meant.keys() <= Options.model_fields.keys()


@pytest.mark.parametrize(
    ("text", "amount"),
    [("2GB", 2e9), ("512MiB", 512 * 2**20), ("512 mib", 512 * 2**20), ("1.5G", 1.5e9), (1000, 1000), ("3kB", 3000),
    ("1Ti", 2**40)],
)  # fmt: skip
def test_memory_is_an_amount_with_a_unit(text: Any, amount: float) -> None:
    """
    GB counts in thousands, GiB in 1024s.
    """
    assert memory_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "GB", "2XB", "-1GB", "0", "I", True, "1e9", "nan", "2 G B", "٢GB", "9" * 40])
def test_what_is_no_amount_of_memory_is_refused(text: Any) -> None:
    """
    Anything else is no amount, and none at all is not unlimited.
    """
    with pytest.raises(ValueError, match="2GB or 512MiB"):
        memory_bytes(text)


@pytest.mark.parametrize(
    ("text", "amount"), [("90", 90), (90, 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1.5 d", 129600)]
)
def test_a_time_has_a_unit(text: Any, amount: float) -> None:
    """
    Seconds without a unit, and s, m, h and d.
    """
    assert seconds(text) == amount


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", True, "10M", "1 week", "nan", "inf", "9" * 400])
def test_what_is_no_time_is_refused(text: Any) -> None:
    """
    Anything else is no time.
    """
    with pytest.raises(ValueError, match="such as 90s"):
        seconds(text)


PARTS = ["..", ".", "", "~", "~root", "/", "/etc", "C:", "C:\\x", "\\\\host\\share", "a\\..\\b", "a\0b", "\0", "a\nb", "a\tb",
         " a", "a ", "a.", "-a", "*", "a*", "?", "a|b", "a<b", "a>b", 'a"b', "a:b", "$HOME", "${HOME}", "`id`", "$(id)", "a;b",
         "a&b", "%2e%2e", "%00", "a%2fb", "\u202e", "\ufeff", "．．", "／", "a\u2028b", "{a}", "{0}", "{a.__class__}", "!a", "#a",
         "nul", "CON", "aux.txt", "Lpt1", "'a'", "(a)", "[a]", "^", "a,b", "\ud800", "é́" + "́"]  # fmt: skip
HOSTILE = [*PARTS, *(f"a/{part}" for part in PARTS), *(f"{part}/a" for part in PARTS), *(f"a/{part}/b" for part in PARTS),
           "x" * 101, "é" * 60, "../" * 30, "a" + "/.." * 20]  # fmt: skip


def test_the_list_of_hostile_prefixes_is_long() -> None:
    """
    ST-09: 200 payloads at least.
    """
    assert len(set(HOSTILE)) >= 200


@pytest.mark.parametrize("prefix", HOSTILE)
def test_no_hostile_prefix_is_accepted(prefix: str) -> None:
    """
    ST-09: what could lead out of the output root, or name no folder somewhere, is refused.
    """
    with pytest.raises(ValueError, match=r"a prefix has|device's name"):
        check_prefix(prefix)


@pytest.mark.parametrize(
    "prefix", ["elbow-curve", "a", "a/b/c", "größe", "v1.2", "a b", "2024", "_x", "lr=0.1", "me@home", "console"]
)
def test_ordinary_prefixes_are_accepted(prefix: str) -> None:
    """
    Words, folders between slashes, digits and - _ . = + @ are fine.
    """
    assert check_prefix(prefix) == prefix


@given(st.text(max_size=12) | st.lists(st.sampled_from([*"ab./\\~:% -"]), max_size=12).map("".join))
def test_an_accepted_prefix_stays_below_the_root(prefix: str) -> None:
    """
    ST-09: whatever is accepted is a relative path of plain names.
    """
    try:
        check_prefix(prefix)
    except ValueError:
        return
    assert posixpath.normpath(posixpath.join("/root", prefix)) == f"/root/{prefix}"
    assert ntpath.normpath(ntpath.join("C:\\root", prefix)) == "C:\\root\\" + prefix.replace("/", "\\")


def test_an_error_in_the_yaml_itself_is_told_too() -> None:
    """
    A doubled key is the grid cell's error like any other.
    """
    assert "stands on line 1 and again on line 2" in refusal("grid: {a: [1]}\ngrid: {b: [1]}")
    with pytest.raises(TemplateError):
        read_options("x: 1", "y")
