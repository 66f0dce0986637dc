"""What happened to a fire: each answer, of a scheduler to which it has really happened, in memory and in a database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apscheduler.triggers.base import BaseTrigger
from quart import Quart

from quart_sched import APScheduler
from quart_sched.errors import InvalidDefinition, JobNotFound
from quart_sched.model.actor import current_actor
from quart_sched.testing import VirtualClock
from tests.conftest import START, settle
from tests.stores.cluster import SQLITE, Cluster, Tables
from tests.stores.manual_clock import ManualClock

gate = asyncio.Event()


async def tick() -> None:
    pass


async def waits() -> None:
    await gate.wait()


async def fails() -> None:
    raise ValueError("no such file")


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global gate
    gate = asyncio.Event()


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Memory:
    """A process with the memory store, in virtual time."""

    def __init__(self, scheduler: APScheduler, app: Quart, clock: VirtualClock) -> None:
        self.scheduler, self.clock, self._app = scheduler, clock, app
        self.aio = scheduler.aio
        self._test_app: Any = None

    async def start(self, **jobs: Any) -> None:
        self._app.config.update(SCHEDULER_TIMEZONE="UTC", SCHEDULER_API_ENABLED=True, TESTING=True)
        self.scheduler.init_app(self._app)
        declare(self.scheduler, jobs)
        self.scheduler.start()
        self._test_app = self._app.test_app()
        await self._test_app.startup()

    async def down(self) -> None:
        await self.aio.shutdown()

    async def up(self) -> None:
        await self.aio.start()
        await settle()

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds=seconds)

    def stand_still(self, seconds: float) -> None:
        self.clock.suspend(seconds=seconds)

    async def jump(self, seconds: float) -> None:
        """Stand still for so long, and look what is due."""
        self.stand_still(seconds)
        self.scheduler.scheduler.wakeup()
        await settle()

    async def close(self) -> None:
        gate.set()
        if self._test_app is not None:
            await self._test_app.shutdown()


class Shared:
    """The same with a database, which other processes may share."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.clock = cluster.clock
        self.scheduler: Any = None
        self.aio: Any = None

    async def start(self, **jobs: Any) -> None:
        process = await self.cluster.start(lambda scheduler: declare(scheduler, jobs))
        self.scheduler, self.aio = process.scheduler, process.aio

    async def down(self) -> None:
        await self.aio.shutdown()
        await self.cluster.rest()

    async def up(self) -> None:
        await self.aio.start()
        await self.cluster.rest()

    async def advance(self, seconds: float) -> None:
        await self.cluster.advance(seconds)

    def stand_still(self, seconds: float) -> None:
        self.cluster.clock.jump(seconds)

    async def jump(self, seconds: float) -> None:
        await self.cluster.jump(seconds)

    async def close(self) -> None:
        gate.set()


def declare(scheduler: APScheduler, jobs: dict[str, Any]) -> None:
    """Declare jobs: intervals of 10 s that begin 10 s after the start, unless told otherwise."""
    for job_id, options in jobs.items():
        trigger = {} if "trigger" in options else {"trigger": "interval", "seconds": 10, "start_date": at(10)}
        scheduler.add_job(job_id, **{"func": tick, **trigger, **options})


@pytest.fixture
async def memory(scheduler: APScheduler, app: Quart, clock: VirtualClock) -> AsyncIterator[Memory]:
    made = Memory(scheduler, app, clock)
    yield made
    await made.close()


@pytest.fixture
async def sqlite(tables: Tables, cluster_clock: ManualClock) -> AsyncIterator[Shared]:
    cluster = Cluster(cluster_clock, tables.empty("sqlite"))
    made = Shared(cluster)
    yield made
    await made.close()
    await cluster.close()


@pytest.fixture(params=["memory", SQLITE])
def house(request: pytest.FixtureRequest) -> Memory | Shared:
    # Not both at once: a process with a database does not live in virtual time.
    found: Memory | Shared = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def by_alice() -> Iterator[None]:
    token = current_actor.set("alice")
    yield
    current_actor.reset(token)


async def run_ids(house: Any, job_id: str = "job") -> list[str]:
    """The runs of a job, the earliest first."""
    page = await house.aio.runs(job_id)
    return [run.run_id for run in reversed(page.items)]


# What there is a record of


