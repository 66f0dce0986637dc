"""The long form of the fault tests, by hand, from the top of the repository::

    python tests/faults/run.py --seconds 30 --processes 4 --jobs 200

Databases: those that are installed here, or those named with `--database`; faults: all, or those whose name contains
what is given with `--fault`. One trial at a time. Ends with 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.accounts import Report, table
from tests.faults.fleet import Size
from tests.faults.trials import FAULTS, attempt
from tests.servers.databases import DATABASES


def main() -> int:
    parser = argparse.ArgumentParser(description="Fault tests of the SQL store, with real processes and real servers.")
    parser.add_argument("--seconds", type=int, default=30, help="how long the jobs fire, each second")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--heartbeat", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--lease", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--poll-interval", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--database", choices=list(DATABASES), action="append", help="may be given several times")
    parser.add_argument(
        "--fault", action="append", metavar="WORDS", help="part of the name; may be given several times"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the processes' notes and logs are to stay")
    options = vars(parser.parse_args())
    kinds, words, keep = options.pop("database") or list(DATABASES), options.pop("fault") or [""], options.pop("keep")
    faults = [fault for fault in FAULTS if any(word in fault.name for word in words)]
    size = Size(**options)
    reports: list[tuple[str, str, Report]] = []
    with tempfile.TemporaryDirectory(prefix="quart-sched-faults-") as folder:
        for kind in kinds:
            if (reason := DATABASES[kind].missing()) is not None:
                print(f"left out: {reason}", file=sys.stderr)
                continue
            with DATABASES[kind]() as database:
                for fault in faults:
                    if kind == "sqlite" and not fault.sqlite:
                        continue
                    begin = time.monotonic()
                    report = asyncio.run(attempt(fault, database, size, keep or Path(folder)))
                    reports.append((database.label, fault.name, report))
                    state = "; ".join(report.problems) or "right"
                    print(
                        f"{database.label}, {fault.name}: {state} ({time.monotonic() - begin:.0f} s)", file=sys.stderr
                    )
    print(f"{size.processes} processes, {size.jobs} jobs each second for {size.seconds} s, lease {size.lease:g} s\n")
    print(table(reports))
    return 1 if any(report.problems for *_, report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
