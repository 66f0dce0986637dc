"""Let only some machines run the jobs, where several serve the same program.

    python examples/allowed_hosts.py
    RUN_JOBS_ON=another-machine python examples/allowed_hosts.py

The first prints a line every second. The second serves the same pages but starts no scheduler:

    curl http://127.0.0.1:5000/scheduler

shows "running": false there, and which hosts are allowed.
"""

import os

from quart import Quart

from quart_sched import APScheduler

scheduler = APScheduler()


@scheduler.task("interval", id="job1", seconds=1)
async def job1() -> None:
    print(f"job1 runs on {scheduler.host_name}")


class Config:
    # Names as `socket.gethostname()` gives them, in lower case; ["*"], the default, allows every machine.
    SCHEDULER_ALLOWED_HOSTS = [os.environ.get("RUN_JOBS_ON", scheduler.host_name)]
    SCHEDULER_API_ENABLED = True


app = Quart(__name__)
app.config.from_object(Config)

scheduler.init_app(app)
scheduler.start()

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
