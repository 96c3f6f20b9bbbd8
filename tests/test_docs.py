"""Documentation that can fail: what it names exists, what exists is named, and its examples run."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbgrid
from nbgrid import cli
from nbgrid.config import Config
from nbgrid.errors import InputError
from nbgrid.options import ElbowPlot, Options, Resources, Sample, read_options
from nbgrid.runs import RunHandle
from nbgrid.states import RunState, TaskState
from nbgrid.strictyaml import load

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = DOCS / "reference"
_BLOCK = re.compile(r"(?:^ *<!-- ([^\n]*?) -->\n)?^( *)```(\w+)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)
_MARKS = re.compile(
    r"not run: .+|run|run, exit \d+|folder: elbow-curve|signature|before|after: .+|refused|parameters file"
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the mark in the comment above it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(DOCS)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(3)) + 1
        yield Block(page, line, match[3], textwrap.dedent(match[4]), match[1] or "")


PAGES = sorted(DOCS.rglob("*.md"))
BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def in_language(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def sections(text: str, heading: str) -> dict[str, str]:
    """Return heading → text for the headings that the pattern *heading* matches; its group is the key."""
    parts = re.split(rf"^{heading}$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def spans(text: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def first_columns(text: str) -> list[list[str]]:
    """Return, for each table, what its rows have in backticks, or bare, in their first column."""
    tables = re.findall(r"(?:^\|[^\n]*\n)+", text, flags=re.MULTILINE)
    return [[row.split("|")[1].strip().strip("`") for row in table.splitlines()[2:]] for table in tables]


# -- what the examples stand on -----------------------------------------------------------------------------------------


def write_notebook(path: Path, grid: str, *cells: tuple[str, str]) -> None:
    raw: list[dict[str, Any]] = [{"cell_type": "raw", "metadata": {}, "source": grid}]
    code: list[dict[str, Any]] = [
        {"cell_type": "code", "metadata": {"tags": [tag] if tag else []}, "source": source, "outputs": [],
         "execution_count": None} for tag, source in cells
    ]  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": raw + code, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}))


def write_examples(folder: Path) -> None:
    write_notebook(
        folder / "cluster.ipynb", "prefix: elbow-curve\n\ngrid:\n  n_clusters: 1..4\n",
        ("", "# PARAMETERS\nn_clusters = 1\nscale = 1.0"), ("n-clusters", "n_clusters"),
        ("sum-of-squares", "scale * 100 / n_clusters**2"), ("elapsed", "0.01 * n_clusters"),
    )  # fmt: skip
    write_notebook(
        folder / "trouble.ipynb", "grid: {x: [1, 2, 3]}", ("", "# PARAMETERS\nx = 0"),
        ("", "import os\nif x == 2:\n    raise ValueError('no such column')\nif x == 3:\n    os.kill(os.getpid(), 9)"),
        ("y", "x * 1.5"),
    )  # fmt: skip

    write_notebook(
        folder / "blobs.ipynb", "grid:\n  n_clusters: 1..20\n", ("", "import time\n\nimport numpy as np"),
        ("", "# PARAMETERS\nn_clusters = 1"), ("", "X = np.random.RandomState(0).rand(1000, 2)"),
        ("", "centers = X[:n_clusters]"), ("", "then = time.time()"),
        ("", "d = ((X[:, None] - centers) ** 2).sum(2).min(1)\nelapsed = time.time() - then"), ("n-clusters", "n_clusters"),
        ("sum-of-squares", "float(d.sum())"), ("elapsed", "elapsed"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the examples' notebook has been run."""
    folder = tmp_path_factory.mktemp("results")
    write_examples(folder)
    config = Config(database_url=f"sqlite:///{folder}/runs.db")
    nbgrid.run(
        folder / "cluster.ipynb", output_root=folder, executor="serial", parameters={"scale": 2.0}, config=config
    ).wait()  # fmt: skip
    return folder / "elbow-curve"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that an example runs in, with its own database and none of this machine's settings."""
    for variable in ("NBGRID_SCHEDULER", "NBGRID_WORKERS", "NBGRID_MAX_POINTS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NBGRID_DATABASE_URL", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    write_examples(tmp_path)
    return tmp_path


def put_results(path: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    """Put the results of a run into *folder* if the page at *path* says that it reads them."""
    if any(block.mark.startswith("folder:") for block in BLOCKS if block.page == path):
        shutil.copytree(request.getfixturevalue("results"), folder / "elbow-curve")


# -- examples -----------------------------------------------------------------------------------------------------------


def test_every_mark_is_one_that_means_something() -> None:
    """A misspelt comment above an example does not leave it out of the tests."""
    assert [(str(block), block.mark) for block in BLOCKS if block.mark and not _MARKS.fullmatch(block.mark)] == []


@pytest.mark.parametrize(
    "path", [path for path in PAGES if "```python" in path.read_text()], ids=lambda path: path.stem
)
def test_python_examples_run(path: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    """The Python blocks of a page run from top to bottom, but for those that say why not."""
    import matplotlib

    matplotlib.use("agg")
    put_results(path, folder, request)
    namespace: dict[str, Any] = {}
    for block in blocks_of(path):
        if block.language == "python" and not block.mark.startswith(("not run: ", "signature")):
            exec(compile(block.text, str(block), "exec"), namespace)
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.mark.parametrize("block", [block for block in in_language("console") if block.mark.startswith("run")], ids=str)
def test_console_examples_run(
    block: Block, folder: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of a block marked `run` exit with the code and print the words that stand there."""
    put_results(block.page, folder, request)
    code = int(block.mark.removeprefix("run, exit ")) if "exit" in block.mark else 0
    for command, expected in commands_in(block):
        with pytest.raises(SystemExit) as exited:
            cli.main(shlex.split(command)[1:])
        captured = capsys.readouterr()
        assert exited.value.code == code, captured.err
        printed = captured.err + captured.out
        pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
        assert not expected or re.fullmatch(pattern, printed.strip(), re.DOTALL), printed


@pytest.mark.parametrize("block", [block for block in in_language("console") if "$ nbgrid" in block.text], ids=str)
def test_commands_in_examples_exist(block: Block) -> None:
    """Every `$ nbgrid` line has a command and options that there are."""
    commands = cli_commands()
    for command, _ in commands_in(block):
        _, name, *arguments = cli._paired(shlex.split(re.split(r" (?:\||&&|>) ", command)[0]))
        commands[name].make_context(name, arguments).close()


def commands_in(block: Block) -> list[tuple[str, str]]:
    """Return each `$ nbgrid` command of *block* with the lines under it."""
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)[1:]
    return [(command, shown) for command, shown in zip(parts[::2], parts[1::2]) if command.startswith("nbgrid")]


@pytest.mark.parametrize("block", in_language("yaml"), ids=str)
def test_yaml_examples_are_what_they_seem(block: Block) -> None:
    """A grid cell that is shown can be expanded, one that is said to be refused is refused."""
    if block.mark == "parameters file":
        assert isinstance(load(block.text, str(block)), dict)
    elif block.mark == "refused":
        with pytest.raises(InputError):
            read_options(block.text, str(block))
    else:
        options = read_options(block.text, str(block))
        sample = options.sample.model_dump() if options.sample else None
        assert options.grid is None or nbgrid.Grid(options.grid, exclude=options.exclude, sample=sample).count


def test_the_parameters_cell_is_filled_as_shown(tmp_path: Path) -> None:
    """The cell shown before becomes the cell shown after, for the point that stands in its mark."""
    before = next(block for block in BLOCKS if block.mark == "before")
    after = next(block for block in BLOCKS if block.mark.startswith("after: "))
    write_notebook(tmp_path / "t.ipynb", "", ("", before.text))
    rendered = nbgrid.Template.read(tmp_path / "t.ipynb").render(json.loads(after.mark.removeprefix("after: ")))
    assert rendered["cells"][1]["source"] == after.text
    assert rendered["cells"][1]["metadata"]["tags"] == ["parameters", "injected-parameters"]


# -- the reference ------------------------------------------------------------------------------------------------------


def cli_commands() -> dict[str, Any]:
    from typer.main import get_command

    from nbgrid.cli._app import app

    return dict(get_command(app).commands)  # type: ignore[attr-defined]


def test_every_command_has_its_section() -> None:
    """The page of commands has a section for each command, and none for what is no command."""
    assert set(sections(page("commands"), "## `nbgrid (\\w+)`")) == set(cli_commands())


@pytest.mark.parametrize("name", sorted(cli_commands()))
def test_every_option_is_documented_and_nothing_else(name: str) -> None:
    """The section of a command names all its options, and no option that it has not."""
    section = sections(page("commands"), "## `nbgrid (\\w+)`")[name]
    named = {word for span in spans(section) for word in re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", span)}
    options = {word for option in cli_commands()[name].params for word in option.opts if word.startswith("-")}
    assert named == options - {"--help", "-h"}


def test_the_options_of_all_commands_are_documented() -> None:
    """What works with every command stands before the sections."""
    top = page("commands").split("\n## ")[0]
    for option in ("--version", "--help", "-h", "--debug", "@latest", "@last", "latest", "last"):
        assert re.search(rf"`[^`]*(?<![\w-]){re.escape(option)}[^`]*`", top), option


def test_every_entry_of_the_grid_cell_is_documented() -> None:
    """The template format has a heading for each entry, and names what is inside them."""
    text = page("template")
    assert list(sections(text, "### `(\\w+)`")) == list(Options.model_fields)
    words = {word for span in spans(text) for word in re.findall(r"\w+", span)} | set(re.findall(r"\w+", text))
    for part in (Resources, Sample, ElbowPlot):
        assert part.model_fields.keys() <= words


def test_every_setting_is_documented() -> None:
    """The table of settings has each field of `Config`, its variable and its default."""
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:4]]
            for line in page("settings").splitlines() if line.startswith("| `")]  # fmt: skip
    assert [row[0] for row in rows] == [field.name for field in dataclasses.fields(Config)]
    for (name, variable, told), field in zip(rows, dataclasses.fields(Config), strict=True):
        assert variable == f"NBGRID_{name.upper()}"
        assert field.default is None or told == str(field.default)


def test_every_public_name_is_documented() -> None:
    """The page of Python has a heading for each public name, and none for another."""
    assert set(sections(page("python"), "## `nbgrid\\.(\\w+)`")) == set(nbgrid.__all__)


def signatures() -> list[str]:
    shown = [block.text.splitlines() for block in blocks_of(REFERENCE / "python.md") if block.mark == "signature"]
    return [line for lines in shown for line in lines]


@pytest.mark.parametrize("line", signatures(), ids=lambda line: line.split("(")[0])
def test_signatures_are_those_of_the_code(line: str) -> None:
    """A signature that is shown has the code's parameters, order and defaults."""
    target: Any = nbgrid
    for name in line.partition("(")[0].split(".")[1:]:
        target = getattr(target, name)
    signature = inspect.signature(target)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == line[line.index("(") :]


@pytest.mark.parametrize(
    "owner", [nbgrid.NotebookCollection, nbgrid.Template, RunHandle], ids=lambda owner: owner.__name__
)
def test_public_methods_are_documented(owner: type) -> None:
    """The methods and properties of the public classes are named on the page of Python."""
    words = {word for span in spans(page("python")) for word in re.findall(r"\w+", span)} | set(
        re.findall(r"\w+", "\n".join(signatures()))
    )
    public = {name for name in vars(owner) if not name.startswith("_")}
    assert public <= words


def test_every_exit_code_is_documented() -> None:
    """The page of exit codes has the command's codes and no other."""
    codes = {0, cli.NOT_FINISHED, cli.BAD_INPUT, cli.NO_STORE, cli.ABORTED, cli.INTERRUPTED}
    assert {int(code) for code in first_columns(page("exit-codes"))[0]} == codes


def test_every_state_is_documented() -> None:
    """The tables of states have the states of tasks and of runs."""
    of_tasks, of_runs = first_columns(page("states"))
    assert of_tasks == [str(state) for state in TaskState]
    assert set(of_runs) == {str(state) for state in RunState}


def test_every_field_that_is_written_is_documented(results: Path) -> None:
    """The page of files names each field of an executed notebook's metadata and of a run's record."""
    words = set(spans(page("files")))
    executed = json.loads(next((results / "output").glob("*.ipynb")).read_text(encoding="utf-8"))
    record = json.loads(next((results / ".nbgrid").glob("run-*.json")).read_text(encoding="utf-8"))
    assert executed["metadata"]["nbgrid"].keys() <= words
    assert executed["metadata"]["papermill"].keys() <= words
    assert executed["cells"][1]["metadata"]["papermill"].keys() <= words
    assert record.keys() <= words
