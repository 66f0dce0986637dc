"""An application as it is deployed: served by hypercorn, with a configuration file beside it.

    cd examples/hypercorn_deployment
    hypercorn --config hypercorn.toml app:app

One worker serves and schedules. Stop it (Ctrl-C, or SIGTERM) while "report" runs: nothing new starts, the report is
finished and printed, and then the server ends. `python app.py` serves the same for development.
"""

import asyncio
import os

from quart import Quart

from quart_sched import APScheduler, current_run


class Config:
    SCHEDULER_API_ENABLED = True
    SCHEDULER_TIMEZONE = "UTC"
    SCHEDULER_SHUTDOWN_TIMEOUT = 10  # seconds that running jobs get; hypercorn's shutdown_timeout must be longer


app = Quart(__name__)
app.config.from_object(Config)
scheduler = APScheduler(app=app)


@scheduler.task("interval", id="report", seconds=3)
async def report() -> None:
    print(f"report {current_run.run_id} begins", flush=True)
    await asyncio.sleep(2)
    print(f"report {current_run.run_id} is finished", flush=True)


scheduler.start()

if __name__ == "__main__":
    # Without this condition the development server would start when hypercorn imports the module.
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