async def test_it_ran(house):
    await house.start(job={})
    await house.advance(15)
    found = await house.aio.explain("job", at(10))
    assert (found.verdict, found.outcome, found.at, found.late) == ("ran", "succeeded", at(10), 0)
    assert found.run_ids == tuple(await run_ids(house))
    worker = house.scheduler.scheduler.runner.worker
    assert found.description == (
        f"The fire of 2026-03-02 12:00:10 (UTC) ran at 12:00:10, on time, on {worker}, and succeeded after 0 seconds."
    )


async def test_it_is_running(house):
    await house.start(job={"func": waits})
    await house.advance(15)
    found = await house.aio.explain("job", at(10))
    assert (found.verdict, found.outcome, found.run_ids) == ("ran", "running", tuple(await run_ids(house)))
    assert found.description.endswith("and is running still.")


async def test_it_failed_in_each_of_its_attempts(house):
    await house.start(job={"func": fails, "retry": {"attempts": 2, "delay": 30, "jitter": 0}, **once(10)})
    await house.advance(15)
    found = await house.aio.explain("job", at(10))
    assert (found.verdict, found.outcome, len(found.run_ids)) == ("waiting", "retry_wait", 2)
    assert found.description == "The fire of 2026-03-02 12:00:10 (UTC) has been claimed and waits for its next attempt."
    await house.advance(40)
    found = await house.aio.explain("job", at(10))
    assert (found.verdict, found.outcome, found.late) == ("ran", "failed", 0)
    assert found.run_ids == tuple(await run_ids(house))
    assert found.description.endswith("and failed after 0 seconds in 2 attempts (ValueError: no such file).")


async def test_it_waits_for_its_turn(house):
    await house.start(job={"func": waits, "overlap": "queue"})
    await house.advance(25)
    found = await house.aio.explain("job", at(20))
    assert (found.verdict, found.outcome, len(found.run_ids)) == ("waiting", "queued", 1)
    assert found.description.endswith("has been claimed and waits for its turn.")


async def test_it_was_cancelled_before_it_began(house):
    await house.start(job={"func": waits, "overlap": "queue"})
    await house.advance(25)
    [run_id] = (await house.aio.explain("job", at(20))).run_ids
    await house.aio.cancel_run(run_id)
    found = await house.aio.explain("job", at(20))
    assert (found.verdict, found.outcome, found.run_ids) == ("cancelled", "cancelled", (run_id,))
    assert "was cancelled before it began: " in found.description


async def test_it_was_missed_and_by_how_much(house):
    await house.start(job={"misfire_grace_time": 5, **once(10)})
    await house.jump(17.5)
    found = await house.aio.explain("job", at(10))
    assert (found.verdict, found.late, found.run_ids, found.cause) == ("missed", 7.5, (), None)
    assert (found.first, found.last, found.fires) == (at(10), at(10), 1)
    assert found.description == (
        "The fire of 2026-03-02 12:00:10 (UTC) was missed: it was looked at 7.5 seconds later, "
        "which was too late to run it."
    )


async def test_each_of_several_misses_has_its_own_delay(house):
    await house.start(job={"misfire_grace_time": 1})
    await house.jump(13)
    await house.jump(9)
    assert [(await house.aio.explain("job", at(second))).late for second in (10, 20)] == [3, 2]


async def test_it_was_coalesced_and_into_which_run(house):
    await house.start(job={"misfire_grace_time": None})
    await house.jump(42)
    [_, run] = (await house.aio.runs("job")).items[::-1]
    found = await house.aio.explain("job", at(20))
    assert (found.verdict, found.into, found.late, found.cause) == ("coalesced", run.run_id, 22, None)
    assert (found.first, found.last, found.fires) == (at(10), at(30), 3)
    assert found.description == (
        f"The fire of 2026-03-02 12:00:20 (UTC) was coalesced into run {run.run_id}: when the job was looked at "
        "22 seconds later, both were due; so were 3 fires from 12:00:10 to 12:00:30."
    )
    assert (await house.aio.explain("job", at(25))).verdict == "not_a_fire"
    stood_for_them = await house.aio.explain("job", at(40))
    assert (stood_for_them.verdict, stood_for_them.run_ids, stood_for_them.late) == ("ran", (run.run_id,), 2)


