"""Virtual time: what is due runs in order, as fast as it can, and time stands still for what is real."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from apscheduler.executors.pool import ThreadPoolExecutor
from quart import Quart, current_app

from quart_sched import STATE_PAUSED, APScheduler, Scheduler, current_run
from quart_sched.errors import InvalidDefinition
from quart_sched.testing import VirtualEventLoop, VirtualTimeError, inline, virtual_time
from tests.stores.manual_clock import ManualClock
from tests.testing.conftest import START, seconds, told

pytestmark = pytest.mark.usefixtures("virtual_loop")

HOUR = 3600.0


async def nothing() -> None: ...


async def sleeps() -> None:
    await asyncio.sleep(20)


def blocks() -> None:
    time.sleep(0.005)


# Time and fires


async def test_what_comes_due_runs_in_the_order_of_due_times(scheduler):
    scheduler.add_job("third", nothing, trigger="date", run_date=START + timedelta(hours=3))
    scheduler.add_job("first", nothing, trigger="date", run_date=START + timedelta(hours=1))
    scheduler.add_job("second", nothing, trigger="date", run_date=START + timedelta(hours=2))
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(hours=2)
        assert [fire.job_id for fire in clock.fires] == ["first", "second"]
        await clock.advance(hours=1)
    assert told(clock.fires) == [
        ("first", HOUR, HOUR, HOUR, "succeeded"),
        ("second", 2 * HOUR, 2 * HOUR, 2 * HOUR, "succeeded"),
        ("third", 3 * HOUR, 3 * HOUR, 3 * HOUR, "succeeded"),
    ]


async def test_a_day_passes_in_no_time_and_nobody_elses_clock_is_touched(scheduler):
    scheduler.add_job("job", sleeps, trigger="interval", hours=1)
    real, begin = datetime.now(UTC), time.monotonic()
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(days=1)
        assert clock.now() == scheduler.clock.now() == START + timedelta(days=1)
        assert datetime.now(UTC) - real < timedelta(seconds=30)
    assert time.monotonic() - begin < 30
    assert [seconds(fire.scheduled_at) for fire in clock.fires] == [hour * HOUR for hour in range(1, 24)] + [24 * HOUR]


async def test_time_stands_still_until_it_is_advanced(scheduler):
    scheduler.add_job("job", nothing, trigger="interval", seconds=1)
    async with scheduler.virtual_time(start=START) as clock:
        await asyncio.to_thread(time.sleep, 0.05)
        assert clock.now() == START
        assert clock.fires == []


@pytest.mark.parametrize(
    ("by", "options"),
    [
        (timedelta(hours=25, seconds=1.5), {}),
        (None, {"days": 1, "hours": 1, "seconds": 1.5}),
        (None, {"minutes": 25 * 60, "milliseconds": 1500}),
        (None, {"to": START + timedelta(hours=25, seconds=1.5)}),
        (None, {"to": datetime(2026, 3, 3, 13, 0, 1, 500_000)}),
        (None, {"to": "2026-03-03T14:00:01.5+01:00"}),
    ],
)
async def test_advance_takes_a_distance_or_a_moment(scheduler, by, options):
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(by, **options)
        assert clock.now() == START + timedelta(hours=25, seconds=1.5)


async def test_a_naive_start_is_read_in_the_schedulers_zone():
    scheduler = APScheduler(Scheduler(timezone="Europe/Berlin"))
    async with scheduler.virtual_time(start=datetime(2026, 7, 1, 9, 0)) as clock:
        assert clock.now() == datetime(2026, 7, 1, 7, 0, tzinfo=UTC)
        await clock.advance(to="2026-07-01 10:00")
        assert clock.now() == datetime(2026, 7, 1, 8, 0, tzinfo=UTC)


async def test_without_a_start_it_begins_now(scheduler):
    async with scheduler.virtual_time() as clock:
        assert clock.now().microsecond == 0
        assert timedelta(0) <= datetime.now(UTC) - clock.now() < timedelta(seconds=30)


async def test_run_due_runs_what_is_due_now(scheduler):
    async with scheduler.virtual_time(start=START) as clock:
        scheduler.add_job("now", blocks, trigger="date")
        scheduler.add_job("later", blocks, trigger="date", run_date=START + timedelta(seconds=1))
        await clock.run_due()
        assert told(clock.fires) == [("now", 0, 0, 0, "succeeded")]
        assert clock.now() == START


async def test_fires_are_the_frozen_records_of_the_history(scheduler):
    async def fails() -> None:
        raise ValueError("no")

    scheduler.add_job("job", fails, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.run_due()
    (fire,) = clock.fires
    assert fire == scheduler.history.records("job")[0]
    assert (fire.outcome, fire.error_type, fire.error_message, fire.duration) == ("failed", "ValueError", "no", 0)
    with pytest.raises(AttributeError):
        fire.outcome = "succeeded"


async def test_missed_and_skipped_fires_are_listed_too(scheduler):
    scheduler.add_job("slow", sleeps, trigger="interval", seconds=15)
    scheduler.add_job("late", nothing, trigger="date", run_date=START - timedelta(hours=1))
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=40)
    assert told(clock.fires)[:3] == [
        ("late", -HOUR, None, 0, "missed"),
        ("slow", 30, None, 30, "skipped"),
        ("slow", 15, 15, 35, "succeeded"),
    ]


# What jobs wait for


async def test_a_jobs_own_sleep_is_virtual(scheduler):
    async def nap() -> None:
        await asyncio.sleep(0.1)
        await anyio.sleep(0.2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(100), 4)
        called = asyncio.Event()
        asyncio.get_running_loop().call_later(5, called.set)
        await called.wait()
        await scheduler.clock.sleep(6)

    scheduler.add_job("nap", nap, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(minutes=1)
    assert told(clock.fires) == [("nap", 0, 0, 18.3, "succeeded")]


async def test_a_sleep_in_whatever_it_is_wrapped_in_lets_time_move(scheduler):
    async def ticks() -> Any:
        for number in range(3):
            await asyncio.sleep(1)
            yield number

    async def wrapped() -> None:
        async for _ in ticks():
            pass
        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3))
        async with anyio.create_task_group() as anyio_group:
            anyio_group.start_soon(anyio.sleep, 4)
        await asyncio.shield(asyncio.ensure_future(asyncio.sleep(5)))
        lock = anyio.Lock()
        async with lock, anyio.create_task_group() as anyio_group:
            anyio_group.start_soon(lock.acquire)
            await asyncio.sleep(6)
            anyio_group.cancel_scope.cancel()

    scheduler.add_job("job", wrapped, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START, patience=1) as clock:
        await clock.advance(minutes=1)
    assert told(clock.fires) == [("job", 0, 0, 23, "succeeded")]


async def test_a_plain_function_is_waited_for_without_time_moving(scheduler):
    scheduler.add_job("job", blocks, trigger="interval", seconds=10)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=30)
    assert told(clock.fires) == [("job", at, at, at, "succeeded") for at in (10, 20, 30)]


async def test_at_one_moment_the_order_is_that_of_due_times_in_the_hour_that_comes_twice_too(scheduler):
    scheduler.add_job(
        "job",
        nothing,
        trigger="cron",
        minute="10,50",
        timezone="Europe/Berlin",
        coalesce=False,
        misfire_grace_time=None,
    )
    async with scheduler.virtual_time(start="2026-10-25T00:00:00") as clock:
        clock.suspend(hours=2)
        await clock.advance(minutes=1)
    assert [record.scheduled_at.astimezone(UTC).strftime("%H:%M") for record in clock.fires] == [
        "00:10", "00:50", "01:10", "01:50",
    ]  # fmt: skip


async def test_at_one_moment_the_order_is_the_jobs_however_fast_their_threads_are(scheduler):
    def slow() -> None:
        time.sleep(0.03)

    scheduler.add_job("b", slow, trigger="interval", seconds=10)
    scheduler.add_job("a", lambda: None, trigger="interval", seconds=10)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=20)
    assert [fire.job_id for fire in clock.fires] == ["b", "a", "b", "a"]


async def asks_a_thread() -> None:
    await asyncio.to_thread(time.sleep, 0.05)


async def asks_a_thread_of_anyios() -> None:
    await anyio.to_thread.run_sync(time.sleep, 0.05)


async def asks_a_process() -> None:
    code = "import time; time.sleep(0.05)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.DEVNULL)
    assert await process.wait() == 0


async def asks_a_thread_of_its_own() -> None:
    loop = asyncio.get_running_loop()
    answer = loop.create_future()

    def work() -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(answer.set_result, None)

    threading.Thread(target=work, daemon=True).start()
    await answer


async def serve_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer late, in real time, whatever the loop's time does."""
    await reader.readline()
    await asyncio.to_thread(time.sleep, 0.05)
    writer.write(b"answer\n")
    await writer.drain()
    writer.close()


