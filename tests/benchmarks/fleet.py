"""How late jobs start in a fleet, how little a slow database holds up HTTP, and how little an idle process asks for.

Run it by hand, from the top of the repository, all of it or one part::

    python tests/benchmarks/latency.py [start] [http] [idle] [--rounds N]

- start: 4 processes share 200 jobs that are due each second; the time from when a job is due until it runs.
- http: requests to a hello route, one each 10 ms, of a process without a scheduler and of one with 20 jobs each second
  whose database answers each statement 200 ms late, by turns (A B A B ...), so that what else the machine does falls on
  both. A request that had to wait for the one before it counts from when it was due. Printed are medians of the rounds.
- idle: the statements of one process that has nothing to do, by how often they come in each poll interval.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from quart import Quart

from quart_sched import APScheduler
from tests.faults.accounts import percentile
from tests.faults.fleet import Process, Size
from tests.faults.trials import FAULTS, attempt
from tests.servers.databases import DATABASES, PostgreSQL
from tests.servers.proxy import Proxy

KINDS = [kind for kind, cls in DATABASES.items() if cls.missing() is None]
LATE = 0.2
"""Seconds by which the database answers late."""
REQUESTS = 2000
PACE = 0.01
"""Seconds from one request to the next."""
PER_CONNECTION = 500
"""Requests after which another connection is opened: Hypercorn closes each after a thousand."""
INTERVALS = 20
"""Poll intervals for which an idle process is watched."""


def start(rounds: int) -> None:
    """Print the latencies of a fleet."""
    size = Size(seconds=15, processes=4, jobs=200, heartbeat=5, lease=20)
    print("\n| database | runs | start p50, ms | start p99, ms |\n|---|---|---|---|")
    for kind in KINDS:
        reports = []
        for _ in range(rounds):
            with DATABASES[kind]() as database, tempfile.TemporaryDirectory() as folder:
                database.settle_in()
                reports.append(asyncio.run(attempt(FAULTS[0], database, size, Path(folder))))
        p50, p99 = (1000 * statistics.median(getattr(report, name) for report in reports) for name in ("p50", "p99"))
        print(f"| {DATABASES[kind].label} | {sum(report.started for report in reports)} | {p50:.1f} | {p99:.1f} |")
        for problem in (problem for report in reports for problem in report.problems):
            print(f"wrong: {problem}")


def http(rounds: int) -> None:
    """Print how long a hello route takes beside a scheduler whose database is slow."""
    results: dict[str, list[list[float]]] = {"no scheduler": [], "database 200 ms late": []}
    with PostgreSQL() as database, Proxy(database.port, late=LATE) as proxy, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            url = proxy.through(database.create(f"slow_{number}"))
            place = Path(folder) / str(number)
            for lags, all_lags in zip(asyncio.run(_measure_http(place, url)), results.values(), strict=True):
                all_lags.append(sorted(lags))
    print("\n| contender | requests | p50, ms | p99, ms | longest, ms |\n|---|---|---|---|---|")
    p99s = {}
    for name, all_lags in results.items():
        figures = [[percentile(lags, percent) for percent in (50, 99, 100)] for lags in all_lags]
        p50, p99s[name], longest = (1000 * statistics.median(column) for column in zip(*figures, strict=True))
        print(f"| {name} | {rounds} x {REQUESTS} | {p50:.2f} | {p99s[name]:.2f} | {longest:.1f} |")
    print(f"\nratio of p99: {p99s['database 200 ms late'] / p99s['no scheduler']:.2f}")


async def _measure_http(folder: Path, url: str) -> list[list[float]]:
    """Return the seconds that each request took, without and with a scheduler."""
    folder.mkdir()
    async with _server(folder / "without", None) as without, _server(folder / "with", url) as with_:
        begin = time.perf_counter()
        return list(await asyncio.gather(_request(without.port, begin), _request(with_.port, begin + PACE / 2)))


async def _request(port: int, begin: float) -> list[float]:
    lags = []
    request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    answered = begin
    for number in range(REQUESTS):
        if number % PER_CONNECTION == 0:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = begin + number * PACE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        sent = due if answered > due else time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(b"hello"))
        answered = time.perf_counter()
        assert b" 200 " in head
        assert body == b"hello"
        lags.append(answered - sent)
        if (number + 1) % PER_CONNECTION == 0:
            writer.close()
    return lags


@asynccontextmanager
async def _server(folder: Path, url: str | None) -> AsyncIterator[Process]:
    folder.mkdir()
    plan: dict[str, Any] = {"url": url, "jobs": 20, "seconds": 3600, "grace": 60, "on_crash": "lost", "settings": {}}
    process = Process(folder, "server", plan)
    try:
        if url is not None:
            await process.until("loaded")
            process.begin(float(int(time.time()) + 2))
        await process.until("serving")
        await asyncio.sleep(4)
        yield process
    finally:
        process.kill()


def idle(_: int) -> None:
    """Print what one process with nothing to do asks of its database."""
    for kind in KINDS:
        with DATABASES[kind]() as database:
            seen = asyncio.run(_watch(database.create("idle")))
        print(f"\n| {DATABASES[kind].label}: statement | per poll interval | mean, ms |\n|---|---|---|")
        for statement, times in sorted(seen.items(), key=lambda item: -len(item[1])):
            print(f"| {statement} | {len(times) / INTERVALS:.2f} | {1000 * statistics.mean(times):.2f} |")
        print(f"| all | {sum(map(len, seen.values())) / INTERVALS:.2f} | |")


async def tick() -> None:
    """Do nothing, once in an hour."""


async def _watch(url: str) -> dict[str, list[float]]:
    """Return the seconds that each statement took, by its beginning."""
    seen: dict[str, list[float]] = defaultdict(list)

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def before(conn: sa.Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        conn.info["begin"] = time.perf_counter()

    @sa.event.listens_for(sa.Engine, "after_cursor_execute")
    def after(conn: sa.Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        seen[" ".join(statement.split())[:90].replace("|", "\\|")].append(time.perf_counter() - conn.info["begin"])

    try:
        app = Quart("idle")
        app.config.update(SCHEDULER_JOBSTORES={"default": {"type": "sqlalchemy", "url": url}}, SCHEDULER_TIMEZONE="UTC")
        scheduler = APScheduler(app=app)
        scheduler.add_job("tick", tick, trigger="interval", hours=1)
        scheduler.start()
        async with app.test_app():
            await asyncio.sleep(3)
            seen.clear()
            await asyncio.sleep(INTERVALS * 1.0)
            return dict(seen)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)
        sa.event.remove(sa.Engine, "after_cursor_execute", after)


PARTS = {"start": start, "http": http, "idle": idle}


def main() -> None:
    parser = argparse.ArgumentParser(description="Latencies of the SQL store.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for part in options.parts or PARTS:
        PARTS[part](options.rounds)


if __name__ == "__main__":
    # The job's function is found by name, in the module and not in the script that runs it.
    from tests.benchmarks import latency

    latency.main()
