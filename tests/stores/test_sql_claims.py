"""Claims: each fire is claimed once, by a process that can run it, and ends in one record, whatever happens between."""

from __future__ import annotations

import gc
import sys
import tempfile
import threading
import types
import weakref
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from apscheduler.jobstores.base import JobLookupError
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_sched.errors import InvalidDefinition, OverlapForbidden
from quart_sched.model.ids import new_id
from quart_sched.model.jobs import JobChanges
from quart_sched.model.runs import Run
from quart_sched.stores.sql import rounds
from quart_sched.stores.sql.failures import DatabaseFailure
from quart_sched.stores.sql.workers import SessionLost
from tests.conftest import START
from tests.stores.manual_clock import ManualClock
from tests.stores.peers import Peer, answers_lost, at, seconds, stoppable

pytestmark = pytest.mark.integration  # there is a database in each

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A folder whose files need no disk."""


def fires(runs: list[Run]) -> list[float]:
    return [(run.scheduled_at - START).total_seconds() for run in runs]


# Every fire is accounted for

WAITS = st.integers(2, 25)
PEERS = st.integers(0, 1)
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["claim", "claim", "begin", "finish", "give back", "die"]), PEERS),
    st.tuples(st.sampled_from(["claim", "claim", "begin", "finish", "give back", "die"]), PEERS),
    st.tuples(st.sampled_from(["pause", "pause all"]), WAITS),
    st.tuples(st.just("trigger"), st.tuples(st.integers(1, 20), st.integers(0, 60))),
)
STEPS = st.lists(st.tuples(WAITS, ACTIONS), min_size=25, max_size=40)


@dataclass
class Story:
    """What happens to one job in two processes, and which fires it is expected to have had."""

    peers: list[Peer]
    clock: ManualClock
    every: int = 7
    begin: int = 3
    next: int | None = 3
    paused: bool = False
    fires: list[int] = field(default_factory=list)
    held: list[list[Run]] = field(default_factory=lambda: [[], []])
    begun: list[list[Run]] = field(default_factory=lambda: [[], []])
    starts: Counter[tuple[str, int]] = field(default_factory=Counter)
    starts_of_fire: Counter[str] = field(default_factory=Counter)

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def first_from(self, moment: float) -> int:
        return self.begin + max(0, -int((self.begin - moment) // self.every)) * self.every

    def do(self, action: str, value: Any) -> None:
        match action:
            case "claim":
                self.claim(value)
            case "begin":
                self.start(value)
            case "finish":
                self.start(value)
                assert self.peers[value].finish(*self.begun[value]) == []
                self.begun[value] = []
            case "give back":
                self.peers[value].round(returned=tuple(run.run_id for run in self.held[value]), limit=0)
                self.held[value] = []
            case "die":
                self.die(value)
            case "pause":
                self.peers[0].verbs.pause("job")
                self.next = None
                self.claim_after(value)
                self.peers[1].verbs.resume("job")
                self.next = self.first_from(self.now)
            case "pause all":
                self.peers[0].store.set_paused(True)
                self.paused = True
                self.claim_after(value)
                self.peers[1].store.set_paused(False)
                self.paused = False
            case "trigger":
                self.change(*value)

    def claim(self, number: int) -> None:
        self.held[number] += [run for claim in self.peers[number].round(catch_up=3).claimed for run in claim.runs]
        if self.next is not None and not self.paused:
            while self.next <= self.now:
                self.fires.append(self.next)
                self.next += self.every

    def claim_after(self, wait: int) -> None:
        self.clock.jump(wait)
        for number in (0, 1):
            self.claim(number)

    def start(self, number: int) -> None:
        for run in self.held[number]:
            self.starts[run.run_id, run.attempt] += 1
            self.starts_of_fire[run.fire_id] += 1
        self.begun[number] += self.held[number]
        self.held[number] = []

    def die(self, number: int) -> None:
        dead, watcher = self.peers[number], self.peers[1 - number]
        beat = watcher.store.heartbeat(watcher.me, {run.run_id for run in self.known(1 - number)}).others[dead.me.id]
        watcher.store.reap(dead.me.id, beat, watcher.me)
        with pytest.raises(SessionLost):
            dead.round(*(dead.end(run) for run in self.known(number)))
        dead.join()
        self.held[number], self.begun[number] = [], []

    def known(self, number: int) -> list[Run]:
        return self.held[number] + self.begun[number]

    def change(self, every: int, begin: int) -> None:
        if (every, begin) == (self.every, self.begin):
            return
        changes = JobChanges.parse("job", {"trigger": "interval", "seconds": every, "start_date": at(begin)})
        self.peers[0].verbs.modify("job", None, changes)
        self.every, self.begin = every, begin
        if self.next is not None:
            self.next = self.first_from(self.now)

    def check(self) -> None:
        """Each fire so far lies in one final record, or in one live run; and no other does."""
        peer = self.peers[0]
        found: Counter[int] = Counter()
        for row in peer.runs():
            if row.final:
                first, last = seconds(row.sched_us if row.first_us is None else row.first_us), seconds(row.sched_us)
                covered = [fire for fire in self.fires if first <= fire <= last]
                assert covered[0] == first
                assert covered[-1] == last
                assert row.fires in (None, len(covered))
                found.update(covered)
        live = peer.live()
        found.update(int(seconds(row.sched_us)) for row in live)
        assert found == Counter(self.fires), "neither a gap nor one twice"
        last_us = peer.job("job").last_us
        assert ([] if last_us is None else [seconds(last_us)]) == self.fires[-1:]
        alive = {row.id for row in peer.query("SELECT id FROM {p}workers WHERE gone_us IS NULL")}
        assert {row.owner for row in live} <= {None, *alive}

    def end(self) -> None:
        """Let everything that was claimed come to its end."""
        self.peers[0].verbs.pause("job")
        self.next = None
        for _ in range(200):
            if not self.peers[0].live():
                break
            for number in (0, 1):
                self.do("claim", number)
                self.do("finish", number)
            self.clock.jump(1)
        assert self.peers[0].live() == []
        self.check()


@settings(max_examples=20, derandomize=True)
@given(
    steps=STEPS,
    coalesce=st.booleans(),
    grace=st.sampled_from([None, 1, 12]),
    max_instances=st.integers(1, 2),
    on_crash=st.sampled_from(["lost", "rerun"]),
)
def test_each_fire_lies_in_one_final_record_or_live_run_whatever_happens(
    steps, coalesce, grace, max_instances, on_crash
):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        clock = ManualClock()
        peers = [Peer(f"sqlite:///{folder}/jobs.db", "t_", clock) for _ in range(2)]
        options = {"coalesce": coalesce, "misfire_grace_time": grace, "max_instances": max_instances}
        peers[0].add("job", trigger="interval", seconds=7, start_date=at(3), on_crash=on_crash, **options)
        clock.jump(0.5)
        story = Story(peers, clock)
        for wait, action in steps:
            clock.jump(wait)
            story.do(*action)
            story.check()
        story.end()
        assert set(story.starts.values()) <= {1}, "no attempt starts twice"
        if on_crash == "lost":
            assert set(story.starts_of_fire.values()) <= {1}
        for peer in peers:
            peer.close()


# Who gets a fire


def test_a_fire_is_claimed_once_and_moves_the_schedule_on(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    clock.jump(10)
    [run] = a.claim()
    assert (run.job_id, run.cause, run.attempt, fires([run])) == ("job", "schedule", 1, [10])
    assert b.claim() == []
    row = a.job("job")
    assert (seconds(row.next_us), seconds(row.last_us), row.fence) == (20, 10, 1)
    [live] = a.live()
    assert (live.owner, live.run_id, live.batch_id, seconds(live.fire_us)) == (a.me.id, run.run_id, run.run_id, 10)


def test_several_claimants_at_once_get_each_fire_once_and_no_more_than_their_limit(peer, clock):
    peers = [peer() for _ in range(4)]
    jobs = [f"job{number:02}" for number in range(60)]
    for job_id in jobs:
        peers[0].add(job_id, misfire_grace_time=None)
    begin = threading.Barrier(len(peers))
    sizes: list[int] = []

    def work(one: Peer) -> list[Run]:
        claimed: list[Run] = []
        for _ in range(3):
            begin.wait(10)
            while runs := one.claim(limit=7):
                sizes.append(len(runs))
                claimed += runs
                one.finish(*runs)
            if begin.wait(10) == 0:
                clock.jump(10)
        return claimed

    clock.jump(10)
    with ThreadPoolExecutor(len(peers)) as pool:
        claimed = [run for runs in pool.map(work, peers) for run in runs]
    # Rows that another one has locked are left to it: a second look may be needed for the last of them.
    claimed += peers[0].claim()
    assert Counter((run.job_id, fires([run])[0]) for run in claimed if fires([run])[0] < 40) == Counter(
        (job_id, fire) for job_id in jobs for fire in (10, 20, 30)
    )
    assert max(sizes) <= 7
    assert len({run.run_id for run in claimed}) == len(claimed)


def test_no_more_is_claimed_than_there_is_room_for_waiting_runs_first(peer, clock):
    a, b = peer(), peer()
    for number in range(5):
        a.add(f"job{number}", misfire_grace_time=None)
    clock.jump(10)
    first = a.claim(limit=2)
    a.round(returned=tuple(run.run_id for run in first), limit=0)
    taken = b.round(limit=3)
    assert taken.more
    assert {claim.job.id for claim in taken.claimed} >= {run.job_id for run in first}
    assert len(taken.claimed) == 3
    assert len(b.claim(limit=0)) == 0
    assert len(b.claim(limit=3)) == 2


def test_a_claim_tells_when_the_next_job_is_due(peer, clock):
    one = peer()
    one.add("tick", max_instances=9)
    one.add("later", trigger="interval", seconds=10, start_date=at(13), max_instances=9)
    claim = partial(one.round, waiting=False)
    assert claim().next_us is None, "nothing was due"
    clock.jump(10)
    assert seconds(claim().next_us) == 13
    clock.jump(3)
    assert seconds(claim().next_us) == 20
    clock.jump(10)
    first = claim(limit=1)
    assert (first.more, first.next_us) == (True, None)
    assert seconds(claim().next_us) == 30
    clock.jump(10)
    assert one.round(waiting=True).next_us is None, "what waits has a time of its own"


def test_a_job_that_has_ended_is_kept_no_longer(peer, clock):
    one = peer()
    one.add("once", trigger="date", run_date=at(10))
    clock.jump(10)
    [run] = one.claim()
    job = weakref.ref(run.job)
    one.finish(run)
    del run
    gc.collect()
    assert job() is None


def test_what_a_run_does_to_its_arguments_no_other_run_sees(peer, clock):
    one = peer()
    one.add("job", args=([], ({},)), kwargs={"found": {"at": []}}, misfire_grace_time=None, coalesce=False)
    seen = []

    def perform(runs: list[Run]) -> None:
        for run in runs:
            seen.append(repr((run.job.args, run.job.kwargs)))
            run.job.args[0].append(1)
            run.job.args[1][0]["y"] = 2
            run.job.kwargs["found"]["at"].append(3)

    clock.jump(10)
    [first] = one.claim()
    perform([first])
    one.finish(first)
    clock.jump(30)
    together = one.claim()
    perform(together)
    one.round(returned=tuple(run.run_id for run in together), limit=0)
    clock.jump(1)
    perform(one.claim())
    assert Counter(seen) == {repr((([], ({},)), {"found": {"at": []}})): 5}


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Adds a module to those that can be imported, or takes it away again."""
    module = types.ModuleType("shop_of_the_test")
    exec("def sell(): ...", module.__dict__)
    there: dict[bool, Any] = {True: module, False: None}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return lambda present: monkeypatch.setitem(sys.modules, module.__name__, there[present])


