"""What a job's timeout and retry do, in a store of this process and in one that processes share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from apscheduler.events import EVENT_JOB_ERROR
from quart import current_app

from quart_sched import APScheduler, current_run
from quart_sched.errors import InvalidDefinition, RunTimedOut
from tests.conftest import eventually
from tests.stores.cluster import Cluster, Process
from tests.stores.peers import at

starts: list[tuple[str, int, str]] = []
"""Of each run that began: its job, its attempt and its process."""
ends: list[str] = []
gate = threading.Event()
failures = 0
"""How many runs fail, from now on."""


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    global failures, gate
    starts.clear()
    ends.clear()
    failures, gate = 0, threading.Event()
    yield
    gate.set()


def note() -> None:
    starts.append((current_run.job_id, current_run.attempt, current_app.name))


async def fails() -> str:
    global failures
    note()
    if failures > 0:
        failures -= 1
        raise ValueError("not yet")
    return "done"


async def sleeps() -> str:
    note()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ends.append(f"cancelled {current_run.cancelled}")
        raise
    return "never"


async def cleans_up_slowly() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    return "ended all the same"


def hold() -> None:
    """Let time go on, virtual as it may be, while this thread is held up."""
    current_app.extensions["apscheduler"].scheduler.clock.block(0.1)


def blocks() -> str:
    note()
    while not (gate.wait(0.002) or current_run.cancelled):
        hold()
    if current_run.cancelled:
        ends.append("saw it")
    while not gate.wait(0.002):
        hold()
    ends.append("left")
    return "too late"


EVERY = {"trigger": "interval", "seconds": 10, "start_date": at(10)}


async def outcomes(scheduler: Any, job_id: str = "job") -> list[tuple[str, int, bool, str]]:
    """Of the job's runs, the earliest attempt first: outcome, attempt, whether final, cause."""
    page = await scheduler.aio.runs(job_id)
    records = sorted(page.items, key=lambda record: (record.scheduled_at, record.attempt))
    return [(record.outcome, record.attempt, record.final, record.cause) for record in records]


# Timeouts