async def test_it_was_skipped_because_of_which_run(house):
    await house.start(job={"func": waits})
    await house.advance(25)
    [running] = (await house.aio.explain("job", at(10))).run_ids
    found = await house.aio.explain("job", at(20))
    assert (found.verdict, found.blocked_by, found.run_ids, found.late) == ("skipped", (running,), (), 0)
    assert found.description == (
        "The fire of 2026-03-02 12:00:20 (UTC) was skipped, because as many runs as max_instances allows were under "
        f"way: {running}."
    )


# What held it up


@pytest.mark.usefixtures("by_alice")
async def test_the_scheduler_was_paused(house):
    await house.start(job={"misfire_grace_time": 5})
    await house.advance(12)
    await house.aio.pause()
    await house.advance(10)
    found = await house.aio.explain("job", at(20))
    assert found.verdict == "scheduler_paused"
    pause = {"scope": "scheduler", "since": "2026-03-02T12:00:12+00:00", "by": "alice", "until": None}
    assert found.to_wire()["pause"] == pause
    assert found.description == (
        "The fire of 2026-03-02 12:00:20 (UTC) did not run, because the scheduler was paused by alice since 12:00:12. "
        "It is still due, and is decided on when that ends."
    )
    await house.advance(6)
    await house.aio.resume()
    await house.advance(0.5)
    found = await house.aio.explain("job", at(20))
    assert (found.verdict, found.cause, found.late) == ("missed", "scheduler_paused", 8)
    assert found.pause.to_wire() == pause | {"until": "2026-03-02T12:00:28+00:00"}
    assert found.description.endswith("because the scheduler was paused by alice from 12:00:12 to 12:00:28.")


@pytest.mark.usefixtures("by_alice")
async def test_the_job_was_paused(house):
    await house.start(job={})
    await house.advance(12)
    await house.aio.pause_job("job")
    await house.advance(10)
    found = await house.aio.explain("job", at(20))
    assert (found.verdict, found.pause.scope, found.pause.hold.by) == ("job_paused", "job", "alice")
    assert (found.pause.hold.since, found.pause.hold.until) == (at(12), None)
    await house.advance(10)
    await house.aio.resume_job("job")
    await house.advance(10)
    found = await house.aio.explain("job", at(20))
    assert (found.verdict, found.pause.hold.since, found.pause.hold.until) == ("job_paused", at(12), at(32))
    assert found.description == (
        "The fire of 2026-03-02 12:00:20 (UTC) did not run, because the job was paused by alice from 12:00:12 to "
        "12:00:32."
    )
    assert (await house.aio.explain("job", at(40))).verdict == "ran"


async def test_no_process_was_running(house):
    await house.start(job={"misfire_grace_time": 5})
    await house.advance(12)
    await house.down()
    await house.advance(13)
    found = await house.aio.explain("job", at(20))
    assert (found.verdict, found.down.since, found.down.until) == ("process_down", at(12), None)
    assert found.description == (
        "The fire of 2026-03-02 12:00:20 (UTC) did not run, because no process was running since 12:00:12. "
        "It is still due, and is decided on when that ends."
    )
    await house.advance(2)
    await house.up()
    found = await house.aio.explain("job", at(20))
    assert (found.verdict, found.cause, found.late) == ("missed", "process_down", 7)
    assert (found.down.since, found.down.until) == (at(12), at(27))
    assert found.description.endswith("because no process was running from 12:00:12 to 12:00:27.")


async def test_before_the_first_start_there_was_no_process(house):
    await house.start(job={"start_date": at(-100), "trigger": "interval", "seconds": 10})
    found = await house.aio.explain("job", at(-20))
    if isinstance(house, Memory):
        assert (found.verdict, found.down.since, found.down.until) == ("process_down", None, at(0))
    else:
        # The database knows that the code has never declared the job before.
        assert found.verdict == "job_absent"


async def test_a_late_run_says_what_held_it_up(house):
    await house.start(job={"misfire_grace_time": None, **once(10)})
    await house.aio.pause()
    await house.advance(15)
    await house.aio.resume()
    await house.advance(0.5)
    found = await house.aio.explain("job", at(10))
    assert (found.verdict, found.late, found.cause, found.pause.hold.until) == ("ran", 5, "scheduler_paused", at(15))


