"""Live events over REST, of one process with its jobs in memory."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from quart import Quart

from quart_sched import current_run
from quart_sched.auth import HTTPBasicAuth
from quart_sched.engine.outbox import LIMIT
from quart_sched.model.runs import DETAIL
from tests.conftest import settle

log = logging.getLogger("quart_sched_tests.events")
goes_on = asyncio.Event()
run_ids: list[str] = []


async def tick() -> None: ...


async def fail() -> None:
    raise LookupError("not there")


async def talks() -> None:
    run_ids.append(current_run.run_id)
    log.info("first")
    await goes_on.wait()
    log.info("last")


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global goes_on
    goes_on = asyncio.Event()
    run_ids.clear()


@pytest.fixture
def app() -> Quart:
    application = Quart("events_app")
    application.config.update(SCHEDULER_API_ENABLED=True, TESTING=True)
    return application


class Event(NamedTuple):
    kind: str
    data: Any
    id: str


class Connection:
    """A client's side of one stream: what has come, as a browser would see it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._text = ""
        self.last_id: str | None = None
        self.retry: int | None = None
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            data = await self._connection.receive()
            self._text += data.decode()

    @property
    def over(self) -> bool:
        """Whether the server has ended the stream."""
        return bool(self._connection._task.done())

    @property
    def status(self) -> int:
        return int(self._connection.status_code)

    @property
    def headers(self) -> Any:
        return self._connection.headers

    async def events(self) -> list[Event]:
        """Return what has come since the last call."""
        await settle()
        *blocks, self._text = self._text.split("\n\n")
        found = []
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            self.last_id = fields.get("id", self.last_id)
            self.retry = int(fields["retry"]) if "retry" in fields else self.retry
            if "data" in fields:
                found.append(Event(fields["event"], json.loads(fields["data"]), fields["id"]))
        return found

    async def kinds(self) -> list[Any]:
        """Kind and what counts of what has come."""
        return [
            (event.kind, event.data.get("job_id"), event.data.get("outcome") or event.data.get("action"))
            for event in await self.events()
        ]

    async def leave(self) -> None:
        await self._connection.disconnect()
        self._task.cancel()
        await asyncio.wait([self._task])


@asynccontextmanager
async def events(client: Any, query: str = "", last_id: str | None = None) -> AsyncIterator[Connection]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    async with client.request(f"/scheduler/events{query}", headers=headers) as connection:
        await connection.send_complete()
        one = Connection(connection)
        await settle()
        try:
            yield one
        finally:
            await one.leave()
    await settle()


@pytest.fixture
async def client(scheduler, app, serve) -> AsyncIterator[Any]:
    scheduler.add_job("job", tick, trigger="interval", seconds=10)
    scheduler.add_job("broken", fail, trigger="interval", hours=1)
    scheduler.add_job("talks", talks, trigger="interval", hours=1)
    async with serve(scheduler, app) as test_client:
        yield test_client


def live_of(scheduler: Any) -> Any:
    return scheduler.scheduler.live


# What is told


async def test_a_stream_tells_of_runs_jobs_and_the_scheduler(client, scheduler, clock):
    async with events(client) as stream:
        assert await stream.kinds() == [("reset", None, None)]
        assert stream.status == 200
        assert stream.headers["Content-Type"].partition(";")[0] == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-cache"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert stream.retry == 500
        await (await scheduler.aio.run_job("job"))
        await clock.advance(seconds=0.25)
        [event] = await stream.events()
        shown = await (await client.get(f"/scheduler/runs/{event.data['run_id']}")).get_json()
        assert event.data == {key: shown[key] for key in shown.keys() - {*DETAIL, "attempts"}}
        await scheduler.aio.pause()
        await scheduler.aio.pause_job("job")
        await scheduler.aio.modify_job("broken", name="other")
        await scheduler.aio.add_job("new", tick, trigger="interval", hours=1)
        await clock.advance(seconds=0.25)
        assert await stream.kinds() == [
            ("scheduler", None, "paused"), ("job", "job", "paused"), ("job", "broken", "modified"),
            ("job", "new", "added"),
        ]  # fmt: skip
        await scheduler.aio.resume_job("job")
        await scheduler.aio.resume()
        await scheduler.aio.remove_job("new")
        await clock.advance(seconds=0.25)
        assert await stream.kinds() == [
            ("job", "job", "resumed"), ("scheduler", None, "resumed"), ("job", "new", "removed"),
        ]  # fmt: skip


