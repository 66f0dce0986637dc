"""What a great many jobs cost: changing one of them, having nothing to do, the memory of each, and listing them.

Times are medians of one call among very many jobs that are not due: its own time, without that of the wake-up which
follows. To move a job is to give it another next fire, to reschedule it another interval. An idle wake-up is the
processor's time that `wakeup()` costs when nothing is due; the listing is `GET /jobs`, the first one after the start,
those after it, and those each after all jobs have fired once more.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import score
from .contenders import CONTENDERS, Plan, moment, serving
from .dispatch import ASYNC, FLASK, Heartbeat
from .harness import OURS, Figures, Options, Report, Target, TooSlow, bars, compete, table

HOUR = 3600.0
VERBS = {f"{verb}, µs": verb for verb in ("add", "rename", "move", "reschedule", "remove")}
STANDING = {"idle wake-up, µs": "idle", "memory per job, bytes": "memory"}
LISTING = {
    "GET /jobs again, ms": "again", "first, ms": "first", "all fired since, ms": "fired", "longest gap, ms": "gap",
    "MB": "size",
}  # fmt: skip
PERIOD = 6.0
"""Seconds between the fires of jobs that are listed."""


def resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(name: str, jobs: int, patience: float, listing: bool = False) -> Figures:
    """Fill the scheduler, and then either list its jobs or change some."""
    contender: Any = CONTENDERS[name](Plan())
    work = score.Score(sys.maxsize)
    score.begin(contender.app, work)
    if listing:
        due = time.time() + (3 + jobs / 2000) * patience
        async with serving(contender):
            for number in range(jobs):
                contender.interval(number, due, PERIOD)
            return await _list(contender, work, jobs, due)
    async with serving(contender):
        gc.collect()
        before, due = resident(), time.time() + HOUR
        for number in range(jobs):
            contender.interval(number, due + number / jobs * HOUR, 2 * HOUR)
            # What is put off until the loop has time must not pile up.
            await asyncio.sleep(0)
        gc.collect()
        memory = (resident() - before) / jobs
        figures = await _change(contender, jobs, due)
        return figures | {"memory": memory, "idle": await _idle(contender)}


async def _change(contender: Any, jobs: int, due: float) -> Figures:
    scheduler = contender.scheduler
    some = range(0, jobs, max(1, jobs // 1000))
    return {
        "add": await _each(some, lambda n: contender.interval(jobs + n, due + n / jobs * HOUR, 2 * HOUR)),
        "rename": await _each(some, lambda n: scheduler.modify_job(str(n), name=f"job {n}")),
        "move": await _each(some, lambda n: scheduler.modify_job(str(n), next_run_time=moment(due + HOUR / 2 + n))),
        "reschedule": await _each(some, lambda n: contender.reschedule(n, 3 * HOUR)),
        "remove": await _each(some, lambda n: scheduler.remove_job(str(n))),
    }


async def _each(numbers: range, change: Callable[[int], Any]) -> float:
    """Return the median microseconds of a change; the scheduler does between them what it has to."""
    taken = []
    for number in numbers:
        begin = time.perf_counter()
        change(number)
        taken.append(time.perf_counter() - begin)
        await asyncio.sleep(0)
    return statistics.median(taken) * 1e6


async def _idle(contender: Any) -> float:
    """Return the microseconds of the processor for waking the scheduler up when nothing is due."""
    scheduler = contender.scheduler.scheduler if hasattr(contender.scheduler, "scheduler") else contender.scheduler
    times, turns = 2000, 6
    threaded = not hasattr(scheduler, "_eventloop")
    # A thread that is woken up answers when it gets the interpreter; what it does then is called directly.
    wake = scheduler._process_jobs if threaded else scheduler.wakeup

    async def cost(call: Callable[[], Any] | None) -> float:
        begin = time.process_time()
        for _ in range(times):
            if call is not None:
                call()
            for _ in range(turns):
                await asyncio.sleep(0)
        return (time.process_time() - begin) / times * 1e6

    await cost(wake)
    return await cost(wake) - await cost(None)


async def _list(contender: Any, work: score.Score, jobs: int, due: float) -> Figures:
    """Ask for all jobs, before any of them fires and then after each fire of all. Raises TooSlow."""
    asked = [await _ask(contender) for _ in range(6)]
    if time.time() > due - 0.1:
        raise TooSlow
    fired = []
    for number in range(1, 4):
        await asyncio.sleep(due + (number - 1) * PERIOD - time.time())
        while len(work.runs) < number * jobs:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        fired.append(await _ask(contender))
        if len(work.runs) != number * jobs:
            raise RuntimeError(f"the fires of {jobs} jobs take longer than {PERIOD:g} s: raise PERIOD")
    times = [one["ms"] for one in asked]
    return {
        "first": times[0],
        "again": statistics.median(times[1:]),
        "fired": statistics.median(one["ms"] for one in fired),
        "gap": max(one["gap"] for one in asked + fired),
        "size": asked[0]["size"],
    }


async def _ask(contender: Any) -> Figures:
    """Ask for all jobs as a client would, by the app's own test client."""
    heartbeat = Heartbeat()
    beating = asyncio.create_task(heartbeat.beat())
    await asyncio.sleep(0.02)
    heartbeat.longest = 0.0
    begin = time.perf_counter()
    if hasattr(contender, "flask_app"):
        answer = contender.flask_app.test_client().get("/scheduler/jobs")
        body = answer.data
    else:
        answer = await contender.app.test_client().get("/scheduler/jobs")
        body = await answer.get_data()
    taken = time.perf_counter() - begin
    await asyncio.sleep(0.005)
    beating.cancel()
    assert answer.status_code == 200
    return {"ms": taken * 1000, "gap": heartbeat.longest * 1000, "size": len(body) / 1e6}


def run(options: Options, report: Report) -> None:
    """Measure 100,000 jobs, and list 10,000."""
    jobs, listed = options.size(100_000, 50), options.size(10_000, 20)
    found = compete("scale", [OURS, ASYNC, FLASK], options, jobs=jobs)
    lists = compete("scale", [OURS, FLASK], options, jobs=listed, listing=True)
    ours, theirs = found[OURS], found[ASYNC]
    limits = {"add": 0.7, "rename": 0.25, "move": 0.25, "reschedule": 0.25, "idle": 0.3, "remove": 1.0, "memory": 1.1}
    report.targets += [
        Target(f"{jobs:,} jobs: {key} to AsyncIOScheduler's", ours[key] / theirs[key], limit)
        for key, limit in limits.items()
        if theirs[key] > 0
    ]
    report.targets += [
        Target(f"GET /jobs, {what}, to Flask-APScheduler's", lists[OURS][key] / lists[FLASK][key], 0.25)
        for key, what in (("again", "again"), ("first", "first one"), ("fired", "all fired since"))
    ]
    report.targets.append(Target("GET /jobs: longest gap, ms", lists[OURS]["gap"], 10.0))
    report.tables += [
        table(f"One of {jobs:,} jobs", found, VERBS, against=ASYNC),
        table(f"{jobs:,} jobs that are not due", found, STANDING, against=ASYNC),
        table(f"{listed:,} jobs as JSON", lists, LISTING, against=FLASK),
    ]
    report.plots += [
        bars("verbs", f"µs, of {jobs:,} jobs", {key: _one(found, key) for key in VERBS.values()}, "us"),
        bars("listing", "ms", {f"GET /jobs, {listed:,}": lists}, "again"),
    ]


def _one(found: dict[str, Figures], key: str) -> dict[str, Figures]:
    return {name: {"us": figures[key]} for name, figures in found.items()}