class Fragile(BaseTrigger):
    """Fires once, and cannot tell what comes then."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is not None:
            raise OSError("the calendar is away")
        return at(10)


async def test_a_job_of_the_memory_store_was_broken(scheduler, app, clock):
    house = Memory(scheduler, app, clock)
    await house.start(job={"trigger": Fragile()})
    await house.advance(15)
    changes = [(change.action, change.detail) for change in (await house.aio.changes("job")).items]
    assert changes[0] == ("broken", "its trigger raised OSError: the calendar is away")
    await house.aio.modify_job("job", trigger="interval", seconds=10, start_date=at(10))
    await house.advance(10)
    assert (await house.aio.explain("job", at(20))).verdict == "ran"
    await house.close()


# What there is no record of


async def test_it_is_not_a_fire(house):
    await house.start(job={})
    await house.advance(35)
    found = await house.aio.explain("job", at(24))
    assert (found.verdict, found.previous, found.next) == ("not_a_fire", at(20), at(30))
    assert found.description == (
        "The job does not fire at 2026-03-02 12:00:24 (UTC): "
        "the fire before is at 12:00:20 and the next is at 12:00:30."
    )


async def test_the_trigger_of_that_time_counts(house):
    await house.start(job={})
    await house.advance(15)
    await house.aio.modify_job("job", trigger="interval", seconds=7, start_date=at(20))
    await house.aio.pause_job("job")
    await house.advance(40)
    assert (await house.aio.explain("job", at(27))).verdict == "job_paused"
    assert (await house.aio.explain("job", at(30))).verdict == "not_a_fire"


async def test_it_is_to_come(house):
    await house.start(job={})
    found = await house.aio.explain("job", at(3610))
    assert (found.verdict, found.at, found.pause) == ("to_come", at(3610), None)
    assert found.description == "The fire of 2026-03-02 13:00:10 (UTC) is to come."
    assert (await house.aio.explain("job", at(3615))).verdict == "not_a_fire"
    await house.aio.pause_job("job")
    found = await house.aio.explain("job", at(3610))
    assert (found.verdict, found.pause.scope, found.pause.hold.since) == ("to_come", "job", at(0))
    assert found.description == (
        "The fire of 2026-03-02 13:00:10 (UTC) is to come, but the job is paused by code since 12:00: "
        "it has to be resumed first."
    )


async def test_it_is_overdue(house):
    await house.start(job={})
    house.stand_still(13)
    found = await house.aio.explain("job", at(10))
    assert (found.verdict, found.late) == ("overdue", 3)
    assert found.description == (
        "The fire of 2026-03-02 12:00:10 (UTC) has been due for 3 seconds, and no process has claimed it yet."
    )


@pytest.mark.usefixtures("by_alice")
async def test_the_job_was_not_there_yet_or_not_any_more(house):
    await house.start()
    await house.advance(12)
    await house.aio.add_job("job", tick, trigger="interval", seconds=10, start_date=at(0))
    await house.advance(20)
    await house.aio.remove_job("job")
    await house.advance(10)
    before, after = await house.aio.explain("job", at(10)), await house.aio.explain("job", at(40))
    assert (before.verdict, after.verdict) == ("job_absent", "job_absent")
    assert before.description == "The job was not there: it was only added at 12:00:12 by alice."
    assert after.description == "The job was not there: it had been removed at 12:00:32 by alice."
    assert (await house.aio.explain("job", at(20))).verdict == "ran"
    assert (await house.aio.explain("job", at(24))).verdict == "not_a_fire"
    assert (await house.aio.explain("job", at(1000))).verdict == "job_absent"


async def test_its_record_is_gone(house):
    await house.start(job={})
    await house.advance(15)
    if isinstance(house, Memory):
        ring = house.scheduler.history
        ring.remove(ring.records())
    else:
        house.cluster.query("DELETE FROM {p}runs")
    found = await house.aio.explain("job", at(10))
    assert found.verdict == "no_record"
    assert found.description == (
        "The fire of 2026-03-02 12:00:10 (UTC) should have run, but nothing is known of it: its record has been "
        "deleted since, or the history does not go back so far."
    )


async def test_a_run_by_hand_is_not_the_fire_but_is_found_where_there_is_none(house):
    await house.start(job={})
    await house.advance(12)
    run = await house.aio.run_job("job")
    await run
    found = await house.aio.explain("job", at(12))
    assert (found.verdict, found.run_ids) == ("ran", (run.run_id,))
    assert found.description.startswith("The job was run beside its schedule at 12:00:12, on time,")


# Clocks that change, and times that are not exact

BERLIN = {"timezone": "Europe/Berlin"}


async def test_the_clocks_skip_it_and_it_is_moved(house):
    await house.start(job={"trigger": "crontab", "expression": "30 2 * * *", **BERLIN})
    found = await house.aio.explain("job", "2026-03-29T02:30")
    assert (found.verdict, found.clock_change.effect) == ("clock_gap", "moved")
    assert found.to_wire()["at"] == "2026-03-29T02:30:00"
    assert found.next.isoformat() == "2026-03-29T03:00:00+02:00"
    assert found.description == (
        "The clocks go forward on 2026-03-29 from 02:00 to 03:00 (Europe/Berlin): "
        "02:30 is skipped, and the job fires at 03:00 instead."
    )
    found = await house.aio.explain("job", found.next)
    assert (found.verdict, found.clock_change.effect) == ("to_come", "moved")


async def test_the_clocks_skip_it_and_it_is_left_out(house):
    await house.start(job={"trigger": "crontab", "expression": "*/30 * * * *", **BERLIN})
    found = await house.aio.explain("job", "2026-03-29T02:30")
    assert (found.verdict, found.clock_change.effect) == ("clock_gap", "left_out")
    found = await house.aio.explain("job", "2026-03-29T02:31")
    assert (found.verdict, found.clock_change) == ("not_a_fire", None)
    assert found.description == (
        "There is no 2026-03-29 02:31 (Europe/Berlin), since the clocks go forward to 03:00, "
        "and the job has no such fire."
    )


async def test_a_time_that_comes_twice_stands_for_the_one_that_is_a_fire(house):
    await house.start(
        once={"trigger": "date", "run_date": datetime(2026, 10, 25, 1, 30, tzinfo=UTC), **BERLIN},
        both={"trigger": "cron", "minute": 30, **BERLIN},
    )
    found = await house.aio.explain("once", "2026-10-25T02:30")
    assert (found.verdict, found.at.isoformat()) == ("to_come", "2026-10-25T02:30:00+01:00")
    found = await house.aio.explain("both", "2026-10-25T02:30")
    assert (found.verdict, found.at.isoformat()) == ("to_come", "2026-10-25T02:30:00+02:00")
    assert found.clock_change.effect == "both"


async def test_whole_seconds_stand_for_the_fire_within_that_second(house):
    await house.start(job={"trigger": "interval", "seconds": 10, "start_date": at(10.25)})
    await house.advance(15)
    assert (await house.aio.explain("job", "2026-03-02T12:00:10")).at == at(10.25)
    assert (await house.aio.explain("job", "2026-03-02 12:00:10.25+00:00")).verdict == "ran"
    assert (await house.aio.explain("job", at(10.5))).verdict == "not_a_fire"
    assert (await house.aio.explain("job", at(20))).at == at(20.25)


async def test_a_fire_with_jitter_is_found_by_its_time_without_it(house):
    await house.start(job={"trigger": "cron", "minute": 5, "jitter": 30})
    await house.advance(400)
    [run_id] = await run_ids(house)
    found = await house.aio.explain("job", at(300))
    assert (found.verdict, found.run_ids) == ("ran", (run_id,))
    assert 300 <= (found.at - START).total_seconds() <= 330


async def test_an_interval_with_jitter_keeps_in_step_with_its_start(house, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    await house.start(job={"trigger": "interval", "minutes": 1, "start_date": at(60), "jitter": 6})
    await house.advance(400)
    for fire in range(60, 361, 60):
        for seconds in (0, 3, 6):
            found = await house.aio.explain("job", at(fire + seconds))
            assert (found.verdict, found.at) == ("ran", at(fire + 6))
        for seconds in (-3, 20):
            assert (await house.aio.explain("job", at(fire + seconds))).verdict == "not_a_fire"
    assert (await house.aio.explain("job", at(600))).at == at(600)


# What cannot be answered


@pytest.mark.parametrize("wrong", ["soon", "", 5, "2900-01-01"])
async def test_a_wrong_time_is_named(house, wrong):
    await house.start(job={})
    with pytest.raises(InvalidDefinition, match=r"^at: is .*; expected"):
        await house.aio.explain("job", wrong)


async def test_nothing_is_known_of_a_job_that_never_was(house):
    await house.start(job={})
    with pytest.raises(JobNotFound):
        await house.aio.explain("nobody", at(10))
    with pytest.raises(JobNotFound):
        await house.aio.explain("nobody", "2026-03-29T02:30")


class Watched(BaseTrigger):
    """Notes in which threads it was asked after the start."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        self.threads.add(threading.get_ident())
        return (previous_fire_time or START) + timedelta(seconds=10)


