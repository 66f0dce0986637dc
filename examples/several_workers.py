"""Jobs that several workers share through a database: each fire runs in one of them.

    pip install '.[sql]'                        # in the checkout
    hypercorn -w 3 several_workers:app          # in this folder

The jobs are in `jobs.sqlite3`. For several machines set `JOBS_URL` to a PostgreSQL or MySQL database, such as
postgresql+psycopg://app@db/app. Try:

    curl http://127.0.0.1:8000/scheduler        # the live workers
    curl http://127.0.0.1:8000/scheduler/runs   # who ran what, and what became of it

Kill one worker with `kill -9` while it runs `count`: its run starts again in another, as the next attempt.
"""

import asyncio
import os

from quart import Quart

from quart_sched import APScheduler, current_run

app = Quart(__name__)
app.config.update(
    SCHEDULER_API_ENABLED=True,
    SCHEDULER_JOBSTORES={
        "default": {"type": "sqlalchemy", "url": os.environ.get("JOBS_URL", "sqlite:///jobs.sqlite3")}
    },
    SCHEDULER_HEARTBEAT=1,
    SCHEDULER_LEASE=5,
)
scheduler = APScheduler(app=app)


@scheduler.task("interval", id="count", seconds=1, misfire_grace_time=60, on_crash="rerun")
async def count() -> None:
    await asyncio.sleep(0.2)
    print(f"worker {os.getpid()} ran the fire of {current_run.scheduled_at:%H:%M:%S.%f}, attempt {current_run.attempt}")


scheduler.start()

if __name__ == "__main__":
    app.run(use_reloader=False)
