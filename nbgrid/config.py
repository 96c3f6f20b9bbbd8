"""
Settings: the only reader of `NBGRID_*` variables and of `nbgrid.toml` in Jupyter's config directory.

A variable wins over the file. The file is data only, and never read from the working directory: a folder that someone
else made cannot change how nbgrid runs.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nbgrid.errors import ConfigError, nearest

FILE = "nbgrid.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    What can be set once for all runs.

    Each entry `name` is `name = …` in the file and `NBGRID_NAME` in the environment.
    """

    database_url: str | None = None
    """A SQLAlchemy URL; None for the SQLite file in Jupyter's data directory."""
    scheduler: str | None = None
    """The address of a Dask scheduler; None for an embedded cluster."""
    workers: int | None = None
    """Workers of the embedded cluster; None for the number of cores."""
    max_points: int = 10_000
    """A grid of more points is refused unless `--max-points` says otherwise."""
    startup_timeout: float = 60.0
    """Seconds in which a kernel must answer."""
    no_workers_timeout: float = 60.0
    """Seconds in which an existing cluster must have a worker."""

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, file: Path | None = None) -> Config:
        """Return the settings in force; raise `ConfigError` naming the file or the variable that is wrong."""
        environ = os.environ if environ is None else environ
        file = _config_file() if file is None else file
        values = {name: _typed(name, value, str(file)) for name, value in _from_file(file).items()}
        for field in fields(cls):
            variable = f"NBGRID_{field.name.upper()}"
            if environ.get(variable):
                values[field.name] = _typed(field.name, environ[variable], variable)
        return cls(**values)


def data_directory() -> Path:
    """Return nbgrid's folder in Jupyter's data directory."""
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "nbgrid"


def _config_file() -> Path:
    from jupyter_core.paths import jupyter_config_dir

    return Path(jupyter_config_dir()) / FILE


def _from_file(file: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{file}: no valid TOML: {error}") from None
    known = [field.name for field in fields(Config)]
    for name in data:
        if name not in known:
            listed = ", ".join(known)
            raise ConfigError(f"{file}: there is no setting {name!r}{nearest(name, known)} (known: {listed})")
    return data


def _typed(name: str, value: Any, where: str) -> Any:
    wanted = {field.name: str(field.type) for field in fields(Config)}[name]
    if "str" in wanted:
        if not isinstance(value, str):
            raise ConfigError(f"{where}: {name} must be text, not {value!r}")
        return value
    kind, called = (int, "a whole number") if "int" in wanted else (float, "a number")
    try:
        number = kind(str(value)) if type(value) is not bool else 0
    except ValueError:
        raise ConfigError(f"{where}: {name} must be {called}, not {value!r}") from None
    if not 0 < number < math.inf:
        raise ConfigError(f"{where}: {name} must be {called} above 0, not {value!r}")
    return number
