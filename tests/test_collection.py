"""Executed notebooks read together."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from nbgrid.collection import NotebookCollection, NotebookGap
from nbgrid.errors import NotebookError
from nbgrid.outputs import Image

mpl.use("agg")


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    pyplot.close("all")


def code(tag: str | list[str], value: Any = None, *, text: str | None = None, count: int | None = 1) -> dict[str, Any]:
    """Return a code cell with *tag* that shows the repr of *value*, or *text*, or nothing if both are None."""
    shown = repr(value) if text is None and value is not None else text
    data = {"text/plain": shown}
    output = {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data}
    return {
        "cell_type": "code", "source": "x", "execution_count": count, "outputs": [] if shown is None else [output],
        "metadata": {"tags": [tag] if isinstance(tag, str) else tag},
    }  # fmt: skip


def raising(tag: str, ename: str = "ValueError", evalue: str = "no") -> dict[str, Any]:
    cell = code(tag)
    cell["outputs"] = [{"output_type": "error", "ename": ename, "evalue": evalue, "traceback": []}]
    return cell


def write(path: Path, *cells: dict[str, Any], **metadata: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}
    path.write_text(json.dumps(notebook))
    return path


def record(index: int, point: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what nbgrid writes in metadata.nbgrid."""
    return {
        "version": 1, "run": "r1", "prefix": "elbow-curve", "task": f"elbow-curve-{index}", "index": index,
        "attempt": 1, "point": point, "parameters": {"seed": 0}, "state": "finished", "reason": None, "digest": "d",
        "started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:00:01Z", "seconds": 1.5, "peak_memory": 2**30,
        "worker": "w", "engine": "kernel", "versions": {}, **more,
    }  # fmt: skip


SQUARES = [300.0, 220.0, 150.0, 75.0, 10.0, 9.5, 9.0, 8.6, 8.3, 8.0, 7.8, 7.6]


@pytest.fixture
def elbow(tmp_path: Path) -> Path:
    """Return the folder of a run over n_clusters = 1..12, named as nbgrid names notebooks."""
    for index, squares in enumerate(SQUARES):
        k = index + 1
        cells = (code("n-clusters", k), code("sum-of-squares", np.float64(squares)), code("elapsed", k / 8))
        path = tmp_path / f"elbow-curve/output/notebook-n_clusters={k}-{index}.ipynb"
        write(path, *cells, nbgrid=record(index, {"n_clusters": k}))
    return tmp_path / "elbow-curve"


def test_the_seeds_analysis_works_unchanged(elbow: Path) -> None:
    """
    What the seed does with sklearn-evaluation's collection gives the same lists, here in the grid's order.
    """
    nbs = NotebookCollection(paths=[str(path) for path in elbow.glob("**/*.ipynb")])
    assert list(nbs["n-clusters"].values()) == list(range(1, 13))
    assert list(nbs["sum-of-squares"].values()) == SQUARES
    assert list(nbs) == ["n-clusters", "sum-of-squares", "elapsed"]


@pytest.mark.parametrize("form", ["pattern", "folder", "text of a folder"])
def test_a_pattern_or_a_folder_stands_for_its_notebooks(elbow: Path, form: str) -> None:
    """
    All notebooks below are found, but none in hidden folders, where earlier attempts and checkpoints lie.
    """
    write(elbow / ".nbgrid/attempts/notebook-n_clusters=1-0.ipynb", code("n-clusters", 99))
    write(elbow / "output/.ipynb_checkpoints/a.ipynb", code("n-clusters", 99))
    (elbow / "output/run.json").write_text("{}")
    paths: Any = {"pattern": f"{elbow}/**", "folder": elbow, "text of a folder": str(elbow)}[form]
    assert list(NotebookCollection(paths)["n-clusters"].values()) == list(range(1, 13))


