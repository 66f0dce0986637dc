"""The app that each process of the fleet serves. Its jobs write into the process's own file what they do.

The plan comes as JSON in the environment variable FLEET, and the first fire as seconds since the epoch on stdin,
where the process waits for it once all the importing is done. A plan without a URL has no scheduler.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from quart import Quart

from quart_sched import APScheduler, current_run

PLAN = json.loads(os.environ["FLEET"])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONG_EVERY = 5
LONG, SHORT = 0.3, 0.005
"""Seconds that a run takes: long for every fifth job, so that a fault always finds some under way."""

_notes = os.open(PLAN["notes"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def note(*words: object) -> None:
    """Append one line, whole or not at all."""
    os.write(_notes, (" ".join(map(str, (*words, os.getpid(), time.time()))) + "\n").encode())


async def work(seconds: float) -> None:
    scheduled = (current_run.scheduled_at - EPOCH) // timedelta(microseconds=1)
    run = (current_run.job_id, scheduled, current_run.fire_id, current_run.run_id, current_run.attempt)
    note("start", *run)
    await asyncio.sleep(seconds)
    note("end", *run)


def schedule(app: Quart) -> None:
    """Bind a scheduler to the app, with the jobs that all processes declare alike."""
    app.config.update(
        SCHEDULER_JOBSTORES={"default": {"type": "sqlalchemy", "url": PLAN["url"]}},
        SCHEDULER_TIMEZONE="UTC",
        **{f"SCHEDULER_{key.upper()}": value for key, value in PLAN["settings"].items()},
    )
    scheduler = APScheduler(app=app)
    sa.create_engine(PLAN["url"]).dispose()
    note("loaded")
    first = datetime.fromtimestamp(float(sys.stdin.readline()), UTC)
    options: dict[str, Any] = {"on_crash": PLAN["on_crash"]} if PLAN["on_crash"] != "lost" else {}
    for number in range(PLAN["jobs"]):
        scheduler.add_job(
            f"job{number:04}",
            work,
            args=(SHORT if number % LONG_EVERY else LONG,),
            trigger="interval",
            seconds=1,
            start_date=first,
            end_date=first + timedelta(seconds=PLAN["seconds"] - 0.5),
            misfire_grace_time=PLAN["grace"],
            coalesce=False,
            max_instances=100,
            **options,
        )
    scheduler.start()


app = Quart(__name__)
if PLAN["url"] is not None:
    schedule(app)


@app.before_serving
async def serving() -> None:
    # As the README advises: a full collection of all that was imported would hold up the loop for tens of milliseconds.
    gc.collect()
    gc.freeze()
    note("serving")


@app.get("/")
async def index() -> str:
    return "hello"
