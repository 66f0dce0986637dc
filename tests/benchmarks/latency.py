"""How late jobs start that are spread evenly over time, what one costs, and how little HTTP suffers beside them.

Lateness is from when a job is due until its first line; HTTP times are those that a client in another process sees.
It is counted from the last fire that was due, so that it says something only where as good as all ran.
quart-tasks' times drift, so that its lateness is by its own schedule.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.servers.databases import DATABASES
from tests.servers.ports import free_port

from . import score
from .contenders import CONTENDERS, Contender, Plan, serving
from .dispatch import ASYNC, FLASK, RAW
from .harness import (
    OURS,
    ROOT,
    Figures,
    Options,
    Report,
    Results,
    Target,
    TooSlow,
    bars,
    compete,
    installed,
    percentile,
    table,
)

WARM_UP = 2.0
"""Seconds that pass before anything is measured."""
ENOUGH = 99.0
"""Per cent of the fires that have to have run."""
LATENESS = {"start p99, ms": "p99", "start p50, ms": "p50", "CPU per job, µs": "cpu", "ran, %": "ran"}
HTTP = {"HTTP p99, ms": "http99", "HTTP p50, ms": "http50", "start p99, ms": "p99", "ran, %": "ran"}


async def measure(
    name: str, jobs: int, seconds: float, patience: float, requests: float = 0, set_up: float = 0.001, **plan: Any
) -> Figures:
    """Let `jobs` jobs run each second, one after the other; beside them answer `requests` per second."""
    contender = CONTENDERS[name](Plan(**plan))
    work = score.Score(sys.maxsize, drifts=contender.drifts)
    work.due = {}
    score.begin(contender.app, work)
    first = time.time() + (1 + jobs * set_up) * patience + WARM_UP * min(patience, 1.0)
    for number in range(jobs):
        work.due[number] = (first + number / jobs, 1.0)
        contender.interval(number, first + number / jobs, 1.0)
    async with _served(contender) if requests else _alone(contender) as port:
        if time.time() > first - 0.1:
            raise TooSlow
        # The full collection that all the imports bring on would else be measured of some and not of others.
        gc.collect()
        await asyncio.sleep(first - time.time() + WARM_UP * min(patience, 1.0))
        ran, begin, cpu = len(work.late), time.perf_counter(), time.process_time()
        lags = await _request(port, requests, seconds) if requests else []
        await asyncio.sleep(max(0.0, begin + seconds - time.perf_counter()))
        late, passed = work.late[ran:], time.perf_counter() - begin
        cpu = time.process_time() - cpu
    figures = {"ran": 100 * len(late) / (jobs * passed), "cpu": cpu / max(len(late), 1) * 1e6}
    if name == "none":
        figures = {}
    elif late:
        figures |= {f"p{percent}": percentile(late, percent) * 1000 for percent in (50, 99)}
    if lags:
        figures |= {f"http{percent}": percentile(lags, percent) * 1000 for percent in (50, 99)}
    return figures


@asynccontextmanager
async def _alone(contender: Contender) -> AsyncIterator[int]:
    async with serving(contender):
        yield 0


@asynccontextmanager
async def _served(contender: Contender) -> AsyncIterator[int]:
    """Serve the app with Hypercorn, and start the contender in it; yield the port."""
    port, over = free_port(), asyncio.Event()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 0.2
    ready = asyncio.Event()
    contender.app.before_serving(ready.set)
    server = asyncio.create_task(serve(contender.app, config, shutdown_trigger=over.wait))
    await ready.wait()
    await contender.start()
    try:
        yield port
    finally:
        await contender.stop()
        over.set()
        await server


async def _request(port: int, rate: float, seconds: float) -> list[float]:
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.requests", str(port), str(rate), str(seconds)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await client.communicate()
    if client.returncode:
        raise RuntimeError("the client of the HTTP server failed")
    lags: list[float] = json.loads(output)
    return lags


def run(options: Options, report: Report) -> None:
    """Measure idle, beside HTTP, and from SQL stores."""
    jobs, seconds = options.size(1000, 20), 0.3 if options.quick else 10.0
    everyone = [RAW, OURS, ASYNC, *([] if options.quick else [FLASK, "quart-tasks"])]
    idle = compete("latency", everyone, options, jobs=jobs, seconds=seconds)
    report.tables.append(table(f"{jobs:,} jobs a second, idle", idle, LATENESS, against=RAW))
    requests = options.size(400, 40)
    beside = compete("latency", ["none", *everyone], options, jobs=jobs, seconds=seconds, requests=requests)
    report.tables.append(table(f"{jobs:,} jobs and {requests} requests a second", beside, HTTP, against="none"))
    report.plots += [
        bars("lateness", "start p99, ms", {"idle": idle, f"{requests} requests/s": beside}, "p99"),
    ]
    report.targets += [
        Target("idle: lateness p99 to raw asyncio's", _ratio(idle, RAW, "p99"), 1.1),
        Target("beside HTTP: lateness p99 to raw asyncio's", _ratio(beside, RAW, "p99"), 1.1),
        Target("CPU per job to AsyncIOScheduler's", _ratio(idle, ASYNC, "cpu"), 0.5),
        Target("HTTP p99 to that without jobs, memory store", _ratio(beside, "none", "http99"), 1.15),
        Target("ran, %, idle", idle[OURS]["ran"], ENOUGH, at_least=True),
        Target("ran, %, beside HTTP", beside[OURS]["ran"], ENOUGH, at_least=True),
    ]
    jobs, requests = options.size(100, 5), options.size(200, 40)
    by_label = {f"{requests * 2} requests/s, memory": beside}
    for kind in installed(report, "sqlite", *([] if options.quick else ["postgresql"])):
        with DATABASES[kind]() as database:
            database.settle_in()
            stored = compete(
                "latency", ["none", OURS, ASYNC, *everyone[3:4]], options, prepare=fresh(database), jobs=jobs,
                seconds=seconds, requests=requests, set_up=0.012,
            )  # fmt: skip
        title = f"{jobs} jobs a second from {database.label}, and {requests} requests"
        report.tables.append(table(title, stored, HTTP, against="none"))
        what = f"HTTP p99 to that without jobs, {database.label}"
        report.targets += [
            Target(what, _ratio(stored, "none", "http99"), 1.25),
            Target(f"ran, %, {database.label}", stored[OURS]["ran"], ENOUGH, at_least=True),
        ]
        by_label[f"{requests} requests/s, {database.label}"] = stored
    report.plots.append(bars("http_beside_jobs", "HTTP p99, ms", by_label, "http99"))


def fresh(database: Any) -> Callable[[], dict[str, Any]]:
    """Return what gives each turn an empty database."""
    turns = iter(range(10**6))
    return lambda: {"url": database.create(f"turn_{next(turns)}")}


def _ratio(results: Results, against: str, key: str) -> float:
    return results[OURS].get(key, math.nan) / results[against].get(key, math.nan)