async def asks_a_server() -> None:
    server = await asyncio.start_server(serve_slowly, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"question\n")
        assert await reader.readline() == b"answer\n"
        writer.close()


async def asks_a_server_by_anyio() -> None:
    server = await asyncio.start_server(serve_slowly, "127.0.0.1", 0)
    async with server, await anyio.connect_tcp(*server.sockets[0].getsockname()) as stream:
        await stream.send(b"question\n")
        assert await stream.receive() == b"answer\n"


async def asks_in_a_child() -> None:
    await asyncio.gather(asyncio.sleep(0), asyncio.create_task(asks_a_thread()))


def call_a_thread() -> asyncio.Future[None]:
    return asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.05)


async def gathers_calls() -> None:
    await asyncio.gather(call_a_thread(), call_a_thread())


async def waits_for_a_call() -> None:
    await asyncio.wait_for(asyncio.shield(call_a_thread()), 1)


async def waits_for_several_calls() -> None:
    await asyncio.wait([call_a_thread(), asyncio.create_task(asyncio.sleep(1))], return_when="FIRST_COMPLETED")


async def takes_calls_as_completed() -> None:
    for completed in asyncio.as_completed([call_a_thread(), call_a_thread()]):
        await completed


async def has_workers() -> None:
    queue: asyncio.Queue[float] = asyncio.Queue()

    async def work() -> None:
        while True:
            await asyncio.to_thread(time.sleep, await queue.get())
            queue.task_done()

    workers = [asyncio.create_task(work()) for _ in range(2)]
    for _ in range(4):
        queue.put_nowait(0.02)
    await asyncio.wait_for(queue.join(), 1)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


