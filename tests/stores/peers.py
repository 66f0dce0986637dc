"""Processes that share an SQL store, without their pumps: each does what its test tells it to do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from quart_sched import Scheduler
from quart_sched.engine import deployment
from quart_sched.model.instants import micros
from quart_sched.model.jobs import JobDefinition
from quart_sched.model.planning import plan
from quart_sched.model.runs import Outcome, Run, RunRecord
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.failures import DatabaseFailure
from quart_sched.stores.sql.rounds import Round, Work
from quart_sched.stores.sql.store import SqlStore
from tests.conftest import START
from tests.stores.manual_clock import ManualClock


def tick(*args: Any, **kwargs: Any) -> None: ...


async def stoppable(*args: Any) -> None: ...


def at(seconds: float) -> datetime:
    """The moment so many seconds after the manual clock's start."""
    return START + timedelta(seconds=seconds)


def seconds(us: int) -> float:
    """A moment out of the database, as seconds after the manual clock's start."""
    return (us - micros(START)) / 1e6


class Peer:
    """One process. Its verbs are the catalogue's, its rounds those that a pump would do."""

    def __init__(self, url: str, prefix: str, clock: ManualClock) -> None:
        store = SqlStore(url, prefix)
        self.scheduler = Scheduler(clock=clock, timezone="UTC", jobstores={"default": store})
        self.store = store
        self.verbs = self.scheduler.catalogue
        self.verbs.started = True
        self.slot = self.verbs.slots["default"]
        self.me = deployment.join(self.scheduler, self.slot)
        self.prefix = prefix

    @property
    def worker(self) -> str:
        return self.me.worker

    def join(self) -> None:
        """Take part anew, as a process does that was declared dead."""
        self.slot.session = None
        self.me = deployment.join(self.scheduler, self.slot)

    def add(self, id: str, func: Any = tick, **options: Any) -> None:
        """Add a job: an interval that begins 10 seconds after the clock's start, unless told otherwise."""
        trigger = {} if "trigger" in options else {"trigger": "interval", "seconds": 10, "start_date": at(10)}
        self.verbs.add(JobDefinition.parse({"id": id, "func": func, **trigger, **options}))

    def round(
        self,
        *endings: RunRecord,
        returned: tuple[str, ...] = (),
        limit: int = 100,
        catch_up: int = 100,
        unwritten: tuple[RunRecord, ...] = (),
        waiting: bool = True,
    ) -> Round:
        """Do one round, as often as functions show up in it that have not been tried."""
        usable = set(self.scheduler.runner.executors)
        work = Work(endings, returned, limit=limit, unwritten=unwritten, waiting=waiting)
        done = self.store.round(self.me, work, partial(plan, max_catch_up=catch_up), usable)
        if done.unknown:
            self.store.loader.learn(done.unknown)
            more = self.round(limit=limit - len(done.claimed), catch_up=catch_up, waiting=waiting)
            done.claimed += more.claimed
            done.records += more.records
            done.unknown, done.more, done.next_us = set(), more.more, more.next_us
        return done

    def claim(self, limit: int = 100) -> list[Run]:
        """Claim what is due; return the runs."""
        return [run for claim in self.round(limit=limit).claimed for run in claim.runs]

    def end(self, run: Run, outcome: Outcome = "succeeded", **details: Any) -> RunRecord:
        """The record of a run that ended here."""
        now = self.scheduler.clock.now()
        return RunRecord(
            run.run_id, run.fire_id, run.job_id, run.scheduled_at, outcome, run.cause, self.worker, run.attempt, now,
            now, **details,
        )  # fmt: skip

    def finish(self, *runs: Run) -> list[str]:
        """Write down that these runs ended; return those that were not this process's own any more."""
        return self.round(*(self.end(run) for run in runs), limit=0).late

    def close(self) -> None:
        self.store.shutdown()

    # What the tables say

    def query(self, statement: str, **values: Any) -> list[Any]:
        """Rows of a statement in which `{p}` stands for the prefix."""
        return self.store.database.query(statement.format(p=self.prefix), **values)

    def execute(self, statement: str, **values: Any) -> None:
        """Change the tables behind everybody's back."""
        self.store.database.transact(lambda tx: tx.execute(statement.format(p=self.prefix), **values))

    def live(self, job_id: str | None = None) -> list[Any]:
        """The runs under way or waiting, by fire."""
        rows = self.query("SELECT * FROM {p}live ORDER BY sched_us, run_id")
        return [row for row in rows if job_id in (None, row.job_id)]

    def runs(self, job_id: str | None = None) -> list[Any]:
        """The history, by fire and attempt."""
        rows = self.query("SELECT * FROM {p}runs ORDER BY sched_us, attempt, run_id")
        return [row for row in rows if job_id in (None, row.job_id)]

    def job(self, job_id: str) -> Any:
        [row] = self.query("SELECT * FROM {p}jobs WHERE id = :id", id=job_id)
        return row


@contextmanager
def answers_lost(database: Database, what: str = "", times: int = 1000, every: int = 1) -> Iterator[list[str]]:
    """Let transactions that write go through, and their answers get lost.

    That is of `what` alone, so many `times`, `every` so many. Yields the names of those that it happened to.
    """
    original = database.transact
    lost: list[str] = []
    turns = itertools.count(1)

    def transact(op: Any, *, write: bool = True) -> Any:
        result = original(op, write=write)
        if not write or what not in op.__qualname__ or len(lost) == times or next(turns) % every:
            return result
        lost.append(op.__qualname__)
        raise DatabaseFailure("the connection was closed in the middle of a commit", unknown=True)

    database.transact = transact  # type: ignore[method-assign]
    try:
        yield lost
    finally:
        del database.transact  # the class's own shows again


@contextmanager
def outage(*databases: Database) -> Iterator[None]:
    """Let nothing reach these databases."""

    def transact(op: Any, *, write: bool = True) -> Any:
        raise DatabaseFailure("connection refused")

    for database in databases:
        database.transact = transact  # type: ignore[method-assign]
    try:
        yield
    finally:
        for database in databases:
            del database.transact