def test_one_path_is_a_collection_of_one(tmp_path: Path) -> None:
    """
    A single path need not be put into a list, even when brackets in it look like a pattern.
    """
    path = write(tmp_path / "a[1].ipynb", code("a", 5))
    for given in (path, str(path)):
        assert dict(NotebookCollection(given)["a"]) == {str(path): 5}


def test_numbers_in_paths_sort_as_numbers(tmp_path: Path) -> None:
    """
    Without a record, 2 comes before 10, -1.5 before -0.5, and 1e-05 before 0.001.
    """
    for group in (["k=2", "k=10"], ["x=-1.5-2", "x=-0.5-1", "x=0.25-0"], ["lr=1e-05", "lr=0.001", "lr=0.01"]):
        paths = [write(tmp_path / f"{name}.ipynb", code("a", 1)) for name in group]
        assert list(NotebookCollection(reversed(paths), ids="filenames")["a"]) == group


def test_notebooks_of_one_run_come_in_the_order_of_the_grid(tmp_path: Path) -> None:
    """
    The recorded index decides, not the path; notebooks of several runs are sorted by path.
    """
    names = ["c", "a", "b"]
    paths = [write(tmp_path / f"{n}.ipynb", code("x", n), nbgrid=record(i, {"n": n})) for i, n in enumerate(names)]
    assert list(NotebookCollection(sorted(paths))["x"].values()) == names
    write(paths[0], code("x", "c"), nbgrid=record(0, {"n": "c"}, run="r2"))
    with pytest.warns(UserWarning, match=r"2 different runs are mixed: r1 \(2\), r2 \(1\)"):
        mixed = NotebookCollection(paths)
    assert list(mixed["x"].values()) == ["a", "b", "c"]


def test_ids_are_paths_stems_or_ones_own(tmp_path: Path) -> None:
    """
    As in sklearn-evaluation: None gives the paths, 'filenames' the stems, a list its entries, in its order.
    """
    paths = [write(tmp_path / f"{name}.ipynb", code("x", name)) for name in ("b", "a")]
    assert list(NotebookCollection(paths)["x"]) == [str(paths[1]), str(paths[0])]
    assert dict(NotebookCollection(paths, ids="filenames")["x"]) == {"a": "a", "b": "b"}
    assert list(NotebookCollection(paths, ids=["first", 2])["x"].items()) == [("first", "b"), (2, "a")]


def test_a_whole_number_is_a_place_unless_it_is_an_id(elbow: Path) -> None:
    """
    `nbs[tag][0]` is the first notebook's value; ids that are numbers are only ids.
    """
    nbs = NotebookCollection(elbow)
    assert (nbs["n-clusters"][0], nbs["n-clusters"][-1], nbs.notebooks[2].parameters["n_clusters"]) == (1, 12, 3)
    with pytest.raises(KeyError, match="no notebook 12"):
        nbs["n-clusters"][12]
    paths = [notebook.path for notebook in nbs.notebooks.values()][:2]
    own = NotebookCollection(paths, ids=[7, 1])["n-clusters"]
    assert (own[7], own[1]) == (1, 2)
    with pytest.raises(KeyError):
        own[0]


@pytest.mark.parametrize(
    ("ids", "words"),
    [(["a"], "1 ids for 2 notebooks"), (["a", "a"], "'a' is the id of 2 notebooks"), ("stems", "ids is 'stems'")],
)
def test_ids_that_do_not_fit_are_refused(tmp_path: Path, ids: Any, words: str) -> None:
    """
    Neither a notebook nor an id is ever dropped without a word.
    """
    paths = [write(tmp_path / f"{name}.ipynb", code("x", name)) for name in ("b", "a")]
    with pytest.raises(ValueError, match=words):
        NotebookCollection(paths, ids=ids)


