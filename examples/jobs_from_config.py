"""Jobs declared in the configuration, by reference or by function.

    python examples/jobs_from_config.py

It prints a sum every two seconds, and a greeting in every third second of the clock.

    curl http://127.0.0.1:5000/scheduler/jobs
"""

import os
from datetime import UTC, datetime

from quart import Quart

from quart_sched import APScheduler


def add(a: int, b: int) -> None:
    print(f"{a} + {b} = {a + b}")


async def greet(name: str) -> None:
    print(f"Hello {name}, it is {datetime.now(UTC):%H:%M:%S} UTC")


class Config:
    JOBS = [
        {
            "id": "add",
            "func": "jobs_from_config:add",  # "module:function"; the main script is not imported a second time
            "args": (1, 2),
            "trigger": "interval",
            "seconds": 2,
        },
        {
            "id": "greet",
            "func": greet,
            "kwargs": {"name": "Ada"},
            "trigger": {"type": "cron", "second": "*/3"},
        },
    ]
    SCHEDULER_TIMEZONE = "UTC"
    SCHEDULER_JOB_DEFAULTS = {"coalesce": True, "max_instances": 1}
    SCHEDULER_API_ENABLED = True


app = Quart(__name__)
app.config.from_object(Config)

scheduler = APScheduler(app=app)
scheduler.start()

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