@pytest.mark.parametrize(
    "ask",
    [
        asks_a_thread,
        asks_a_thread_of_anyios,
        asks_a_thread_of_its_own,
        asks_a_process,
        asks_a_server,
        asks_a_server_by_anyio,
        asks_in_a_child,
        gathers_calls,
        waits_for_a_call,
        waits_for_several_calls,
        takes_calls_as_completed,
        has_workers,
    ],
)
async def test_time_does_not_run_away_from_a_job_that_waits_for_something_real(scheduler, ask):
    async def job() -> None:
        async with asyncio.timeout(2):
            await ask()

    scheduler.add_job("job", job, trigger="date", run_date=START + timedelta(seconds=5))
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(hours=1)
    assert told(clock.fires) == [("job", 5, 5, 5, "succeeded")], clock.fires[0].traceback


async def test_a_job_can_wait_for_a_run_that_takes_virtual_time(scheduler):
    async def job() -> None:
        await (await scheduler.aio.run_job("other"))
        handle = await scheduler.aio.run_job("other")
        await asyncio.gather(handle.wait(), asyncio.wait_for(handle, 60))

    scheduler.add_job("other", sleeps, trigger="interval", days=1)
    scheduler.add_job("job", job, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START, patience=2) as clock:
        await clock.advance(minutes=1)
    assert told(clock.fires) == [
        ("other", 0, 0, 20, "succeeded"), ("job", 0, 0, 40, "succeeded"), ("other", 20, 20, 40, "succeeded")
    ]  # fmt: skip


async def test_what_a_job_leaves_behind_in_the_background_does_not_hold_time(scheduler):
    kept = []

    async def job() -> None:
        kept.append(asyncio.create_task(asyncio.to_thread(gate.wait)))
        await asyncio.sleep(1)

    gate = threading.Event()
    scheduler.add_job("job", job, trigger="interval", seconds=10)
    try:
        async with scheduler.virtual_time(start=START, patience=1) as clock:
            await clock.advance(seconds=15)
    finally:
        gate.set()
        await asyncio.gather(*kept)
    assert told(clock.fires) == [("job", 10, 10, 11, "succeeded")]


async def test_hooks_and_listeners_are_waited_for(scheduler):
    heard = []

    @scheduler.before_run
    async def before() -> None:
        await asyncio.to_thread(time.sleep, 0.01)

    async def listen(event: Any) -> None:
        await asyncio.to_thread(time.sleep, 0.01)
        heard.append((scheduler.clock.now(), event.code))

    scheduler.add_listener(listen, 2**12)  # EVENT_JOB_EXECUTED
    scheduler.add_job("job", nothing, trigger="date", run_date=START + timedelta(seconds=1))
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=5)
        assert heard == [(START + timedelta(seconds=1), 2**12)]