def test_nothing_found_is_an_empty_collection_and_a_warning(tmp_path: Path) -> None:
    """
    R17: no notebooks is no error; the warning names the pattern.
    """
    with pytest.warns(UserWarning, match=r"no notebooks in '.*nothing-here-\*"):
        nbs = NotebookCollection(f"{tmp_path}/nothing-here-*.ipynb")
    assert (list(nbs), nbs.gaps(), len(nbs.to_frame())) == ([], [], 0)
    with pytest.warns(UserWarning, match=r"no notebooks in \[\]"):
        assert NotebookCollection([])._repr_html_().startswith("<table>")


def mixed_paths(tmp_path: Path) -> list[Path]:
    """Return five notebooks: whole, raising, tag-less, cut short, and missing."""
    failed = {"kind": "exception", "message": "cell 2 raised ValueError: no", "cell": 1}
    paths = [
        write(tmp_path / "0.ipynb", code("k", 1), code("name", "one"), code("later", [1]), nbgrid=record(0, {"k": 1})),
        write(tmp_path / "1.ipynb", code("k", 2), raising("name"), code("later", count=None),
              nbgrid=record(1, {"k": 2}, state="failed", reason=failed)),
        write(tmp_path / "2.ipynb", nbgrid=record(2, {"k": 3})),
        tmp_path / "3.ipynb",
        tmp_path / "4.ipynb",
    ]  # fmt: skip
    paths[3].write_text('{"cells": [')
    return paths


def test_gaps_are_filled_so_that_lists_stay_aligned(tmp_path: Path) -> None:
    """
    R17: NaN stands where the other values are numbers, None elsewhere, one for each notebook.
    """
    nbs = NotebookCollection(mixed_paths(tmp_path), ids="filenames")
    assert [str(value) for value in nbs["k"].values()] == ["1", "2", "nan", "nan", "nan"]
    assert list(nbs["name"].values()) == ["one", None, None, None, None]
    assert list(nbs["later"].values()) == [[1], None, None, None, None]


def test_each_gap_has_its_reason(tmp_path: Path) -> None:
    """
    Whole notebooks that are unreadable or failed, and single values: each is named with why.
    """
    assert NotebookCollection(mixed_paths(tmp_path), ids="filenames").gaps() == [
        NotebookGap("1", None, "failed: cell 2 raised ValueError: no"),
        NotebookGap("1", "name", "the cell raised ValueError: no"),
        NotebookGap("1", "later", "the cell did not run"),
        NotebookGap("2", "k", "no cell of the notebook has the tag 'k'"),
        NotebookGap("2", "name", "no cell of the notebook has the tag 'name'"),
        NotebookGap("2", "later", "no cell of the notebook has the tag 'later'"),
        NotebookGap("3", None, "not a notebook: invalid JSON at line 1 (Expecting value)"),
        NotebookGap("4", None, "No such file or directory"),
    ]


def test_strict_refuses_gaps_and_takes_whole_collections(tmp_path: Path, elbow: Path) -> None:
    """
    With strict=True the first gap raises, and says how many more there are.
    """
    with pytest.raises(NotebookError, match=r"1\.ipynb: failed: cell 2 raised ValueError: no \(and 7 more\)"):
        NotebookCollection(mixed_paths(tmp_path), strict=True)
    assert len(NotebookCollection(elbow, strict=True).notebooks) == 12


def test_a_first_notebook_that_failed_hides_no_tags(tmp_path: Path) -> None:
    """
    R17: the tags are those of all notebooks, in the order in which they are first seen.
    """
    paths = [
        write(tmp_path / "0.ipynb", raising("b")),
        write(tmp_path / "1.ipynb", code("a", 1), code("b", 2), code("c", 3)),
    ]
    assert list(NotebookCollection(paths)) == ["b", "a", "c"]


def test_tags_that_steer_are_no_results_and_a_cell_may_bear_several(tmp_path: Path) -> None:
    """
    R18: parameters, hide-input and their like are left out; of the rest each is a key.
    """
    steering = ["parameters", "injected-parameters", "shared", "raises-exception", "skip-execution", "hide-input",
                "remove_cell", "hide-cell"]  # fmt: skip
    path = write(tmp_path / "a.ipynb", code([*steering, "one", "two"], 1), {**code("md"), "cell_type": "markdown"})
    assert {tag: values[0] for tag, values in NotebookCollection(path).items()} == {"one": 1, "two": 1}


