"""What a kernel's environment has: whether the kernel is installed, and which imports of a template are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path

from nbgrid.errors import PreflightError, nearest

# Modules whose distribution has another name than `-` for `_` gives.
_DISTRIBUTIONS = {
    "Bio": "biopython", "PIL": "Pillow", "bs4": "beautifulsoup4", "cv2": "opencv-python", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "faiss": "faiss-cpu", "fitz": "PyMuPDF", "git": "GitPython", "jwt": "PyJWT",
    "lightning": "lightning", "mpl_toolkits": "matplotlib", "osgeo": "GDAL", "psycopg2": "psycopg2-binary",
    "serial": "pyserial", "skimage": "scikit-image", "sklearn": "scikit-learn", "sklearnex": "scikit-learn-intelex",
    "tables": "tables", "umap": "umap-learn", "yaml": "PyYAML", "zmq": "pyzmq",
}  # fmt: skip

_LOOK = (
    "import sys, json; from importlib.machinery import PathFinder; sys.path[0] = sys.argv[1]; "
    "known = set(sys.builtin_module_names) | set(getattr(sys, 'stdlib_module_names', ())); "
    "print(json.dumps([n for n in json.loads(sys.argv[2]) if n not in known and PathFinder.find_spec(n) is None]))"
)
_LOOK_SECONDS = 30.0
_IPYKERNEL = {"ipykernel_launcher", "ipykernel"}
_COMPILE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Kernel:
    """An installed kernel."""

    name: str
    language: str
    """In lower case."""
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that its specification sets."""


def find_kernel(name: str) -> Kernel:
    """Return the installed kernel of that name; raise `PreflightError` naming those that there are."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager()
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel:
        known = sorted(manager.find_kernel_specs())
        raise PreflightError(
            f"the kernel {name!r} is not installed{nearest(name, known)} (there are: {', '.join(known) or 'none'}); "
            "--kernel NAME chooses one"
        ) from None
    return Kernel(name, str(spec.language).lower(), tuple(spec.argv), dict(spec.env or {}))


def missing_imports(kernel: Kernel, names: Iterable[str], folder: Path) -> list[str]:
    """
    Return those of the top-level modules *names* that *kernel*'s Python does not find from *folder*.

    Nothing is imported. Empty for kernels of other languages, and where the kernel's Python cannot be asked.
    """
    wanted = sorted(names)
    if kernel.language != "python" or not wanted or not kernel.argv:
        return []
    program = kernel.argv[0]
    if program in {"python", "python3"} or Path(program).absolute() == Path(sys.executable).absolute():
        known = set(sys.builtin_module_names) | set(sys.stdlib_module_names)
        path = [str(folder), *(entry for entry in sys.path if entry)]
        return [name for name in wanted if name not in known and PathFinder.find_spec(name, path) is None]
    try:
        answer = subprocess.run(
            [program, "-c", _LOOK, str(folder), json.dumps(wanted)],
            capture_output=True, text=True, timeout=_LOOK_SECONDS, check=True,
        )  # fmt: skip
        return [str(name) for name in json.loads(answer.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def fork_command(kernel: Kernel) -> tuple[list[str], list[str]]:
    """
    Return the Python, with its options, that such kernels run in, and the arguments that ipykernel is given.

    Raises `PreflightError` where a kernel cannot be forked from a warm one: that takes Linux (macOS can, but its libraries do
    not expect it), and an ipykernel of this very Python, whatever it is called.
    """
    if not hasattr(os, "fork"):
        raise PreflightError("this system cannot fork processes")
    if kernel.language != "python":
        raise PreflightError(f"the kernel {kernel.name!r} is for {kernel.language}")
    program, *arguments = kernel.argv or ("",)
    place = next((i for i, one in enumerate(arguments[:-1]) if one == "-m" and arguments[i + 1] in _IPYKERNEL), None)
    if place is None:
        raise PreflightError(f"the kernel {kernel.name!r} does not start ipykernel")
    own = {"python", "python3", f"python3.{sys.version_info[1]}"}
    if program not in own and Path(program).absolute() != Path(sys.executable).absolute():
        raise PreflightError(f"the kernel {kernel.name!r} runs in another Python, {program}")
    rest = arguments[place + 2 :]
    if "{connection_file}" in rest and rest[rest.index("{connection_file}") - 1] == "-f":
        at = rest.index("{connection_file}")
        rest = rest[: at - 1] + rest[at + 1 :]
    if any("{" in one for one in rest):
        raise PreflightError(f"the kernel {kernel.name!r} is started in an unusual way: {' '.join(kernel.argv)}")
    return [sys.executable, *arguments[:place]], [*rest, "--HistoryManager.hist_file=:memory:"]


def compile_kmeans(kernel: Kernel) -> None:
    """
    Have *kernel*'s Python compile nbgrid's k-means kernels into its cache, where they are not there yet.

    Takes seconds the first time, a fifth of one later; a failure is left for the notebook to meet.
    """
    with suppress(OSError, subprocess.SubprocessError):
        command = [kernel.argv[0], "-m", "nbgrid.kmeans"]
        subprocess.run(command, check=False, timeout=_COMPILE_SECONDS, stdout=subprocess.DEVNULL)


def install_line(modules: Iterable[str]) -> str:
    """Return the `pip install` that brings *modules*."""
    return "pip install " + " ".join(_DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in modules)
