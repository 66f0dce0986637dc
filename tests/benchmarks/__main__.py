"""The suite: ``python -m tests.benchmarks [names...] [--rounds N] [--out DIR] [--quick]``.

Prints Markdown tables, and writes them to DIR/report.md beside the plots. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
import traceback
from pathlib import Path

from .harness import Options, Report, draw, load, machine

BENCHMARKS = (
    "dispatch", "threads", "sql", "latency", "scale", "startup", "soak", "claims_at_scale", "fleet", "dashboard",
    "virtual_time",
)  # fmt: skip


def run(names: list[str], options: Options) -> list[str]:
    """Run the benchmarks, print what they found, and return the names of those that failed."""
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    with (options.out / "report.md").open("w", encoding="utf-8") as file:

        def show(text: str) -> None:
            print(text, end="\n\n", flush=True)
            print(text, end="\n\n", flush=True, file=file)

        show(f"# Benchmarks\n\n{machine()}; medians of {options.rounds} rounds")
        for name in names:
            module = importlib.import_module(f"tests.benchmarks.{name}")
            begin = time.perf_counter()
            show(f"## {name}\n\n{(module.__doc__ or '').strip()}")
            report = Report()
            try:
                module.run(options, report)
            except Exception as error:
                # What was found before, and the other benchmarks, are worth having all the same.
                traceback.print_exc()
                failed.append(name)
                report.notes.append(f"**Failed**: {type(error).__name__}: {error}")
            show(report.markdown())
            for plot in report.plots:
                show(f"![{plot.name}]({draw(plot, options.out).name})")
            show(f"{time.perf_counter() - begin:.0f} s, {load()} at the end")
    return failed


def main() -> None:
    """Read the command line; the exit code is 1 if a benchmark failed to run."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="quart_sched against its peers.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)}; all if none is given")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender has its turn")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="where report.md and the plots go")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: to see that everything works")
    parser.add_argument("--soak-minutes", type=float, default=10.0, help="real time of the soak")
    parser.add_argument("--soak-hours", type=float, default=2.0, help="virtual time of the soak")
    given = parser.parse_args()
    if unknown := set(given.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    logging.disable(logging.WARNING)
    rounds = 1 if given.quick else given.rounds
    options = Options(given.out, rounds, given.quick, given.soak_minutes, given.soak_hours)
    if failed := run(given.names or list(BENCHMARKS), options):
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