def test_of_two_cells_with_one_tag_the_last_counts(tmp_path: Path) -> None:
    """
    As in sklearn-evaluation; a last cell that did not run is a gap and not the first cell's value.
    """
    paths = [
        write(tmp_path / "0.ipynb", code("a", 1), code("a", 2)),
        write(tmp_path / "1.ipynb", code("a", 1), code("a", count=None)),
    ]
    assert str(list(NotebookCollection(paths)["a"].values())) == "[2, nan]"


def test_an_unknown_tag_names_the_nearest(elbow: Path) -> None:
    """
    A slip of the pen is a KeyError that says what there is.
    """
    nbs = NotebookCollection(elbow)
    with pytest.raises(KeyError, match="no notebook has a result tagged 'n_clusters'; did you mean 'n-clusters'"):
        nbs["n_clusters"]
    assert "n_clusters" not in nbs
    assert nbs._ipython_key_completions_() == ["n-clusters", "sum-of-squares", "elapsed"]


def test_the_frame_has_parameters_results_and_the_record(elbow: Path) -> None:
    """
    One row a notebook: the point, the fixed parameters, the tags, then what is recorded.
    """
    frame = NotebookCollection(elbow, ids="filenames").to_frame()
    assert list(frame.columns) == [
        "n_clusters", "seed", "n-clusters", "sum-of-squares", "elapsed",
        "state", "reason", "seconds", "peak_memory", "task", "attempt", "run", "path",
    ]  # fmt: skip
    assert frame["n_clusters"].tolist() == list(range(1, 13))
    first = frame.loc["notebook-n_clusters=1-0"]
    assert (first["sum-of-squares"], first["state"], first["seconds"], first["peak_memory"]) == (
        300.0, "finished", 1.5, 2**30,
    )  # fmt: skip


def test_the_frames_types_do_not_depend_on_gaps(tmp_path: Path) -> None:
    """
    A column is of the type of its values, with and without gaps, even with gaps alone in what is recorded.
    """
    paths = mixed_paths(tmp_path)
    whole, gaps = NotebookCollection(paths[:1]).to_frame(), NotebookCollection(paths).to_frame()
    nothing = NotebookCollection(paths[4:]).to_frame()
    assert whole.dtypes.to_dict() == gaps.dtypes.to_dict()
    assert gaps["result.k"].tolist()[:2] == [1, 2]
    assert gaps["result.k"].isna().tolist() == [False, False, True, True, True]
    assert nothing.dtypes.to_dict() == {name: gaps[name].dtype for name in nothing.columns}
    assert {name: str(dtype) for name, dtype in whole.dtypes.items() if name in {"k", "name", "later", "seconds"}} == {
        "k": "Int64", "name": "string", "later": "object", "seconds": "float64",
    }  # fmt: skip


def test_equal_names_do_not_clash_in_the_frame(tmp_path: Path) -> None:
    """
    A parameter keeps its name, a tag of that name gets "result.", a recorded column "nbgrid."; "-" and "_" differ.
    """
    cells = (code("k", 5), code("state", "warm"), code("n-x", 1), code("seconds", 9.0))
    path = write(tmp_path / "a.ipynb", *cells, nbgrid=record(0, {"k": 4, "state": "NY", "n_x": 2}))
    row = NotebookCollection(path).to_frame().iloc[0]
    expected = {"k": 4, "result.k": 5, "state": "NY", "result.state": "warm", "nbgrid.state": "finished",
                "n_x": 2, "n-x": 1, "result.seconds": 9.0, "seconds": 1.5}  # fmt: skip
    assert {name: row[name] for name in expected} == expected


