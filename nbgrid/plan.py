"""
What a run will do, decided before anything starts: its tasks, their names, and what stands in the way.

Planning reads files and looks at the kernel's environment; it starts nothing and writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nbgrid.engines.environment import find_kernel, install_line, missing_imports
from nbgrid.errors import GridError, InputError, PreflightError, TemplateError
from nbgrid.grid import Grid
from nbgrid.options import Resources, check_prefix
from nbgrid.parameters import check_name, check_value
from nbgrid.shared import Share, Sharing, sharing
from nbgrid.states import Task, output_name
from nbgrid.template import Template
from nbgrid.typing import JSONValue, Point

DEFAULT_KERNEL = "python3"
MAX_POINTS = 10_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A template, the points to run it for, and where the results go."""

    template: Template
    grid: Grid | None
    """None for a template without a grid, run once with fixed parameters."""
    parameters: Mapping[str, JSONValue]
    """Fixed for all points."""
    prefix: str
    output_root: Path
    kernel: str
    included: Mapping[str, bytes]
    sharing: Sharing
    """Which of the executed notebooks' cells are executed once for all tasks, where kernels are forked."""
    problems: tuple[str, ...]
    """What would keep the tasks from running on this machine, a line each."""

    @property
    def count(self) -> int:
        """The number of tasks."""
        return self.grid.count if self.grid else 1

    def points(self) -> Iterator[Point]:
        """Yield the grid's points, in its order."""
        return iter(self.grid) if self.grid else iter([{}])

    def tasks(self, run: str) -> Iterator[Task]:
        """Yield the tasks of the run of that id, none of them begun."""
        for index, point in enumerate(self.points()):
            yield Task(
                run=run, index=index, name=f"{self.prefix}-{index}", point=point,
                digest=self.template.digest({**self.parameters, **point}, self.included, self.kernel),
                output=output_name(self.prefix, point, index),
            )  # fmt: skip

    def first_and_last(self, shown: int = 3) -> tuple[list[Task], list[Task]]:
        """Return the first *shown* tasks and the last of the others, at most *shown*; points between are not made."""
        first = list(islice(self.tasks("plan"), shown))
        if self.count > MAX_POINTS:
            return first, []
        return first, list(self.tasks("plan"))[shown:][-shown:]


def make_plan(
    template: str | Path | Template,
    *,
    grid: Any = None,
    parameters: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    output_root: str | Path | None = None,
    kernel: str | None = None,
    share: Share = "tagged",
    max_points: int = MAX_POINTS,
) -> Plan:
    """
    Return the plan for *template* over *grid* (None: the grid cell's) with fixed *parameters*.

    *output_root* None is the working directory; *share* "auto" has cells executed once wherever the data flow allows it. Raises
    `InputError` for whatever is wrong with the template, the grid or a parameter. A kernel or a package that is not there becomes
    one of the plan's `problems`.
    """
    read = template if isinstance(template, Template) else Template.read(template)
    fixed = {check_name(name): check_value(value, f"parameter {name}") for name, value in (parameters or {}).items()}
    expanded = _grid(read, grid, fixed)
    names = expanded.names if expanded else ()
    for name in fixed.keys() & set(names):
        raise InputError(f"{name} is in the grid and also a fixed parameter: leave one out")
    read.check_parameters([*names, *fixed])
    if expanded and expanded.count > max_points:
        raise GridError(f"{expanded.count:,} points are more than the limit of {max_points:,}: --max-points raises it")
    chosen = kernel or read.kernel or DEFAULT_KERNEL
    plan = Plan(
        template=read, grid=expanded, parameters=fixed, prefix=_prefix(read, prefix),
        output_root=Path(output_root or ".").absolute(), kernel=chosen, included=read.included(),
        sharing=_sharing(read, expanded, fixed, share),
        problems=tuple(_problems(read, chosen)),
    )  # fmt: skip
    _refuse_to_overwrite(plan)
    _refuse_what_cannot_be_written(plan)
    return plan


def slots_and_threads(resources: Resources, workers: int | None) -> tuple[int, int]:
    """
    Return how many workers an embedded cluster gets, and how many threads a task.

    Slots × threads stay within the cores that this process may use; *workers* None is as many as fit. Raises
    `PreflightError` for a task that fits no worker.
    """
    cores, memory = _cores(), _memory()
    says_cpus = "cpus" in resources.model_fields_set
    if resources.cpus > cores:
        raise PreflightError(f"a task wants {resources.cpus} cpus (resources: cpus) and this machine has {cores}")
    if resources.memory and resources.memory > memory:
        raise PreflightError(
            f"a task wants {resources.memory / 1e9:.1f} GB (resources: memory) and this machine has {memory / 1e9:.1f} GB"
        )
    fit = max(1, cores // resources.cpus)
    if resources.memory:
        fit = max(1, min(fit, memory // resources.memory))
    chosen = workers or fit
    return chosen, resources.cpus if says_cpus else max(1, cores // chosen)


def _grid(template: Template, grid: Any, fixed: Mapping[str, JSONValue]) -> Grid | None:
    options = template.options
    if isinstance(grid, Grid):
        return grid
    spec = options.grid if grid is None else grid
    if spec is not None:
        # A grid of the command's own replaces the cell's; what the cell excludes and samples belongs to its grid.
        own = grid is None
        sample = options.sample.model_dump() if own and options.sample else None
        return Grid(spec, exclude=options.exclude if own else (), sample=sample)
    if fixed:
        return None
    raise TemplateError(f"{template.path}: {_no_grid(template)}")


def _no_grid(template: Template) -> str:
    first = template.notebook["cells"][0]
    if first["cell_type"] != "raw" and "grid:" in first["source"]:
        return f"the first cell, which holds the grid, must be of the type raw, not {first['cell_type']}"
    return "no grid: make the first cell a raw cell with `grid:` in YAML, or give one, as in --grid n_clusters=1..20"


def _prefix(template: Template, prefix: str | None) -> str:
    if prefix is None:
        return template.prefix
    try:
        return check_prefix(prefix)
    except ValueError as error:
        raise InputError(f"--prefix {prefix}: {error}") from None


def _sharing(template: Template, grid: Grid | None, fixed: Mapping[str, JSONValue], share: Share) -> Sharing:
    point = {**fixed, **(next(iter(grid), {}) if grid else {})}
    return sharing(template.render(point), str(template.path), point, share)


def _problems(template: Template, kernel: str) -> Iterator[str]:
    try:
        found = find_kernel(kernel)
    except PreflightError as error:
        yield str(error)
        return
    missing = missing_imports(found, template.imports(), template.path.parent)
    if missing:
        are = "is" if len(missing) == 1 else "are"
        yield f"{', '.join(missing)} {are} not installed for the kernel {kernel!r}: {install_line(missing)}"


def _refuse_to_overwrite(plan: Plan) -> None:
    outputs = plan.output_root / plan.prefix
    if plan.template.path.resolve().is_relative_to(outputs.resolve()):
        raise InputError(f"{plan.template.path} lies where its results would go ({outputs}): choose another --prefix")


def _refuse_what_cannot_be_written(plan: Plan) -> None:
    """Find, before anything starts, a value that the notebook's language has no literal for."""
    if plan.template.language != "python":
        for point in plan.points():
            plan.template.render({**plan.parameters, **point})


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)
