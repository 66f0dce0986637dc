"""One process of those that share a PostgreSQL: ``python -m tests.benchmarks.claimer url``.

Prints a line when it has joined the others, works until its input ends, and then prints how many jobs it ran.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from quart import Quart

from quart_sched import APScheduler

ran = 0


async def job() -> None:
    """Count, and do nothing else."""
    global ran
    ran += 1


def extension(url: str) -> APScheduler:
    """Return the scheduler of an app whose jobs are in this database."""
    app = Quart("claimer")
    app.config.update(
        SCHEDULER_JOBSTORES={"default": {"type": "sqlalchemy", "url": url}},
        SCHEDULER_JOB_DEFAULTS={"misfire_grace_time": None},
        SCHEDULER_TIMEZONE="UTC",
    )
    return APScheduler(app=app)


async def work(url: str) -> None:
    """Take part until the input ends."""
    scheduler = extension(url)
    scheduler.start()
    async with scheduler.app.test_app():
        while not any(other.worker.endswith(f":{os.getpid()}") for other in await scheduler.aio.workers()):
            await asyncio.sleep(0.05)
        print("joined", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(ran)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.run(work(sys.argv[1]))