async def test_an_executor_of_somebody_elses_is_waited_for(scheduler):
    class Pool(ThreadPoolExecutor):
        pass

    scheduler.scheduler.add_executor(Pool(), "theirs")
    # APScheduler's own executors judge by real time whether a fire is too late.
    scheduler.add_job("job", blocks, trigger="interval", seconds=10, executor="theirs", misfire_grace_time=None)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=20)
    assert told(clock.fires) == [("job", 10, 10, 10, "succeeded"), ("job", 20, 20, 20, "succeeded")]


async def test_a_thread_can_wait_for_virtual_time(scheduler):
    def job() -> None:
        scheduler.clock.block(0)
        scheduler.clock.block(30)

    scheduler.add_job("job", job, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=29)
        assert clock.fires == []
        await clock.advance(seconds=1)
        assert told(clock.fires) == [("job", 0, 0, 30, "succeeded")]
        with pytest.raises(VirtualTimeError, match="called on the event loop"):
            scheduler.clock.block(1)


async def test_a_thread_of_a_coroutines_can_wait_for_virtual_time(scheduler):
    async def job() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(scheduler.clock.block, 30))
            # It is real, and done before any time passes.
            took = group.create_task(take(lambda: time.sleep(0.05)))
        assert took.result() == 0
        await asyncio.to_thread(scheduler.clock.block, 10)

    async def take(work: Any) -> float:
        begin = scheduler.clock.now()
        await asyncio.to_thread(work)
        return (scheduler.clock.now() - begin).total_seconds()

    scheduler.add_job("job", job, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START, patience=2) as clock:
        await clock.advance(minutes=1)
    assert told(clock.fires) == [("job", 0, 0, 40, "succeeded")], clock.fires[0].traceback


async def test_jobs_queue_for_a_thread_that_waits_for_virtual_time(scheduler):
    scheduler.scheduler.add_executor({"type": "threadpool", "max_workers": 1}, "narrow")
    for name in ("one", "two"):
        scheduler.add_job(name, lambda: scheduler.clock.block(10), trigger="date", run_date=START, executor="narrow")
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=30)
    assert [(fire.job_id, seconds(fire.finished_at)) for fire in clock.fires] == [("one", 10), ("two", 20)]


async def test_timeouts_and_retries_go_by_virtual_time(scheduler):
    scheduler.add_job(
        "loop", sleeps, trigger="date", run_date=START, timeout=5, retry={"attempts": 2, "delay": 100, "jitter": 0}
    )
    scheduler.add_job("thread", lambda: scheduler.clock.block(20), trigger="date", run_date=START, timeout=7)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(minutes=10)
    assert told(clock.runs) == [
        ("loop", 0, 0, 5, "timed_out"),
        ("thread", 0, 0, 7, "timed_out"),
        ("loop", 0, 105, 110, "timed_out"),
    ]
    assert [(fire.job_id, fire.attempt) for fire in clock.fires] == [("thread", 1), ("loop", 2)]


# The scheduler that lives in it


async def test_it_starts_a_scheduler_that_does_not_run_and_stops_it_again(scheduler):
    async with scheduler.virtual_time(start=START):
        assert scheduler.running
    assert not scheduler.running
    async with scheduler.virtual_time(start=START):
        assert scheduler.running
    assert not scheduler.running


async def test_a_start_that_is_remembered_paused_is_a_paused_one(scheduler, app):
    scheduler.init_app(app)
    scheduler.start(paused=True)
    scheduler.add_job("job", nothing, trigger="interval", seconds=1)
    async with scheduler.virtual_time(start=START) as clock:
        assert scheduler.state == STATE_PAUSED
        await clock.advance(seconds=5)
        assert clock.fires == []


