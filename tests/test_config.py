"""Settings: where they come from, which wins, and what is said when one is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from nbgrid.config import FILE, Config, data_directory
from nbgrid.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file, to be written."""
    return tmp_path / "nbgrid.toml"


def refusal(file: Path, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.read(environ, file)
    return str(caught.value)


def test_without_a_file_and_variables_there_are_defaults(file: Path) -> None:
    """
    Nothing has to be set.
    """
    assert Config.read({}, file) == Config()
    assert Config().max_points == 10_000


def test_the_file_is_read(file: Path) -> None:
    """
    Each entry of the file is a setting, with its type.
    """
    file.write_text('scheduler = "tcp://a:1"\nworkers = 3\nstartup_timeout = 5\n')
    config = Config.read({}, file)
    assert (config.scheduler, config.workers, config.startup_timeout) == ("tcp://a:1", 3, 5.0)
    assert type(config.startup_timeout) is float


def test_a_variable_beats_the_file(file: Path) -> None:
    """
    `NBGRID_WORKERS=4` counts, whatever the file says; an empty variable says nothing.
    """
    file.write_text("workers = 3\nmax_points = 5\n")
    config = Config.read({"NBGRID_WORKERS": "4", "NBGRID_MAX_POINTS": ""}, file)
    assert (config.workers, config.max_points) == (4, 5)


def test_each_setting_has_a_variable(file: Path) -> None:
    """
    What can be written in the file can be set in the environment.
    """
    for field in fields(Config):
        config = Config.read({f"NBGRID_{field.name.upper()}": "7"}, file)
        assert str(getattr(config, field.name)) in {"7", "7.0"}, field.name


def test_an_unknown_setting_is_refused_with_the_nearest(file: Path) -> None:
    """
    A typing error in the file does not pass in silence.
    """
    file.write_text("worker = 3\n")
    assert refusal(file).startswith(
        f"{file}: there is no setting 'worker'; did you mean 'workers'? (known: database_url, "
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("workers", "many", "workers must be a whole number, not 'many'"), ("workers", "2.5", "whole number"),
        ("workers", "0", "workers must be a whole number above 0"), ("workers", "-1", "above 0"),
        ("startup_timeout", "soon", "startup_timeout must be a number"), ("startup_timeout", "nan", "above 0"),
        ("startup_timeout", "inf", "above 0"), ("max_points", "1e3", "whole number"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_the_variable(file: Path, name: str, value: str, words: str) -> None:
    """
    The message begins with the variable that is wrong.
    """
    variable = f"NBGRID_{name.upper()}"
    message = refusal(file, **{variable: value})
    assert message.startswith(f"{variable}: ") and words in message and "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = true", "workers must be a whole number above 0, not True"), ("workers = [1]", "whole number"),
        ("workers = 1.5", "whole number"), ("scheduler = 5", "scheduler must be text, not 5"),
        ("workers = ", "no valid TOML"),
        ("workers = 1\nworkers = 2", "no valid TOML"), ("startup_timeout = nan", "above 0"),
        ("[workers]\na = 1", "whole number"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_with_its_path(file: Path, text: str, words: str) -> None:
    """
    The message begins with the file that is wrong.
    """
    file.write_text(text)
    message = refusal(file)
    assert message.startswith(f"{file}: ") and words in message


def test_a_file_that_cannot_be_read_is_told(file: Path) -> None:
    """
    A folder in its place and bytes that are no text are errors, not defaults.
    """
    file.mkdir()
    assert refusal(file) == f"{file}: Is a directory"
    file.rmdir()
    file.write_bytes(b"\xff")
    assert refusal(file).startswith(f"{file}: no valid TOML")


def test_the_file_lies_in_jupyter_s_folder_and_never_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A folder that someone else made cannot change how nbgrid runs.
    """
    (tmp_path / "config").mkdir()
    (tmp_path / FILE).write_text("workers = 99\n")
    (tmp_path / "config" / FILE).write_text("workers = 3\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NBGRID_")}
    environment |= {"JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "PYTHONPATH": str(Path(__file__).parents[1])}
    code = "from nbgrid.config import Config; print(Config.read().workers)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert shown.stdout == "3\n"
    (tmp_path / "config" / FILE).unlink()
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert shown.stdout == "None\n"


def test_data_lies_in_jupyter_s_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Records are kept where Jupyter keeps its data.
    """
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    assert data_directory() == tmp_path / "nbgrid"


def test_settings_do_not_change(file: Path) -> None:
    """
    A `Config` is frozen.
    """
    with pytest.raises(AttributeError):
        Config.read({}, file).workers = 5  # type: ignore[misc]
