"""The REST API, as its users see it: Flask-APScheduler's endpoints, and better answers."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quart import Quart

from quart_sched import APScheduler, Scheduler

MODULE = __name__


async def coroutine(*args: Any, **kwargs: Any) -> str:
    return "done"


def function(a: int, b: int = 2) -> int:
    return a + b


@pytest.fixture
def app() -> Quart:
    application = Quart("rest_app")
    application.config.update(
        SCHEDULER_API_ENABLED=True, SCHEDULER_TIMEZONE="UTC", SCHEDULER_API_ALLOWED_FUNCS=[f"{MODULE}:*"], TESTING=True
    )
    return application


@pytest.fixture
async def client(scheduler, app, serve):
    scheduler.add_job("job", coroutine, trigger="interval", hours=1)
    async with serve(scheduler, app) as test_client:
        yield test_client


async def body(response: Any) -> Any:
    return json.loads(await response.get_data())


async def send(client: Any, method: str, path: str, data: Any = None) -> tuple[int, Any]:
    response = await client.open(path, method=method, data=json.dumps(data) if data is not None else None)
    text = await response.get_data()
    return response.status_code, json.loads(text) if text else None


# Reading


async def test_the_scheduler_tells_about_itself(client, scheduler):
    status, info = await send(client, "GET", "/scheduler")
    assert status == 200
    assert list(info)[:3] == ["current_host", "allowed_hosts", "running"]
    assert (info["running"], info["state"], info["scope"], info["timezone"]) == (True, "running", "process", "UTC")
    assert info["jobstores"] == {"default": {"available": True, "error": None}}
    assert info["current_host"] == scheduler.host_name


async def test_a_job_has_flask_apschedulers_keys_in_their_order_then_ours(client):
    status, jobs = await send(client, "GET", "/scheduler/jobs")
    assert status == 200
    assert list(jobs[0]) == [
        "id", "name", "func", "args", "kwargs", "trigger", "start_date", "hours", "timezone", "misfire_grace_time",
        "max_instances", "next_run_time", "coalesce", "run_on_start", "overlap", "max_queue", "on_crash", "timeout",
        "retry", "overdue_after", "description", "tags", "executor", "jobstore", "trigger_description", "state",
    ]  # fmt: skip
    assert await send(client, "GET", "/scheduler/jobs/job") == (200, jobs[0])


async def test_jobs_that_wait_for_the_start_are_listed_as_they_are_by_now(scheduler, app, serve):
    scheduler.add_job("job", coroutine, trigger="interval", hours=1)
    scheduler.add_job("paused", coroutine, trigger="interval", hours=1, next_run_time=None)
    scheduler.init_app(app)
    async with app.test_app() as test_app:
        client = test_app.test_client()
        for name in ("job", "another"):
            await send(client, "PATCH", "/scheduler/jobs/job", {"name": name})
            status, jobs = await send(client, "GET", "/scheduler/jobs")
            assert status == 200
            assert [(job["id"], job["name"], job["state"]) for job in jobs] == [
                ("job", name, "pending"), ("paused", "paused", "pending"),
            ]  # fmt: skip


@pytest.mark.parametrize("pretty", [False, True])
async def test_the_list_moves_on_with_the_fires(scheduler, app, serve, clock, pretty):
    options = {"trigger": "interval", "seconds": 10, "description": 'the "next_run_time": null'}
    scheduler.add_job("job", coroutine, kwargs={"next_run_time": None}, **options)
    async with serve(scheduler, app, JSONIFY_PRETTYPRINT_REGULAR=pretty) as client:
        seen = []
        for _ in range(3):
            _, [job] = await send(client, "GET", "/scheduler/jobs")
            assert job == (await send(client, "GET", "/scheduler/jobs/job"))[1]
            seen.append(job["next_run_time"])
            await clock.advance(seconds=10)
        assert len(set(seen)) == 3
        for verb in ("pause", "resume"):
            await send(client, "POST", f"/scheduler/jobs/job/{verb}")
            assert await send(client, "GET", "/scheduler/jobs/job") == (
                200,
                (await send(client, "GET", "/scheduler/jobs"))[1][0],
            )
        await send(client, "PATCH", "/scheduler/jobs/job", {"name": "other"})
        assert (await send(client, "GET", "/scheduler/jobs"))[1][0]["name"] == "other"


async def test_without_jobs_the_list_is_empty(client):
    await send(client, "DELETE", "/scheduler/jobs/job")
    assert await send(client, "GET", "/scheduler/jobs") == (200, [])


async def test_json_is_pretty_on_demand(scheduler, app, serve):
    scheduler.add_job("job", coroutine, trigger="interval", hours=1)
    scheduler.add_job("umläut", coroutine, trigger="interval", hours=1)
    async with serve(scheduler, app, JSONIFY_PRETTYPRINT_REGULAR=True) as client:
        text = (await (await client.get("/scheduler/jobs")).get_data()).decode()
        assert text.startswith('[\n  {\n    "id": "job",\n')
        assert "umläut" in text
        assert [job["id"] for job in json.loads(text)] == ["job", "umläut"]


async def test_pretty_json_leaves_line_breaks_of_unicode_within_texts_alone(scheduler, app, serve):
    name = "a\u2028b\u2029c\x85d\x0be"
    scheduler.add_job("job", coroutine, name=name, trigger="interval", hours=1)
    async with serve(scheduler, app, JSONIFY_PRETTYPRINT_REGULAR=True) as client:
        _, [job] = await send(client, "GET", "/scheduler/jobs")
        assert job["name"] == name
        _, page = await send(client, "GET", "/scheduler/jobs?limit=5")
        assert page["items"] == [job]


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("path", ["/scheduler/jobs", "/scheduler/jobs?limit=500"])
async def test_a_long_list_goes_out_in_chunks(scheduler, app, serve, path, pretty):
    for number in range(500):
        scheduler.add_job(f"job-{number}", coroutine, trigger="interval", hours=1)
    chunks = []
    serving = serve(scheduler, app, JSONIFY_PRETTYPRINT_REGULAR=pretty)
    async with serving as client, client.request(path) as connection:
        await connection.send_complete()
        while chunk := await connection.receive():
            chunks.append(chunk)
    text = b"".join(chunks)
    found = json.loads(text)
    assert text.decode() == json.dumps(found, indent=2 if pretty else None)
    assert len(found["items"] if "limit" in path else found) == 500
    assert connection.headers["Content-Length"] == str(len(text))
    assert max(map(len, chunks)) < 100_000


async def test_a_short_list_goes_out_at_once(client):
    async with client.request("/scheduler/jobs") as connection:
        await connection.send_complete()
        assert json.loads(await connection.receive())[0]["id"] == "job"
        assert await connection.receive() == b""


async def test_arguments_that_json_lacks_are_shown_tagged(client, scheduler):
    marker = object()
    await scheduler.aio.add_job("open", coroutine, args=[marker, (1,)], trigger="interval", hours=1)
    _, job = await send(client, "GET", "/scheduler/jobs/open")
    assert job["args"] == [{"$repr": "<object object>"}, {"$tuple": [1]}]
    assert await send(client, "PATCH", "/scheduler/jobs/open", job) == (200, job)
    status, error = await send(client, "PATCH", "/scheduler/jobs/open", job | {"args": [{"$repr": "x"}]})
    assert status == 400
    assert "args[0]" in error["error_message"]


async def test_the_api_is_off_unless_enabled(scheduler, serve):
    async with serve(scheduler, Quart("closed")) as client:
        assert (await client.get("/scheduler")).status_code == 404


async def test_prefixes_are_configurable(scheduler, app, serve):
    async with serve(scheduler, app, SCHEDULER_API_PREFIX="/cron", SCHEDULER_ENDPOINT_PREFIX="cron_") as client:
        assert (await client.get("/cron/jobs")).status_code == 200
        assert "cron_get_jobs" in app.view_functions


# Steering the scheduler


async def test_pause_resume_shutdown_and_start(client, scheduler):
    for verb, state in (("pause", 2), ("resume", 1), ("shutdown", 0), ("start", 1)):
        assert await send(client, "POST", f"/scheduler/{verb}") == (204, None)
        assert scheduler.state == state


async def test_it_can_be_started_paused_and_shut_down_without_waiting(client, scheduler):
    assert await send(client, "POST", "/scheduler/shutdown", {"wait": False}) == (204, None)
    assert await send(client, "POST", "/scheduler/start", {"paused": True}) == (204, None)
    assert scheduler.state == 2


async def test_what_is_running_or_stopped_already_answers_400(client, scheduler):
    status, error = await send(client, "POST", "/scheduler/start")
    assert (status, error) == (400, {"error_message": "Scheduler is already running"})
    await send(client, "POST", "/scheduler/shutdown")
    for verb in ("pause", "resume", "shutdown"):
        status, error = await send(client, "POST", f"/scheduler/{verb}")
        assert (status, error) == (400, {"error_message": "Scheduler is not running"})


async def test_the_verbs_on_jobs_work_while_the_scheduler_is_stopped(client, scheduler):
    await send(client, "POST", "/scheduler/shutdown")
    status, _ = await send(client, "POST", "/scheduler/jobs", new())
    assert status == 200
    assert (await send(client, "POST", "/scheduler/jobs/new/run"))[0] == 200
    assert (await send(client, "DELETE", "/scheduler/jobs/new"))[0] == 204


async def test_an_option_of_another_type_is_refused(client):
    status, error = await send(client, "POST", "/scheduler/shutdown", {"wait": "no"})
    assert (status, error) == (400, {"error_message": "wait: is 'no'; expected true or false"})


# Adding


def new(**more: Any) -> dict[str, Any]:
    return {"id": "new", "func": f"{MODULE}:coroutine", "trigger": "interval", "minutes": 5} | more


async def test_a_job_is_added_and_shown(client, scheduler):
    status, job = await send(
        client,
        "POST",
        "/scheduler/jobs",
        new(args=[1, {"$datetime": "2026-01-01T00:00:00+00:00"}], kwargs={"k": None}, max_instances=3, coalesce=False),
    )
    assert status == 200
    assert (job["id"], job["name"], job["minutes"], job["max_instances"]) == ("new", "new", 5, 3)
    live = scheduler.get_job("new")
    assert live.args[1].year == 2026
    assert live.kwargs == {"k": None}
    assert live.coalesce is False


async def test_what_get_shows_can_be_posted_again(client, scheduler):
    await send(client, "POST", "/scheduler/jobs", new(args=[{"$tuple": [1]}], jitter=5))
    _, shown = await send(client, "GET", "/scheduler/jobs/new")
    await send(client, "DELETE", "/scheduler/jobs/new")
    assert await send(client, "POST", "/scheduler/jobs", shown) == (200, shown)


async def test_the_older_form_of_a_trigger_is_understood(client):
    data = {"id": "new", "func": f"{MODULE}:coroutine", "trigger": {"type": "cron", "hour": 3}}
    status, job = await send(client, "POST", "/scheduler/jobs", data)
    assert (status, job["trigger"], job["hour"]) == (200, "cron", "3")


async def test_a_taken_id_is_409(client):
    status, error = await send(client, "POST", "/scheduler/jobs", new(id="job"))
    assert status == 409
    assert "Job job already exists" in error["error_message"]


async def test_replace_existing_replaces(client):
    status, job = await send(client, "POST", "/scheduler/jobs", new(id="job", replace_existing=True))
    assert (status, job["minutes"]) == (200, 5)


BAD_JOBS = [
    (new(id=None), "id"),
    (new(id=5), "id"),
    (new(id=""), "id"),
    (new(id="/new"), "id"),
    ({"func": f"{MODULE}:coroutine"}, "id"),
    ({"id": "new"}, "func"),
    (new(func=5), "func"),
    (new(func=None), "func"),
    (new(trigger="weekly"), "trigger"),
    (new(minutes="5"), "minutes"),
    (new(minute=5), "minute"),
    (new(args=5), "args"),
    (new(args={"$tuple": []}), "args"),
    (new(args=[{"$nonsense": 1}]), "args[0]"),
    (new(kwargs=[1]), "kwargs"),
    (new(kwargs={"$dict": [[1, 2]]}), "kwargs"),
    (new(max_instances=0), "max_instances"),
    (new(max_instances=True), "max_instances"),
    (new(max_instances=10**30), "max_instances"),
    (new(misfire_grace_time=-1), "misfire_grace_time"),
    (new(misfire_grace_time=1.5), "misfire_grace_time"),
    (new(coalesce="yes"), "coalesce"),
    (new(on_crash="again"), "on_crash"),
    (new(next_run_time="soon"), "next_run_time"),
    (new(next_run_time=5), "next_run_time"),
    (new(executor="nobody"), "executor"),
    (new(executor=5), "executor"),
    (new(jobstore="nowhere"), "jobstore"),
    (new(replace_existing=1), "replace_existing"),
    (new(name=5), "name"),
    (new(max_instance=5), "max_instance"),
    (new(func=f"{MODULE}:function"), "args"),
    (new(func=f"{MODULE}:function", args=[1], kwargs={"a": 1}), "args"),
    ({"id": "new", "func": f"{MODULE}:coroutine", "seconds": 5}, "seconds"),
]


@pytest.mark.parametrize(("data", "field"), BAD_JOBS, ids=lambda value: str(value)[:60])
async def test_bad_input_is_400_names_the_key_and_changes_nothing(client, scheduler, data, field):
    status, error = await send(client, "POST", "/scheduler/jobs", data)
    assert status == 400
    assert error["error_message"].startswith(f"{field}: ")
    assert [job.id for job in scheduler.get_jobs()] == ["job"]


async def test_a_combination_without_a_common_fire_is_400(client, scheduler):
    parts = [{"trigger": "interval", "seconds": 10, "start_date": f"2026-01-01T00:00:00{part}"} for part in ("", ".5")]
    never = {"trigger": "and", "triggers": parts}
    status, error = await send(client, "POST", "/scheduler/jobs", {"id": "new", "func": f"{MODULE}:coroutine", **never})
    assert status == 400
    assert error["error_message"].startswith("trigger: gives no next fire: ValueError")
    assert (await send(client, "PATCH", "/scheduler/jobs/job", never))[0] == 400
    assert [job.id for job in scheduler.get_jobs()] == ["job"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"5",
        b"null",
        b'{"id": NaN}',
        b'{"id": "a", "id": "b"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
async def test_a_body_that_is_no_json_object_is_400(client, raw):
    response = await client.post("/scheduler/jobs", data=raw)
    assert response.status_code == 400
    assert "body" in (await body(response))["error_message"]


# Changing


async def test_patch_changes_what_is_given_and_nothing_else(client, scheduler, clock):
    before = (await send(client, "GET", "/scheduler/jobs/job"))[1]
    status, job = await send(client, "PATCH", "/scheduler/jobs/job", {"name": "renamed", "args": [1], "id": "job"})
    assert status == 200
    assert job == before | {"name": "renamed", "args": [1]}


async def test_patching_what_get_shows_changes_nothing(client, clock):
    before = (await send(client, "GET", "/scheduler/jobs/job"))[1]
    clock.suspend(seconds=60)
    assert await send(client, "PATCH", "/scheduler/jobs/job", before) == (200, before)


async def test_a_job_sent_back_after_it_fired_does_not_fire_again(client, scheduler, clock):
    before = (await send(client, "GET", "/scheduler/jobs/job"))[1]
    await clock.advance(seconds=3600)
    _, after = await send(client, "PATCH", "/scheduler/jobs/job", before | {"name": "renamed"})
    await clock.advance(seconds=10)
    assert after["next_run_time"] > before["next_run_time"]
    assert len(scheduler.history.records("job")) == 1


async def test_a_new_trigger_counts_from_now_and_an_equal_one_leaves_the_next_fire(client, clock):
    before = (await send(client, "GET", "/scheduler/jobs/job"))[1]
    clock.suspend(seconds=60)
    _, same = await send(client, "PATCH", "/scheduler/jobs/job", {"trigger": "interval", "hours": 1})
    assert same["next_run_time"] == before["next_run_time"]
    _, other = await send(client, "PATCH", "/scheduler/jobs/job", {"trigger": "interval", "seconds": 10})
    assert other["next_run_time"] == "2026-03-02T12:01:10+00:00"


async def test_a_paused_job_stays_paused_when_its_trigger_changes(client):
    await send(client, "POST", "/scheduler/jobs/job/pause")
    _, job = await send(client, "PATCH", "/scheduler/jobs/job", {"trigger": "interval", "seconds": 10})
    assert (job["state"], job["next_run_time"], job["seconds"]) == ("paused", None, 10)


async def test_a_crontab_can_be_posted_sent_back_as_it_is_shown_and_changed(client, clock):
    given = {"id": "new", "func": f"{MODULE}:coroutine", "trigger": "crontab", "expression": "*/5 13-17 * * mon-fri"}
    status, shown = await send(client, "POST", "/scheduler/jobs", given)
    assert (status, shown["expression"], shown["timezone"]) == (200, "*/5 13-17 * * mon-fri", "UTC")
    assert shown["next_run_time"] == "2026-03-02T13:00:00+00:00"
    assert shown["trigger_description"] == "every 5 minutes, between 13:00 and 17:59, from Monday to Friday (UTC)"
    clock.suspend(seconds=600)
    assert await send(client, "PATCH", "/scheduler/jobs/new", shown) == (200, shown)
    status, changed = await send(client, "PATCH", "/scheduler/jobs/new", shown | {"expression": "@daily"})
    assert (status, changed["trigger_description"]) == (200, "at 00:00 (UTC)")
    assert changed["next_run_time"] == "2026-03-03T00:00:00+00:00"
    status, refused = await send(client, "PATCH", "/scheduler/jobs/new", changed | {"expression": "0 0 31 2 *"})
    assert (status, "never fires" in refused["error_message"]) == (400, True)
    assert await send(client, "GET", "/scheduler/jobs/new") == (200, changed)


async def test_an_offset_of_seconds_is_sent_back_as_it_is_shown(client):
    given = {"id": "new", "func": f"{MODULE}:coroutine", "run_date": "2099-01-01T00:00:00+01:30:30"}
    status, shown = await send(client, "POST", "/scheduler/jobs", given)
    assert (status, shown["run_date"], shown["timezone"]) == (200, given["run_date"], "+01:30:30")
    assert await send(client, "PATCH", "/scheduler/jobs/new", shown) == (200, shown)
    _, changed = await send(client, "PATCH", "/scheduler/jobs/new", shown | {"run_date": "2099-01-02T00:00:00"})
    assert changed["run_date"] == "2099-01-02T00:00:00+01:30:30"


@pytest.mark.parametrize("store", ["default", "other"])
async def test_a_job_that_waits_for_the_start_shows_its_store_and_can_be_sent_back(scheduler, app, serve, store):
    stores = {"default": {"type": "memory"}, "other": {"type": "memory"}}
    scheduler.add_job("job", coroutine, trigger="interval", hours=1, jobstore=store)
    async with serve(scheduler, app, start=False, SCHEDULER_JOBSTORES=stores) as client:
        shown = (await send(client, "GET", "/scheduler/jobs/job"))[1]
        assert (shown["state"], shown["jobstore"]) == ("pending", store)
        assert (await send(client, "GET", "/scheduler/jobs"))[1] == [shown]
        assert await send(client, "PATCH", "/scheduler/jobs/job", shown) == (200, shown)
        assert await send(client, "POST", "/scheduler/jobs", shown | {"id": "new"}) == (200, shown | {"id": "new"})
        await scheduler.aio.start()
        assert [job.id for job in await scheduler.aio.get_jobs(store)] == ["job", "new"]


async def test_a_next_run_time_can_be_set(client):
    _, job = await send(client, "PATCH", "/scheduler/jobs/job", {"next_run_time": "2026-03-02T13:00:00"})
    assert job["next_run_time"] == "2026-03-02T13:00:00+00:00"


BAD_CHANGES = [
    ({"id": "other"}, "id"),
    ({"state": "paused"}, "state"),
    ({"trigger_description": "now and then"}, "trigger_description"),
    ({"jobstore": "other"}, "jobstore"),
    ({"seconds": 5}, "seconds"),
    ({"trigger": "interval", "seconds": -5}, "seconds"),
    ({"trigger": None, "seconds": 5}, "seconds"),
    ({"name": ""}, "name"),
    ({"func": 5}, "func"),
    ({"func": None}, "func"),
    ({"func": f"{MODULE}:function"}, "args"),
    ({"max_instances": "1"}, "max_instances"),
    ({"coalesce": 1}, "coalesce"),
    ({"on_crash": None}, "on_crash"),
    ({"version": 1}, "version"),
    ({"executor": "nobody"}, "executor"),
    ({"replace_existing": True}, "replace_existing"),
    ({"misfire_grace_time": 0}, "misfire_grace_time"),
]


@pytest.mark.parametrize(("data", "field"), BAD_CHANGES, ids=lambda value: str(value)[:60])
async def test_a_bad_patch_is_400_and_changes_nothing_of_it(client, data, field):
    before = (await send(client, "GET", "/scheduler/jobs/job"))[1]
    good = {"kwargs": {"k": 1}} if field != "args" else {}
    status, error = await send(client, "PATCH", "/scheduler/jobs/job", good | data)
    assert status == 400
    assert error["error_message"].startswith(f"{field}: ")
    assert (await send(client, "GET", "/scheduler/jobs/job"))[1] == before


class Array(list[int]):
    """Compares as those of numpy do: item by item, which is neither true nor false."""

    __hash__ = None

    def __eq__(self, other: object) -> Any:
        raise ValueError("The truth value of an array is ambiguous")


@pytest.mark.parametrize("value", [Array(), Decimal("sNaN")], ids=["array", "decimal"])
async def test_arguments_that_cannot_be_compared_can_be_changed(client, scheduler, value):
    await scheduler.aio.add_job("odd", coroutine, args=[value], trigger="interval", hours=1)
    await scheduler.aio.add_job("odd", coroutine, args=[value], trigger="interval", hours=2, replace_existing=True)
    shown = (await send(client, "GET", "/scheduler/jobs/odd"))[1]
    assert (await send(client, "PATCH", "/scheduler/jobs/odd", shown | {"name": "new"}))[0] == 200
    status, changed = await send(client, "PATCH", "/scheduler/jobs/odd", {"args": [1]})
    assert (status, changed["name"], changed["args"]) == (200, "new", [1])


async def test_a_lambda_job_can_be_patched_around_its_function(client, scheduler):
    scheduler.add_job("lambda", lambda: None, trigger="interval", hours=1)
    _, shown = await send(client, "GET", "/scheduler/jobs/lambda")
    assert shown["func"] is None
    status, job = await send(client, "PATCH", "/scheduler/jobs/lambda", shown | {"name": "renamed"})
    assert (status, job["name"]) == (200, "renamed")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/run")],
)
async def test_an_unknown_job_is_404(client, method, path):
    status, error = await send(client, method, f"/scheduler/jobs/nobody{path}", {} if method == "PATCH" else None)
    assert (status, error) == (404, {"error_message": "Job nobody not found"})


async def test_pause_and_resume_answer_with_the_job(client):
    status, job = await send(client, "POST", "/scheduler/jobs/job/pause")
    assert (status, job["state"], job["next_run_time"]) == (200, "paused", None)
    status, job = await send(client, "POST", "/scheduler/jobs/job/resume")
    assert (status, job["state"]) == (200, "scheduled")


async def test_resuming_a_schedule_that_is_over_answers_with_the_job_as_it_was(client, scheduler, clock):
    await send(client, "POST", "/scheduler/jobs", new(end_date="2026-03-02T12:10:00"))
    await send(client, "POST", "/scheduler/jobs/new/pause")
    clock.suspend(seconds=3600)
    status, job = await send(client, "POST", "/scheduler/jobs/new/resume")
    assert (status, job["id"], job["state"]) == (200, "new", "ended")
    assert scheduler.get_job("new") is None


async def test_a_deleted_job_is_gone(client, scheduler):
    assert await send(client, "DELETE", "/scheduler/jobs/job") == (204, None)
    assert scheduler.get_jobs() == []


@pytest.mark.parametrize("job_id", ["a/b", "ü", "a b", "a?b", "x" * 500, "..", "\x00", "a\nb", "a\n", "\u2028"])
async def test_any_id_can_be_reached(client, job_id):
    status, _ = await send(client, "POST", "/scheduler/jobs", new(id=job_id))
    assert status == 200
    from urllib.parse import quote

    status, job = await send(client, "GET", f"/scheduler/jobs/{quote(job_id)}")
    if job_id != "..":  # which a URL means otherwise
        assert (status, job["id"]) == (200, job_id)


# Running


async def test_run_waits_and_answers_with_the_job(client, scheduler):
    status, job = await send(client, "POST", "/scheduler/jobs/job/run")
    assert (status, job["id"]) == (200, "job")
    [record] = scheduler.history.records()
    assert (record.outcome, record.cause) == ("succeeded", "api")


async def test_a_run_that_fails_is_500_with_its_error(client, scheduler):
    async def fail() -> None:
        raise ValueError("as asked")

    scheduler.add_job("bad", fail, trigger="interval", hours=1)
    status, error = await send(client, "POST", "/scheduler/jobs/bad/run")
    assert status == 500
    assert error["error_message"] == "Job bad failed: as asked"


async def test_a_run_that_takes_longer_is_202_and_a_second_one_409(client, scheduler, clock):
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()

    scheduler.add_job("slow", slow, trigger="interval", hours=1)
    asked = asyncio.create_task(send(client, "POST", "/scheduler/jobs/slow/run?wait=10"))
    await clock.advance(seconds=10)
    status, answer = await asked
    assert (status, answer["job_id"]) == (202, "slow")
    status, error = await send(client, "POST", "/scheduler/jobs/slow/run")
    assert status == 409
    assert answer["run_id"] in error["error_message"]
    _, info = await send(client, "GET", "/scheduler")
    assert info["running_jobs"] == {answer["run_id"]: "slow"}
    gate.set()


@pytest.mark.parametrize("wait", ["-1", "301", "nan", "soon", ""])
async def test_a_wait_that_is_none_is_400(client, scheduler, wait):
    status, error = await send(client, "POST", f"/scheduler/jobs/job/run?wait={wait}")
    assert status == 400
    assert error["error_message"].startswith("wait: ")
    assert scheduler.history.records() == []


async def test_a_client_that_leaves_does_not_end_the_run(client, scheduler):
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()

    scheduler.add_job("slow", slow, trigger="interval", hours=1)
    request = asyncio.create_task(client.post("/scheduler/jobs/slow/run"))
    while not scheduler.scheduler.runner.under_way.runs():
        await asyncio.sleep(0)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    gate.set()
    while not scheduler.history.records():
        await asyncio.sleep(0)
    assert scheduler.history.records()[0].outcome == "succeeded"


async def test_a_job_that_removes_itself_is_shown_as_it_was(client, scheduler):
    async def once() -> None:
        await scheduler.aio.remove_job("once")

    scheduler.add_job("once", once, trigger="interval", hours=1)
    status, job = await send(client, "POST", "/scheduler/jobs/once/run")
    assert (status, job["id"]) == (200, "once")


async def test_a_broken_job_is_shown_with_the_reason(client, scheduler, clock):
    await send(client, "POST", "/scheduler/jobs", new(seconds=1, minutes=0))
    saved = scheduler.scheduler.runner.executors.pop("default")
    await clock.advance(seconds=2)
    status, error = await send(client, "POST", "/scheduler/jobs/new/run")
    assert (status, error["error_message"][:10]) == (400, "executor: ")
    scheduler.scheduler.runner.executors["default"] = saved
    _, job = await send(client, "GET", "/scheduler/jobs/new")
    assert job["state"] == "broken"
    assert "executor" in job["broken"]
    _, job = await send(client, "POST", "/scheduler/jobs/new/resume")
    assert job["state"] == "scheduled"


async def test_a_large_body_is_answered_as_json(client, app):
    app.config["MAX_CONTENT_LENGTH"] = 10
    status, error = await send(client, "POST", "/scheduler/jobs", new())
    assert status == 413
    assert "error_message" in error


async def test_a_long_list_leaves_the_loop_its_turns(client, scheduler):
    for number in range(2000):
        scheduler.add_job(str(number), coroutine, trigger="interval", hours=1)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    response = await client.get("/scheduler/jobs")
    counting.cancel()
    assert len(await body(response)) == 2001
    assert turns > 10


# Whatever a client sends


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("trigger"), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["id", "func", "name", "args", "kwargs", "trigger", "triggers", "seconds", "hour", "run_date", "start_date",
     "end_date", "timezone", "jitter", "day", "misfire_grace_time", "max_instances", "coalesce", "next_run_time",
     "on_crash", "executor", "jobstore", "state", "broken", "version", "replace_existing", "days", "year",
     "expression", "trigger_description"]
)  # fmt: skip
good = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("fuzz"),
        "func": st.just(f"{MODULE}:coroutine"),
        "trigger": st.sampled_from(["interval", "cron", "crontab", "date", "calendarinterval", "and", "or"]),
        "seconds": st.integers(1, 10**9),
    },
)


@given(st.builds(lambda some, odd: some | odd, good, st.dictionaries(keys, json_values, max_size=4)))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_a_client_sends_makes_a_500(data: dict[str, Any]) -> None:
    async def exchange() -> list[int]:
        app = Quart("fuzzed")
        app.config.update(SCHEDULER_API_ENABLED=True, SCHEDULER_API_ALLOWED_FUNCS=[f"{MODULE}:*"], TESTING=True)
        scheduler = APScheduler(Scheduler(timezone="UTC"), app)
        scheduler.add_job("job", coroutine, trigger="interval", hours=1)
        scheduler.start()
        async with app.test_app() as test_app:
            client = test_app.test_client()
            requests = [("POST", "/scheduler/jobs"), ("PATCH", "/scheduler/jobs/job"), ("POST", "/scheduler/start")]
            statuses = [(await send(client, method, path, data))[0] for method, path in requests]
            return [*statuses, (await client.get("/scheduler/jobs")).status_code]

    assert all(status < 500 for status in asyncio.run(exchange()))


async def test_the_list_shows_each_change_at_once(client, scheduler, clock):
    """The list keeps each job's text until that changes: by a fire, a modification, a pause, or for being broken."""

    async def listed() -> dict[str, Any]:
        (shown,) = (await send(client, "GET", "/scheduler/jobs"))[1]
        assert shown == (await send(client, "GET", "/scheduler/jobs/job"))[1]
        return shown

    first = await listed()
    assert await listed() == first
    await clock.advance(hours=1)
    assert (await listed())["next_run_time"] > first["next_run_time"]
    await send(client, "PATCH", "/scheduler/jobs/job", {"name": "other", "max_instances": 2, "timeout": 5})
    changed = await listed()
    assert (changed["name"], changed["max_instances"], changed["timeout"]) == ("other", 2, 5)
    await send(client, "POST", "/scheduler/jobs/job/pause")
    assert (await listed())["state"] == "paused"
    scheduler.scheduler.catalogue.slots["default"].broken["job"] = "its trigger raised"
    assert (await listed())["broken"] == "its trigger raised"
