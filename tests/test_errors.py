"""The errors: one tree, drawn, and each of them fit to travel from a worker."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from nbgrid import errors
from nbgrid.errors import NbgridError, StoreError, UnknownParameterError, nearest

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, NbgridError)]


def made(one: type[NbgridError]) -> NbgridError:
    if one is UnknownParameterError:
        return UnknownParameterError("n_cluster", ["n_clusters", "init"], "a.ipynb, cell 2")
    return one("a.ipynb: what, where and what next")


@pytest.mark.parametrize("one", CLASSES)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_every_error_survives_pickling(one: type[NbgridError], protocol: int) -> None:
    """
    What a worker raises, the driver can read: class, message and fields.
    """
    error = made(one)
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert (type(copy), str(copy), copy.args, vars(copy)) == (one, str(error), error.args, vars(error))
    again = pickle.loads(pickle.dumps(copy, protocol))
    assert str(again) == str(error)


def test_the_tree_is_as_it_is_drawn() -> None:
    """
    The drawing at the top of the module names each error, under its parent, with the built-ins that it also is.
    """
    drawn, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"((?:│   |    )*)(?:[├└]── )?(\w+Error)(?: \((\w+)\))?", line):
            depth = 0 if line.startswith("NbgridError") else len(found[1]) // 4 + 1
            path[depth:] = [found[2]]
            drawn[found[2]] = [path[depth - 1] if depth else "Exception", *([found[3]] if found[3] else [])]
    assert drawn == {one.__name__: [base.__name__ for base in one.__bases__] for one in CLASSES}


def test_an_unknown_parameter_s_message_has_the_nearest_name() -> None:
    """
    What, where, and what was probably meant.
    """
    assert str(made(UnknownParameterError)) == (
        "a.ipynb, cell 2 has no parameter 'n_cluster'; did you mean 'n_clusters'? (it assigns n_clusters, init)"
    )
    assert "it assigns nothing" in str(UnknownParameterError("n", [], "cell 2"))


def test_a_store_error_is_an_os_error_with_one_sentence() -> None:
    """
    Whoever catches `OSError` catches it, and its text is its message.
    """
    error = StoreError("the disk is full")
    assert isinstance(error, OSError) and error.args == ("the disk is full",) and error.errno is None


def test_only_what_is_near_is_suggested() -> None:
    """
    A guess that is no help is not made.
    """
    assert nearest("n_cluster", ["init", "n_clusters"]) == "; did you mean 'n_clusters'?"
    assert nearest("alpha", ["n_clusters"]) == "" and nearest("alpha", []) == ""
