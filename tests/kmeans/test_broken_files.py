"""Files that are cut, flipped, forged or foreign: refused in one line, and nothing in them is executed."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nbgrid.kmeans import KMeans


@pytest.fixture
def model(blobs):
    """Six clusters of the blobs."""
    return KMeans(6, random_state=0).fit(blobs)


def members(path):
    """What a file holds, by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path, parts):
    """Write *parts* as a zip whose checksums are right."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def npy(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), **options)
    return stream.getvalue()


def changed(header, **fields):
    """The header with other *fields*; None leaves one out."""
    whole = {**json.loads(header), **fields}
    return json.dumps({field: value for field, value in whole.items() if field not in fields or value is not None})


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["cluster_centers", "shift", "labels", "init"])
def test_sv_08__an_object_array_is_refused_and_its_pickle_not_executed(model, tmp_path, name):
    """
    A file with a pickle in place of an array is a ValueError, and the canary in the pickle does not sing.
    """
    model.save(tmp_path / "m")
    canary = tmp_path / "canary"
    array = np.full((6, 5), Canary(canary), dtype=object)
    packed(tmp_path / "bad", {**members(tmp_path / "m"), f"{name}.npy": npy(array, allow_pickle=True)})
    with pytest.raises(ValueError, match=rf"bad: {name}.npy is no array of numbers.*allow_pickle"):
        KMeans.load(tmp_path / "bad")
    assert not canary.exists()


def test_sv_08__a_pickle_is_refused_and_not_executed(model, tmp_path):
    """
    Pickles, bare or as a member of the zip, are not executed.
    """
    canary = tmp_path / "canary"
    model.save(tmp_path / "m")
    (tmp_path / "bare").write_bytes(pickle.dumps(Canary(canary)))
    member = {**members(tmp_path / "m"), "cluster_centers.npy": pickle.dumps(Canary(canary))}
    for path in (tmp_path / "bare", packed(tmp_path / "member", member)):
        with pytest.raises(ValueError, match=path.name):
            KMeans.load(path)
    assert not canary.exists()


def test_load__of_a_file_cut_short_is_refused_wherever_it_was_cut(model, tmp_path):
    """
    No prefix of a file is a model; the message has the path and says to copy or save it again.
    """
    model.save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    for length in [*range(0, len(whole), 41), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut: .*copy the file again, or save the model again\.$"):
            KMeans.load(tmp_path / "cut")


@pytest.mark.parametrize("flip", [0xFF, 0x01, 0x10])
def test_load__of_a_file_with_a_flipped_byte_is_refused_or_the_same_model(model, tmp_path, flip):
    """
    Any byte changed is a ValueError, unless it is one that says nothing of the model, such as a date.
    """
    model.save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    survived = 0
    for place in range(flip % 3, len(whole), 3):
        bad = bytearray(whole)
        bad[place] ^= flip
        (tmp_path / "flipped").write_bytes(bad)
        try:
            loaded = KMeans.load(tmp_path / "flipped")
        except ValueError as error:
            assert "flipped: " in str(error)
        else:
            survived += 1
            assert model.cluster_centers_.tobytes() == loaded.cluster_centers_.tobytes()
            assert model._shift.tobytes() == loaded._shift.tobytes()
            assert model.get_params() == loaded.get_params()
            assert model.inertia_ == loaded.inertia_
    assert survived < len(whole) / 3 / 5


OTHERS = {
    "npz": lambda path: packed(path, {"cluster_centers.npy": npy(np.ones((2, 2)))}),
    "npy": lambda path: path.write_bytes(npy(np.ones((2, 2)))),
    "text": lambda path: path.write_text("cluster_centers"),
    "empty": lambda path: path.touch(),
    "json": lambda path: packed(path, {"header.json": "[1, 2"}),
    "list": lambda path: packed(path, {"header.json": "[]"}),
    "nested": lambda path: packed(path, {"header.json": "[" * 100_000}),
    "binary": lambda path: packed(path, {"header.json": b"\xff\xfe{"}),
    "format": lambda path: packed(path, {"header.json": '{"format": "other", "version": 1}'}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_load__of_another_format_is_refused_in_one_line(tmp_path, kind):
    """
    What is not a saved KMeans is a ValueError of one line with the path.
    """
    OTHERS[kind](tmp_path / "other")
    with pytest.raises(ValueError, match=r"other: .*(KMeans\.save wrote|save the model again)") as told:
        KMeans.load(tmp_path / "other")
    assert "\n" not in str(told.value)


def test_load__of_a_path_that_is_no_file_says_so(tmp_path):
    """
    A missing file and a folder are the errors that open raises.
    """
    with pytest.raises(FileNotFoundError):
        KMeans.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        KMeans.load(tmp_path)


def test_load__of_a_newer_version_says_to_update(model, tmp_path):
    """
    A file of version 2 is refused with both versions and what to do; a version that is none is broken.
    """
    model.save(tmp_path / "m")
    parts = members(tmp_path / "m")
    for version, message in [
        (2, r"version 2, this one reads 1\); update nbgrid"),
        ("1", "version '1'"),
        (0, "version 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            KMeans.load(
                packed(tmp_path / "new", {**parts, "header.json": changed(parts["header.json"], version=version)})
            )


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("cluster_centers", np.ones((6, 4))), ("cluster_centers", np.ones(6)), ("cluster_centers", np.ones((0, 5))),
        ("cluster_centers", np.ones((6, 5), dtype="i8")), ("cluster_centers", np.ones((6, 5), dtype="f4")),
        ("cluster_centers", np.full((6, 5), np.nan)), ("shift", np.ones(4)), ("shift", np.full(5, np.inf)),
        ("shift", np.ones(5, dtype="f4")), ("labels", np.full(9, 6, dtype="i4")), ("labels", np.full(9, -1, dtype="i4")),
        ("labels", np.zeros((9, 1), dtype="i4")), ("labels", np.zeros(9, dtype="i8")), ("shift", None),
        ("cluster_centers", None),
    ],
)  # fmt: skip
def test_load__of_arrays_that_do_not_fit_together_is_refused(model, tmp_path, part, content):
    """
    Other shapes, types, values and missing arrays are a ValueError that says to save again.
    """
    model.save(tmp_path / "m")
    parts = members(tmp_path / "m")
    parts.pop(f"{part}.npy")
    if content is not None:
        parts[f"{part}.npy"] = npy(content)
    with pytest.raises(ValueError, match=r"bad: .*save the model again\.$"):
        KMeans.load(packed(tmp_path / "bad", parts))


@pytest.mark.parametrize(
    "fields",
    [
        {"n_iter": 1.5}, {"converged": 1}, {"inertia": "0"}, {"parameters": []}, {"feature_names": ["a"]}, {"dtype": "f2"},
        {"feature_names": [1, 2, 3, 4, 5]}, {"parameters": {"n_clusters": 6, "speed": 3}}, {"msd": None}, {"inertia": 1},
        {"set_output": None}, {"feature_names": None},
    ],
)  # fmt: skip
def test_load__of_a_header_that_does_not_fit_is_refused_by_the_field(model, tmp_path, fields):
    """
    A field of another kind, a field that is missing and a parameter that is unknown are a ValueError that names it.
    """
    model.save(tmp_path / "m")
    parts = members(tmp_path / "m")
    parts["header.json"] = changed(parts["header.json"], **fields)
    with pytest.raises(ValueError, match=r"bad: .*" + ("speed" if fields.get("parameters") else next(iter(fields)))):
        KMeans.load(packed(tmp_path / "bad", parts))


def test_load__takes_no_more_memory_than_the_file_is_long(model, tmp_path):
    """
    Compressed members, which could grow a thousandfold, are refused, and a header that promises more than is there.
    """
    model.save(tmp_path / "m")
    parts = members(tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"bomb: header\.json cannot be read \(it is compressed\)"):
        KMeans.load(tmp_path / "bomb")
    promise = parts["labels.npy"].replace(b"(600,), }      ", b"(60000000000,)}")
    assert promise != parts["labels.npy"]
    with pytest.raises(ValueError, match=r"promise: labels\.npy"):
        KMeans.load(packed(tmp_path / "promise", {**parts, "labels.npy": promise}))


def test_load__reads_a_member_that_is_of_the_other_byte_order(model, blobs, tmp_path):
    """
    Arrays of another machine are turned into this one's.
    """
    model.save(tmp_path / "m")
    parts = members(tmp_path / "m")
    for name, array in [
        ("cluster_centers", model.cluster_centers_),
        ("labels", model.labels_),
        ("shift", model._shift),
    ]:
        parts[f"{name}.npy"] = npy(array.astype(array.dtype.newbyteorder()))
    loaded = KMeans.load(packed(tmp_path / "swapped", parts))
    assert loaded.cluster_centers_.dtype.isnative
    assert np.array_equal(model.predict(blobs), loaded.predict(blobs))
