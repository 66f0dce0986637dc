"""The run history over REST and through the coroutine verbs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from quart import Quart

from quart_sched.auth import HTTPBasicAuth
from quart_sched.engine.history import Histories
from quart_sched.engine.history_ring import HistoryRing, under_way
from quart_sched.errors import InvalidDefinition
from quart_sched.model.events import RunEnded
from quart_sched.model.ids import first_id
from quart_sched.model.instants import micros
from quart_sched.model.runs import RunPage, RunRecord, to_wire
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.history import SqlHistory
from tests.conftest import START

goes_on = asyncio.Event()


async def tick() -> str:
    return "tick"


async def fail() -> None:
    raise LookupError("not there")


async def wait() -> None:
    await goes_on.wait()


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global goes_on
    goes_on = asyncio.Event()


@pytest.fixture
def app() -> Quart:
    application = Quart("runs_app")
    application.config.update(SCHEDULER_API_ENABLED=True, TESTING=True)
    return application


@pytest.fixture
async def client(scheduler, app, serve):
    scheduler.add_job("job", tick, trigger="interval", hours=1)
    scheduler.add_job("broken", fail, trigger="interval", hours=1)
    scheduler.add_job("slow", wait, trigger="interval", hours=1)
    async with serve(scheduler, app) as test_client:
        engine = scheduler.scheduler
        ring = HistoryRing(100, lambda: under_way(engine.runner))
        engine.stream.subscribe(ring)
        engine.histories = Histories([ring])
        yield test_client
        goes_on.set()


@pytest.fixture
def keep(scheduler, client) -> Callable[..., RunRecord]:
    """Puts a record into the history, of a fire so many seconds after the clock's start."""

    def end(number: int, outcome: Any = "succeeded", job_id: str = "job", **more: Any) -> RunRecord:
        fire = START + timedelta(seconds=number)
        run_id = f"{first_id(micros(fire))[:-12]}{number:012x}"
        record = RunRecord(run_id, run_id, job_id, fire, outcome, "schedule", "host:1")._replace(**more)
        scheduler.scheduler.stream.emit(RunEnded(record, "default"))
        return record

    return end


async def get(client: Any, path: str, **parameters: Any) -> tuple[int, Any]:
    response = await client.get(f"/scheduler{path}?{urlencode(parameters)}")
    return response.status_code, json.loads(await response.get_data())


async def listed(client: Any, path: str = "/runs", **parameters: Any) -> list[str]:
    status, page = await get(client, path, **parameters)
    assert status == 200, page
    assert list(page) == ["items", "next"]
    return [run["run_id"] for run in page["items"]]


# Lists


async def test_the_runs_of_all_jobs_are_listed_newest_first(client, keep):
    records = [keep(1), keep(2, "failed", "broken"), keep(3)]
    status, page = await get(client, "/runs")
    assert (status, page) == (200, {"items": [to_wire(record) for record in reversed(records)], "next": None})


async def test_a_record_is_shown_with_its_keys_in_order(client, keep):
    keep(1, "failed", error_type="LookupError", error_message="not there", started_at=START)
    response = await client.get("/scheduler/runs")
    [run] = json.loads(await response.get_data())["items"]
    assert list(run)[:5] == ["run_id", "fire_id", "job_id", "scheduled_at", "started_at"]
    assert run["scheduled_at"] == "2026-03-02T12:00:01+00:00"
    assert run["error"] == {"type": "LookupError", "message": "not there"}
    assert "traceback" not in run


async def test_what_runs_now_is_listed_as_running(client, scheduler):
    handle = await scheduler.aio.run_job("slow")
    await asyncio.sleep(0)
    [run] = (await get(client, "/runs", outcome="running"))[1]["items"]
    assert (run["run_id"], run["outcome"], run["final"]) == (handle.run_id, "running", False)
    assert (run["finished_at"], run["duration"], run["worker"]) == (None, None, scheduler.scheduler.runner.worker)
    goes_on.set()
    await handle
    assert await listed(client, outcome="running") == []
    assert await listed(client, "/jobs/slow/runs", outcome="succeeded") == [handle.run_id]