def test_values_of_every_kind_fit_into_the_frame(tmp_path: Path) -> None:
    """
    Arrays, frames, mappings, pictures and integers beyond 64 bits stay what they are.
    """
    picture = code("picture", text="<Figure>")
    picture["outputs"][0]["data"]["image/png"] = "aGk="
    values = {"array": np.array([1.0, math.nan]), "mapping": {"a": [1]}, "huge": 2**70, "time": pd.Timedelta(seconds=2)}
    path = write(tmp_path / "a.ipynb", picture, *(code(tag, value) for tag, value in values.items()))
    row = NotebookCollection(path).to_frame().iloc[0]
    assert row["picture"] == Image(b"hi")
    np.testing.assert_array_equal(row["array"], values["array"])
    assert (row["mapping"], row["huge"], row["time"]) == (values["mapping"], values["huge"], values["time"])


def test_papermills_notebooks_open_just_as_well(tmp_path: Path) -> None:
    """
    Parameters, state, duration and the error come from papermill's record and the outputs.
    """
    done = {"parameters": {"k": 3}, "exception": None, "duration": 2.5, "end_time": "2026-01-01T00:00:00"}
    write(tmp_path / "0.ipynb", code("a", 1), papermill={**done, "exception": False})
    write(tmp_path / "1.ipynb", code("a", 1), raising("b"), papermill={**done, "exception": True})
    write(tmp_path / "2.ipynb", code("a", 1), papermill={**done, "end_time": None})
    nbs = NotebookCollection(tmp_path)
    found = [(nb.state, nb.reason, nb.seconds, nb.parameters) for nb in nbs.notebooks.values()]
    assert found == [
        ("finished", None, 2.5, {"k": 3}),
        ("failed", "failed: cell 2 raised ValueError: no", 2.5, {"k": 3}),
        (None, None, 2.5, {"k": 3}),
    ]


def test_notebooks_by_hand_claim_no_state(tmp_path: Path) -> None:
    """
    Without a record only an error in the outputs tells that a notebook failed; an expected one does not.
    """
    expected = raising("raises-exception")
    paths = [
        write(tmp_path / "0.ipynb", code("a", 1), expected),
        write(tmp_path / "1.ipynb", code("a", 1), raising("b", "KeyboardInterrupt", "")),
    ]
    states = [(nb.state, nb.reason) for nb in NotebookCollection(paths).notebooks.values()]
    assert states == [(None, None), ("failed", "failed: cell 2 raised KeyboardInterrupt")]


def test_non_finite_parameters_are_read_back(tmp_path: Path) -> None:
    """
    {"$float": "inf"} in the record is the number, in lists too; what only looks like it stays as it is.
    """
    point = {"a": {"$float": "-inf"}, "b": [{"$float": "nan"}], "c": {"$float": "nan", "d": 1}}
    path = write(tmp_path / "a.ipynb", nbgrid=record(0, point))
    found = NotebookCollection(path).notebooks[0].parameters
    assert (found["a"], math.isnan(found["b"][0]), found["c"]) == (-math.inf, True, {"$float": "nan", "d": 1})


@pytest.mark.parametrize(
    "junk",
    [
        {"nbgrid": 5},
        {"nbgrid": {"point": [1], "state": 3, "index": "x", "seconds": "long", "reason": "why", "run": [1]}},
        {"nbgrid": {"point": {"a": {"$float": []}}, "peak_memory": {}}},
        {"papermill": {"parameters": [], "duration": {}, "exception": "maybe"}},
    ],
)
def test_a_record_of_another_shape_is_no_obstacle(tmp_path: Path, junk: dict[str, Any]) -> None:
    """
    Metadata that nbgrid did not write so is ignored field by field.
    """
    nbs = NotebookCollection(write(tmp_path / "a.ipynb", code("a", 1), **junk))
    assert (nbs["a"][0], len(nbs.to_frame())) == (1, 1)


