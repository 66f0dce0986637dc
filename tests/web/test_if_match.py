"""Entity tags: a change that was made for a job as it was seen is refused once somebody else has changed the job."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from quart import Quart

from quart_sched.errors import JobChangedMeanwhile
from tests.stores.cluster import SQLITE


async def tick(*args: Any) -> None:
    pass


@pytest.fixture(params=["memory", SQLITE])
async def client(request, scheduler, serve, tmp_path) -> AsyncIterator[Any]:
    app = Quart("tagged_app")
    app.config.update(SCHEDULER_API_ENABLED=True, TESTING=True)
    stores = {"default": {"type": "memory"}}
    if request.param == "sqlite":
        stores = {"default": {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path}/jobs.sqlite3"}}
    async with serve(scheduler, app, SCHEDULER_JOBSTORES=stores) as test_client:
        await scheduler.aio.add_job("job", tick, trigger="interval", hours=1)
        yield test_client


async def send(client: Any, method: str, path: str = "/job", body: Any = None, **headers: str) -> tuple[int, Any, str]:
    response = await client.open(
        f"/scheduler/jobs{path}",
        method=method,
        data=None if body is None else json.dumps(body),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    text = await response.get_data()
    return response.status_code, json.loads(text) if text else None, response.headers.get("ETag", "")


async def test_a_job_is_changed_as_long_as_it_is_as_it_was_seen(client, scheduler):
    _, _, seen = await send(client, "GET")
    status, job, after = await send(client, "PATCH", body={"name": "new"}, If_Match=seen)
    assert (status, job["name"]) == (200, "new")
    assert after not in ("", seen)
    assert after == (await send(client, "GET"))[2]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_change_that_comes_too_late_is_refused_and_nothing_is_changed(client, scheduler, method):
    _, _, seen = await send(client, "GET")
    await scheduler.aio.modify_job("job", args=[1])
    status, answer, _ = await send(client, method, body={"args": [2]}, If_Match=seen)
    assert status == 412
    assert answer == {"error_message": "Job job has been changed meanwhile; read it again"}
    assert (await scheduler.aio.get_job("job")).args == (1,)


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_a_pause_in_between_counts_as_a_change(client, scheduler, verb):
    if verb == "resume":
        await scheduler.aio.pause_job("job")
    _, _, seen = await send(client, "GET")
    assert (await send(client, "POST", f"/job/{verb}"))[0] == 200
    assert (await send(client, "PATCH", body={"name": "new"}, If_Match=seen))[0] == 412


async def test_the_whole_of_a_job_that_has_changed_since_comes_too_late_rather_than_being_wrong(client, scheduler):
    _, shown, seen = await send(client, "GET")
    await scheduler.aio.pause_job("job")
    status, answer, _ = await send(client, "PATCH", body=shown | {"name": "new"}, If_Match=seen)
    assert (status, answer) == (412, {"error_message": "Job job has been changed meanwhile; read it again"})


async def test_a_fire_in_between_is_no_change(client, scheduler, clock):
    _, before, seen = await send(client, "GET")
    await clock.advance(seconds=3600)
    deadline = time.monotonic() + 5
    while (answer := await send(client, "GET"))[1]["next_run_time"] == before["next_run_time"]:
        assert time.monotonic() < deadline, "it did not fire"
        await asyncio.sleep(0.01)
    assert answer[2] == seen


@pytest.mark.parametrize("header", ["*", None, '"other", {seen}'])
async def test_a_star_no_header_and_one_tag_among_several_let_the_change_through(client, header):
    _, _, seen = await send(client, "GET")
    headers = {} if header is None else {"If_Match": header.format(seen=seen)}
    assert (await send(client, "PATCH", body={"name": "new"}, **headers))[0] == 200
    headers = {} if header is None else {"If_Match": "*"}
    assert (await send(client, "DELETE", **headers))[0] == 204


@pytest.mark.parametrize("header", ["garbage", '"', 'W/"x"', ""])
async def test_what_is_no_tag_of_the_job_matches_nothing(client, header):
    assert (await send(client, "PATCH", body={"name": "new"}, If_Match=header))[0] == 412


async def test_an_unknown_job_is_404_whatever_the_tag(client):
    assert (await send(client, "PATCH", "/none", body={"name": "x"}, If_Match='"x"'))[0] == 404
    assert (await send(client, "DELETE", "/none", If_Match="*"))[0] == 404


async def test_the_coroutine_verbs_take_tags_too(client, scheduler):
    seen = scheduler.aio.tag(await scheduler.aio.get_job("job"))
    await scheduler.aio.pause_job("job")
    with pytest.raises(JobChangedMeanwhile):
        await scheduler.aio.remove_job("job", seen=[seen])
    assert await scheduler.aio.get_job("job") is not None


class Thing:
    """What a store that pickles gives back as another object each time."""


async def test_an_object_in_a_store_that_pickles_is_the_same_each_time_that_it_is_read(scheduler, serve, tmp_path):
    app = Quart("tagged_app")
    app.config["SCHEDULER_API_ENABLED"] = True
    stores = {"default": SQLAlchemyJobStore(url=f"sqlite:///{tmp_path / 'jobs.db'}")}
    async with serve(scheduler, app, SCHEDULER_JOBSTORES=stores) as client:
        things = [Thing() for _ in range(9)]
        await scheduler.aio.add_job("job", tick, args=things, trigger="interval", hours=1)
        answers = [await send(client, "GET") for _ in range(3)]
        assert len({seen for _, _, seen in answers}) == 1
        status, job, _ = await send(client, "PATCH", body=answers[0][1] | {"name": "new"}, If_Match=answers[0][2])
        assert (status, job["name"]) == (200, "new")
        assert len((await scheduler.aio.get_job("job")).args) == 9