async def test_runs_are_filtered_by_job_outcome_and_time(client, keep):
    one, two, three = keep(1), keep(2, "failed"), keep(3, job_id="other")
    assert await listed(client, job_id="other") == [three.run_id]
    assert await listed(client, job_id="nobody") == []
    assert await listed(client, outcome="failed") == [two.run_id]
    assert await listed(client, since="2026-03-02T12:00:02Z") == [three.run_id, two.run_id]
    assert await listed(client, until="2026-03-02T12:00:02Z") == [one.run_id]
    assert await listed(client, since="2026-03-02T12:00:02", until="2026-03-02T14:00:03+02:00") == [two.run_id]
    assert await listed(client, "/jobs/job/runs", outcome="failed", since="2026-03-02") == [two.run_id]
    assert await listed(client, "/jobs/other/runs", outcome="failed") == []


@pytest.mark.parametrize(
    "since", ["2026-03-02T14:00:02+02:00", "2026-03-02T14:00:02.000+0200", "2026-03-02 14:00+02:00"]
)
async def test_the_plus_of_an_offset_need_not_be_encoded(client, keep, since):
    keep(1)
    two = keep(2)
    response = await client.get(f"/scheduler/runs?since={since.replace(' ', '%20')}")
    runs = json.loads(await response.get_data())["items"]
    assert runs[0]["run_id"] == two.run_id
    assert len(runs) == (2 if " " in since else 1)


async def test_a_cursor_leads_from_page_to_page(client, keep):
    records = [keep(number).run_id for number in range(7)]
    for path in ("/runs", "/jobs/job/runs"):
        seen, cursor, sizes = [], {}, []
        while True:
            page = (await get(client, path, limit=3, **cursor))[1]
            seen += [run["run_id"] for run in page["items"]]
            sizes.append(len(page["items"]))
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert seen == records[::-1]
        assert sizes == [3, 3, 1]


async def test_a_page_has_fifty_runs_unless_another_limit_is_given(client, keep):
    for number in range(60):
        keep(number)
    assert len(await listed(client)) == 50
    assert len(await listed(client, limit=500)) == 60
    assert len(await listed(client, limit=1)) == 1


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("limit=0", "limit: is '0'; expected a whole number from 1 to 500"),
        ("limit=501", "limit: is '501'; expected"),
        ("limit=many", "limit: is 'many'; expected"),
        ("outcome=won", "outcome: is 'won'; expected one of succeeded, failed"),
        ("since=yesterday", "since: is 'yesterday'; expected an ISO 8601 date and time"),
        ("until=2026-13-01", "until: is '2026-13-01'; expected"),
        ("cursor=x", "cursor: is 'x'; expected the `next` of a page of runs"),
        ("cursor=", "cursor: is ''; expected"),
        ("limit=1&limit=2", "limit: is '1' and '2'; expected one value"),
        ("page=2", "page: is '2', but not known here; expected"),
        ("Limit=2", "Limit: is '2', but not known here; expected"),
    ],
)
async def test_what_is_wrong_with_the_parameters_is_named(client, parameters, expected):
    for path in ("/runs", "/jobs/job/runs"):
        response = await client.get(f"/scheduler{path}?{parameters}")
        assert response.status_code == 400
        assert json.loads(await response.get_data())["error_message"].startswith(expected)


async def test_the_runs_of_a_job_are_not_asked_for_twice(client):
    status, error = await get(client, "/jobs/job/runs", job_id="other")
    assert status == 400
    assert error["error_message"].startswith("job_id: is 'other', but not known here; expected outcome, since")


# Jobs


