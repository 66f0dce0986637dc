"""Contenders in turn, each in a fresh process of its own, and their medians, ratios and targets as Markdown.

A benchmark is a module with `run(options, report)`, which fills the report as it goes on, so that nothing that was
found is lost where something fails later, and a `measure` that is called in the process of one contender. `compete`
starts ``python -m tests.benchmarks.child module contender parameters`` for each contender in turn (A B A B ...) and
reads the figures, a flat JSON object of numbers, from the last line that it prints.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.servers.databases import DATABASES

ROOT = Path(__file__).parents[2]
OURS = "quart_sched"
TOO_SLOW = 75
"""The exit code of a child whose jobs were due before all were set up: it is tried again with more time."""
_PATIENCE = 7200.0
"""Seconds after which a child is taken to hang."""
_LIBRARIES = (
    "quart", "hypercorn", "apscheduler", "flask-apscheduler", "quart-tasks", "aiocron", "sqlalchemy", "psycopg",
)  # fmt: skip

Figures = dict[str, float]
Results = dict[str, Figures]
"""The medians of each contender."""


class TooSlow(Exception):
    """The jobs were due before all were set up."""


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    out: Path
    rounds: int = 3
    quick: bool = False
    """Tiny sizes: to see that everything works, not how fast."""
    soak_minutes: float = 10.0
    soak_hours: float = 2.0

    def size(self, usual: int, quick: int) -> int:
        """Return the usual size, or the one to be quick with."""
        return quick if self.quick else usual


@dataclass
class Table:
    """Rows under a title."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return f"### {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Target:
    """What is to be reached: a figure of at most, or else of at least, a limit."""

    what: str
    value: float
    """NaN, which is never enough, where the work was not done."""
    limit: float
    at_least: bool = False
    asked: bool = True
    """Whether it is asked of a machine like this."""

    @property
    def verdict(self) -> str:
        """Whether it is reached."""
        if not self.asked:
            return "not asked here"
        reached = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "reached" if reached else "**missed**"


@dataclass
class Plot:
    """Bars, one group for each label and in it one bar for each series."""

    name: str
    unit: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]
    """NaN where there is nothing."""


@dataclass
class Report:
    """What a benchmark found."""

    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return all of it but the plots."""
        parts = [table.markdown() for table in self.tables] + self.notes
        if self.targets:
            rows = [
                (
                    target.what,
                    short(target.value),
                    f"{'≥' if target.at_least else '≤'} {short(target.limit)}",
                    target.verdict,
                )
                for target in self.targets
            ]
            parts.append(Table("To reach", ("target", "measured", "limit", ""), rows).markdown())
        return "\n\n".join(parts)


def installed(report: Report, *kinds: str) -> list[str]:
    """Return the databases that are there, and note in the report which are not."""
    missing = {kind: reason for kind in kinds if (reason := DATABASES[kind].missing())}
    report.notes += missing.values()
    return [kind for kind in kinds if kind not in missing]


# Measuring


def compete(
    module: str,
    contenders: Iterable[str],
    options: Options,
    *,
    prepare: Callable[[], dict[str, Any]] = dict,
    **params: Any,
) -> Results:
    """Let the contenders take turns; return the median of each of their figures.

    `prepare` returns more parameters for each attempt, such as an empty database.
    """
    names = list(contenders)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            found[name].append(take_turn(module, name, options, prepare=prepare, **params))
    return {name: medians(figures) for name, figures in found.items()}


def take_turn(
    module: str, contender: str, options: Options, *, prepare: Callable[[], dict[str, Any]] = dict, **params: Any
) -> Figures:
    """Return what `measure` of the module gives for a contender, with as much time to set up as it turns out to need.

    That is in a process of its own; in this one where all is tiny, and starting Python would take the longest.
    """
    evaluate_there = evaluate if options.quick else _evaluate_apart
    for patience in (0.15, 0.6, 2.4, 9.6) if options.quick else (1.0, 2.0, 4.0, 8.0, 16.0):
        try:
            figures: Figures = evaluate_there(module, contender, params | prepare() | {"patience": patience})
        except TooSlow:
            continue
        return figures
    raise RuntimeError(f"the jobs of {contender} in {module} {params} are not ready in time")


def _evaluate_apart(module: str, contender: str, params: dict[str, Any]) -> Any:
    command = [sys.executable, "-m", "tests.benchmarks.child", module, contender, json.dumps(params)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    if done.returncode == TOO_SLOW:
        raise TooSlow
    what = f"{contender} in {module} {params}"
    if done.returncode:
        raise RuntimeError(f"{what} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    if done.stderr:
        # A scheduler that complains has perhaps not done what was asked for.
        print(f"{what} said:\n{done.stderr[-4000:]}", file=sys.stderr, flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def evaluate(module: str, contender: str, params: dict[str, Any]) -> Any:
    """Call the module's `measure`, in an event loop of its own where it is a coroutine function."""
    measure = importlib.import_module(f"tests.benchmarks.{module}").measure
    figures = measure(contender, **params)
    return asyncio.run(figures) if inspect.iscoroutine(figures) else figures


