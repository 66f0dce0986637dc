"""The smallest program: one job, and the REST API that shows it.

    python examples/basic.py

It prints "True", then every three seconds how long it has been since the last time. Meanwhile

    curl http://127.0.0.1:5000/scheduler/jobs

shows the job. `cd examples && hypercorn basic:app` serves the same program on port 8000.
"""

import os
import time

from quart import Quart

from quart_sched import APScheduler

app = Quart(__name__)
scheduler = APScheduler()
start = time.monotonic()


@scheduler.task("interval", id="job1", seconds=3)
async def print_interval() -> None:
    global start
    print(f"Seconds since the last time: {round(time.monotonic() - start)}")
    start = time.monotonic()


class Config:
    JSONIFY_PRETTYPRINT_REGULAR = True
    SCHEDULER_API_ENABLED = True


app.config.from_object(Config)
scheduler.init_app(app)
print(scheduler.api_enabled)
scheduler.start()  # nothing is served yet: the scheduler starts together with the server

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