async def test_a_coroutine_that_takes_too_long_is_cancelled_and_recorded_as_timed_out(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", sleeps, timeout=2.5, **EVERY)
        await clock.advance(seconds=12.4)
        assert (len(starts), ends) == (1, [])
        await clock.advance(seconds=0.2)
        assert ends == ["cancelled True"]
        [record] = (await scheduler.aio.runs("job")).items
        assert (record.outcome, record.final, record.duration) == ("timed_out", True, 2.5)
        assert (record.error_type, record.error_message) == ("RunTimedOut", "it ran for more than its timeout of 2.5 s")
        await clock.advance(seconds=10)
        assert len(starts) == 2


async def test_what_a_job_does_when_it_is_cancelled_for_its_timeout_does_not_make_it_succeed(
    scheduler, app, serve, clock
):
    async with serve(scheduler, app):
        scheduler.add_job("job", cleans_up_slowly, timeout=1, **EVERY)
        await clock.advance(seconds=12)
        assert await outcomes(scheduler) == [("timed_out", 1, True, "schedule")]


async def test_a_job_that_is_in_time_leaves_no_timer_behind(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, timeout=5, **EVERY)
        tasks = len(asyncio.all_tasks())
        await clock.advance(seconds=11)
        assert await outcomes(scheduler) == [("succeeded", 1, True, "schedule")]
        assert len(asyncio.all_tasks()) == tasks


async def test_a_hook_that_fails_behind_a_timeout_does_not_make_it_a_cancellation(scheduler, app, serve, clock):
    @scheduler.after_run
    def broken() -> None:
        raise LookupError("no connection")

    async with serve(scheduler, app):
        scheduler.add_job("job", sleeps, timeout=1, retry={"attempts": 2, "delay": 1}, **EVERY | {"seconds": 3600})
        await clock.advance(seconds=20)
        assert [outcome[:3] for outcome in await outcomes(scheduler)] == [("failed", 1, False), ("failed", 2, True)]


async def test_hooks_are_outside_of_the_timeout(scheduler, app, serve, clock):
    order: list[str] = []

    @scheduler.before_run
    async def before() -> None:
        await clock.wait(asyncio.Event(), 3)
        order.append("before")

    @scheduler.after_run
    async def after() -> None:
        await clock.wait(asyncio.Event(), 3)
        order.append("after")

    async with serve(scheduler, app):
        scheduler.add_job("quick", fails, timeout=1, **EVERY)
        scheduler.add_job("slow", sleeps, timeout=1, **EVERY)
        await clock.advance(seconds=19)
        assert order == ["before", "before", "after", "after"]
        assert await outcomes(scheduler, "quick") == [("succeeded", 1, True, "schedule")]
        assert await outcomes(scheduler, "slow") == [("timed_out", 1, True, "schedule")]


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
@pytest.mark.parametrize("kind", ["function", "awaitable"])
async def test_the_hooks_of_a_plain_function_are_outside_of_it_too(app, serve, kind, outcome):
    scheduler = APScheduler()  # in real time, as its threads are

    @scheduler.after_run
    def after() -> None:
        time.sleep(1)

    def function() -> None:
        if outcome == "failed":
            raise ValueError("as asked")

    async def coroutine() -> None:
        function()

    async with serve(scheduler, app):
        func = function if kind == "function" else lambda: coroutine()
        scheduler.add_job("job", func, timeout=0.5, trigger="interval", hours=1)
        assert (await (await scheduler.aio.run_job("job")).wait()).outcome == outcome


async def test_a_function_in_a_thread_is_told_of_its_timeout_and_holds_its_slot_until_it_ends(
    scheduler, app, serve, clock
):
    async with serve(scheduler, app):
        scheduler.add_job("job", blocks, timeout=2, **EVERY)
        await clock.advance(seconds=10.5)
        await eventually(lambda: starts)
        await clock.advance(seconds=2)
        await eventually(lambda: ends == ["saw it"])
        assert await outcomes(scheduler) == [("timed_out", 1, True, "schedule")]
        await clock.advance(seconds=8)
        assert await outcomes(scheduler) == [("timed_out", 1, True, "schedule"), ("skipped", 1, True, "schedule")]
        gate.set()
        await clock.advance(seconds=1)
        assert ends == ["saw it", "left"]
        await eventually(lambda: not scheduler.scheduler.runner.under_way.all())
        await clock.advance(seconds=10)
        await eventually(lambda: len(starts) == 2)


async def test_the_time_in_which_a_function_waits_for_a_thread_does_not_count(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_MAX_THREADS=1):
        scheduler.add_job("first", blocks, **EVERY)
        await clock.advance(seconds=10.5)
        await eventually(lambda: starts)
        scheduler.add_job("second", str, timeout=1, trigger="date", run_date=at(11))
        await clock.advance(seconds=30)
        gate.set()
        await clock.advance(seconds=1)
        assert scheduler.scheduler.runner.under_way.room == 1000
        assert await outcomes(scheduler, "second") == [("succeeded", 1, True, "schedule")]


async def test_a_run_by_hand_that_times_out_raises_so(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", sleeps, timeout=1, **EVERY)
        run = await scheduler.aio.run_job("job")
        await clock.advance(seconds=1.5)
        with pytest.raises(RunTimedOut, match="timeout of 1 s"):
            await run
        assert (await run.wait()).outcome == "timed_out"


async def test_the_fires_that_a_process_has_claimed_together_go_on_after_a_timeout(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        options = EVERY | {"misfire_grace_time": None, "coalesce": False}
        scheduler.add_job("job", sleeps, timeout=1, **options)
        clock.suspend(seconds=25)
        scheduler.scheduler.wakeup()
        await clock.advance(seconds=3)
        assert await outcomes(scheduler) == [("timed_out", 1, True, "schedule")] * 2


# Retries


async def test_a_run_that_failed_is_tried_again_after_ever_longer_delays(scheduler, app, serve, clock):
    global failures
    failures = 3
    async with serve(scheduler, app):
        retry = {"attempts": 5, "delay": 2, "backoff": 3, "max_delay": 10}
        scheduler.add_job("job", fails, trigger="date", run_date=at(10), retry=retry)
        await clock.advance(seconds=10.1)
        assert [record.retry_at for record in (await scheduler.aio.runs("job")).items if record.retry_at] == [at(12)]
        assert await outcomes(scheduler) == [("failed", 1, False, "schedule"), ("retry_wait", 2, False, "retry")]
        for seconds, attempts in ((1.8, 1), (0.2, 2), (5.8, 2), (0.2, 3), (9.7, 3), (0.3, 4), (100, 4)):
            await clock.advance(seconds=seconds)
            assert len(starts) == attempts
        assert await outcomes(scheduler) == [
            ("failed", 1, False, "schedule"),
            ("failed", 2, False, "retry"),
            ("failed", 3, False, "retry"),
            ("succeeded", 4, True, "retry"),
        ]
        records = (await scheduler.aio.runs("job")).items
        assert len({record.fire_id for record in records}) == 1
        assert len({record.run_id for record in records}) == 4


async def test_the_last_attempt_is_final_whatever_it_brings(scheduler, app, serve, clock):
    global failures
    failures = 9
    async with serve(scheduler, app):
        retry = {"attempts": 2, "delay": 1}
        scheduler.add_job("job", fails, trigger="date", run_date=at(10), retry=retry)
        scheduler.add_job("slow", sleeps, trigger="date", run_date=at(10), retry=retry, timeout=1)
        await clock.advance(seconds=60)
        assert await outcomes(scheduler) == [("failed", 1, False, "schedule"), ("failed", 2, True, "retry")]
        assert await outcomes(scheduler, "slow") == [
            ("timed_out", 1, False, "schedule"),
            ("timed_out", 2, True, "retry"),
        ]


async def test_a_retry_that_waits_holds_no_instance_and_one_that_is_due_waits_for_one(scheduler, app, serve, clock):
    global failures
    failures = 1
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, retry={"attempts": 2, "delay": 5}, **EVERY)
        await clock.advance(seconds=11)
        await scheduler.aio.modify_job("job", func=sleeps)
        run = await scheduler.aio.run_job("job")
        await clock.advance(seconds=6)
        assert len(starts) == 2  # the retry is due, and `run` holds the only instance
        await scheduler.aio.modify_job("job", timeout=1)
        run._ended.cancel()
        for batch in scheduler.scheduler.runner.under_way.of("job"):
            batch.task.cancel()
        await clock.advance(seconds=2)
        assert [attempt for _, attempt, _ in starts] == [1, 1, 2]


async def test_a_retry_that_waits_is_given_up_when_its_job_is_removed(scheduler, app, serve, clock):
    global failures
    failures = 1
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, retry={"attempts": 2, "delay": 5}, **EVERY)
        scheduler.add_job("other", str, retry={"attempts": 2, "delay": 5}, **EVERY)
        await clock.advance(seconds=11)
        await scheduler.aio.remove_job("other")
        assert (await outcomes(scheduler))[-1] == ("retry_wait", 2, False, "retry")
        await scheduler.aio.remove_job("job")
        await clock.advance(seconds=60)
        assert await outcomes(scheduler) == [("failed", 1, False, "schedule"), ("cancelled", 2, True, "retry")]
        assert len(starts) == 1


async def test_a_retry_waits_on_when_the_job_that_has_its_id_in_another_store_is_removed(scheduler, app, serve, clock):
    global failures
    failures = 1
    async with serve(scheduler, app, SCHEDULER_JOBSTORES={"other": {"type": "memory"}}):
        scheduler.add_job("job", fails, retry={"attempts": 2, "delay": 5}, **EVERY)
        scheduler.add_job("job", str, jobstore="other", trigger="interval", hours=1)
        await clock.advance(seconds=11)
        await scheduler.aio.remove_job("job", "other")
        await clock.advance(seconds=5)
        assert await outcomes(scheduler) == [("failed", 1, False, "schedule"), ("succeeded", 2, True, "retry")]


async def test_no_retry_follows_where_a_listener_removes_the_job_that_failed(scheduler, app, serve, clock):
    global failures
    failures = 1
    scheduler.add_listener(lambda event: scheduler.remove_job("job"), EVENT_JOB_ERROR)
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, retry={"attempts": 2, "delay": 5}, **EVERY)
        await clock.advance(seconds=60)
        assert await outcomes(scheduler) == [("failed", 1, False, "schedule"), ("cancelled", 2, True, "retry")]
        assert (await scheduler.aio.runs("job")).items[0].error_message == "the job was removed"
        assert len(starts) == 1


