"""The fires to come over REST and through the coroutine verbs."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import datetime, timedelta
from typing import ClassVar
from urllib.parse import quote

import pytest
from apscheduler.triggers.base import BaseTrigger

from quart_sched.auth import HTTPBasicAuth
from quart_sched.errors import InvalidDefinition, JobNotFound
from quart_sched.web import answers
from tests.conftest import START
from tests.web.timetable import get, tick


async def test_the_next_fires_of_a_job_are_listed(client):
    status, found = await get(client, "/jobs/hourly/next?count=2")
    assert status == 200
    assert list(found) == ["job_id", "state", "paused", "reason", "items"]
    assert found == {
        "job_id": "hourly",
        "state": "scheduled",
        "paused": False,
        "reason": None,
        "items": [{"at": f"2026-03-02T{hour}:30:00+00:00", "clock_change": None} for hour in (12, 13)],
    }


async def test_ten_fires_are_listed_unless_another_number_is_asked_for(client):
    assert len((await get(client, "/jobs/hourly/next"))[1]["items"]) == 10
    assert len((await get(client, "/jobs/hourly/next?count=1000"))[1]["items"]) == 1000


async def test_a_clock_change_is_marked(client):
    items = (await get(client, "/jobs/daily/next?count=30"))[1]["items"]
    assert [item for item in items if item["clock_change"]] == [
        {
            "at": "2026-03-29T03:00:00+02:00",
            "clock_change": {
                "direction": "forward",
                "at": "2026-03-29T03:00:00+02:00",
                "wall": "2026-03-29T02:30:00",
                "effect": "moved",
                "description": "The clocks go forward on 2026-03-29 from 02:00 to 03:00 (Europe/Berlin): "
                "02:30 is skipped, and the job fires at 03:00 instead.",
            },
        }
    ]


async def test_the_forecast_has_the_fires_of_all_jobs(client):
    status, found = await get(client, "/forecast?hours=15")
    assert (status, list(found)) == (200, ["until", "truncated", "paused", "items"])
    assert (found["until"], found["truncated"]) == ("2026-03-03T03:00:00+00:00", False)
    assert {"job_id": "daily", "at": "2026-03-03T02:30:00+01:00", "clock_change": None} in found["items"]
    assert list(found["items"][0]) == ["job_id", "at", "clock_change"]
    assert len(found["items"]) == 16


async def test_while_the_scheduler_is_paused_the_fires_are_those_that_there_were_if_it_were_resumed(client, scheduler):
    await scheduler.aio.pause_job("daily")
    running = {job_id: (await get(client, f"/jobs/{job_id}/next"))[1] for job_id in ("hourly", "daily")}
    forecast = (await get(client, "/forecast"))[1]
    assert (running["hourly"]["paused"], running["daily"]["paused"], forecast["paused"]) == (False, True, False)
    await scheduler.aio.pause()
    for job_id, before in running.items():
        assert (await get(client, f"/jobs/{job_id}/next"))[1] == before | {"paused": True}
    assert (await get(client, "/forecast"))[1] == forecast | {"paused": True}
    await scheduler.aio.resume()
    assert (await get(client, "/forecast"))[1] == forecast


async def test_a_forecast_looks_a_day_ahead_and_stops_at_its_limit(client, scheduler):
    scheduler.add_job("often", tick, trigger="cron", second="*")
    found = (await get(client, "/forecast"))[1]
    assert (found["until"], found["truncated"], len(found["items"])) == ("2026-03-03T12:00:00+00:00", True, 1000)
    found = (await get(client, "/forecast?limit=3&hours=8784"))[1]
    assert (found["truncated"], len(found["items"])) == (True, 3)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/jobs/hourly/next?count=0", "count: is '0'; expected a whole number from 1 to 1000"),
        ("/jobs/hourly/next?count=1001", "count: is '1001'; expected"),
        ("/jobs/hourly/next?count=", "count: is ''; expected"),
        ("/jobs/hourly/next?count=1&count=2", "count: is '1' and '2'; expected one value"),
        ("/jobs/hourly/next?limit=1", "limit: is '1', but not known here; expected count"),
        ("/jobs/nobody/next?count=0", "count: is '0'; expected"),
        ("/forecast?hours=0", "hours: is '0'; expected more than 0 and at most 8784"),
        ("/forecast?hours=nan", "hours: is 'nan'; expected"),
        ("/forecast?limit=10001", "limit: is '10001'; expected a whole number from 1 to 10000"),
        ("/forecast?count=1", "count: is '1', but not known here; expected hours, limit"),
    ],
)
async def test_what_is_wrong_with_the_parameters_is_named(client, path, expected):
    status, error = await get(client, path)
    assert (status, list(error)) == (400, ["error_message"])
    assert error["error_message"].startswith(expected)


async def test_a_job_that_nobody_knows_is_not_found(client):
    assert await get(client, "/jobs/nobody/next") == (404, {"error_message": "Job nobody not found"})


@pytest.mark.parametrize("job_id", ["a/b", "a/", "ü b", "a/next", "next"])
async def test_the_fires_of_a_job_with_an_odd_id_are_found(client, scheduler, job_id):
    scheduler.add_job(job_id, tick, trigger="interval", hours=1)
    status, found = await get(client, f"/jobs/{quote(job_id)}/next")
    assert (status, found["job_id"]) == (200, job_id)


async def test_a_job_whose_id_ends_like_the_list_can_still_be_looked_at(client, scheduler):
    scheduler.add_job("a/next", tick, trigger="interval", hours=1)
    status, job = await get(client, "/jobs/a/next")
    assert (status, job["id"]) == (200, "a/next")


async def test_a_paused_job_is_shown_as_if_it_were_resumed_and_is_not_in_the_forecast(client, scheduler):
    await scheduler.aio.pause_job("hourly")
    found = await scheduler.aio.next_fires("hourly")
    assert (found.state, found.paused, len(found.items)) == ("paused", True, 10)
    assert {fire.job_id for fire in (await scheduler.aio.forecast()).items} == {"daily"}


async def test_a_job_that_waits_for_the_start_is_shown_as_if_that_were_now(scheduler, app, serve, clock):
    scheduler.add_job("pending", tick, trigger="interval", hours=1)
    scheduler.add_job("on hold", tick, trigger="interval", hours=1, next_run_time=None)
    async with serve(scheduler, app, start=False):
        clock.suspend(seconds=60)
        found = await scheduler.aio.next_fires("pending", 1)
        assert (found.state, found.paused) == ("pending", False)
        assert found.items[0].at.isoformat() == "2026-03-02T13:01:00+00:00"
        assert (await scheduler.aio.next_fires("on hold")).paused
        assert [fire.job_id for fire in (await scheduler.aio.forecast(1)).items] == ["pending"]
        assert scheduler.get_job("pending").pending, "nothing has changed"


async def test_a_broken_job_says_why_it_has_no_fires(client, scheduler):
    scheduler.scheduler.catalogue.slots["default"].broken["hourly"] = "its trigger raised OSError"
    found = (await get(client, "/jobs/hourly/next"))[1]
    assert (found["state"], found["items"], found["reason"]) == ("broken", [], "its trigger raised OSError")
    assert {fire.job_id for fire in (await scheduler.aio.forecast()).items} == {"daily"}


async def test_the_verbs_raise_what_is_wrong(client, scheduler):
    with pytest.raises(InvalidDefinition, match=r"^count: is 0; expected"):
        await scheduler.aio.next_fires("hourly", 0)
    with pytest.raises(JobNotFound):
        await scheduler.aio.next_fires("nobody")
    with pytest.raises(InvalidDefinition, match=r"^hours: is -1; expected"):
        await scheduler.aio.forecast(-1)


@pytest.mark.parametrize("path", ["/jobs/hourly/next", "/forecast"])
async def test_the_fires_to_come_need_the_right_to_read(client, scheduler, path):
    scheduler.auth = HTTPBasicAuth()
    rights: set[str] = {"operate"}
    scheduler.authenticate(lambda auth: rights)
    headers = {"Authorization": "Basic YTpi"}
    assert (await client.get(f"/scheduler{path}", headers=headers)).status_code == 403
    rights.add("read")
    assert (await client.get(f"/scheduler{path}", headers=headers)).status_code == 200
    assert (await client.post(f"/scheduler{path}")).status_code == 405


async def test_json_of_a_forecast_is_pretty_on_demand(scheduler, app, serve):
    scheduler.add_job("hourly", tick, trigger="cron", minute=30)
    async with serve(scheduler, app, SCHEDULER_API_ENABLED=True, JSONIFY_PRETTYPRINT_REGULAR=True) as client:
        for path in ("/jobs/hourly/next?count=2", "/forecast?hours=2", "/forecast?hours=0.0001"):
            text = (await (await client.get(f"/scheduler{path}")).get_data()).decode()
            assert text == json.dumps(json.loads(text), indent=2)


class Watched(BaseTrigger):
    """Fires each second, and notes in which threads it was asked for the fires to come."""

    threads: ClassVar[set[int]] = set()

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is not None and previous_fire_time > START:
            self.threads.add(threading.get_ident())
        return (previous_fire_time or START) + timedelta(seconds=1)


async def test_the_fires_are_not_computed_on_the_event_loop(client, scheduler):
    Watched.threads.clear()
    scheduler.add_job("watched", tick, trigger=Watched())
    await scheduler.aio.forecast()
    await scheduler.aio.next_fires("watched", 1000)
    assert Watched.threads
    assert threading.get_ident() not in Watched.threads


async def test_others_get_their_turn_while_a_long_forecast_is_written(client, scheduler):
    scheduler.add_job("often", tick, trigger="cron", second="*")
    found = await scheduler.aio.forecast(limit=10_000)
    turns, over = 0, asyncio.Event()

    async def others() -> None:
        nonlocal turns
        while not over.is_set():
            await asyncio.sleep(0)
            turns += 1

    waiting = asyncio.create_task(others())
    chunks = await answers.array((json.dumps(fire.to_wire()).encode() for fire in found.items), pretty=False)
    over.set()
    await waiting
    assert len(json.loads(b"".join(chunks))) == 10_000
    assert turns > 5
