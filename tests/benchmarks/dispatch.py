"""How fast jobs that are all due at once are run, and how long the event loop is held up meanwhile.

Jobs per second are from the moment at which all are due until the last has run, while a listener hears what APScheduler
tells of each; the gap is the longest time for which the loop did not get round to a heartbeat of 1 ms. The CPU time per
job is what a busy machine falsifies least. A contender that did not run all of them in each round has no rate.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from typing import Any

from . import score
from .contenders import CONTENDERS, Contender, Plan, moment, no_history, serving
from .harness import OURS, Figures, Options, Report, Results, Table, Target, TooSlow, bars, compete, table

ASYNC, FLASK, RAW, SLICED = "AsyncIOScheduler", "Flask-APScheduler", "raw asyncio", "raw asyncio, sliced"
SET_UP = 1 / 6000
"""Seconds that are allowed for adding one job, before all are due."""
STUCK = 4.0
"""Seconds without any run after which no more are expected."""
FIGURES = {"jobs/s": "rate", "longest gap, ms": "gap", "ran": "ran", "CPU per job, µs": "cpu"}


class Heartbeat:
    """Measures the longest time for which the loop did not get round to it."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        """Go on until cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now


async def measure(
    name: str, jobs: int, patience: float, trigger: str = "interval", set_up: float = SET_UP, **plan: Any
) -> Figures:
    """Let all jobs be due at once."""
    cls = CONTENDERS[name]
    contender = cls(Plan(**plan))
    work = score.Score(jobs)
    score.begin(contender.app, work)
    due = time.time() + (2 + jobs * set_up) * patience
    due = math.ceil(due) if trigger == "cron" else due
    for number in range(jobs):
        if trigger == "cron":
            contender.cron(number, moment(due))
        else:
            contender.interval(number, due, 3600.0)
    async with serving(contender):
        return await watch(due, work, contender)


async def watch(due: float, work: score.Score, contender: Contender) -> Figures:
    """Return how fast the jobs ran, and the longest gap in milliseconds. Raises TooSlow where they are not ready."""
    # What the set-up left behind is collected before, for each contender, not in the middle of the measurement.
    gc.collect()
    if time.time() > due - 0.25:
        raise TooSlow
    await asyncio.sleep(due - time.time() - 0.2)
    heartbeat = Heartbeat()
    beating = asyncio.create_task(heartbeat.beat())
    begin, cpu = time.perf_counter() + (due - time.time()), time.process_time()
    await asyncio.sleep(max(0.0, due - time.time()))
    ran = -1
    while not work.done.is_set() and ran < len(work.runs):
        ran = len(work.runs)
        try:
            await asyncio.wait_for(work.done.wait(), STUCK)
        except TimeoutError:
            continue
    done = work.done.is_set()
    if done:
        await contender.recorded(len(work.runs))
    # Those that keep no records have nothing left to write.
    recorded = time.perf_counter() if contender.keeps_records else work.last
    cpu = time.process_time() - cpu
    await asyncio.sleep(0.05)
    beating.cancel()
    seconds = work.last - begin if done else math.nan
    different = len(set(work.runs))
    return {
        "rate": different / seconds,
        "recorded": different / (recorded - begin) if done else math.nan,
        "gap": heartbeat.longest * 1000,
        "ran": different,
        "cpu": cpu / different * 1e6 if done else math.nan,
        "ms": seconds * 1000,
    }


def run(options: Options, report: Report) -> None:
    """Measure all sizes and kinds."""
    few, many, most = (options.size(size, quick) for size, quick in ((1000, 30), (10_000, 30), (50_000, 30)))
    everyone = [OURS, ASYNC, FLASK, "quart-tasks", RAW, SLICED]
    by_size: dict[int, Results] = {}
    for jobs in dict.fromkeys((few, many, most)):
        by_size[jobs] = _add(report, options, f"{jobs:,} interval jobs due at once", everyone, jobs=jobs)
    by_label = {f"{jobs:,} due": results for jobs, results in by_size.items()}
    report.plots += [
        bars("dispatch_rate", "jobs/s", by_label, "rate"),
        bars("dispatch_gap", "longest gap, ms", by_label, "gap"),
    ]
    unheard, bare = {}, {}
    for jobs in dict.fromkeys((many, most)):
        title = f"{jobs:,} interval jobs, no listener"
        unheard[jobs] = _add(report, options, title, [OURS, ASYNC], jobs=jobs, events=False)
        off = {"history": False, "events": False}
        title = f"{jobs:,} interval jobs, no history, no listener"
        bare[jobs] = _add(report, options, title, [OURS, ASYNC], jobs=jobs, **off)
    graced = _add(
        report, options, f"{most:,} with the default grace of 1 s", [OURS, ASYNC, FLASK], jobs=most, grace=True
    )
    clocked = [OURS, ASYNC, FLASK, "quart-tasks", "aiocron"]
    cron = _add(report, options, f"{many:,} cron jobs due at once", clocked, jobs=many, trigger="cron")
    plain = [OURS, ASYNC, FLASK, "quart-tasks", RAW]
    sync = _add(report, options, f"{many:,} sync jobs due at once", plain, jobs=many, body="sync")
    rates = [results[OURS]["rate"] for results in by_size.values()]
    gap, gap_most = by_size[many][OURS]["gap"], by_size[most][OURS]["gap"]
    sliced = 2 * by_size[many][SLICED]["gap"]
    report.targets += [
        _ratio(f"{many:,} due: jobs/s to AsyncIOScheduler's", by_size[many], 1.7),
        _ratio(f"{most:,} due: jobs/s to AsyncIOScheduler's", by_size[most], 2.5),
        _ratio(f"{many:,} due, no listener", unheard[many], 1.7),
        _ratio(f"{most:,} due, no listener", unheard[most], 2.5),
        _ratio(f"{many:,} due, history off", bare[many], 2.5),
        _ratio(f"{most:,} due, history off", bare[most], 4.0),
        Target(f"slowest to fastest of {few:,} to {most:,}", min(rates) / max(rates), 0.75, at_least=True),
        Target(f"{many:,} due: longest gap, ms (10, or twice that of sliced asyncio)", gap, max(10.0, sliced)),
        Target(f"{most:,} due: longest gap, ms", gap_most, 20.0),
        Target(f"{most:,} due with the default grace: ran", graced[OURS]["ran"], most, at_least=True),
        _ratio(f"{many:,} cron jobs", cron, 4.0),
        _ratio(f"{many:,} sync jobs", sync, 5.0),
    ]
    if no_history()["SCHEDULER_HISTORY_SIZE"]:
        report.notes.append(
            "quart_sched has no setting that turns the history off: `history off` is SCHEDULER_HISTORY_SIZE = 1 and "
            "SCHEDULER_LOG_BYTES = 0."
        )


def _add(report: Report, options: Options, title: str, contenders: list[str], **params: Any) -> Results:
    results = compete("dispatch", contenders, options, **params)
    found: Table = table(title, results, FIGURES, against=ASYNC)
    report.tables.append(found)
    return results


def _ratio(what: str, results: Results, limit: float) -> Target:
    return Target(what, results[OURS]["rate"] / results[ASYNC]["rate"], limit, at_least=True)