async def test_the_runs_of_a_job_are_listed_by_its_fires(client, keep):
    one, two = keep(2), keep(3)
    late = one._replace(run_id=f"{two.run_id[:-1]}9", fire_id="f", scheduled_at=START)
    keep(4, run_id=late.run_id, scheduled_at=START)
    keep(5, job_id="other")
    assert await listed(client, "/jobs/job/runs") == [two.run_id, one.run_id, late.run_id]


async def test_a_job_without_runs_has_none(client):
    assert await get(client, "/jobs/job/runs") == (200, {"items": [], "next": None})


async def test_a_job_that_is_gone_still_shows_its_runs(client, scheduler, keep):
    record = keep(1, "failed")
    await scheduler.aio.remove_job("job")
    assert await listed(client, "/jobs/job/runs") == [record.run_id]
    assert await listed(client, "/jobs/job/runs", outcome="succeeded") == [], "no such runs, but it is known"


async def test_an_id_with_neither_job_nor_runs_is_not_found(client, keep):
    keep(1)
    assert await get(client, "/jobs/nobody/runs") == (404, {"error_message": "Job nobody not found"})


@pytest.mark.parametrize("job_id", ["a/b", "a/", "ü b", "a/pause", "runs", "runs/runs"])
async def test_the_runs_of_a_job_with_an_odd_id_are_found(client, scheduler, keep, job_id):
    scheduler.add_job(job_id, tick, trigger="interval", hours=1)
    record = keep(1, job_id=job_id)
    assert await listed(client, f"/jobs/{quote(job_id)}/runs") == [record.run_id]


async def test_a_job_whose_id_ends_like_the_list_can_still_be_looked_at(client, scheduler, keep):
    scheduler.add_job("a/runs", tick, trigger="interval", hours=1)
    status, job = await get(client, "/jobs/a/runs")
    assert (status, job["id"]) == (200, "a/runs")
    assert await listed(client, "/jobs/a/runs/runs") == []
    record = keep(1, job_id="a")
    assert await listed(client, "/jobs/a/runs") == [record.run_id]


# One run


async def test_one_run_is_shown_with_all_that_it_left(client, keep):
    record = keep(1, "failed", result="1", traceback="Traceback", log="a line")
    status, run = await get(client, f"/runs/{record.run_id}")
    assert status == 200
    assert run == to_wire(record, detail=True) | {"attempts": [record.run_id]}
    assert list(run)[-4:] == ["result", "traceback", "log", "attempts"]


async def test_a_run_that_was_made_over_rest_can_be_looked_up(client):
    response = await client.post("/scheduler/jobs/broken/run")
    failed = json.loads(await response.get_data())
    _, run = await get(client, f"/runs/{failed['run_id']}")
    assert (run["job_id"], run["outcome"], run["cause"]) == ("broken", "failed", "api")
    assert run["error"] == {"type": "LookupError", "message": "not there"}
    assert 'raise LookupError("not there")' in run["traceback"]


async def test_a_run_names_all_attempts_at_its_fire_in_their_order(client, keep):
    first = keep(1, "lost", final=False)
    second = keep(2, "failed", fire_id=first.fire_id, attempt=2, final=False)
    third = keep(3, fire_id=first.fire_id, attempt=3)
    keep(4)
    for record in (first, second, third):
        run = (await get(client, f"/runs/{record.run_id}"))[1]
        assert run["attempts"] == [first.run_id, second.run_id, third.run_id]


@pytest.mark.parametrize("run_id", ["nobody", "0" * 5000, "%00", "ü", "..%5C"])
async def test_a_run_that_nobody_knows_is_not_found(client, run_id):
    status, error = await get(client, f"/runs/{run_id}")
    assert status == 404
    assert list(error) == ["error_message"]
    assert error["error_message"].startswith("Run ")


async def test_one_run_takes_no_parameters(client, keep):
    status, error = await get(client, f"/runs/{keep(1).run_id}", full=1)
    assert status == 400
    assert error["error_message"] == "full: is '1', but not known here; expected none"


