"""Runs by hand and backfills over REST: other arguments, repeated requests, past fires."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from quart import Quart

from quart_sched.auth import HTTPBasicAuth
from tests.stores.cluster import Cluster
from tests.stores.peers import at, outage

seen: list[Any] = []
goes_on = asyncio.Event()
RUN, BACKFILL = "/scheduler/jobs/job/run", "/scheduler/jobs/job/backfill"
KEY = {"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global goes_on
    goes_on = asyncio.Event()
    seen.clear()


async def notes(*args: int, **kwargs: Any) -> None:
    seen.append((args, kwargs))


async def adds(first: Any = 1, second: Any = 2) -> None:
    seen.append((first, second))


async def fails() -> None:
    seen.append(None)
    raise LookupError("not there")


async def waits() -> None:
    seen.append(None)
    await goes_on.wait()


@pytest.fixture
def app() -> Quart:
    application = Quart("run_now_app")
    application.config.update(SCHEDULER_API_ENABLED=True, TESTING=True, SCHEDULER_SHUTDOWN_TIMEOUT=0)
    return application


@pytest.fixture
async def client(scheduler, app, serve):
    every = {"trigger": "interval", "minutes": 1, "start_date": at(-610)}
    scheduler.add_job("job", adds, **every)
    scheduler.add_job("broken", fails, **every)
    scheduler.add_job("slow", waits, **every)
    async with serve(scheduler, app) as test_client:
        yield test_client


# Arguments


@pytest.mark.parametrize("body", [b"", b" ", b"null", b"{}", b'{"args": null, "kwargs": null}'])
async def test_without_arguments_it_runs_with_the_jobs_own(client, body):
    response = await client.post(RUN, data=body)
    assert response.status_code == 200
    assert "Idempotent-Replayed" not in response.headers
    assert seen == [(1, 2)]


async def test_arguments_are_those_of_one_run_and_tagged_where_json_lacks_them(client):
    body = {"args": [{"$datetime": "2026-01-31T12:00:00+00:00"}], "kwargs": {"second": {"$tuple": [1, 2]}}}
    response = await client.post(RUN, json=body)
    shown = await response.get_json()
    assert (response.status_code, shown["args"], shown["kwargs"]) == (200, [], {})
    assert (await client.post(RUN, json={"args": []})).status_code == 200
    assert seen == [(datetime(2026, 1, 31, 12, tzinfo=UTC), (1, 2)), (1, 2)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"args": [1, 2, 3]}, "args: do not fit"),
        ({"kwargs": {"third": 3}}, "args: do not fit"),
        ({"args": {"first": 1}}, "args: is {'first': 1}; expected a list"),
        ({"kwargs": [1]}, "kwargs: is [1]; expected an object"),
        ({"args": [{"$datetime": "soon"}]}, "args[0]: is '$datetime' of 'soon', which is none"),
        ({"args": [], "wait": 1}, "wait: is 1, but not known here; expected args, kwargs"),
        ({"state": "paused"}, "state: is 'paused', but not known here"),
        ([], "The body is a JSON list; expected an object"),
    ],
)
async def test_what_is_wrong_with_the_body_is_named_and_nothing_runs(client, body, message):
    response = await client.post(RUN, json=body)
    assert response.status_code == 400
    assert message in (await response.get_json())["error_message"]
    assert seen == []


async def test_other_arguments_need_the_right_of_an_admin(client, scheduler):
    scheduler.auth = HTTPBasicAuth()
    scheduler.authenticate(lambda auth: {"read", "operate"} if auth["username"] == "operator" else True)
    operator = {"auth": ("operator", "")}
    for body in ({"args": [1]}, {"kwargs": {}}, {"args": []}):
        response = await client.post(RUN, json=body, **operator)
        assert response.status_code == 403
        assert "'admin'" in (await response.get_json())["error_message"]
    assert seen == []
    assert (await client.post(RUN, json={}, **operator)).status_code == 200
    assert (await client.post(BACKFILL, json={"start": at(-1).isoformat()}, **operator)).status_code == 202
    assert (await client.post(RUN, json={"args": [5]}, auth=("root", ""))).status_code == 200
    assert seen == [(1, 2), (5, 2)]


# Repeated requests


async def test_a_repeated_request_is_answered_as_the_first_was(client):
    first = await client.post(RUN, headers=KEY)
    again = await client.post(RUN, headers=KEY)
    assert (first.status_code, again.status_code) == (200, 200)
    assert await first.get_json() == await again.get_json()
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    assert seen == [(1, 2)]


async def test_a_repeated_request_for_a_run_that_failed_says_so_again(client):
    answers = [await client.post("/scheduler/jobs/broken/run", headers=KEY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [500, 500]
    first, again = [await answer.get_json() for answer in answers]
    assert first == again
    assert first["error_message"] == "Job broken failed: not there"
    assert len(seen) == 1


async def test_while_the_run_is_under_way_both_are_told_its_id(client, clock):
    answers = [await client.post("/scheduler/jobs/slow/run?wait=0", headers=KEY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert await answers[0].get_json() == await answers[1].get_json()
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    waiting = asyncio.create_task(client.post("/scheduler/jobs/slow/run?wait=30", headers=KEY))
    await clock.advance(seconds=1)
    goes_on.set()
    await clock.advance(seconds=1)
    assert (await waiting).status_code == 200
    assert len(seen) == 1


async def test_a_repeated_request_is_told_the_run_whose_record_is_not_kept_any_more(scheduler, app, serve):
    scheduler.add_job("job", adds, trigger="interval", minutes=1)
    async with serve(scheduler, app, SCHEDULER_HISTORY_SIZE=1) as client:
        first, _ = await client.post(RUN, headers=KEY), await client.post(RUN)
        again = await client.post(RUN, headers=KEY)
        assert (first.status_code, again.status_code, again.headers["Idempotent-Replayed"]) == (200, 202, "true")
        told = await again.get_json()
        assert (told["job_id"], told.keys()) == ("job", {"job_id", "run_id"})
        assert await scheduler.aio.run(told["run_id"]) is None
    assert len(seen) == 2


async def test_a_key_for_another_request_is_422(client):
    await client.post(RUN, headers=KEY)
    for path, body in ((RUN, {"args": [1]}), ("/scheduler/jobs/broken/run", {})):
        response = await client.post(path, headers=KEY, json=body)
        assert response.status_code == 422
        assert "expected a new key" in (await response.get_json())["error_message"]
    assert len(seen) == 1


async def test_a_request_that_was_refused_does_not_use_up_its_key(client, clock):
    assert (await client.post(RUN, headers=KEY, json={"args": [1, 2, 3]})).status_code == 400
    await client.post("/scheduler/jobs/slow/run?wait=0")
    await clock.advance(seconds=0)
    assert (await client.post("/scheduler/jobs/slow/run", headers=KEY)).status_code == 409
    assert (await client.post("/scheduler/jobs/nothing/run", headers=KEY)).status_code == 404
    response = await client.post(RUN, headers=KEY)
    assert (response.status_code, "Idempotent-Replayed" in response.headers) == (200, False)


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel"])
async def test_a_key_of_the_wrong_form_is_400(client, key):
    response = await client.post(RUN, headers={"Idempotency-Key": key})
    assert response.status_code == 400
    assert "Idempotency-Key: is " in (await response.get_json())["error_message"]
    assert seen == []


# Backfills


async def test_a_backfill_answers_with_the_runs_that_it_begins(client, clock):
    body = {"start": "2026-03-02T11:58:00", "end": "2026-03-02T12:00:00Z", "dry_run": True}
    response = await client.post(BACKFILL, json=body)
    shown = await response.get_json()
    fires = ["2026-03-02T11:58:50+00:00", "2026-03-02T11:59:50+00:00"]
    assert response.status_code == 200
    assert shown == {
        "job_id": "job",
        "dry_run": True,
        "left_out": 0,
        "items": [{"scheduled_at": fire, "run_id": None} for fire in fires],
    }
    response = await client.post(BACKFILL, json=body | {"dry_run": False})
    begun = await response.get_json()
    assert (response.status_code, begun["dry_run"], begun["left_out"]) == (202, False, 0)
    await clock.advance(seconds=0)
    records = (await (await client.get("/scheduler/jobs/job/runs")).get_json())["items"]
    assert [(record["run_id"], record["scheduled_at"], record["cause"]) for record in reversed(records)] == [
        (item["run_id"], item["scheduled_at"], "backfill") for item in begun["items"]
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "start: is missing"),
        ({"start": 1}, "start: is 1"),
        (
            {"start": "2026-03-02T11:00:00", "end": "2026-03-02T11:00:00"},
            "start: is 2026-03-02T11:00:00+00:00; expected",
        ),
        ({"start": "2026-03-02T11:00:00", "end": "2026-03-02T12:00:01"}, "end: is 2026-03-02T12:00:01+00:00; expected"),
        (
            {"start": "2026-03-02T11:00:00", "dry-run": True},
            "dry-run: is True, but not known here; expected start, end, dry_run",
        ),
        ({"start": "2026-03-02T11:00:00", "rerun": 1}, "rerun: is 1; expected true or false"),
        ({"start": "2026-03-02T11:00:00", "concurrency": 0}, "concurrency: is 0; expected a whole number"),
    ],
)
async def test_what_is_wrong_with_a_backfill_is_named(client, body, message):
    response = await client.post(BACKFILL, json=body)
    assert response.status_code == 400
    assert message in (await response.get_json())["error_message"]


async def test_a_backfill_needs_a_job_and_a_body(client, scheduler):
    body = {"start": at(-60).isoformat()}
    assert (await client.post("/scheduler/jobs/nothing/backfill", json=body)).status_code == 404
    assert (await client.post(BACKFILL)).status_code == 400
    scheduler.scheduler.runner.draining = True
    assert (await client.post(BACKFILL, json=body)).status_code == 503
    assert (await client.post(RUN)).status_code == 503


# In a store that processes share


async def test_any_process_answers_a_repeated_request(cluster: Cluster):
    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", adds, trigger="interval", days=1, start_date=at(3600))

    first, second = [await cluster.start(declare) for _ in range(2)]
    answers = []
    for process in (first, second):
        answers.append(await process.rest("POST", "/jobs/job/run", headers=KEY, json={"args": [5]}))
        await cluster.rest()  # The other process knows of an end when it has been written down.
    assert [status for status, _ in answers] == [200, 200]
    assert answers[0][1] == answers[1][1]
    assert seen == [(5, 2)]
    status, _ = await second.rest("POST", "/jobs/job/run", headers=KEY, json={"args": [6]})
    assert status == 422
    with outage(second.slot.store.database):
        status, _ = await second.rest("POST", "/jobs/job/run", headers=KEY, json={"args": [5]})
        assert status == 503