def test_what_a_process_cannot_load_does_not_fill_its_batch_and_is_claimed_by_one_that_can(peer, clock, shop):
    able, unable = peer(), peer()
    for number in range(12):
        able.add(f"sale{number:02}", "shop_of_the_test:sell", misfire_grace_time=None)
    able.add("tick", start_date=at(11), trigger="interval", seconds=10)
    clock.jump(12)
    shop(False)
    # The first time it does not know yet, and leaves them out of the next look.
    assert [run.job_id for run in unable.claim(limit=10)] == ["tick"]
    assert unable.claim(limit=10) == []
    assert unable.live() == unable.live("tick"), "the others are nobody's yet"
    poll = unable.store.poll()
    assert poll.earliest is not None
    assert seconds(poll.earliest) == 21, "and it does not wait for them"
    shop(True)
    assert {run.job_id for run in able.claim(limit=100)} == {f"sale{number:02}" for number in range(12)}


def test_waiting_runs_that_a_process_cannot_load_are_left_to_one_that_can(peer, clock, shop):
    able, unable = peer(), peer()
    able.add("sale", "shop_of_the_test:sell")
    clock.jump(10)
    [run] = able.claim()
    able.round(returned=(run.run_id,), limit=0)
    shop(False)
    assert unable.claim() == []
    clock.jump(2)
    assert unable.claim() == []
    shop(True)
    assert [again.run_id for again in able.claim()] == [run.run_id]


