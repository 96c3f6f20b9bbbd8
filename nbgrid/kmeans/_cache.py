"""
Where compiled kernels are kept between processes.

numba's own cache lies beside the source (which may be read-only), names its files by an index that two processes can
overwrite for each other (numba#9348), raises on a truncated file, and does not notice when a kernel that another one
calls has changed. This one lies in the user's cache folder, or in NUMBA_CACHE_DIR where that is set; each compiled
signature is a file of its own whose name is a digest of everything that it depends on, and whatever cannot be read is
compiled anew. Only nbgrid's kernels use it: nothing of the user's numba is changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, UserWideCacheLocator
from numba.misc.appdirs import AppDirs


@cache
def _stamp() -> str:
    """
    Return a digest of this package's sources and of the versions that compiled code depends on.
    """
    parts = [numba.__version__, llvmlite.__version__, platform.python_implementation(), platform.python_version()]
    digest = hashlib.sha256("\n".join(parts).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def folder() -> Path:
    """
    Return the folder of this user's, this version's compiled kernels; it may not exist yet.
    """
    # numba's own copy of appdirs, so that both caches follow the same rules on every platform.
    root = Path(config.CACHE_DIR or AppDirs("nbgrid", appauthor=False).user_cache_dir)
    return root / f"kmeans-{_stamp()}"


class _Locator(UserWideCacheLocator):  # type: ignore[misc]  # numba ships no types
    """Names our folder, whether or not it can be written: a baked, read-only cache is still worth reading."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        super().__init__(py_func, py_file)
        self._cache_path = str(folder())

    def ensure_cache_path(self) -> None:
        with contextlib.suppress(OSError):
            Path(self._cache_path).mkdir(parents=True, exist_ok=True, mode=0o700)

    def get_disambiguator(self) -> str:
        return "0"  # the stamp knows every line of the source


class _Impl(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Files(IndexDataCacheFile):  # type: ignore[misc]
    """One file a signature, without an index that processes would have to share; numba writes each atomically."""

    def _name(self, key: object) -> str:
        name: str = self._data_name(int(hashlib.sha256(str(key).encode()).hexdigest()[:12], 16))
        return name

    def load(self, key: object) -> Any:
        return self._load_data(self._name(key))

    def save(self, key: object, data: object) -> None:
        self._save_data(self._name(key), data)

    def flush(self) -> None:
        for path in Path(self._cache_path).glob(self._data_name_pattern.replace("{number:d}", "*")):
            path.unlink(missing_ok=True)


@cache
def _say_once() -> None:
    """
    Say why a first fit takes seconds.
    """
    line = (
        f"nbgrid.kmeans compiles its kernels for this machine, once and for some seconds; they are kept in {folder()}."
    )
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # seconds of silence would need a reason


class KernelCache(FunctionCache):  # type: ignore[misc]
    """The compiled signatures of one kernel on disk; never a reason for a fit to fail."""

    _impl_class = _Impl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(
            cache_path=self.cache_path, filename_base=self._impl.filename_base, source_stamp=_stamp()
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for *sig*, or None when it is missing, truncated or of no use."""
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # noqa: BLE001  # a bad pickle can raise anything; compiling is the answer to all of it
            found = None
        if found is None:
            _say_once()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep *data* for the next process, where the disk lets us."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)
