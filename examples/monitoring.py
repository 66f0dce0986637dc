"""What watches over the jobs: probes, metrics, an alarm for jobs that do not succeed in time, and log lines with ids.

    pip install '.[metrics]'        # in the checkout
    python examples/monitoring.py

One job works, the other one hangs. After some seconds the hook says so, and the second of these turns degraded:

    curl http://127.0.0.1:5000/scheduler/health/live
    curl http://127.0.0.1:5000/scheduler/health/ready
    curl http://127.0.0.1:5000/scheduler/metrics
"""

import asyncio
import logging
import os

from quart import Quart

from quart_sched import APScheduler, Overdue
from quart_sched.logs import RunFilter

handler = logging.StreamHandler()
handler.addFilter(RunFilter())
handler.setFormatter(logging.Formatter("job=%(job_id)s run=%(run_id)s %(message)s"))
log = logging.getLogger("app")
log.addHandler(handler)
log.setLevel(logging.INFO)

app = Quart(__name__)
app.config["SCHEDULER_METRICS_ENABLED"] = True
app.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 1
app.config["SCHEDULER_OVERDUE_GRACE"] = 3  # seconds, for jobs that have no overdue_after of their own
scheduler = APScheduler(app=app)


@scheduler.task("interval", id="works", seconds=1)
async def works() -> None:
    log.info("all is well")


@scheduler.task("interval", id="hangs", seconds=1, overdue_after=2)
async def hangs() -> None:
    await asyncio.Event().wait()


@scheduler.on_overdue
async def tell(overdue: Overdue) -> None:
    print(f"{overdue.job_id} should have run at {overdue.expected_at:%H:%M:%S}, last success: {overdue.last_success}")


scheduler.start()

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