def medians(figures: Sequence[Figures]) -> Figures:
    """Return the median of each figure; NaN where one of them is, and of what `ran` the least."""
    return {key: _middle(key, [one.get(key, math.nan) for one in figures]) for key in figures[0]}


def _middle(key: str, values: Sequence[float]) -> float:
    if any(math.isnan(value) for value in values):
        return math.nan
    return min(values) if key == "ran" else statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


# Showing


def short(value: float) -> str:
    """Return a number with as many digits as say something."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(title: str, results: Results, figures: Mapping[str, str], *, against: str | None = None) -> Table:
    """Return a table with a row for each contender: `figures` by the name of their column.

    Where `against` took part, the last column is the ratio of the first figure to its.
    """
    compared = against if against in results else None
    columns = ["contender", *figures, *([f"ratio to {compared}"] if compared else [])]
    rows = []
    for name, found in results.items():
        row = [name, *(short(found.get(key, math.nan)) for key in figures.values())]
        if compared:
            key = next(iter(figures.values()))
            row.append(short(found.get(key, math.nan) / results[compared].get(key, math.nan)))
        rows.append(row)
    return Table(title, columns, rows)


def bars(name: str, unit: str, by_label: Mapping[str, Results], key: str) -> Plot:
    """Return a plot of one figure: a group of bars for each label, a bar for each contender."""
    contenders = dict.fromkeys(name for results in by_label.values() for name in results)
    series = {
        contender: [results.get(contender, {}).get(key, math.nan) for results in by_label.values()]
        for contender in contenders
    }
    return Plot(name, unit, list(by_label), series)


def draw(plot: Plot, folder: Path) -> Path:
    """Write a plot as a PNG; return its file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(max(6.0, 1.6 * len(plot.labels) * len(plot.series) ** 0.5), 4.0))
    width = 0.8 / max(len(plot.series), 1)
    for number, (name, values) in enumerate(plot.series.items()):
        places = [place + (number - (len(plot.series) - 1) / 2) * width for place in range(len(plot.labels))]
        axes.bar(places, values, width, label=name, color="#c2410c" if name == OURS else f"C{number}")
    axes.set_xticks(range(len(plot.labels)), plot.labels)
    if any(value > 0 for values in plot.series.values() for value in values):
        axes.set_yscale("log")
    axes.set_ylabel(plot.unit)
    axes.set_title(plot.name.replace("_", " "))
    axes.legend(fontsize="small")
    axes.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    path = folder / f"{plot.name}.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def machine() -> str:
    """Describe what all this ran on."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB; "
        f"{platform.system()} {platform.release()}; {platform.python_implementation()} {platform.python_version()}; "
        f"{', '.join(f'{name} {_version(name)}' for name in _LIBRARIES)}; {load()}"
    )


def load() -> str:
    """Describe how busy the machine is; another's work falls on all contenders, but makes the figures noisy."""
    return "load " + " ".join(f"{value:.1f}" for value in os.getloadavg())


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "missing"