async def test_a_run_is_told_of_when_it_begins_and_when_it_ends(client, scheduler, clock):
    async with events(client) as stream:
        await stream.events()
        handle = await scheduler.aio.run_job("talks")
        await clock.advance(seconds=0.25)
        [begun] = await stream.events()
        assert (begun.data["run_id"], begun.data["outcome"]) == (handle.run_id, "running")
        assert begun.data["started_at"] is not None
        goes_on.set()
        await handle
        await clock.advance(seconds=0.25)
        [ended] = await stream.events()
        assert (ended.data["run_id"], ended.data["outcome"]) == (handle.run_id, "succeeded")


async def test_a_run_that_waits_is_told_of(client, scheduler, clock):
    await scheduler.aio.add_job(
        "again", fail, trigger="date", run_date="2026-03-02T12:00:01Z", retry={"attempts": 2, "delay": 5}
    )
    async with events(client, "?job_id=again") as stream:
        await stream.events()
        await clock.advance(seconds=2)
        # A run may be told of as under way before it is told of as over.
        latest = {event.data["run_id"]: event for event in await stream.events() if event.kind == "run"}
        first, second = latest.values()
        assert (first.data["outcome"], first.data["final"]) == ("failed", False)
        assert (second.data["outcome"], second.data["attempt"]) == ("retry_wait", 2)
        await clock.advance(seconds=5)
        *_, third = await stream.events()
        assert (third.data["run_id"], third.data["outcome"]) == (second.data["run_id"], "failed")


async def test_the_shutdown_of_the_scheduler_is_told_and_its_start(client, scheduler, clock):
    async with events(client) as stream:
        await stream.events()
        await scheduler.aio.shutdown()
        await scheduler.aio.start()
        await clock.advance(seconds=0.25)
        assert await stream.kinds() == [("scheduler", None, "shutdown"), ("scheduler", None, "started")]


async def test_all_jobs_removed_is_a_reset(client, scheduler, clock):
    async with events(client) as stream:
        await stream.events()
        await scheduler.aio.remove_all_jobs()
        await clock.advance(seconds=0.25)
        assert await stream.kinds() == [("reset", None, None)]


# Resuming


async def test_a_stream_is_resumed_without_loss_or_repetition(client, scheduler, clock):
    seen: list[str] = []
    ran: list[str] = []
    last_id = None

    async def run() -> None:
        handle = await scheduler.aio.run_job("job")
        await handle
        ran.append(handle.run_id)
        await clock.advance(seconds=0.25)

    for _ in range(5):
        async with events(client, "?job_id=job", last_id=last_id) as stream:
            for _ in range(3):
                await run()
            seen += [event.data.get("run_id", event.kind) for event in await stream.events()]
            last_id = stream.last_id
        await run()
    async with events(client, "?job_id=job", last_id=last_id) as stream:
        seen += [event.data.get("run_id", event.kind) for event in await stream.events()]
    assert seen == ["reset", *ran]
    assert len(ran) == 20


async def test_a_stream_that_is_cut_off_goes_on_behind_its_last_event(client, scheduler, clock):
    async with events(client, "?job_id=job") as stream:
        await stream.events()
        for _ in range(3):
            await (await scheduler.aio.run_job("job"))
        await clock.advance(seconds=0.25)
        told = await stream.events()
    assert len(told) == 3
    async with events(client, "?job_id=job", last_id=told[0].id) as stream:
        assert [event.data["run_id"] for event in await stream.events()] == [e.data["run_id"] for e in told[1:]]


