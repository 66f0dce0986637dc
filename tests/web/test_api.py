"""The REST API under hostile and unlucky clients: what they send, and when they leave."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from quart import Quart

from quart_sched import APScheduler, Scheduler
from quart_sched.errors import ConfigError

MODULE = __name__


async def coroutine(*args: Any, **kwargs: Any) -> None: ...


def new(job_id: str) -> dict[str, Any]:
    return {"id": job_id, "func": f"{MODULE}:coroutine", "trigger": "interval", "hours": 1}


@pytest.fixture
def app() -> Quart:
    application = Quart("api_app")
    application.config.update(SCHEDULER_API_ENABLED=True, SCHEDULER_API_ALLOWED_FUNCS=[f"{MODULE}:*"], TESTING=True)
    return application


@pytest.fixture
async def client(scheduler, app, serve):
    scheduler.add_job("job", coroutine, trigger="interval", hours=1)
    async with serve(scheduler, app) as test_client:
        yield test_client


async def send(client: Any, method: str, path: str, data: Any = None) -> tuple[int, Any]:
    response = await client.open(path, method=method, data=json.dumps(data) if data is not None else None)
    text = await response.get_data()
    return response.status_code, json.loads(text) if text else None


# What they send


async def test_many_keys_and_one_of_them_twice_do_not_hold_up_the_loop(client):
    keys = "".join(f'"{number}": 0, ' for number in range(30_000))
    # With time that grows with the square of the keys this takes many seconds.
    async with asyncio.timeout(2):
        response = await client.post("/scheduler/jobs", data=f'{{{keys}"7": 1}}')
    assert response.status_code == 400
    assert "'7' stands there twice" in json.loads(await response.get_data())["error_message"]


async def test_an_id_that_no_url_can_hold_is_400(client, scheduler):
    status, error = await send(client, "POST", "/scheduler/jobs", new("\ud800"))
    assert status == 400
    assert error["error_message"].startswith("id: ")
    assert [job.id for job in scheduler.get_jobs()] == ["job"]


async def test_what_is_asked_of_one_job_is_not_redirected_to_another(client, scheduler):
    for path in ("//job", "///job"):
        assert (await client.delete(f"/scheduler/jobs{path}")).status_code in (404, 405)
    assert scheduler.get_job("job") is not None


@pytest.mark.parametrize("job_id", ["a//b", "a/", "a/pause", "a/run/pause"])
async def test_slashes_in_an_id_do_not_confuse_it_with_a_verb(client, job_id):
    await send(client, "POST", "/scheduler/jobs", new(job_id))
    assert (await send(client, "GET", f"/scheduler/jobs/{job_id}"))[1]["id"] == job_id
    assert (await send(client, "POST", f"/scheduler/jobs/{job_id}/pause"))[1]["state"] == "paused"


@pytest.mark.parametrize("trigger", [{}, {"trigger": None}])
async def test_a_run_date_alone_does_not_change_the_trigger(client, trigger):
    before = (await send(client, "GET", "/scheduler/jobs/job"))[1]
    status, error = await send(client, "PATCH", "/scheduler/jobs/job", {"run_date": "2030-01-01T00:00:00"} | trigger)
    assert status == 400
    assert error["error_message"].startswith("run_date: ")
    assert (await send(client, "GET", "/scheduler/jobs/job"))[1] == before


async def test_the_order_of_keys_in_what_is_sent_back_does_not_matter(client, scheduler):
    scheduler.add_job("open", coroutine, kwargs={"b": object(), "a": True}, trigger="interval", hours=1)
    _, shown = await send(client, "GET", "/scheduler/jobs/open")
    turned = shown | {"kwargs": dict(reversed(shown["kwargs"].items()))}
    assert list(turned["kwargs"]) == ["a", "b"]
    assert await send(client, "PATCH", "/scheduler/jobs/open", turned) == (200, shown)


@pytest.mark.parametrize(("error", "status"), [(JobLookupError("job"), 404), (ConflictingIdError("job"), 409)])
async def test_a_store_in_which_somebody_was_faster_is_no_bug(client, scheduler, monkeypatch, error, status):
    def beaten(job: Any) -> None:
        raise error

    monkeypatch.setattr(scheduler.scheduler.catalogue.slots["default"].store, "update_job", beaten)
    answer = await send(client, "PATCH", "/scheduler/jobs/job", {"name": "renamed"})
    assert answer == (status, {"error_message": error.args[0]})


def test_an_endpoint_of_the_apps_own_is_not_taken_for_ours(scheduler, app):
    @app.get("/mine")
    async def get_jobs() -> str:
        return "mine"

    app.config["SCHEDULER_ENDPOINT_PREFIX"] = ""
    with pytest.raises(ConfigError, match=r"SCHEDULER_ENDPOINT_PREFIX is ''.*'get_jobs'"):
        scheduler.init_app(app)
    assert scheduler.app is None
    app.config["SCHEDULER_ENDPOINT_PREFIX"] = "scheduler."
    assert APScheduler(app=app).app is app, "nobody has bound the app yet"


def test_a_scheduler_stays_with_its_app_where_another_has_such_an_endpoint(scheduler, app):
    first = Quart("first")
    scheduler.init_app(first)
    scheduler.add_job("job", print, trigger="interval", hours=1)
    app.add_url_rule("/mine", "scheduler.get_jobs", lambda: "mine")
    with pytest.raises(ConfigError, match=r"'scheduler\.get_jobs'"):
        scheduler.init_app(app)
    assert scheduler.app is first
    assert [job.id for job in scheduler.get_jobs()] == ["job"]


def test_a_second_init_app_adds_nothing(scheduler, app):
    scheduler.init_app(app)
    rules = list(app.url_map.iter_rules())
    scheduler.init_app(app)
    assert list(app.url_map.iter_rules()) == rules


# When they leave


async def leave_while(client: Any, path: str, underway: Any) -> None:
    """POST, and close the connection once `underway` holds, which cancels the view."""
    connection = client.request(path, method="POST")
    async with connection:
        await connection.send_complete()
        while not underway():
            await asyncio.sleep(0)
        await connection.disconnect()


async def test_a_run_goes_on_when_the_client_disconnects(client, scheduler):
    gate = asyncio.Event()
    scheduler.add_job("slow", gate.wait, trigger="interval", hours=1)
    await leave_while(client, "/scheduler/jobs/slow/run", scheduler.scheduler.runner.under_way.runs)
    assert scheduler.history.records() == []
    gate.set()
    while not scheduler.history.records():
        await asyncio.sleep(0)
    assert scheduler.history.records()[0].outcome == "succeeded"


async def test_a_shutdown_goes_on_when_the_client_disconnects(app):
    """Where no lifespan serves, the shutdown frees the loop too, and without its end no start can follow."""
    gate = asyncio.Event()
    scheduler = APScheduler(Scheduler(timezone="UTC"), app)
    scheduler.add_job("slow", gate.wait, trigger="interval", hours=1)
    await scheduler.aio.start()
    await scheduler.aio.run_job("slow")
    client = app.test_client()
    leaving = asyncio.create_task(leave_while(client, "/scheduler/shutdown", lambda: not scheduler.running))
    for _ in range(50):
        await asyncio.sleep(0)
    assert scheduler.scheduler.runner.under_way.runs()
    gate.set()
    await asyncio.gather(leaving, return_exceptions=True)
    assert scheduler.history.records()[0].outcome == "succeeded"
    assert await send(client, "POST", "/scheduler/start") == (204, None)
    await scheduler.aio.shutdown()