@pytest.mark.parametrize("others", [0, 1])
def test_a_run_that_waits_is_taken_once_its_job_has_another_function(peer, clock, shop, others):
    one = peer()
    for number in range(1 + others):
        one.add(f"sale{number}", "shop_of_the_test:sell", trigger="date", run_date=at(10))
    clock.jump(10)
    runs = {run.job_id: run for run in one.claim()}
    one.round(returned=tuple(run.run_id for run in runs.values()), limit=0)
    shop(False)
    clock.jump(2)
    loader = one.store.loader
    loader._good.clear()
    assert one.claim() == []
    assert (list(loader.bad_functions), one.store.poll().due_us) == (["shop_of_the_test:sell"], None)
    definition = one.job("sale0").definition.replace("shop_of_the_test:sell", "tests.stores.peers:tick")
    change = "UPDATE {p}jobs SET func = :func, definition = :definition, version = 9 WHERE id = 'sale0'"
    one.execute(change, func="tests.stores.peers:tick", definition=definition)
    assert one.store.poll().due_us is not None
    assert [run.run_id for run in one.claim()] == [runs["sale0"].run_id]
    one.store.mending.mend()
    assert list(loader.bad_functions) == ["shop_of_the_test:sell"] * others


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_a_schedule_that_was_set_back_by_hand_repeats_no_fire_and_holds_up_no_other_job(peer, clock, running, coalesce):
    a = peer()
    for job_id in ("job", "other"):
        a.add(job_id, max_instances=5, misfire_grace_time=None, coalesce=coalesce)
    clock.jump(10)
    runs = a.claim()
    if not running:
        a.finish(*runs)
    a.execute("UPDATE {p}jobs SET next_us = last_us WHERE id = 'job'")
    clock.jump(10)
    again = a.round()
    runs += [run for claim in again.claimed for run in claim.runs]
    assert again.more, "it is moved on, and looked at once more"
    runs += a.claim()
    a.finish(*runs)
    done = [(row.job_id, seconds(row.sched_us), row.outcome) for row in a.runs()]
    assert sorted(done) == [(job_id, fire, "succeeded") for job_id in ("job", "other") for fire in (10, 20)]
    assert seconds(a.job("job").next_us) == 30


