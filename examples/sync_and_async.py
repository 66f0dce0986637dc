"""Coroutines run on the event loop, plain functions in threads: neither holds up the other, nor the web pages.

    python examples/sync_and_async.py

The two jobs print where they run. The blocking one sleeps for a second, and yet the page answers at once:

    curl http://127.0.0.1:5000/

The nightly report does not have to wait for the night. This runs it now, waits for it and shows what it returned:

    curl -X POST http://127.0.0.1:5000/report
"""

import asyncio
import os
import threading
import time

from quart import Quart

from quart_sched import APScheduler

app = Quart(__name__)
app.config["SCHEDULER_API_ENABLED"] = True
scheduler = APScheduler(app=app)


@scheduler.task("interval", id="on_the_loop", seconds=2)
async def on_the_loop() -> None:
    await asyncio.sleep(1)
    print(f"on_the_loop ran in {threading.current_thread().name}")


@scheduler.task("interval", id="in_a_thread", seconds=2)
def in_a_thread() -> None:
    time.sleep(1)
    print(f"in_a_thread ran in {threading.current_thread().name}")


@scheduler.task("cron", id="nightly_report", hour=3)
def nightly_report() -> str:
    time.sleep(1)
    return "all is well"


@app.get("/")
async def index() -> dict[str, str]:
    return {"thread": threading.current_thread().name}


@app.post("/report")
async def report_now() -> dict[str, object]:
    run = await scheduler.aio.run_job("nightly_report")
    record = await run  # raises what the job raised
    return {"outcome": record.outcome, "result": record.result, "seconds": record.duration}


scheduler.start()

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