# Rights, methods, faults


@pytest.mark.parametrize("path", ["/runs", "/runs/nobody", "/jobs/job/runs"])
async def test_reading_the_history_needs_the_right_to_read(client, scheduler, path):
    scheduler.auth = HTTPBasicAuth()
    rights: set[str] = {"operate"}
    scheduler.authenticate(lambda auth: rights)
    headers = {"Authorization": "Basic YTpi"}
    assert (await client.get(f"/scheduler{path}")).status_code == 401
    assert (await client.get(f"/scheduler{path}", headers=headers)).status_code == 403
    rights.add("read")
    assert (await client.get(f"/scheduler{path}", headers=headers)).status_code in (200, 404)


@pytest.mark.parametrize("path", ["/runs", "/runs/nobody"])
async def test_the_history_cannot_be_changed(client, path):
    for method in ("POST", "PUT", "DELETE"):
        assert (await client.open(f"/scheduler{path}", method=method)).status_code == 405


@pytest.mark.parametrize("path", ["/runs", "/runs/nobody", "/jobs/job/runs"])
async def test_a_history_that_is_away_is_unavailable(client, scheduler, tmp_path, path):
    file = tmp_path / "absent" / "history.db"
    database = Database("test", f"sqlite:///{file}", "t_", create_tables=True, engine_options={})
    scheduler.scheduler.histories.sources = [SqlHistory(database)]
    status, error = await get(client, path)
    assert status == 503
    assert error["error_message"].startswith("The run history in sqlite")
    file.parent.mkdir()
    assert (await get(client, path))[0] in (200, 404)
    database.dispose()


# Verbs


async def test_the_verbs_give_the_same_as_objects(client, scheduler, keep):
    one, two, three = keep(1), keep(2, "failed"), keep(3, job_id="other")
    aio = scheduler.aio
    assert await aio.runs() == RunPage((three, two, one), None)
    assert await aio.runs("job") == await aio.runs(job_id="job") == RunPage((two, one), None)
    assert (await aio.runs(outcome="failed")).items == (two,)
    assert (await aio.runs(since=START + timedelta(seconds=2), until=START + timedelta(seconds=3))).items == (two,)
    assert (await aio.runs(since=datetime(2026, 3, 2, 12, 0, 3))).items == (three,), "in the scheduler's zone"
    first = await aio.runs(limit=2)
    assert (await aio.runs(limit=2, cursor=first.next)).items == (one,)
    assert await aio.run(two.run_id) == two
    assert await aio.run("nobody") is None
    with pytest.raises(InvalidDefinition, match=r"^limit: is 0; expected"):
        await aio.runs(limit=0)


async def test_a_history_that_does_io_is_not_read_on_the_event_loop(client, scheduler, keep):
    loop_thread = threading.get_ident()
    seen: list[bool] = []

    def on_loop() -> bool:
        return threading.get_ident() == loop_thread

    class Slow(HistoryRing):
        blocking = True

        def page(self, query: Any) -> list[RunRecord]:
            seen.append(on_loop())
            return []

        def find(self, run_id: str) -> RunRecord | None:
            seen.append(on_loop())
            return None

    scheduler.scheduler.histories.sources = [Slow(1)]
    await scheduler.aio.runs()
    await scheduler.aio.run("nobody")
    scheduler.scheduler.histories.sources = [HistoryRing(1)]
    await scheduler.aio.runs()
    assert on_loop()
    assert seen == [False, False]


async def test_json_of_the_history_is_pretty_on_demand(scheduler, app, serve):
    async with serve(scheduler, app, JSONIFY_PRETTYPRINT_REGULAR=True) as client:
        scheduler.scheduler.histories = Histories([])
        text = (await (await client.get("/scheduler/runs")).get_data()).decode()
        assert text == '{\n  "items": [],\n  "next": null\n}'
