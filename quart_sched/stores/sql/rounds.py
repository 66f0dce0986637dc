"""Rounds: one transaction that writes down what ended and claims what is due.

A claim moves `next_us` on and inserts the live runs in the same transaction, so that each fire is claimed by one
process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apscheduler.job import Job

from ...errors import InvalidDefinition
from ...model.instants import moment
from ...model.jobs import ScheduledJob
from ...model.overrides import Overrides
from ...model.planning import Plan
from ...model.runs import Run, RunRecord
from .books import Books, Claimed
from .cancellations import cancel_removed
from .dialects import Dialect
from .endings import finish, give_back
from .loader import CLAIM_COLUMNS, JOB_COLUMNS, JobLoader, for_run
from .overlap import Overlap, make_places, under_way
from .rows import moment_of
from .transaction import Transaction
from .workers import Session, beat

Decide = Callable[[Job, datetime], Plan]

TRIGGER_RAISED = "its trigger raised"
"""Begins the reason for which such a job is broken."""
_DECIDING = 0.05
"""Seconds after which no other job is decided on in one transaction: with SQLite, all others wait for its end."""
_LATER = 1_000_000
"""Microseconds by which a waiting run is put off that cannot start yet, so that it does not starve the others."""
_SOON = 50_000
"""Microseconds by which one is put off whose job another has locked, which never lasts long."""


@dataclass(slots=True)
class Work:
    """What a process brings to a round: what has ended, what it gives back, and how many jobs it has room for."""

    endings: Sequence[RunRecord] = ()
    returned: Sequence[str] = ()
    left: Sequence[str] = ()
    """Runs that had ended busy, and hold no instance any more."""
    limit: int = 0
    waiting: bool = True
    """Whether there may be runs that wait for a process, or for a place, so that it is worth a look."""
    unwritten: Sequence[RunRecord] = ()
    """What has ended and is to be written down later: such runs are not counted as instances."""


@dataclass(slots=True)
class Round:
    """What came of a round.

    `records` are fires and retries that are accounted for without a run; `broken` are the ids and reasons of jobs whose
    trigger raised; `late` are runs whose end came after they had been recorded as lost; `unknown` are functions that
    have to be tried before their jobs can be claimed; `met` tells that there was something to write down or to claim;
    `waiting` are new runs that wait for their time or for a place; `advanced` tells that runs which waited for others
    of their lane have become due; the runs `replaced` are this process's and are to stop; `next_us` is when a job is
    due next, where some were due, no more are, and nothing waits.
    """

    now: datetime
    paused: bool = False
    claimed: list[Claimed] = field(default_factory=list)
    records: list[RunRecord] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    more: bool = False
    met: bool = False
    advanced: bool = False
    waiting: list[RunRecord] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    next_us: int | None = None


class Rounds:
    """Runs rounds for one process."""

    def __init__(self, dialect: Dialect, loader: JobLoader) -> None:
        self._dialect = dialect
        self._p = dialect.prefix
        self._loader = loader

    def round(self, tx: Transaction, me: Session, work: Work, *, decide: Decide, usable: Container[str]) -> Round:
        """Write down and claim. Raises SessionLost when this process was declared dead: then nothing is written."""
        if work.limit:
            self._dialect.hold_pause(tx, exclusive=False)
        row = tx.first(
            f"SELECT {self._dialect.now} AS now, n FROM {self._p}meta WHERE k = 'paused'"
            f"{self._dialect.share if work.limit else ''}"
        )
        now = tx.take_time(row.now)
        result = Round(moment(now), paused=bool(row.n), met=bool(work.endings or work.returned or work.left))
        beat(tx, me)
        if work.left:
            tx.delete("live", "run_id", work.left)
        if work.endings:
            ended = finish(tx, me, work.endings, waiting=work.waiting)
            result.late, result.waiting, result.advanced = ended.late, ended.retries, ended.advanced
            result.records += ended.cancelled
            result.more = ended.advanced
        if work.returned:
            give_back(tx, me, work.returned)
        if work.limit and not result.paused:
            taken = self._claim_waiting(tx, me, work, result, usable) if work.waiting else 0
            if taken < work.limit:
                self._claim_due(tx, me, work, work.limit - taken, result, decide, usable)
            else:
                result.more = True
        if not result.met:
            # Others were faster. Not even the heartbeat is worth the disk's time, for which they are waiting.
            tx.roll_back()
        return result

    # What waits

    def _claim_waiting(self, tx: Transaction, me: Session, work: Work, result: Round, usable: Container[str]) -> int:
        """Take runs that wait for a process: handed back, or to be run again; return how many jobs were taken."""
        condition, values = self.loadable("job_id")
        query = (
            f"SELECT * FROM {self._p}live WHERE owner IS NULL AND due_us <= :now{condition} "
            f"ORDER BY due_us LIMIT :limit{self._dialect.skip}"
        )
        now = tx.now
        waiting = tx.rows(query, now=now, limit=work.limit, **values)
        if not waiting:
            return 0
        result.met = True
        waiting.sort(key=lambda row: (row.due_us, row.sched_us))
        jobs, untried = self._lock_jobs(tx, {row.job_id for row in waiting}, result, usable)
        busy = under_way(tx, jobs, work.unwritten)
        taken, put_off, stranded = [], [], []
        for row in waiting:
            job = jobs.get(row.job_id)
            if row.job_id in untried:
                continue
            if job is None or job.incarnation != row.incarnation:
                stranded.append(row)
                continue
            running = busy.setdefault(row.job_id, [])
            if len(running) >= job.max_instances:
                put_off.append((row.run_id, now + _LATER))
                continue
            try:
                overridden = for_run(Overrides.load(row.overrides).apply(job))
            except InvalidDefinition:
                # Of a kind that newer code knows, whose processes will take it.
                put_off.append((row.run_id, now + _LATER))
                continue
            running.append(row.run_id)
            scheduled_at = moment_of(job, row.sched_us)
            run = Run(overridden, scheduled_at, row.cause, run_id=row.run_id, fire_id=row.fire_id, attempt=row.attempt)
            taken.append((row.run_id, row.run_id, me.id, "running", now))
            result.claimed.append(Claimed(overridden, [run]))
        tx.update("live", "run_id", ("batch_id", "owner", "state", "claimed_us"), taken)
        cancelled, taken_elsewhere = cancel_removed(tx, me, stranded)
        result.records += cancelled
        put_off += [(row.run_id, now + _SOON) for row in taken_elsewhere]
        tx.update("live", "run_id", ("due_us",), put_off)
        return len(taken)

    def _lock_jobs(
        self, tx: Transaction, ids: set[str], result: Round, usable: Container[str]
    ) -> tuple[dict[str, ScheduledJob], set[str]]:
        """Return the jobs, locked, and the ids of those whose function has to be tried first."""
        rows = tx.among("jobs", "id", ids, JOB_COLUMNS, f"1 = 1{self._dialect.skip}")
        jobs = {row.id: job for row in rows if (job := self._load(row, result, usable)) is not None}
        self._loader.forget(row.id for row in rows if row.ended_us is not None)
        return jobs, {row.id for row in rows if row.func in result.unknown}

    # What is due

    def _claim_due(
        self,
        tx: Transaction,
        me: Session,
        work: Work,
        limit: int,
        result: Round,
        decide: Decide,
        usable: Container[str],
    ) -> None:
        condition, values = self.loadable("id")
        query = (
            f"SELECT {CLAIM_COLUMNS} FROM {self._dialect.by_index('jobs', 'next_us')} WHERE next_us <= :now{condition} "
            f"ORDER BY next_us LIMIT :limit{self._dialect.skip}"
        )
        rows = tx.rows(query, now=tx.now, limit=limit, **values)
        result.more = result.more or len(rows) == limit
        result.met = result.met or bool(rows)
        books = Books(me, tx.now)
        plans: list[tuple[Any, ScheduledJob, Plan]] = []
        end = time.perf_counter() + _DECIDING
        for number, row in enumerate(self._complete(tx, rows)):
            if number and time.perf_counter() > end:
                result.more = True
                break
            job = self._load(row, result, usable)
            if job is None:
                continue
            try:
                if row.last_us is not None and row.next_us <= row.last_us:
                    books.move_on(row, job)
                    result.more = True
                else:
                    plans.append((row, job, decide(job, result.now)))
            except Exception as error:
                # A trigger that does not work must not take the rest of the batch down with it.
                books.mark(row, f"{TRIGGER_RAISED} {type(error).__name__}: {error}")
        # A statement of its own, after the locks: as a part of the query above it would count too few.
        busy = under_way(tx, {row.id for row, _, plan in plans if plan.fires}, work.unwritten)
        full = {
            row.id: job for row, job, plan in plans if plan.fires and len(busy.get(row.id, ())) >= job.max_instances
        }
        places = make_places(tx, me, full)
        for row, job, plan in plans:
            overlap = Overlap(busy[row.id], places.free[row.id]) if row.id in full else None
            books.enter(row, job, plan, overlap)
        books.write(tx)
        result.claimed += books.claimed
        result.waiting += books.waiting
        result.records += places.given_up + books.records
        result.replaced += places.stopped
        result.ended += books.ended
        self._loader.forget(books.ended)
        result.broken += books.broken
        if rows and not (result.more or full or work.waiting):
            # Here it costs much less than to look at the store once more after each claim. What waits has its own time.
            result.next_us = tx.scalar(self.earliest(condition), **values)

    def _complete(self, tx: Transaction, rows: Sequence[Any]) -> Iterator[Any]:
        """Return rows of CLAIM_COLUMNS, those of jobs that are yet to be loaded as rows of JOB_COLUMNS."""
        new = [row.id for row in rows if self._loader.is_known(row.func) and self._loader.loaded(row) is None]
        whole = {}
        if new:
            whole = {row.id: row for row in tx.among("jobs", "id", new, JOB_COLUMNS)}
        return (whole.get(row.id, row) for row in rows)

    # Parts of both

    def earliest(self, condition: str) -> str:
        """Return a query for when the first of the jobs is due, in microseconds, that fulfil what `loadable` gave."""
        return f"SELECT MIN(next_us) FROM {self._p}jobs WHERE next_us IS NOT NULL{condition}"

    def loadable(self, key: str) -> tuple[str, dict[str, Any]]:
        """Return a condition that leaves out what this process cannot load, so that it does not fill the batch.

        `key` is where the id of a job stands: "id" in `jobs`, "job_id" in `live`.
        """
        condition, values = "", {}
        if bad := self._loader.bad_functions:
            unloadable = self._dialect.within("func", "functions")
            if key == "job_id":
                # The function that counts is the one that the job has by now.
                unloadable = f"EXISTS (SELECT 1 FROM {self._p}jobs WHERE id = job_id AND {unloadable})"
            condition += f" AND NOT ({unloadable})"
            values["functions"] = self._dialect.pack(bad)
        if bad := self._loader.bad_jobs:
            condition += f" AND NOT ({self._dialect.within(key, 'jobs')})"
            values["jobs"] = self._dialect.pack(bad)
        return condition, values

    def _load(self, row: Any, result: Round, usable: Container[str]) -> ScheduledJob | None:
        if not self._loader.is_known(row.func):
            result.unknown.add(row.func)
            return None
        return self._loader.attempt(row, usable)
