"""An app with an hourly and a daily job, whose fires are asked for over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest


async def tick() -> None:
    pass


@pytest.fixture
async def client(scheduler, app, serve):
    """A client of the app, which serves; a module that asks something else has a `client` of its own."""
    scheduler.add_job("hourly", tick, trigger="cron", minute=30)
    scheduler.add_job("daily", tick, trigger="crontab", expression="30 2 * * *", timezone="Europe/Berlin")
    async with serve(scheduler, app, SCHEDULER_API_ENABLED=True, TESTING=True) as test_client:
        yield test_client


async def get(client: Any, path: str, **options: Any) -> tuple[int, Any]:
    response = await client.get(f"/scheduler{path}", **options)
    return response.status_code, json.loads(await response.get_data())