async def test_after_five_minutes_a_stream_starts_anew_and_nothing_is_kept(client, scheduler, clock):
    async with events(client) as stream:
        await stream.events()
        last_id = stream.last_id
    await clock.advance(seconds=299)
    async with events(client, "?job_id=broken", last_id=last_id) as stream:
        assert await stream.kinds() == []
    await clock.advance(seconds=301)
    assert not live_of(scheduler)._feed._batches
    assert not live_of(scheduler)._outbox
    async with events(client, last_id=last_id) as stream:
        assert await stream.kinds() == [("reset", None, None)]


@pytest.mark.parametrize("last_id", ["", "garbage", "\x7f", "1.2.3", "x" * 4000])
async def test_an_id_that_nobody_has_given_is_no_error(client, last_id):
    async with events(client, last_id=last_id) as stream:
        assert await stream.kinds() == [("reset", None, None)]


async def test_an_id_of_another_process_starts_anew(client, scheduler, clock):
    async with events(client) as stream:
        await stream.events()
        last_id = stream.last_id
    assert last_id is not None
    async with events(client, last_id="0" + last_id[1:-1] + "1") as stream:
        assert await stream.kinds() in ([("reset", None, None)], [])
    other = f"{'f' * 8}{last_id[8:]}"
    async with events(client, last_id=other) as stream:
        assert await stream.kinds() == [("reset", None, None)]


# Filters and rights


async def test_a_stream_may_be_of_one_job_or_one_run(client, scheduler, clock):
    async with events(client, "?job_id=broken") as of_job, events(client, "?run_id=nobody") as of_run:
        await of_job.events()
        await of_run.events()
        await (await scheduler.aio.run_job("broken")).wait()
        await (await scheduler.aio.run_job("job")).wait()
        await scheduler.aio.modify_job("job", name="other")
        await clock.advance(seconds=0.25)
        assert await of_job.kinds() == [("run", "broken", "failed")]
        assert await of_run.kinds() == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?job=1", "job: is '1', but not known here; expected job_id, run_id"),
        ("?job_id=a&job_id=b", "job_id: is 'a' and 'b'; expected one value"),
        ("?job_id=", "job_id: is ''; expected the id of a job"),
        ("?run_id=", "run_id: is ''; expected the id of a run"),
    ],
)
async def test_what_is_wrong_with_the_parameters_is_named(client, query, message):
    response = await client.get(f"/scheduler/events{query}")
    assert (response.status_code, await response.get_json()) == (400, {"error_message": message})


async def test_the_head_of_a_stream_has_no_body_and_opens_none(client, scheduler):
    response = await client.head("/scheduler/events")
    assert (response.status_code, await response.get_data()) == (200, b"")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert not live_of(scheduler)._feed.streams


async def test_the_right_to_read_is_enough_and_needed(scheduler, app, serve):
    scheduler.auth = HTTPBasicAuth()
    rights: set[str] = {"operate"}
    scheduler.authenticate(lambda credentials: rights)
    async with serve(scheduler, app) as client:
        assert (await client.get("/scheduler/events")).status_code == 401
        basic = {"Authorization": "Basic dTpw"}
        assert (await client.get("/scheduler/events", headers=basic)).status_code == 403
        rights.add("read")
        assert (await client.head("/scheduler/events", headers=basic)).status_code == 200


# Logs


async def test_the_log_of_a_run_is_told_while_it_is_written(client, scheduler, clock):
    handle = await scheduler.aio.run_job("talks")
    await clock.advance(seconds=0.25)
    async with events(client, f"?run_id={handle.run_id}") as stream, events(client) as other:
        await clock.advance(seconds=1)
        reset, first = await stream.events()
        assert (reset.kind, first.kind) == ("reset", "log")
        assert {key: first.data[key] for key in ("run_id", "job_id", "line")} == {
            "run_id": handle.run_id, "job_id": "talks", "line": 0,
        }  # fmt: skip
        assert first.data["text"].endswith("quart_sched_tests.events: first")
        goes_on.set()
        await handle
        await clock.advance(seconds=0.5)
        last, ended = await stream.events()
        assert (last.kind, last.data["line"]) == ("log", 1)
        assert last.data["text"].endswith("last")
        assert (ended.kind, ended.data["outcome"]) == ("run", "succeeded")
        assert [event.kind for event in await other.events()] == ["reset", "run"]
        record = await scheduler.aio.run(handle.run_id)
        assert f"{first.data['text']}\n{last.data['text']}" == record.log


