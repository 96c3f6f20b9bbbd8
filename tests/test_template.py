"""Templates: what is read from a notebook, and what makes a template unfit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from making import code, markdown, notebook_content, raw

from nbgrid.errors import InputError, NotebookError, TemplateError, UnknownParameterError
from nbgrid.template import Template

PARAMETERS = code("# PARAMETERS\nn_clusters = 1\ninit = 'k-means++'")


def template(*cells: dict[str, Any], path: str = "/home/me/cluster.ipynb", **options: Any) -> Template:
    return Template.parse(notebook_content(*cells, **options), path)


def refusal(*cells: dict[str, Any], **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        template(*cells, **options)
    message = str(caught.value)
    assert message.startswith("/home/me/cluster.ipynb") and "\n" not in message
    return message


SEED = (
    raw("prefix: elbow-curve\n\ngrid:\n  n_clusters: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]\n"),
    code("import time\nfrom sklearn.cluster import KMeans\nfrom sklearn.datasets import make_blobs"),
    code("# PARAMETERS\nn_clusters = 1"),
    markdown("# Fitting"),
    code("X, y = make_blobs(random_state=0)"),
    code("n_clusters", "n-clusters"),
    code("start = time.time()\nmodel = KMeans(n_clusters).fit(X)"),
    code("model.inertia_", "sum-of-squares"),
    code("time.time() - start", "elapsed"),
)  # fmt: skip


def test_the_seed_s_notebook_is_read_as_it_is() -> None:
    """
    A raw grid cell, imports before the parameters cell, no `parameters` tag: all of that is ordinary.
    """
    read = template(*SEED)
    assert (read.prefix, read.grid_cell, read.parameters_cell) == ("elbow-curve", 0, 2)
    assert read.options.grid == {"n_clusters": list(range(1, 21))}
    assert read.defaults == {"n_clusters": "1"}
    assert read.result_tags == ["n-clusters", "sum-of-squares", "elapsed"]
    assert (read.kernel, read.language) == ("python3", "python")
    assert read.imports() == {"time", "sklearn"}


def test_the_seed_s_notebook_is_rendered_in_its_place() -> None:
    """
    The parameters cell is filled, and every other cell stays as it was.
    """
    read = template(*SEED)
    rendered = read.render({"n_clusters": 19})
    assert rendered["cells"][2]["source"] == "# PARAMETERS\nn_clusters = 19  # default: 1"
    assert rendered["cells"][2]["metadata"]["tags"] == ["parameters", "injected-parameters"]
    assert [c for i, c in enumerate(rendered["cells"]) if i != 2] == [
        c for i, c in enumerate(read.notebook["cells"]) if i != 2
    ]  # fmt: skip


def test_what_a_file_is_not_is_said_with_its_name(tmp_path: Path) -> None:
    """
    A missing file, a folder and an empty notebook are told by name.
    """
    for path, words in ((tmp_path / "no.ipynb", "No such file"), (tmp_path, "a folder or a device")):
        with pytest.raises(NotebookError, match=words) as caught:
            Template.read(path)
        assert str(caught.value).startswith(str(path))
    assert "the notebook is empty" in refusal()


def test_a_template_read_from_a_file_keeps_its_bytes(tmp_path: Path) -> None:
    """
    NB-03: whatever happens to the file meanwhile, a run goes by the bytes that were read.
    """
    path = tmp_path / "a.ipynb"
    path.write_bytes(notebook_content(*SEED))
    read = Template.read(path)
    path.write_bytes(b"")
    assert read.content == notebook_content(*SEED)
    assert Template.parse(read.content, read.path).render({"n_clusters": 2}) == read.render({"n_clusters": 2})


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("cluster.ipynb", "cluster"), ("My analysis (1).ipynb", "My-analysis-1"), ("größe.ipynb", "größe"),
        ("+a.ipynb", "a"),
        ("...ipynb", "notebook"), ("日" * 80 + ".ipynb", "日" * 33), ("a.b.ipynb", "a.b"), ("CON.ipynb", "notebook"),
        ("x" * 99 + ".y.ipynb", "x" * 99), ("-rf.ipynb", "rf"), ("_.ipynb", "notebook"), ("\ud800.ipynb", "notebook"),
    ],
)  # fmt: skip
def test_without_a_prefix_the_file_s_stem_is_one(name: str, prefix: str) -> None:
    """
    Any file name gives a prefix that is fit for a folder.
    """
    assert template(PARAMETERS, path=f"/x/{name}").prefix == prefix


def test_the_parameters_cell_is_tagged_or_marked() -> None:
    """
    papermill's tag counts before a comment; the comment may be in any case, and blank lines may precede it.
    """
    assert template(code("a = 1"), code("b = 1", "parameters"), code("# PARAMETERS\nc = 1")).parameters_cell == 1
    for marker in ("# PARAMETERS", "#parameters", "\n\n# Parameters  ", "# PARAMETER", "# PARAMETERS # of the run"):
        assert template(code("a = 1"), code(f"{marker}\nc = 1")).parameters_cell == 1
    for other in ("# PARAMETERS of the model", "x = 1\n# PARAMETERS", "# PARAMETERS_", "'# PARAMETERS'"):
        assert template(code(f"{other}\nc = 1")).parameters_cell is None


def test_three_mistakes_about_the_parameters_cell_have_three_messages() -> None:
    """
    GP-12: none, two, and one that is no Python are told apart, with the notebook and the cells' numbers.
    """
    with pytest.raises(
        TemplateError, match=r"cluster.ipynb: no parameters cell: begin the code cell that assigns n, m"
    ):
        template(raw("grid: {n: [1]}"), code("n = 1")).check_parameters(["n", "m"])
    assert "cells 1 and 3 are both parameters cells: keep one" in refusal(PARAMETERS, code("x"), PARAMETERS)
    assert "cells 1 and 2 are both" in refusal(code("a = 1", "parameters"), code("b = 1", "parameters"))
    broken = refusal(raw(""), code("# PARAMETERS\nn = 1\nm = = 2"))
    assert "cell 2, the parameters cell, line 3: " in broken and "<unknown>" not in broken
    assert "nested too deeply" in refusal(code("# PARAMETERS\nn = " + "-" * 200_000 + "1"))
    template(code("n = 1")).check_parameters([])


def test_an_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    """
    GP-11: a typing error in the grid does not run the whole grid on its defaults.
    """
    with pytest.raises(UnknownParameterError) as caught:
        template(raw(""), PARAMETERS).check_parameters(["init", "n_cluster"])
    assert str(caught.value) == (
        "cluster.ipynb, cell 2 has no parameter 'n_cluster'; did you mean 'n_clusters'? (it assigns n_clusters, init)"
    )
    with pytest.raises(UnknownParameterError):
        template(code("# PARAMETERS\nl = [i for i in range(3)]")).check_parameters(["i"])


def test_parameters_of_another_language_are_not_looked_for() -> None:
    """
    What R's code assigns, nbgrid cannot tell.
    """
    read = template(code("n <- 1", "parameters"), kernel="ir", language="R")
    read.check_parameters(["n", "anything"])
    assert read.defaults == {} and read.language == "r" and read.imports() == set()


def test_a_wrong_grid_cell_is_told_with_the_notebook() -> None:
    """
    Messages about the grid cell begin with the notebook's path.
    """
    assert "cluster.ipynb, grid cell: there is no entry 'gird'; did you mean 'grid'?" in refusal(
        raw("gird: 1"), PARAMETERS
    )
    assert "grid cell, line 1: on could be" in refusal(raw("prefix: on"), PARAMETERS)


def test_a_raw_cell_that_is_not_the_first_is_no_grid_cell() -> None:
    """
    Only the first cell can be the grid cell, and an empty one is fine.
    """
    read = template(PARAMETERS, raw("grid: {n_clusters: [1]}"))
    assert read.grid_cell is None and read.options.grid is None
    assert template(raw(""), PARAMETERS).options.grid is None


def test_a_notebook_that_names_no_kernel_is_a_python_notebook() -> None:
    """
    NB-02: without a kernelspec, whoever runs it chooses the kernel; the language is taken to be Python.
    """
    content = json.dumps({"cells": [PARAMETERS], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).encode()
    read = Template.parse(content, "a.ipynb")
    assert (read.kernel, read.language) == (None, "python")


def test_a_notebook_that_installs_packages_has_no_certain_imports() -> None:
    """
    What will be importable after `%pip install` cannot be told before.
    """
    assert template(code("import numpy")).imports() == {"numpy"}
    for line in ("%pip install cupy", "!pip install cupy", "import sys; sys.path.append('lib')", "!conda install x"):
        assert template(code(line), code("import cupy")).imports() == set()


def test_tags_with_a_meaning_of_their_own_are_no_results() -> None:
    """
    papermill's, nbgrid's and Jupyter Book's tags name no result.
    """
    cells = [code("1", tag) for tag in ("shared", "hide-input", "remove-cell", "raises-exception", "b", "a", "b")]
    assert template(code("n = 1", "parameters", "start"), *cells, markdown("x")).result_tags == ["start", "b", "a"]


def test_a_template_survives_pickling() -> None:
    """
    A template may travel to a worker.
    """
    read = template(*SEED)
    assert pickle.loads(pickle.dumps(read)) == read