async def test_a_trigger_of_the_users_own_is_not_asked_about_the_past(scheduler, app, clock):
    house = Memory(scheduler, app, clock)
    await house.start(job={"trigger": Watched()})
    await house.advance(15)
    assert (await house.aio.explain("job", at(10))).verdict == "ran"
    found = await house.aio.explain("job", at(5))
    assert (found.verdict, found.previous, found.next) == ("no_record", None, None)
    await house.close()


# In a database alone


async def test_a_process_that_was_killed_was_down_from_its_last_sign_of_life(cluster):
    one = await cluster.start(lambda scheduler: declare(scheduler, {"job": {"misfire_grace_time": 5}}))
    await cluster.advance(12)
    cluster.kill(one)
    await cluster.advance(36)
    two = await cluster.start(lambda scheduler: declare(scheduler, {"job": {"misfire_grace_time": 5}}))
    await cluster.advance(30)
    found = await two.aio.explain("job", at(30))
    assert (found.verdict, found.cause, found.down.until) == ("missed", "process_down", at(48))
    assert at(5) <= found.down.since <= at(12)


async def test_a_job_that_the_code_declares_no_more_is_paused(cluster):
    one = await cluster.start(lambda scheduler: declare(scheduler, {"job": {}, "other": {}}))
    await cluster.advance(12)
    two = await cluster.restart(one, lambda scheduler: declare(scheduler, {"other": {}}))
    await cluster.advance(20)
    found = await two.aio.explain("job", at(20))
    assert (found.verdict, found.pause.to_wire()["by"], found.pause.hold.since) == ("job_paused", "prune", at(12))
    assert found.description == (
        "The fire of 2026-03-02 12:00:20 (UTC) did not run, because the code has not declared the job since 12:00:12."
    )


