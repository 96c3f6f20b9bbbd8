"""
Models in files: an .npz of arrays and one JSON text, and nothing that could be executed.

    header.json           format, version, parameters, what the fit told
    cluster_centers.npy   (k, d), float32 or float64
    shift.npy             (d,), float64: what distances are taken from
    labels.npy            (n,), int32, unless they were left out
    init.npy              the parameter, where it is an array

`numpy.load` opens it, and so does unzip. Members are stored, not compressed, so that reading a file never takes more
memory than the file is long.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

Model = TypeVar("Model")

FORMAT, VERSION = "nbgrid-kmeans", 1

HEADER = "header.json"

# What must stand in the header, and of which kind it is.
FIELDS: dict[str, tuple[type, ...]] = {
    "parameters": (dict,),
    "dtype": (str,),
    "inertia": (float,),
    "msd": (float,),
    "n_iter": (int,),
    "converged": (bool,),
    "feature_names": (list, type(None)),
    "set_output": (str, type(None)),
}

AGAIN = "copy the file again, or save the model again"


def save(model: Any, path: str | os.PathLike[str], *, labels: bool) -> None:
    """
    Write the fitted *model* to *path* in one step: there is the whole file, or what was there before.

    Raises TypeError for a parameter that a file cannot hold.
    """
    parameters = {name: _kept(name, value) for name, value in model.get_params(deep=False).items()}
    arrays = {"cluster_centers": model.cluster_centers_, "shift": model._shift}
    if labels and hasattr(model, "labels_"):
        arrays["labels"] = model.labels_
    if isinstance(parameters["init"], np.ndarray):
        arrays["init"] = parameters.pop("init")
    names = getattr(model, "feature_names_in_", None)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "numpy": np.__version__,
        "dtype": model.cluster_centers_.dtype.name,
        "parameters": parameters,
        "inertia": float(model.inertia_),
        "msd": float(model.msd_),
        "n_iter": int(model.n_iter_),
        "converged": bool(model.converged_),
        "feature_names": None if names is None else names.tolist(),
        "set_output": getattr(model, "_sklearn_output_config", {}).get("transform"),
    }
    _replace(Path(path).resolve(), json.dumps(header, indent=1, allow_nan=False), arrays)


def load(kind: type[Model], path: str | os.PathLike[str]) -> Model:
    """
    Return the model of class *kind* that `save` wrote to *path*; nothing in the file is executed.

    Raises ValueError, with the path and what to do, for a file that is not whole, not of this format, of a newer
    version, or whose parts do not fit together.
    """
    with Path(path).open("rb") as opened:
        try:
            header, arrays = _read(opened)
            _fit_together(header, arrays)
            model: Model = _made(kind, header, arrays)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}.") from None
    return model


def _kept(name: str, value: Any) -> Any:
    """
    Return *value* as JSON and .npy hold it: None, a bool, a number, a string or, for init, an array.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if name == "init" and not callable(value):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return array
    instead = {"init": "'k-means++'", "random_state": "None"}.get(name, "...")
    raise TypeError(
        f"{name} is a {type(value).__name__}, which a file cannot hold; "
        f"call set_params({name}={instead}), which changes no center, and save again."
    )


def _replace(file: Path, header: str, arrays: dict[str, NDArray[Any]]) -> None:
    """
    Let *file* hold *header* and *arrays*: written beside it, synced to the disk, then moved into its place.
    """
    partial = file.with_name(f".{uuid4().hex}.partial")
    try:
        with partial.open("xb") as opened:
            with zipfile.ZipFile(opened, "w") as archive:
                # A ZipInfo without a date: the same model is the same bytes.
                archive.writestr(zipfile.ZipInfo(HEADER), header)
                for name, array in arrays.items():
                    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(file)
        _sync_folder(file.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the folder's entries last, where the system lets a folder be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(opened: IO[bytes]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """
    Return the header and the arrays; ValueError when they cannot be read or are of another format or version.
    """
    try:
        archive = zipfile.ZipFile(opened)
    except Exception as error:  # noqa: BLE001  # bytes that only look like a zip can raise anything
        raise ValueError(f"not a whole .npz file ({error}); give one that KMeans.save wrote, or {AGAIN}") from None
    with archive:
        members = set(archive.namelist())
        if HEADER not in members:
            raise ValueError(f"a zip without {HEADER}, so not a saved KMeans; give a file that KMeans.save wrote")
        header = _header(_member(archive, HEADER))
        wanted = ["cluster_centers", "shift", *(name for name in ("labels", "init") if f"{name}.npy" in members)]
        return header, {name: _array(name, _member(archive, f"{name}.npy")) for name in wanted}


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise ValueError("it is compressed")
        return archive.read(name)
    except Exception as error:  # noqa: BLE001  # as above
        raise ValueError(f"{name} cannot be read ({error}); {AGAIN}") from None


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{HEADER} is not JSON ({error}); {AGAIN}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{HEADER} does not say format {FORMAT!r}; give a file that KMeans.save wrote")
    version = header.get("version")
    if type(version) is int and version > VERSION:
        raise ValueError(f"saved by a newer nbgrid (version {version}, this one reads {VERSION}); update nbgrid")
    if type(version) is not int or version < 1:
        raise ValueError(f"{HEADER} has version {version!r}, not a whole number from 1; save the model again")
    return header


def _array(name: str, content: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # noqa: BLE001  # as above
        raise ValueError(f"{name}.npy is no array of numbers ({error}); save the model again") from None
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _fit_together(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """ValueError unless the parts of a file are those of one model."""
    for field, kinds in FIELDS.items():
        if field not in header or type(header[field]) not in kinds:
            raise ValueError(f"{HEADER} has {field}={header.get(field)!r}; save the model again")
    centers, shift, labels = arrays["cluster_centers"], arrays["shift"], arrays.get("labels")
    if centers.ndim != 2 or not centers.size or centers.dtype.name not in {"float32", "float64"}:
        raise ValueError(f"cluster_centers has shape {centers.shape} and dtype {centers.dtype}; save the model again")
    k, d = centers.shape
    names = header["feature_names"]
    fits = {
        "dtype": centers.dtype.name == header["dtype"],
        "shift": shift.shape == (d,) and shift.dtype == np.float64,
        "labels": labels is None
        or (labels.ndim == 1 and labels.dtype == np.int32 and bool(((labels >= 0) & (labels < k)).all())),
        "feature_names": names is None or (len(names) == d and all(isinstance(name, str) for name in names)),
    }
    for part, does in fits.items():
        if not does:
            raise ValueError(f"{part} does not fit to {k} centers of {d} features; save the model again")
    if not (np.isfinite(centers).all() and np.isfinite(shift).all()):
        raise ValueError("centers that are not finite; fit and save the model again")


def _made(kind: Any, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Any:
    parameters = dict(header["parameters"])
    if "init" in arrays:
        parameters["init"] = arrays["init"]
    unknown = sorted(parameters.keys() - kind().get_params(deep=False))
    if unknown:
        raise ValueError(f"parameters that {kind.__name__} does not have: {', '.join(unknown)}; update nbgrid")
    model = kind(**parameters)
    model.cluster_centers_, model._shift = arrays["cluster_centers"], arrays["shift"]
    model._n_features_out, model.n_features_in_ = model.cluster_centers_.shape
    if "labels" in arrays:
        model.labels_ = arrays["labels"]
    if header["feature_names"] is not None:
        model.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    model.inertia_, model.msd_ = header["inertia"], header["msd"]
    model.n_iter_, model.converged_ = header["n_iter"], header["converged"]
    return model if header["set_output"] is None else model.set_output(transform=header["set_output"])
