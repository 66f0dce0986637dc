"""GET /jobs a page at a time: every job once, whatever fires in between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from quart import Quart

from quart_sched import APScheduler


async def tick() -> None: ...


IDS = sorted(["a", "b/c", "d e", "日本", "z", *(f"job-{n}" for n in range(5))])


@pytest.fixture
async def client(scheduler, serve):
    for number, job_id in enumerate(reversed(IDS)):
        scheduler.add_job(job_id, tick, trigger="interval", hours=number + 1)
    async with serve(scheduler, Quart("paging"), SCHEDULER_API_ENABLED=True) as test_client:
        yield test_client


async def get(client: Any, **query: Any) -> tuple[int, Any]:
    response = await client.get("/scheduler/jobs", query_string=query)
    return response.status_code, json.loads(await response.get_data())


async def test_pages_hold_every_job_once_in_the_order_of_ids(client):
    seen, cursor, pages = [], None, 0
    while pages < 20:
        status, page = await get(client, limit=3, **({} if cursor is None else {"cursor": cursor}))
        assert status == 200
        assert list(page) == ["next", "items"]
        seen += [job["id"] for job in page["items"]]
        cursor, pages = page["next"], pages + 1
        if cursor is None:
            break
    assert seen == IDS
    assert pages == 4


async def test_a_job_that_is_removed_in_between_breaks_nothing(client, scheduler):
    _, page = await get(client, limit=4)
    await scheduler.aio.remove_job(page["items"][-1]["id"])
    _, rest = await get(client, limit=100, cursor=page["next"])
    assert [job["id"] for job in rest["items"]] == IDS[4:]
    assert rest["next"] is None


async def test_a_job_is_shown_as_in_the_whole_list(client):
    _, page = await get(client, limit=100)
    _, everything = await get(client)
    assert isinstance(everything, list)
    assert {job["id"]: job for job in page["items"]} == {job["id"]: job for job in everything}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"limit": "0"}, "limit: is '0'; expected a whole number from 1 to 500"),
        ({"limit": "many"}, "limit: is 'many'"),
        ({"limit": "5", "cursor": "x"}, "cursor: is 'x'; expected the `next` of a page of jobs"),
        ({"cursor": "ä"}, "cursor: is 'ä'"),
        ({"cursor": ""}, "cursor: is ''"),
        ({"limit": "5", "page": "2"}, "page: is '2', but not known here"),
    ],
)
async def test_what_makes_no_sense_is_named(client, query, message):
    status, body = await get(client, **query)
    assert status == 400
    assert message in body["error_message"]


async def test_without_any_of_its_parameters_a_query_is_left_aside(client):
    status, everything = await get(client, page="2")
    assert (status, len(everything)) == (200, len(IDS))
    response = await client.post("/scheduler/jobs/a/run?page=2")
    assert response.status_code == 200


async def test_in_the_hour_that_comes_twice_a_list_shows_the_next_fire_and_not_the_last(virtual_loop, serve):
    scheduler = APScheduler()
    scheduler.add_job("job", tick, trigger="cron", minute=30, timezone="Europe/Berlin")
    async with (
        serve(scheduler, Quart("paging"), start=False, SCHEDULER_API_ENABLED=True) as client,
        scheduler.virtual_time("2026-10-24T23:50:00") as clock,
    ):
        [before] = (await get(client))[1]
        await clock.advance(minutes=45)
        [after] = (await get(client))[1]
    fires = [job["next_run_time"] for job in (before, after)]
    assert fires == ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]