async def test_a_pause_that_is_older_than_the_list_of_changes_is_still_known(cluster):
    one = await cluster.start(lambda scheduler: declare(scheduler, {"job": {}, "paused": {}}))
    await one.aio.pause_job("paused")
    await one.aio.pause()
    cluster.query("DELETE FROM {p}changes")
    await cluster.advance(15)
    found = await one.aio.explain("paused", at(10))
    assert (found.verdict, found.pause.hold.since, found.pause.hold.by) == ("job_paused", at(0), "code")
    found = await one.aio.explain("job", at(10))
    assert (found.verdict, found.pause.hold.since, found.pause.hold.by) == ("scheduler_paused", at(0), "code")


async def test_nobody_says_that_processes_were_down_before_the_time_of_which_that_is_known(cluster):
    one = await cluster.start(lambda scheduler: scheduler.add_job("job", tick, trigger="cron", minute=0))
    cluster.query("DELETE FROM {p}changes")
    assert (await one.aio.explain("job", START - timedelta(days=29))).verdict == "process_down"
    assert (await one.aio.explain("job", START - timedelta(days=31))).verdict == "no_record"


async def test_a_job_was_broken(cluster, monkeypatch):
    one = await cluster.start()
    await one.aio.add_job("job", tick, trigger="interval", seconds=10, start_date=at(10))
    monkeypatch.setattr("quart_sched.model.planning.fire_after", broken)
    await cluster.advance(15)
    monkeypatch.undo()
    found = await one.aio.explain("job", at(20))
    assert found.verdict == "broken"
    await cluster.advance(10)
    found = await one.aio.explain("job", at(20))
    assert found.verdict == "broken"
    assert found.description == (
        "The fire of 2026-03-02 12:00:20 (UTC) did not run, because the job was broken since 12:00:10: "
        "its trigger raised OSError: the calendar is away."
    )


def broken(*_: Any) -> None:
    raise OSError("the calendar is away")


def once(seconds: float) -> dict[str, Any]:
    return {"trigger": "date", "run_date": at(seconds)}