def test_a_one_shot_job_that_was_set_back_by_hand_does_not_run_again(peer, clock):
    a = peer()
    a.add("once", trigger="date", run_date=at(5))
    clock.jump(5)
    [run] = a.claim()
    a.finish(run)
    a.execute("UPDATE {p}jobs SET next_us = last_us, ended_us = NULL")
    done = a.round()
    assert (done.claimed, done.ended) == ([], ["once"])
    assert a.job("once").next_us is None
    assert a.job("once").ended_us is not None


# How many at once


def test_what_has_ended_and_is_yet_to_be_written_down_is_no_instance_any_more(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    a.add("other")
    clock.jump(11)
    [first] = [run for run in a.claim() if run.job_id == "job"]
    clock.jump(10)
    [again] = [claim.runs[0] for claim in a.round(unwritten=(a.end(first),)).claimed]
    assert (again.job_id, fires([again])) == ("job", [20])
    assert [(row.job_id, row.outcome) for row in a.runs()] == [("other", "skipped")]

    clock.jump(10)
    assert b.round(unwritten=(a.end(first),)).claimed == []  # `again` runs still
    assert a.finish(first, again) == []
    assert [row.outcome for row in a.runs("job")] == ["succeeded", "succeeded", "skipped"]


def test_max_instances_counts_over_all_processes_and_what_is_skipped_is_recorded(peer, clock):
    a, b, c = peer(), peer(), peer()
    a.add("job", max_instances=2)
    clock.jump(10)
    [first] = a.claim()
    clock.jump(10)
    [second] = b.claim()
    clock.jump(10)
    done = c.round()
    assert done.claimed == []
    [skipped] = done.records
    assert (skipped.outcome, skipped.scheduled_at, skipped.final, skipped.fires) == ("skipped", at(30), True, 1)
    [row] = c.runs()
    assert (row.outcome, seconds(row.sched_us), row.first_us, row.recorded_by) == ("skipped", 30, None, c.me.id)
    assert a.finish(first) == []
    clock.jump(10)
    assert fires(c.claim()) == [40]
    assert b.finish(second) == []


def test_catch_up_fires_that_run_one_after_another_are_one_instance(peer, clock):
    a, b, c = peer(), peer(), peer()
    a.add("job", coalesce=False, max_instances=2, misfire_grace_time=None)
    clock.jump(30)
    batch = a.claim()
    assert fires(batch) == [10, 20, 30]
    assert len({row.batch_id for row in a.live()}) == 1
    clock.jump(10)
    assert fires(b.claim()) == [40]
    clock.jump(10)
    assert [record.outcome for record in c.round().records] == ["skipped"]
    a.finish(*batch[:2])
    clock.jump(10)
    assert [record.outcome for record in c.round().records] == ["skipped"], "its last fire still runs"
    a.finish(batch[2])
    clock.jump(10)
    assert fires(c.claim()) == [70]


def test_all_fires_of_a_skipped_catch_up_are_recorded(peer, clock):
    a, b = peer(), peer()
    a.add("job", coalesce=False, misfire_grace_time=None)
    clock.jump(10)
    a.claim()
    clock.jump(30)
    assert [(record.outcome, record.scheduled_at) for record in b.round().records] == [
        ("skipped", at(20)), ("skipped", at(30)), ("skipped", at(40)),
    ]  # fmt: skip
    assert [seconds(row.sched_us) for row in b.runs()] == [20, 30, 40]


def test_a_waiting_run_waits_until_an_instance_is_free(peer, clock):
    a, b = peer(), peer()
    a.add("job", coalesce=False, misfire_grace_time=None)
    clock.jump(20)
    first, second = a.claim()
    a.round(returned=(second.run_id,), limit=0)
    assert b.claim() == []
    assert b.claim() == [], "nor does it fill the batch of the next look"
    a.finish(first)
    clock.jump(1)
    [again] = b.claim()
    assert (again.run_id, again.fire_id, again.attempt, fires([again])) == (second.run_id, second.fire_id, 1, [20])
    assert b.live()[0].batch_id == second.run_id


def test_a_waiting_run_whose_job_is_locked_for_a_moment_waits_hardly_longer(peer, clock):
    a, b = peer(), peer()
    if b.store.database.dialect.skip == "":
        pytest.skip("there is one writer at a time, and no lock of a row")
    a.add("job", misfire_grace_time=None)
    clock.jump(10)
    [run] = a.claim()
    a.round(returned=(run.run_id,), limit=0)
    with b.store.database.engine.connect() as conn:
        conn.exec_driver_sql(f"SELECT id FROM {b.prefix}jobs FOR UPDATE").all()
        assert a.claim() == []
    clock.jump(0.05)
    assert [again.run_id for again in a.claim()] == [run.run_id]


def test_never_more_instances_than_allowed_whatever_races_for_them(peer, clock):
    """Scheduled fires, waiting runs and runs by hand of one job, claimed and ended in four processes at once."""
    peers = [peer() for _ in range(4)]
    peers[0].add("job", max_instances=2, misfire_grace_time=None, coalesce=False)
    barrier = threading.Barrier(4)
    count = "SELECT COUNT(DISTINCT batch_id) AS n FROM {p}live WHERE owner IS NOT NULL"
    seen, refused = [], []

    def work(number: int) -> int:
        one, begun, held = peers[number], 0, deque[list[Run]]([[], []])
        for step in range(16):
            if barrier.wait(20) == 0:
                clock.jump(10)
            mine = one.claim()
            if number >= 2 and step % 2:
                try:
                    mine.append(one.store.start_now(one.me, "job", new_id(), "manual"))
                except OverlapForbidden as error:
                    refused.append(len(error.run_ids))
            begun += len(mine)
            barrier.wait(20)
            seen.append(one.query(count)[0].n)
            barrier.wait(20)
            # They last for two steps more, but for some that are given back.
            kept, back = (mine, []) if step % 3 else (mine[:1], mine[1:])
            one.round(returned=tuple(run.run_id for run in back), limit=0)
            held.append(kept)
            one.finish(*held.popleft())
        return begun

    with ThreadPoolExecutor(4) as pool:
        begun = sum(pool.map(work, range(4)))
    assert max(seen) == 2
    assert min(refused) >= 2, "where one was refused, those in its way are named"
    assert begun >= 8


@pytest.mark.parametrize(("overlap", "outcome"), [("queue", "skipped"), ("replace", "cancelled")])
def test_a_fire_that_waits_holds_its_place_while_another_process_has_it_locked(peer, clock, overlap, outcome):
    a, b = peer(), peer()
    a.add("job", stoppable, overlap=overlap, max_queue=1)
    clock.jump(10)
    a.claim()
    clock.jump(10)
    assert [record.outcome for record in a.round().waiting] == ["queued"]
    clock.jump(10)
    with ThreadPoolExecutor(1) as pool, b.store.database.engine.connect() as conn:
        lock = b.store.database.dialect.skip
        assert len(conn.exec_driver_sql(f"SELECT * FROM {b.prefix}live WHERE owner IS NULL{lock}").all()) == 1
        round_ = pool.submit(a.round)
        wait([round_], timeout=0.3)
        conn.rollback()
    assert [record.outcome for record in round_.result().records] == [outcome]
    assert len([row for row in a.live() if row.owner is None]) == 1


@pytest.mark.parametrize(("overlap", "skipped"), [("queue", "01:30"), ("replace", "00:30")])
def test_in_the_hour_that_comes_twice_a_fire_without_a_place_is_accounted_for(peer, overlap, skipped):
    a = peer()
    a.add(
        "job", stoppable, overlap=overlap, max_queue=1, coalesce=False, misfire_grace_time=None, trigger="cron",
        minute=30, timezone="Europe/Berlin", next_run_time="2025-10-26T00:30Z", end_date="2025-10-26T02:00Z",
    )  # fmt: skip
    a.store.start_now(a.me, "job", new_id(), "api")
    records = a.round().records
    assert [(record.outcome, record.scheduled_at.astimezone(UTC).strftime("%H:%M")) for record in records] == [
        ("skipped", skipped)
    ]
    assert len([row for row in a.live() if row.cause == "schedule"]) == 1


# Runs by hand


def test_a_run_by_hand_counts_among_the_instances_of_all_processes(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    run_id = new_id()
    run = a.store.start_now(a.me, "job", run_id, "api")
    assert (run.run_id, run.cause, run.scheduled_at) == (run_id, "api", START)
    with pytest.raises(OverlapForbidden) as refused:
        b.store.start_now(b.me, "job", new_id(), "api")
    assert refused.value.run_ids == [run_id]
    clock.jump(10)
    assert [record.outcome for record in b.round().records] == ["skipped"]
    a.finish(run)
    [record] = [row for row in a.runs() if row.cause == "api"]
    assert (record.run_id, record.outcome, seconds(record.sched_us)) == (run_id, "succeeded", 0)


def test_a_run_by_hand_leaves_the_schedule_alone_also_of_a_paused_job(peer, clock):
    a = peer()
    a.add("job", max_instances=2)
    a.store.start_now(a.me, "job", new_id(), "manual")
    assert (seconds(a.job("job").next_us), a.job("job").last_us) == (10, None)
    a.verbs.pause("job")
    before = a.job("job")
    a.store.start_now(a.me, "job", new_id(), "manual")
    assert a.job("job") == before
    # A fire and a run by hand at the same moment do not get into each other's way.
    a.verbs.resume("job")
    clock.jump(20)
    with pytest.raises(OverlapForbidden):
        a.store.start_now(a.me, "job", new_id(), "manual")


def test_a_run_by_hand_at_the_moment_of_a_fire_is_another_run(peer, clock):
    a = peer()
    a.add("job", max_instances=3)
    clock.jump(10)
    a.store.start_now(a.me, "job", new_id(), "manual")
    a.store.start_now(a.me, "job", new_id(), "manual")
    assert fires(a.claim()) == [10]
    assert Counter(row.cause for row in a.live()) == {"manual": 2, "schedule": 1}


def test_a_job_that_is_gone_broken_or_over_cannot_be_run_by_hand(peer, clock):
    a = peer()
    with pytest.raises(JobLookupError):
        a.store.start_now(a.me, "job", new_id(), "manual")
    a.add("job")
    a.execute("UPDATE {p}jobs SET broken_us = 1, broken_reason = 'no such module'")
    with pytest.raises(InvalidDefinition, match="'job' is broken: no such module"):
        a.store.start_now(a.me, "job", new_id(), "manual")
    a.add("once", trigger="date", run_date=at(5))
    clock.jump(5)
    [run] = a.claim()
    with pytest.raises(JobLookupError):
        a.store.start_now(a.me, "once", new_id(), "manual")
    assert a.finish(run) == []
    assert a.live() == []


def test_a_run_by_hand_whose_answer_was_lost_is_given_back_and_run_once(peer):
    a, b = peer(), peer()
    a.add("job")
    run_id = new_id()
    with answers_lost(a.store.database), pytest.raises(DatabaseFailure):
        a.store.start_now(a.me, "job", run_id, "api")
    assert a.store.heartbeat(a.me, set()).strays == [run_id]
    [run] = b.claim()
    assert (run.run_id, run.cause, run.attempt) == (run_id, "api", 1)
    b.finish(run)
    assert (a.claim(), b.claim(), a.live()) == ([], [], [])
    assert [(row.run_id, row.outcome) for row in a.runs()] == [(run_id, "succeeded")]


# Answers that are lost


def test_a_claim_whose_answer_was_lost_is_given_back_at_the_next_heartbeat_and_run_once(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    a.add("other")
    clock.jump(10)
    a.store.loader.learn([a.job("job").func])
    with answers_lost(a.store.database), pytest.raises(DatabaseFailure):
        a.claim(limit=1)
    [lost] = a.live()
    known = a.claim()
    assert len(known) == 1
    assert b.claim() == []
    beat = a.store.heartbeat(a.me, {run.run_id for run in known})
    assert beat.strays == [lost.run_id], "what is known to run is not touched"
    [run] = b.claim()
    assert (run.run_id, run.fire_id, run.attempt, run.cause) == (lost.run_id, lost.fire_id, 1, "schedule")
    assert a.claim() == []
    b.finish(run)
    a.finish(*known)
    assert a.live() == []
    assert sorted((row.job_id, row.outcome) for row in a.runs()) == [("job", "succeeded"), ("other", "succeeded")]


def test_an_end_whose_answer_was_lost_is_recorded_once(peer, clock):
    a = peer()
    a.add("job")
    clock.jump(10)
    [run] = a.claim()
    record = a.end(run, "failed", error_type="ValueError", error_message="no", traceback="…", log="line")
    with answers_lost(a.store.database), pytest.raises(DatabaseFailure):
        a.round(record, limit=0)
    before = a.runs()
    done = a.round(record, limit=0)
    assert done.late == [], "it knows its own hand"
    assert a.runs() == before
    assert [(row.outcome, row.recorded_by) for row in before] == [("failed", a.me.id)]
    assert len(a.query("SELECT * FROM {p}run_output")) == 1


# Late finishers


def test_a_late_finisher_is_told_and_does_not_overwrite(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    clock.jump(10)
    [run] = a.claim()
    a.round(returned=(run.run_id,), limit=0)
    [again] = b.claim()
    assert again.run_id == run.run_id
    assert a.finish(run) == [run.run_id]
    assert a.runs() == []
    assert [row.owner for row in a.live()] == [b.me.id]
    b.round(b.end(again, "failed"), limit=0)
    before = b.runs()
    assert a.finish(run) == [run.run_id]
    assert b.runs() == before
    assert [row.outcome for row in before] == ["failed"]


@pytest.mark.parametrize("overlap", ["skip", "replace"])
def test_no_retry_follows_a_run_that_was_asked_to_stop_and_failed_before_it_knew(peer, clock, overlap):
    a, b = peer(), peer()
    a.add("job", stoppable, overlap=overlap, retry={"attempts": 3, "delay": 5})
    clock.jump(10)
    [run] = a.claim()
    if overlap == "replace":
        clock.jump(10)
        b.round()
    else:
        assert b.store.cancel(run.run_id, b.worker) is True
    done = a.round(a.end(run, "failed", final=False, retry_at=at(25)), limit=0)
    [retry] = done.waiting
    [record] = done.records
    assert (record.run_id, record.outcome, record.final, record.attempt) == (retry.run_id, "cancelled", True, 2)
    rows = [row for row in a.runs() if row.fire_id == run.fire_id]
    assert [(row.outcome, row.final, row.cause) for row in rows] == [
        ("failed", 0, "schedule"), ("cancelled", 1, "retry"),
    ]  # fmt: skip
    assert [row.cause for row in a.live()] == ["schedule"] * (overlap == "replace")


def test_what_ended_in_time_is_written_down_beside_what_came_too_late(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    a.add("other")
    clock.jump(10)
    one, other = a.claim()
    a.round(returned=(one.run_id,), limit=0)
    b.claim()
    assert a.finish(one, other) == [one.run_id]
    assert [row.run_id for row in a.runs()] == [other.run_id]


def test_ends_are_written_down_while_the_scheduler_is_paused(peer, clock):
    a = peer()
    a.add("job")
    clock.jump(10)
    [run] = a.claim()
    a.store.set_paused(True)
    clock.jump(10)
    done = a.round(a.end(run))
    assert (done.paused, done.claimed, done.records) == (True, [], [])
    assert [row.outcome for row in a.runs()] == ["succeeded"]


# What waits, of a job that is gone


def test_a_run_that_waits_ends_as_cancelled_when_its_job_has_been_removed(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    clock.jump(10)
    [run] = a.claim()
    a.verbs.remove("job")
    a.round(returned=(run.run_id,), limit=0)
    done = b.round()
    assert done.claimed == []
    assert b.live() == []
    [row] = b.runs()
    assert (row.run_id, row.outcome, row.final, row.error_type) == (run.run_id, "cancelled", 1, "JobRemoved")
    assert [record.run_id for record in done.records] == [run.run_id]


def test_a_run_that_waits_does_not_run_as_another_job_of_the_same_id(peer, clock):
    a = peer()
    a.add("job", args=["old"])
    clock.jump(10)
    [run] = a.claim()
    a.verbs.remove("job")
    clock.jump(1)
    a.add("job", args=["new"])
    a.round(returned=(run.run_id,), limit=0)
    assert a.claim() == []
    assert [(row.run_id, row.outcome) for row in a.runs()] == [(run.run_id, "cancelled")]
    clock.jump(9)
    assert [(again.job.args, fires([again])) for again in a.claim()] == [(("new",), [20])]


def test_a_run_that_waits_goes_on_after_its_schedule_is_over(peer, clock):
    a, b = peer(), peer()
    a.add("once", trigger="date", run_date=at(5))
    clock.jump(5)
    [run] = a.claim()
    a.round(returned=(run.run_id,), limit=0)
    [again] = b.claim()
    assert again.run_id == run.run_id
    b.finish(again)
    assert [row.outcome for row in b.runs()] == ["succeeded"]


# The pause


def test_no_claim_is_committed_after_the_pause_has_returned(peer, clock):
    a, b = peer(), peer()
    a.add("job", trigger="interval", seconds=1, start_date=at(1), misfire_grace_time=None, max_instances=1000)
    for number in range(20):
        a.add(f"job{number}", trigger="interval", seconds=1, start_date=at(1), max_instances=1000)
    rounds, over = [0, 0], threading.Event()
    failures: list[BaseException] = []
    # SQLite's lock is not fair: who never lets go of it keeps the others out.
    gap = 0.01 if a.store.database.dialect.name == "sqlite" else 0

    def claims(number: int, one: Peer) -> None:
        try:
            while not over.is_set():
                clock.jump(1)
                one.claim(limit=5)
                rounds[number] += 1
                over.wait(gap)
        except BaseException as error:
            failures.append(error)

    def let_on(by: int) -> None:
        """Wait until both have begun and ended rounds of theirs since."""
        target = [count + by for count in rounds]
        while any(count < goal for count, goal in zip(rounds, target, strict=True)):
            assert not failures
            over.wait(0.001)

    pauser = peer()
    fences = "SELECT SUM(fence) AS n FROM {p}jobs"
    threads = [threading.Thread(target=claims, args=(number, one)) for number, one in enumerate((a, b))]
    for thread in threads:
        thread.start()
    later = []
    try:
        for _ in range(30):
            let_on(1)
            pauser.store.set_paused(True)
            before = pauser.query(fences)[0].n
            let_on(2)
            later.append(pauser.query(fences)[0].n - before)
            pauser.store.set_paused(False)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert later == [0] * 30
    assert pauser.query(fences)[0].n > 30


def test_a_pause_and_its_end_are_seen_by_the_next_look_of_every_process(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    clock.jump(10)
    a.store.set_paused(True)
    assert b.store.poll().paused
    assert b.claim() == []
    a.store.set_paused(False)
    assert not b.store.poll().paused
    assert fires(b.claim()) == [10]


def test_a_round_whose_time_is_over_leaves_the_rest_due_and_tells_so(peer, clock, monkeypatch):
    one = peer()
    for number in range(4):
        one.add(f"job{number}", trigger="interval", seconds=10, start_date=at(10 - number), misfire_grace_time=None)
    clock.jump(12)
    monkeypatch.setattr(rounds, "_DECIDING", 0.0)
    claimed, more = [], True
    while more:
        done = one.round()
        claimed += [run.job_id for claim in done.claimed for run in claim.runs]
        more = done.more
    assert claimed == ["job3", "job2", "job1", "job0"]
    assert len(one.live()) == 4
