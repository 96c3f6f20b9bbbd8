"""Rendering a template for a point: the values it gets, and what stays."""

from __future__ import annotations

import ast
import copy
import json
import math
import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import code, markdown, notebook_content, raw

from nbgrid.errors import InputError, ParameterError, TemplateError, UnknownParameterError
from nbgrid.notebook import notebook_bytes, parse_notebook
from nbgrid.source import is_literal
from nbgrid.template import Template


def template(*cells: dict[str, Any], **options: Any) -> Template:
    return Template.parse(notebook_content(*cells, **options), "a.ipynb")


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return the names that the code cells leave."""
    space: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(cell["source"], space)
    del space["__builtins__"]
    return space


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CELLS = [
    "n = 1",
    "n: int = 1  # c",
    "x = 0; n = [\n 1, # one\n]",
    "n, m = 1, 2",
    "n = 1\nif True:\n    n = 2",
    "n = '''a\n#'''  # b",
]


@settings(max_examples=300)
@given(VALUES, st.sampled_from(CELLS))
def test_a_rendered_value_is_a_literal_equal_to_the_value(value: Any, cell: str) -> None:
    """
    GP-07: whatever the value and the cell, n ends as the value, and every assignment to n that is plain is a literal.
    """
    rendered = template(code(f"# PARAMETERS\n{cell}")).render({"n": value})
    found = run(rendered)["n"]
    assert found == value and repr(found) == repr(value)
    trees = [ast.parse(cell["source"]) for cell in rendered["cells"]]
    plain = [
        node.value for tree in trees for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(getattr(node, "target", None) or node.targets[0], ast.Name)
        and (getattr(node, "target", None) or node.targets[0]).id == "n"
    ]  # fmt: skip
    assert plain and all(node is not None and is_literal(node) for node in plain)
    if len(trees) > 1:
        assert all(isinstance(node, ast.Assign) and is_literal(node.value) for node in trees[-1].body)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**30, 5e-324, 1.7e308, -0.0, True, None, "it's \"\n\\"]
)
def test_the_rims_of_values_reach_the_notebook_exactly(value: Any) -> None:
    """
    GP-10: NaN, ±inf, large and small numbers are bit for bit what was asked for, in either way of rendering.
    """
    for cell in ("n = 1", "n, m = 1, 2"):
        found = run(template(code(cell, "parameters")).render({"n": value}))["n"]
        assert type(found) is type(value) and repr(found) == repr(value)


def test_numpy_values_are_rendered_as_python_s() -> None:
    """
    GP-05: the kernel sees `5`, not `np.int64(5)`.
    """
    source = template(code("n = 1; m = 2", "parameters")).render({"n": np.int64(5), "m": np.bool_(True)})["cells"][0][
        "source"
    ]
    assert source.startswith("n = 5; m = True")


class Code:
    def __repr__(self) -> str:
        return "__import__('os').system('id')"

    __str__ = __repr__


@pytest.mark.parametrize(
    "value", [pathlib.PurePosixPath('a"; import os; os.system("id") #'), Code(), [Code()], {"a": Code()}]
)
def test_an_object_whose_text_is_code_is_refused(value: Any) -> None:
    """
    GP-07: rendering itself refuses what no parameter can be, whoever calls it.
    """
    for cell in ("n = 1", "n, m = 1, 2"):
        with pytest.raises(ParameterError, match="is none that a parameter can have"):
            template(code(cell, "parameters")).render({"n": value})


def test_rendering_refuses_what_would_be_lost() -> None:
    """
    GP-11: a point that the notebook has no place for is refused, not left out.
    """
    with pytest.raises(TemplateError, match="no parameters cell"):
        template(code("n = 1")).render({"n": 2})
    with pytest.raises(UnknownParameterError):
        template(code("n = 1", "parameters")).render({"m": 2})
    with pytest.raises(ParameterError, match="cannot be a parameter's name"):
        template(code("n = 1", "parameters")).render({"n = 1; import os": 2})


def test_a_parameter_without_a_plain_assignment_gets_a_cell_after() -> None:
    """
    What cannot be filled in is assigned in a cell of papermill's kind, right after the parameters cell.
    """
    cells = [code("# PARAMETERS\na, b = 1, 2\nc = 3"), code("print(a, b, c)")]
    rendered = template(*cells).render({"a": 5, "b": "x", "c": 7})
    assert [cell["source"] for cell in rendered["cells"]] == [
        "# PARAMETERS\na, b = 1, 2\nc = 7  # default: 3", "# Parameters\na = 5\nb = 'x'", "print(a, b, c)"
    ]  # fmt: skip
    assert [cell["metadata"].get("tags") for cell in rendered["cells"]] == [
        ["parameters"],
        ["injected-parameters"],
        None,
    ]
    ids = [cell["id"] for cell in rendered["cells"]]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    "cell", ["n = 1\nif True:\n    n = 2", "n = 1\nn *= 2", "n = 1\nfor n in [7]: pass", "n: int", "n = m = 0"]
)
def test_a_parameter_that_the_cell_changes_has_its_value_all_the_same(cell: str) -> None:
    """
    After the parameters cell each parameter is what the record says, whatever the cell does to it.
    """
    assert run(template(code(cell, "parameters")).render({"n": 5}))["n"] == 5


def test_a_value_injected_by_an_earlier_run_goes() -> None:
    """
    A notebook that papermill or nbgrid made is a template too: the values it was run with do not undo the point's.
    """
    cells = [code("n = 1", "parameters"), code("# Parameters\nn = 3\n", "injected-parameters"), code("m = n")]
    read = template(*cells)
    rendered = read.render({"n": 5})
    assert run(rendered) == {"n": 5, "m": 5} and len(rendered["cells"]) == 2
    unpacked = template(code("n, k = 1, 2", "parameters"), *cells[1:]).render({"n": 5})
    assert run(unpacked) == {"n": 5, "k": 2, "m": 5}
    executed = Template.parse(notebook_bytes(rendered), "b.ipynb")
    assert run(executed.render({"n": 6})) == {"n": 6, "m": 6}
    marked = template(code("# PARAMETERS\nn = 1"), *cells[1:])
    assert marked.parameters_cell == 0 and run(marked.render({"n": 5})) == {"n": 5, "m": 5}


def test_a_cell_that_papermill_injected_at_the_top_can_be_the_parameters_cell() -> None:
    """
    Where there is no other, the injected cell is the one that is filled.
    """
    read = template(code("# Parameters\nn = 3\n", "injected-parameters"), code("m = n"))
    assert run(read.render({"n": 5})) == {"n": 5, "m": 5}


def test_rendering_leaves_the_template_as_it_was_and_gives_the_same_twice() -> None:
    """
    Rendering is pure: nothing is changed, and nothing in the result is shared or random.
    """
    read = template(raw("prefix: x"), code("# PARAMETERS\nn = 1\na, b = 1, 2"), markdown("text"), code("n", "result"))
    before = copy.deepcopy(read.notebook)
    first, second = read.render({"n": 5, "a": [1]}), read.render({"n": 5, "a": [1]})
    assert first == second and notebook_bytes(first) == notebook_bytes(second)
    for cell in first["cells"]:
        cell["metadata"]["touched"] = True
        cell["source"] += "#"
    first["metadata"]["touched"] = True
    assert read.notebook == before and read.render({"n": 5, "a": [1]}) == second


def test_a_rendered_notebook_is_one_that_can_be_read_again() -> None:
    """
    What rendering gives survives writing and reading, in every minor version of format 4.
    """
    for minor in range(6):
        content = json.loads(notebook_content(code("# PARAMETERS\nn, m = 1, 2"), code("n")))
        content["nbformat_minor"] = minor
        if minor < 5:
            content["cells"] = [{key: value for key, value in cell.items() if key != "id"} for cell in content["cells"]]
        rendered = Template.parse(json.dumps(content).encode(), "a.ipynb").render({"n": "é\ud800"})
        assert parse_notebook(notebook_bytes(rendered), "x") == rendered
        assert all(("id" in cell) == (minor >= 5) for cell in rendered["cells"])


def test_what_an_earlier_execution_left_is_gone() -> None:
    """
    Outputs, counts, papermill's and nbgrid's records and widgets do not travel into a new task; other metadata does.
    """
    old = json.loads(notebook_content(code("n = 1", "parameters"), code("n")))
    for cell in old["cells"]:
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "old"}]
        cell["execution_count"] = 7
        cell["metadata"] |= {"papermill": {"status": "completed"}, "execution": {"a": 1}, "collapsed": True}
    old["metadata"] |= {"papermill": {"exception": True}, "nbgrid": {"state": "failed"}, "widgets": {}, "mine": 1}
    rendered = Template.parse(json.dumps(old).encode(), "a.ipynb").render({"n": 2})
    assert "old" not in json.dumps(rendered) and 'execution"' not in json.dumps(rendered)
    assert (
        rendered["metadata"].keys() & {"papermill", "nbgrid", "widgets"} == set() and rendered["metadata"]["mine"] == 1
    )
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in rendered["cells"])
    assert all(cell["metadata"]["collapsed"] for cell in rendered["cells"])


def test_without_a_point_nothing_is_filled_in() -> None:
    """
    A run without parameters runs the notebook as it is.
    """
    assert template(code("# PARAMETERS\nn = 1")).render({})["cells"][0]["source"] == "# PARAMETERS\nn = 1"
    assert template(code("n = 1")).render({})["cells"][0]["source"] == "n = 1"


def test_every_refusal_is_an_input_error() -> None:
    """
    Whoever renders catches one class.
    """
    assert issubclass(ParameterError, InputError) and issubclass(UnknownParameterError, InputError)