async def test_a_second_reader_and_one_who_comes_again_see_each_line_once(client, scheduler, clock):
    handle = await scheduler.aio.run_job("talks")
    query = f"?run_id={handle.run_id}"
    async with events(client, query) as one:
        await clock.advance(seconds=1)
        assert [event.data["line"] for event in await one.events() if event.kind == "log"] == [0]
        async with events(client, query) as two:
            await clock.advance(seconds=1)
            assert [event.data["line"] for event in await two.events() if event.kind == "log"] == [0]
        assert [event for event in await one.events() if event.kind == "log"] == []
        last_id = one.last_id
    goes_on.set()
    await handle
    await clock.advance(seconds=1)
    async with events(client, query, last_id=last_id) as one:
        await clock.advance(seconds=1)
        assert [event.data["line"] for event in await one.events() if event.kind == "log"] in ([1], [])


# Bounds


async def test_a_burst_becomes_one_reset(client, scheduler, clock):
    async with events(client) as stream:
        await stream.events()
        for _ in range(LIMIT + 1):
            await (await scheduler.aio.run_job("job"))
        await clock.advance(seconds=0.25)
        assert await stream.kinds() == [("reset", None, None)]
        await (await scheduler.aio.run_job("job"))
        await clock.advance(seconds=0.25)
        assert await stream.kinds() == [("run", "job", "succeeded")]


async def test_nothing_is_done_while_nobody_listens(client, scheduler, clock):
    await (await scheduler.aio.run_job("job"))
    await clock.advance(seconds=100)
    live = live_of(scheduler)
    assert not live._outbox
    assert not live._feed._batches
    assert live._task is None


# The end


async def test_a_stream_ends_itself(client, clock):
    async with events(client) as stream:
        await clock.advance(seconds=8.9)
        await settle()
        assert not stream.over
        await clock.advance(seconds=0.2)
        await settle()
        assert stream.over
        assert await stream.kinds() == [("reset", None, None)]
        last_id = stream.last_id
    async with events(client, "?job_id=talks", last_id=last_id) as stream:
        assert await stream.kinds() == []


async def test_a_client_that_leaves_frees_everything(client, scheduler, clock):
    async with events(client, "?run_id=0"), events(client):
        assert len(live_of(scheduler)._feed.streams) == 2
    assert not live_of(scheduler)._feed.streams
    await clock.advance(seconds=1)
    assert live_of(scheduler)._task.done()


@pytest.mark.parametrize("end", ["hold", "close"])
async def test_streams_end_when_the_shutdown_is_known(client, scheduler, end):
    end_of: Callable[[], Any] = getattr(scheduler.scheduler, end)
    async with events(client) as stream:
        assert not stream.over
        closing = end_of()
        ending = None if closing is None else asyncio.create_task(closing)
        await settle()
        assert stream.over
        if ending is not None:
            await ending
            return
    async with events(client) as late:
        await settle()
        assert late.over
        assert (await late.kinds(), late.retry) == ([], 2000)


async def test_an_app_that_serves_again_has_streams_again(scheduler, app, serve, clock):
    for _ in range(2):
        async with serve(scheduler, app) as client, events(client) as stream:
            assert (await stream.kinds())[0] == ("reset", None, None)
            await clock.advance(seconds=0.25)
            await stream.events()
            await scheduler.aio.add_job("job", tick, trigger="interval", hours=1, replace_existing=True)
            await scheduler.aio.remove_job("job")
            await clock.advance(seconds=0.25)
            assert await stream.kinds() == [("job", "job", "removed")]
