"""Jobs declared with the decorator, one for each kind of trigger, and hooks around every run.

    python examples/decorators.py

It prints a line before and after each run. "once" runs a second after the start, "every_two_seconds" by interval,
"at_full_seconds" by cron; "new_year" waits for the first of January.

    curl http://127.0.0.1:5000/scheduler/jobs
"""

import asyncio
import os
from datetime import UTC, datetime, timedelta

from quart import Quart

from quart_sched import APScheduler, current_run

app = Quart(__name__)
app.config["SCHEDULER_API_ENABLED"] = True
scheduler = APScheduler()


@scheduler.task("date", id="once", run_date=datetime.now(UTC) + timedelta(seconds=1), misfire_grace_time=60)
async def once() -> None:
    print("once: this was the only time")


@scheduler.task("interval", id="every_two_seconds", seconds=2, args=["tick"])
async def every_two_seconds(text: str) -> None:
    await asyncio.sleep(0.1)
    print(f"every_two_seconds: {text}, run {current_run.run_id}")


@scheduler.task("cron", id="at_full_seconds", second="*/5", timezone="Europe/Berlin", max_instances=2)
def at_full_seconds() -> None:
    print(f"at_full_seconds: due at {current_run.scheduled_at:%H:%M:%S}")


@scheduler.task("calendarinterval", id="new_year", years=1, start_date="2027-01-01")
async def new_year() -> None:
    print("new_year: happy new year")


@scheduler.before_run
async def announce() -> None:
    print(f"before {current_run.job_id}")


@scheduler.after_run
def report() -> None:
    print(f"after {current_run.job_id}")


scheduler.init_app(app)
scheduler.start()

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