async def test_a_retry_that_waits_in_a_process_that_shuts_down_is_recorded_as_cancelled(scheduler, app, serve, clock):
    global failures
    failures = 1
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, retry={"attempts": 2, "delay": 5}, **EVERY)
        await clock.advance(seconds=11)
    assert await outcomes(scheduler) == [("failed", 1, False, "schedule"), ("cancelled", 2, True, "retry")]


async def fails_slowly() -> None:
    note()
    await asyncio.sleep(2)
    raise ValueError("not yet")


SLOWLY = {"retry": {"attempts": 3, "delay": 1}, "trigger": "interval", "hours": 1, "start_date": at(10)}


async def test_no_retry_follows_a_shutdown_that_waited_for_the_run(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", fails_slowly, **SLOWLY)
        await clock.advance(seconds=11)
        shutdown = asyncio.create_task(scheduler.aio.shutdown(timeout=5))
        await clock.advance(seconds=10)
        await shutdown
        assert (len(starts), await outcomes(scheduler)) == (1, [("failed", 1, True, "schedule")])


async def test_neither_a_retry_nor_another_fire_follows_the_removal_of_a_job(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        late = {"next_run_time": clock.now() - timedelta(hours=2), "misfire_grace_time": None, "coalesce": False}
        scheduler.add_job("job", fails_slowly, **SLOWLY | late)
        await clock.advance(seconds=1)
        await scheduler.aio.remove_job("job")
        await clock.advance(seconds=60)
        assert len(starts) == 1
        assert {outcome[:3] for outcome in await outcomes(scheduler)} == {("failed", 1, True), ("cancelled", 1, True)}


async def test_what_a_new_start_lets_wait_is_not_given_up_by_the_shutdown_before_it(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", sleeps, run_on_start=True, overlap="queue", **EVERY | {"seconds": 3600})
        await scheduler.aio.run_job("job")
        await clock.run_due()
        scheduler.shutdown()
        scheduler.start()
        await clock.advance(seconds=5)
        assert sorted(outcome[0] for outcome in await outcomes(scheduler)) == ["cancelled", "running"]


async def test_a_run_by_hand_is_tried_again_though_the_scheduler_has_not_been_started(scheduler, app, serve, clock):
    global failures
    failures = 1
    async with serve(scheduler, app, start=False):
        scheduler.add_job("job", fails, retry={"attempts": 2, "delay": 5}, **EVERY)
        run = await scheduler.aio.run_job("job")
        with pytest.raises(ValueError, match="not yet"):
            await run
        await clock.advance(seconds=6)
        assert await outcomes(scheduler) == [("failed", 1, False, "manual"), ("succeeded", 2, True, "retry")]


async def test_no_retry_starts_while_the_scheduler_is_paused(scheduler, app, serve, clock):
    global failures
    failures = 1
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, retry={"attempts": 2, "delay": 5}, trigger="date", run_date=at(10))
        await clock.advance(seconds=11)
        await scheduler.aio.pause()
        await clock.advance(seconds=60)
        assert len(starts) == 1
        await scheduler.aio.resume()
        await clock.advance(seconds=2)
        assert len(starts) == 2


# In a store that processes share


def declares(**options: Any) -> Any:
    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", **options)

    return declare


RETRYING = {"func": fails, "trigger": "date", "run_date": at(10), "retry": {"attempts": 3, "delay": 4, "backoff": 1}}


async def test_a_retry_waits_in_the_database_and_any_process_makes_it(cluster: Cluster):
    global failures
    failures = 1
    first = await cluster.start(declares(**RETRYING))
    await cluster.advance(10.5)
    assert await outcomes(first) == [("failed", 1, False, "schedule"), ("retry_wait", 2, False, "retry")]
    [(owner, state)] = cluster.query("SELECT owner, state FROM {p}live")
    assert (owner, state) == (None, "retry_wait")
    await cluster.stop(first)
    second = await cluster.start(declares(**RETRYING))
    await cluster.advance(6)
    assert [(attempt, process) for _, attempt, process in starts] == [(1, first.app.name), (2, second.app.name)]
    assert await outcomes(second) == [("failed", 1, False, "schedule"), ("succeeded", 2, True, "retry")]
    assert cluster.query("SELECT run_id FROM {p}live") == []


async def test_a_retry_starts_when_it_is_due_and_not_a_poll_later(cluster: Cluster):
    global failures
    failures = 2
    process = await cluster.start(declares(**RETRYING), SCHEDULER_POLL_INTERVAL=60.0, SCHEDULER_HEARTBEAT=60.0,
                                  SCHEDULER_LEASE=180.0)  # fmt: skip
    await cluster.advance(10.5)
    assert len(starts) == 1
    await cluster.advance(4)
    assert len(starts) == 2
    await cluster.advance(4.1)
    assert len(starts) == 3
    assert (await outcomes(process))[-1] == ("succeeded", 3, True, "retry")


async def test_a_retry_of_a_job_that_was_removed_is_recorded_as_cancelled(cluster: Cluster):
    global failures
    failures = 1
    process = await cluster.start()
    hourly = {"trigger": "interval", "hours": 1, "start_date": at(10)}
    await process.aio.add_job("job", fails, retry=RETRYING["retry"], **hourly)
    await cluster.advance(10.5)
    await process.aio.remove_job("job")
    await cluster.advance(6)
    assert await outcomes(process) == [("failed", 1, False, "schedule"), ("cancelled", 2, True, "retry")]
    assert len(starts) == 1


async def test_a_timeout_is_kept_in_the_database_and_holds(cluster: Cluster):
    process = await cluster.start(declares(func=sleeps, timeout=1.5, **EVERY))
    assert (await process.job("job"))["timeout"] == 1.5
    await cluster.advance(12)
    assert await outcomes(process) == [("timed_out", 1, True, "schedule")]
    status, page = await process.rest("GET", "/runs?outcome=timed_out")
    assert (status, [item["outcome"] for item in page["items"]]) == (200, ["timed_out"])


async def test_a_function_that_timed_out_holds_its_place_in_the_cluster_until_it_ends(cluster: Cluster):
    declare = declares(func=blocks, timeout=2, **EVERY)
    processes = [await cluster.start(declare), await cluster.start(declare)]
    await cluster.advance(10.5)
    await eventually(lambda: starts)
    await cluster.advance(2)
    await eventually(lambda: ends == ["saw it"])
    await cluster.advance(8)
    for process in processes:
        assert [outcome[0] for outcome in await outcomes(process)] == ["timed_out", "skipped"]
    assert cluster.query("SELECT state FROM {p}live") == [("leaving",)]
    gate.set()
    await eventually(lambda: ends == ["saw it", "left"])
    await eventually(lambda: not any(process.scheduler.scheduler.runner.under_way.all() for process in processes))
    await cluster.rest()
    assert cluster.query("SELECT state FROM {p}live") == []
    await cluster.advance(10)
    await eventually(lambda: len(starts) == 2)


async def test_a_function_that_timed_out_in_a_process_that_dies_is_recorded_once(cluster: Cluster):
    declare = declares(func=blocks, timeout=2, on_crash="rerun", **EVERY | {"seconds": 3600})
    first = await cluster.start(declare)
    await cluster.advance(10.5)
    await eventually(lambda: starts)
    await cluster.advance(2)
    await eventually(lambda: ends == ["saw it"])
    await cluster.rest()
    second = await cluster.start(declare)
    cluster.kill(first)
    await cluster.advance(60)
    assert cluster.query("SELECT state FROM {p}live") == []
    assert await outcomes(second) == [("timed_out", 1, True, "schedule")]
    gate.set()


# Over REST


async def test_policies_are_set_over_rest_and_shown_as_they_can_be_sent_back(cluster: Cluster):
    process: Process = await cluster.start()
    body = {
        "id": "job", "func": "tests.engine.test_policies:fails", "trigger": "interval", "seconds": 10,
        "timeout": 30, "retry": {"attempts": 3}, "description": "Sends what is due.", "tags": ["mail", "daily"],
    }  # fmt: skip
    status, shown = await process.rest("POST", "/jobs", json=body)
    assert status == 200
    retry = {"attempts": 3, "delay": 1.0, "backoff": 2.0, "max_delay": 3600.0, "jitter": 0.0}
    assert {key: shown[key] for key in ("timeout", "retry", "description", "tags")} == {
        "timeout": 30, "retry": retry, "description": "Sends what is due.", "tags": ["mail", "daily"],
    }  # fmt: skip
    assert await process.rest("PATCH", "/jobs/job", json=shown) == (200, shown)
    status, changed = await process.rest("PATCH", "/jobs/job", json={"timeout": None, "retry": None, "tags": []})
    assert (changed["timeout"], changed["retry"], changed["tags"]) == (None, None, [])
    assert changed["next_run_time"] == shown["next_run_time"]
    assert cluster.query("SELECT version FROM {p}jobs") == [(2,)]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("timeout", 0, "timeout: is 0; expected seconds above 0, at most 31,622,400, or null for no limit"),
        ("timeout", "5", "timeout: is '5'; expected seconds above 0"),
        ("timeout", True, "timeout: is True; expected seconds"),
        ("retry", 3, "retry: is 3; expected an object with the keys attempts, delay, backoff, max_delay, jitter"),
        ("retry", {}, "retry.attempts: is missing; expected how often the job may start for one fire"),
        ("retry", {"attempts": 1}, "retry.attempts: is 1; expected a whole number from 2 to 1,000"),
        ("retry", {"attempts": 3, "delay": -1}, "retry.delay: is -1; expected a number from 0 to 31,622,400"),
        ("retry", {"attempts": 3, "backoff": 0.5}, "retry.backoff: is 0.5; expected a number from 1 to"),
        ("retry", {"attempts": 3, "wait": 5}, "retry.wait: is not known; expected attempts, delay, backoff"),
        ("description", 5, "description: is 5; expected a text of at most 2,000 characters"),
        ("tags", "mail", "tags: is 'mail'; expected a list of at most 32 texts"),
        ("tags", ["mail", ""], "tags: has ''; expected texts of 1 to 64 characters"),
    ],
)
async def test_a_wrong_policy_is_refused_and_changes_nothing(scheduler, app, serve, key, value, message):
    async with serve(scheduler, app, SCHEDULER_API_ENABLED=True) as client:
        scheduler.add_job("job", fails, trigger="interval", hours=1)
        before = await (await client.get("/scheduler/jobs/job")).get_json()
        response = await client.patch("/scheduler/jobs/job", json={key: value})
        assert response.status_code == 400
        assert message in (await response.get_json())["error_message"]
        assert await (await client.get("/scheduler/jobs/job")).get_json() == before


def test_an_unlimited_backoff_ends_at_the_longest_delay():
    from quart_sched.model.policies import Retry

    retry = Retry(1000, delay=1, backoff=1000, max_delay=60)
    assert [retry.seconds_after(attempt) for attempt in (1, 2, 500, 999)] == [1, 60, 60, 60]
    jittered = Retry(3, delay=10, jitter=5)
    assert all(10 <= jittered.seconds_after(1) <= 15 for _ in range(100))


def test_a_wrong_policy_in_a_decorator_names_the_function(scheduler):
    with pytest.raises(
        InvalidDefinition, match=r"timeout: is -1; .* \(in the job tests\.engine\.test_policies:fails\)"
    ):
        scheduler.task("interval", hours=1, timeout=-1)(fails)
