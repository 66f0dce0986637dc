"""Whatever state the scheduler is in, and its jobs with it, all that can be read is answered."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart

from quart_sched.web.dashboard.routes import ROUTES
from quart_sched.web.endpoints import OPERATIONS


async def coroutine() -> None: ...


def function(text: str = "") -> None: ...


async def unstarted(scheduler: Any) -> None: ...


async def running(scheduler: Any) -> None:
    await scheduler.aio.start()


async def paused(scheduler: Any) -> None:
    await running(scheduler)
    await scheduler.aio.pause()


async def stopped(scheduler: Any) -> None:
    await running(scheduler)
    await scheduler.aio.shutdown()


@pytest.mark.parametrize("state", [unstarted, running, paused, stopped])
async def test_all_that_can_be_read_is_answered(scheduler, state):
    scheduler.add_job("plain", function, args=["a"], trigger="cron", hour=3, tags=["tag"], description="text")
    scheduler.add_job("paused", coroutine, trigger="interval", hours=1, next_run_time=None)
    app = Quart("states")
    app.config.update(
        SCHEDULER_API_ENABLED=True, SCHEDULER_DASHBOARD_ENABLED=True, SCHEDULER_METRICS_ENABLED=True, SECRET_KEY="key",
        TESTING=True,
    )  # fmt: skip
    scheduler.init_app(app)
    async with app.test_app() as test_app:
        client = test_app.test_client()
        await state(scheduler)
        run = await scheduler.aio.run_job("plain")
        await run.wait()
        query = {"at": "2026-03-02T03:00:00", "id": "plain", "trigger": "cron", "hour": "3"}
        paths = {
            operation.path.format(job_id=job_id, run_id=run.run_id): {key: query[key] for key in operation.needed}
            for operation in OPERATIONS
            for job_id in ("plain", "paused")
            if operation.method == "GET" and operation.endpoint != "get_events"
        }
        pages = [route for route in ROUTES if "GET" in route.methods and route.right and route.name != "events"]
        paths |= {f"/ui{page.rule}": query for page in pages}
        paths["/ui/run"] = {"id": run.run_id}
        assert len(paths) > 25
        for path, given in paths.items():
            response = await client.get(f"/scheduler{path}", query_string=given)
            expected = 503 if path == "/health/ready" and state in (unstarted, stopped) else 200
            assert response.status_code == expected, (path, await response.get_data())