def test_the_curve_is_sorted_finite_and_takes_parameters_too(elbow: Path) -> None:
    """
    Tags or parameters, whatever order notebooks came in; a notebook without a value is left out.
    """
    path = elbow / "output/notebook-n_clusters=13-12.ipynb"
    write(path, code("n-clusters", 13), nbgrid=record(12, {"n_clusters": 13}))
    nbs = NotebookCollection(elbow)
    for x in ("n-clusters", "n_clusters"):
        curve = nbs.curve(x, "sum-of-squares", "seconds")
        assert curve.x.tolist() == list(range(1, 13))
        assert curve.y.tolist() == SQUARES
        assert curve.seconds is not None
        assert curve.seconds.tolist() == [1.5] * 12
    with pytest.raises(KeyError, match="'sum-of-square' is no tag and no parameter; did you mean 'sum-of-squares'"):
        nbs.curve("n-clusters", "sum-of-square")


def test_time_differences_are_seconds_in_the_curve(tmp_path: Path) -> None:
    """
    A Timedelta counts in seconds; text and truths do not become points.
    """
    for k in (1, 2):
        write(tmp_path / f"{k}.ipynb", code("k", k), code("t", pd.Timedelta(minutes=k)), code("s", "text"))
    nbs = NotebookCollection(tmp_path)
    assert nbs.curve("k", "t").y.tolist() == [60.0, 120.0]
    assert nbs.curve("k", "s").y.tolist() == []


def test_the_elbow_curve_is_drawn_with_its_knee(elbow: Path) -> None:
    """
    One call draws values, times and the knee at 5 on the given axes.
    """
    ax = pyplot.figure().subplots()
    assert NotebookCollection(elbow).elbow_curve("n-clusters", "sum-of-squares", "elapsed", ax) is ax
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["Elbow", "Fitting time", "knee at k = 5"]


def test_html_is_escaped_and_short(tmp_path: Path) -> None:
    """
    R20: neither ids nor values nor tags of a notebook become live HTML, and the table is the same each time.
    """
    evil = "<script>alert('x')</script>"
    path = write(tmp_path / "a.ipynb", code(evil, evil), code("long", "x" * 9999))
    nbs = NotebookCollection([path], ids=[evil])
    for page in (nbs._repr_html_(), nbs[evil]._repr_html_(), nbs["long"]._repr_html_()):
        assert "<script" not in page
        assert len(page) < 3000
    assert nbs._repr_html_() == NotebookCollection([path], ids=[evil])._repr_html_()


def test_reading_loads_nothing_slow(elbow: Path) -> None:
    """
    Opening a collection and reading numbers loads no IPython, nbformat, jsonschema, pandas or matplotlib.
    """
    slow = {"IPython", "nbformat", "jsonschema", "pandas", "matplotlib", "nbclient", "sklearn", "dask"}
    program = (
        "import sys; from nbgrid.collection import NotebookCollection\n"
        f"assert len(NotebookCollection({str(elbow)!r})['sum-of-squares']) == 12\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert slow & set(loaded) == set()


def test_a_thousand_notebooks_cost_little_more_than_their_json(tmp_path: Path) -> None:
    """
    Opening and decoding a thousand small notebooks takes at most 20 times as long as parsing their JSON.
    """
    cells = [code("k", 1), code("squares", np.float64(0.5)), *(code([], 1) for _ in range(6))]
    for index in range(1000):
        write(tmp_path / f"{index}.ipynb", *cells, nbgrid=record(index, {"k": index}))
    started = time.perf_counter()
    for path in tmp_path.iterdir():
        json.loads(path.read_bytes())
    parsed = time.perf_counter()
    nbs = NotebookCollection(tmp_path)
    assert sum(nbs["squares"].values()) == 500
    took = time.perf_counter() - parsed
    assert took < 20 * (parsed - started), f"{took:.2f} s, JSON alone {parsed - started:.2f} s"