async def test_jobs_run_in_the_context_of_the_app_that_is_not_served(scheduler, app):
    seen = []

    async def look() -> None:
        seen.append((current_app.name, current_run.scheduled_at))

    scheduler.init_app(app)
    scheduler.add_job("job", look, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.run_due()
    assert seen == [("test_app", START)]


async def test_a_running_scheduler_goes_on_in_real_time_afterwards(scheduler):
    await scheduler.aio.start()
    begin = scheduler.scheduler.clock.monotonic()
    async with scheduler.virtual_time() as clock:
        scheduler.add_job("job", nothing, trigger="interval", hours=1)
        await clock.advance(hours=3)
        assert len(clock.fires) == 3
        assert scheduler.clock is clock
    assert scheduler.running
    assert scheduler.clock.real
    assert scheduler.clock is scheduler.scheduler.clock
    assert abs(scheduler.clock.now() - datetime.now(UTC)) < timedelta(seconds=30)
    # Who has measured by it must not find himself in the future.
    assert scheduler.scheduler.clock.monotonic() >= begin + 3 * HOUR
    ran = asyncio.Event()
    scheduler.add_job("real", ran.set, trigger="date", run_date=datetime.now(UTC) + timedelta(seconds=0.05))
    await asyncio.wait_for(ran.wait(), 5)
    await scheduler.aio.shutdown()


async def test_a_running_schedulers_declared_jobs_are_taken_to_the_start_and_back(scheduler):
    scheduler.add_job("hourly", nothing, trigger="interval", hours=1)
    scheduler.add_job("paused", nothing, trigger="interval", hours=1, next_run_time=None)
    scheduler.add_job("fixed", nothing, trigger="date", run_date=START + timedelta(hours=2))
    await scheduler.aio.start()
    async with scheduler.virtual_time(start=START - timedelta(days=1)) as clock:
        await clock.advance(hours=2)
        assert told(clock.fires) == [("hourly", at, at, at, "succeeded") for at in (-23 * HOUR, -22 * HOUR)]
    ahead = scheduler.get_job("hourly").next_run_time - datetime.now(UTC)
    assert timedelta(minutes=59) < ahead <= timedelta(hours=1)
    assert scheduler.get_job("paused").next_run_time is None
    await scheduler.aio.shutdown()


async def test_within_a_served_app(scheduler, app):
    app.config["SCHEDULER_API_ENABLED"] = True
    scheduler.init_app(app)
    scheduler.start()
    scheduler.add_job("job", sleeps, trigger="interval", hours=1)
    async with app.test_app() as served, scheduler.virtual_time(start=START) as clock:
        await clock.advance(hours=2, seconds=30)
        runs = await (await served.test_client().get("/scheduler/runs")).get_json()
        assert [run["finished_at"] for run in runs["items"]] == [
            "2026-03-02T14:00:20+00:00",
            "2026-03-02T13:00:20+00:00",
        ]


async def test_an_app_is_served_within_it(scheduler, app):
    scheduler.init_app(app)
    scheduler.add_job("job", sleeps, trigger="interval", hours=1)
    async with scheduler.virtual_time(start=START) as clock:
        async with app.test_app() as served:
            assert scheduler.running
            await clock.advance(hours=1)
            assert (await served.test_client().get("/")).status_code == 404
        # The shutdown gives the job its 5 seconds, virtual ones.
        assert told(clock.fires) == [("job", HOUR, HOUR, HOUR + 5, "cancelled")]
    assert not scheduler.running


async def test_jobs_that_still_run_at_the_end_are_cancelled(scheduler, caplog):
    gate = threading.Event()
    scheduler.add_job("sleeps", sleeps, trigger="date", run_date=START)
    scheduler.add_job("waits", lambda: scheduler.clock.block(50), trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.run_due()
        scheduler.add_job("stuck", gate.wait, trigger="date")
        await asyncio.sleep(0)
    gate.set()
    assert [(fire.job_id, fire.outcome) for fire in clock.fires] == [
        ("sleeps", "cancelled"),
        ("waits", "cancelled"),
        ("stuck", "cancelled"),
    ]
    assert not scheduler.running


async def test_a_shutdown_within_the_block_takes_the_time_that_it_needs(scheduler):
    scheduler.add_job("job", sleeps, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.run_due()
        await scheduler.aio.shutdown(timeout=15)
        assert told(clock.fires) == [("job", 0, 0, 15, "cancelled")]


async def test_all_is_as_before_when_the_block_raises(scheduler, virtual_loop):
    subscribed = list(scheduler.scheduler.stream._readers)
    verbs = scheduler.aio
    clocks = []

    async def fail() -> None:
        async with scheduler.virtual_time(start=START, inline=True) as clock:
            clocks.append(clock)
            await clock.advance(hours=1)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert not scheduler.running
    assert scheduler.clock.real
    assert scheduler.aio is verbs
    assert not virtual_loop.frozen
    assert scheduler.scheduler.stream._readers == subscribed
    begin = time.monotonic()
    await asyncio.sleep(0.02)
    assert 0.01 < time.monotonic() - begin < 5
    with pytest.raises(VirtualTimeError, match="after the end of its virtual_time block"):
        await clocks[0].advance(seconds=1)
    assert clocks[0].now() == START + timedelta(hours=1)


async def test_who_waits_when_it_ends_goes_on_in_real_time(scheduler):
    await scheduler.aio.start()
    async with scheduler.virtual_time() as clock:
        woken = asyncio.create_task(scheduler.clock.sleep(10.05))
        slept = asyncio.create_task(asyncio.sleep(10.05))
        await clock.advance(seconds=10)
        assert not woken.done()
    await asyncio.wait_for(asyncio.gather(woken, slept), 5)
    await scheduler.aio.shutdown()


async def test_two_schedulers_go_by_one_clock(scheduler):
    other = APScheduler(Scheduler(timezone="UTC"))
    scheduler.add_job("one", nothing, trigger="interval", minutes=2)
    other.add_job("two", nothing, trigger="interval", minutes=3)
    async with virtual_time(scheduler, other, start=START) as clock:
        await clock.advance(minutes=6)
    assert [(fire.job_id, seconds(fire.scheduled_at)) for fire in clock.fires] == [
        ("one", 120),
        ("two", 180),
        ("one", 240),
        ("one", 360),
        ("two", 360),
    ]


# Inline


async def test_inline_runs_what_is_due_within_add_job(scheduler):
    ran = []
    async with inline(scheduler) as clock:
        await scheduler.aio.add_job("thread", lambda: ran.append("thread"), trigger="date")
        assert ran == ["thread"]
        await scheduler.aio.add_job("later", lambda: ran.append("later"), trigger="interval", seconds=1)
        assert ran == ["thread"]
        scheduler.add_job("plain", lambda: ran.append("plain"), trigger="date")
        assert ran == ["thread"]
        await clock.run_due()
        assert ran == ["thread", "plain"]


async def test_inline_within_a_job_the_job_that_is_added_runs_in_its_turn(scheduler):
    ran = []

    async def outer() -> None:
        await scheduler.aio.add_job("inner", lambda: ran.append("inner"), trigger="date")
        ran.append("outer")

    async with scheduler.virtual_time(start=START, inline=True):
        await scheduler.aio.add_job("outer", outer, trigger="date")
    assert sorted(ran) == ["inner", "outer"]


async def test_inline_over_rest(scheduler, app):
    app.config.update(SCHEDULER_API_ENABLED=True, SCHEDULER_API_ALLOWED_FUNCS=[f"{__name__}:nothing"])
    scheduler.init_app(app)
    async with scheduler.virtual_time(start=START, inline=True) as clock:
        body = {"id": "once", "func": f"{__name__}:nothing", "trigger": "date"}
        response = await app.test_client().post("/scheduler/jobs", json=body, headers={"Host": "localhost"})
        assert response.status_code == 200
        assert told(clock.fires) == [("once", 0, 0, 0, "succeeded")]


# The SQL store


def with_database(path: Path, name: str, **config: Any) -> APScheduler:
    app = Quart(name)
    store = {"type": "sqlalchemy", "url": f"sqlite:///{path}"}
    app.config.update(SCHEDULER_JOBSTORES={"default": store}, SCHEDULER_TIMEZONE="UTC", **config)
    return APScheduler(app=app)


async def test_the_sql_store_lives_in_virtual_time(tmp_path):
    scheduler = with_database(tmp_path / "jobs.db", "app")
    scheduler.add_job("sleeps", sleeps, trigger="interval", minutes=1)
    scheduler.add_job("blocks", blocks, trigger="interval", minutes=2)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(minutes=4, seconds=30)
        page = await scheduler.aio.runs(limit=100)
        assert len(page.items) == len(clock.fires)
    assert told(clock.fires) == [
        ("sleeps", 60, 60, 80, "succeeded"),
        ("blocks", 120, 120, 120, "succeeded"),
        ("sleeps", 120, 120, 140, "succeeded"),
        ("sleeps", 180, 180, 200, "succeeded"),
        ("blocks", 240, 240, 240, "succeeded"),
        ("sleeps", 240, 240, 260, "succeeded"),
    ]
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
        ((alive,),) = database.execute("SELECT seen_us - started_us FROM quart_sched_workers").fetchall()
    assert 260 <= alive / 1e6 <= 270


async def test_two_processes_on_one_database_share_the_fires_and_the_clock(tmp_path):
    one, other = (with_database(tmp_path / "jobs.db", name) for name in ("one", "other"))
    for scheduler in (one, other):
        scheduler.add_job("job", sleeps, trigger="interval", minutes=1)
    async with virtual_time(one, other, start=START) as clock:
        await clock.advance(minutes=3, seconds=30)
        assert len(await one.aio.workers()) == 2
    assert told(clock.fires) == [("job", at, at, at + 20, "succeeded") for at in (60, 120, 180)]


async def test_a_running_scheduler_with_a_database_cannot_be_taken_to_another_time(tmp_path):
    scheduler = with_database(tmp_path / "jobs.db", "app")
    await scheduler.aio.start()
    with pytest.raises(VirtualTimeError, match=r"enter virtual_time before it starts, or leave start= out"):
        await scheduler.virtual_time(start=START).__aenter__()
    scheduler.add_job("job", nothing, trigger="interval", minutes=1)
    async with scheduler.virtual_time() as clock:
        await clock.advance(minutes=1)
        assert len(clock.fires) == 1
    await scheduler.aio.shutdown()


# Wrong use


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": -1}, r"leads back to 2026-03-02T11:59:59\+00:00; it is 2026-03-02T12:00:00\+00:00 already"),
        ({"by": timedelta(hours=-1)}, "leads back"),
        ({"to": START - timedelta(seconds=1)}, "leads back"),
        ({"by": 5}, r"advance\(\) got 5; expected a timedelta, such as advance\(seconds=5\)"),
        ({"by": timedelta(1), "hours": 1}, "got several distances"),
        ({"to": START, "hours": 1}, "got several distances"),
        ({"days": 9_000_000}, "out of the calendar"),
    ],
)
async def test_a_wrong_advance_is_refused_and_moves_nothing(scheduler, options, message):
    async with scheduler.virtual_time(start=START) as clock:
        with pytest.raises(VirtualTimeError, match=message):
            await clock.advance(**options)
        assert clock.now() == START


@pytest.mark.parametrize(("key", "value"), [("start", "noon"), ("to", "noon")])
async def test_a_moment_that_is_none_is_refused(scheduler, key, value):
    with pytest.raises(InvalidDefinition, match=rf"{key}: is 'noon'; expected an ISO 8601 date and time"):
        async with scheduler.virtual_time(**({key: value} if key == "start" else {})) as clock:
            await clock.advance(to=value)
    assert scheduler.clock.real
    assert not scheduler.running


async def test_a_job_cannot_advance_its_own_time(scheduler):
    async def job() -> None:
        await clock.advance(seconds=1)

    async def enters() -> None:
        async with scheduler.virtual_time():
            pass

    scheduler.add_job("job", job, trigger="date", run_date=START)
    scheduler.add_job("enters", enters, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.run_due()
    messages = [fire.error_message for fire in clock.fires]
    assert "advance() was called within job 'job'" in messages[0]
    assert "virtual_time was entered within job 'enters'" in messages[1]


async def test_two_advances_at_once_are_refused(scheduler):
    async with scheduler.virtual_time(start=START) as clock:
        with pytest.raises(VirtualTimeError, match="another advance"):
            await asyncio.gather(clock.advance(seconds=1), clock.advance(seconds=1))


async def test_an_advance_that_is_cancelled_leaves_the_clock_usable(scheduler):
    scheduler.add_job("job", lambda: time.sleep(0.2), trigger="date", run_date=START + timedelta(seconds=1))
    async with scheduler.virtual_time(start=START) as clock:
        task = asyncio.create_task(clock.advance(seconds=5))
        await asyncio.to_thread(time.sleep, 0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seconds(clock.now()) == 1
        await clock.advance(seconds=4)
        assert told(clock.fires) == [("job", 1, 1, 1, "succeeded")]


async def test_blocks_cannot_be_nested(scheduler):
    async with scheduler.virtual_time():
        with pytest.raises(VirtualTimeError, match="already"):
            await scheduler.virtual_time().__aenter__()
        with pytest.raises(VirtualTimeError, match=r"virtual_time\(one, other\)"):
            await APScheduler().virtual_time().__aenter__()
        assert scheduler.running
    with pytest.raises(VirtualTimeError, match="a clock of its own"):
        await APScheduler(Scheduler(clock=ManualClock())).virtual_time().__aenter__()


async def test_a_scheduler_that_is_made_within_a_block_joins_it():
    ran = []
    async with virtual_time(start=START) as clock:
        await clock.advance(seconds=5)
        scheduler = APScheduler(Scheduler(timezone="UTC"))
        clock.join(scheduler)
        with pytest.raises(VirtualTimeError, match="already"):
            clock.join(scheduler)
        assert not scheduler.running
        scheduler.add_job("job", lambda: ran.append(clock.now()), trigger="interval", seconds=10)
        await scheduler.aio.start()
        await clock.advance(seconds=20)
        assert told(clock.fires) == [("job", 15, 15, 15, "succeeded"), ("job", 25, 25, 25, "succeeded")]
        await scheduler.aio.shutdown()
    assert len(ran) == 2
    assert scheduler.scheduler.clock.real
    with pytest.raises(VirtualTimeError, match="after the end of its virtual_time block"):
        clock.join(scheduler)


async def test_another_event_loop_is_refused(scheduler):
    async def elsewhere() -> None:
        with pytest.raises(VirtualTimeError, match="runs in another event loop"):
            await scheduler.virtual_time().__aenter__()
        async with APScheduler().virtual_time() as clock:
            clocks.append(clock)
            await asyncio.to_thread(done.wait)

    def run_elsewhere() -> None:
        with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
            runner.run(elsewhere())

    clocks: list[Any] = []
    done = threading.Event()
    await scheduler.aio.start()
    thread = asyncio.create_task(asyncio.to_thread(run_elsewhere))
    while not clocks:
        await asyncio.sleep(0.01)
    with pytest.raises(VirtualTimeError, match="in another event loop than that of its virtual_time block"):
        await clocks[0].advance(seconds=1)
    done.set()
    await thread
    await scheduler.aio.shutdown()


async def test_what_never_ends_is_named(scheduler):
    async def hangs() -> None:
        await asyncio.get_running_loop().create_future()

    scheduler.add_job("job", hangs, trigger="date", run_date=START + timedelta(seconds=1))
    async with scheduler.virtual_time(start=START, patience=0.1) as clock:
        with pytest.raises(
            VirtualTimeError, match=r"stood still for 0.1 real seconds, waiting for .*hangs \(.*py:\d+\)"
        ):
            await clock.advance(seconds=5)
        assert seconds(clock.now()) == 1


async def test_a_thread_that_never_ends_is_named(scheduler):
    gate = threading.Event()
    scheduler.add_job("job", gate.wait, trigger="date", run_date=START + timedelta(seconds=1))
    async with scheduler.virtual_time(start=START, patience=0.5) as clock:
        with pytest.raises(VirtualTimeError, match="waiting for job 'job' in its thread"):
            await clock.advance(seconds=5)
        gate.set()
        await clock.advance(seconds=4)
        assert told(clock.fires) == [("job", 1, 1, 1, "succeeded")]


async def test_a_test_that_sleeps_while_time_stands_still_is_told_so(scheduler):
    async with scheduler.virtual_time(start=START, patience=0.1) as clock:
        with pytest.raises(VirtualTimeError, match=r"is_told_so \(.*py:\d+\) waits for time to pass, .*clock\.advance"):
            await asyncio.sleep(1)
        with pytest.raises(VirtualTimeError, match="waits for time to pass"):
            await scheduler.clock.sleep(1)
        scheduler.add_job("job", sleeps, trigger="interval", hours=1)
        run = await scheduler.aio.run_job("job")
        waiting = asyncio.create_task(run.wait())
        with pytest.raises(asyncio.CancelledError, match="waits for a run that waits for time to pass"):
            await waiting
        await clock.advance(seconds=20)
        assert (await run).outcome == "succeeded"


async def test_a_test_that_waits_for_something_real_is_left_alone(scheduler):
    async with scheduler.virtual_time(start=START, patience=0.05):
        background = asyncio.create_task(asyncio.sleep(1))
        await asyncio.to_thread(time.sleep, 0.2)
        assert not background.done()
        background.cancel()


# Figures


def busy_day() -> APScheduler:
    """A day of 240 fires, of which half sleep or time out, some in threads."""

    async def times_out() -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(20)

    scheduler = APScheduler(Scheduler(timezone="UTC"))
    for number in range(10):
        func: Any = [nothing, sleeps, blocks, times_out][number % 4]
        scheduler.add_job(f"job{number}", func, trigger="interval", minutes=60, jitter=None)
    return scheduler


async def test_the_same_sequence_comes_out_every_time(caplog):
    caplog.set_level(logging.CRITICAL)
    sequences = []
    for _ in range(3):
        async with busy_day().virtual_time(start=START) as clock:
            await clock.advance(hours=24, minutes=1)
        sequences.append(told(clock.fires))
    assert len(sequences[0]) == 240
    assert sequences[1] == sequences[0]
    assert sequences[2] == sequences[0]
