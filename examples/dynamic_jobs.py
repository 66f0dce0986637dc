r"""Add, change and remove jobs over REST while the program runs. It starts with none.

    python examples/dynamic_jobs.py

Add a job that prints "drink tea" every two seconds, then look at it:

    curl -X POST http://127.0.0.1:5000/scheduler/jobs -H "Content-Type: application/json" \
         -d '{"id": "tea", "func": "dynamic_jobs:remind", "args": ["drink tea"], "trigger": "interval", "seconds": 2}'
    curl http://127.0.0.1:5000/scheduler/jobs/tea

Change what it says, and how often:

    curl -X PATCH http://127.0.0.1:5000/scheduler/jobs/tea -H "Content-Type: application/json" \
         -d '{"args": ["drink coffee"], "trigger": "interval", "seconds": 1}'

Pause it, run it once by hand, let it go on, remove it:

    curl -X POST http://127.0.0.1:5000/scheduler/jobs/tea/pause
    curl -X POST http://127.0.0.1:5000/scheduler/jobs/tea/run
    curl -X POST http://127.0.0.1:5000/scheduler/jobs/tea/resume
    curl -X DELETE http://127.0.0.1:5000/scheduler/jobs/tea

Over REST a job may use the functions of the application's own package or script, such as `remind`. Another one, say
`os:system`, is refused with 422.
"""

import os

from quart import Quart

from quart_sched import APScheduler


async def remind(text: str) -> None:
    print(text)


app = Quart(__name__)
app.config["SCHEDULER_API_ENABLED"] = True

scheduler = APScheduler(app=app)
scheduler.start()

if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
