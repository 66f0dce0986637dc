"""Rounds: one transaction that writes down what ended and claims what is due.

A claim moves `next_us` on and inserts the live runs in the same transaction, so that each fire is claimed by one
process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from apscheduler.job import Job
from sqlalchemy import Connection, text

from ...errors import InvalidDefinition
from ...model.instants import micros, moment
from ...model.jobs import ScheduledJob
from ...model.overrides import Overrides
from ...model.planning import Plan, first_fire
from ...model.runs import Outcome, Run, RunRecord, new_run_id, overlap_error, standing
from .changes import Entry, write_down
from .dialects import Dialect
from .lanes import advance
from .loader import CLAIM_COLUMNS, JOB_COLUMNS, JobLoader
from .rows import LEAVING, LIVE_COLUMNS, OUTPUT_COLUMNS, RUN_COLUMNS, clean, live_row, output_rows, run_row
from .workers import Session, Workers

Decide = Callable[[Job, datetime], Plan]

TRIGGER_RAISED = "its trigger raised"
"""Begins the reason for which such a job is broken."""
_DECIDING = 0.05
"""Seconds after which no other job is decided on in one transaction: with SQLite, all others wait for its end."""
_LATER = 1_000_000
"""Microseconds by which a waiting run is put off that cannot start yet, so that it does not starve the others."""


@dataclass(slots=True)
class Claimed:
    """Fires of one job that this process runs one after the other."""

    job: ScheduledJob
    runs: list[Run]


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

    `records` are fires that are accounted for without a run; `broken` are the ids and reasons of jobs whose trigger
    raised; `late` are runs whose end came after they had been recorded as lost; `unknown` are functions that have to be
    tried before their jobs can be claimed; `met` tells that there was something to write down or to claim; `waiting`
    are new runs that wait for their time or for a place; `advanced` tells that runs which waited for others of their
    lane have become due.
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


@dataclass(slots=True)
class _Books:
    """The rows that a claim is going to write."""

    live: list[tuple[Any, ...]] = field(default_factory=list)
    runs: list[tuple[Any, ...]] = field(default_factory=list)
    jobs: list[tuple[Any, ...]] = field(default_factory=list)
    broken: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Overlap:
    """The runs that a job without a free instance is at, and how many of its fires may wait for one."""

    running: list[str]
    places: int


class Rounds:
    """Runs rounds for one process."""

    def __init__(self, dialect: Dialect, workers: Workers, loader: JobLoader) -> None:
        self._dialect = dialect
        self._p = dialect.prefix
        self._workers = workers
        self._loader = loader

    def round(
        self,
        conn: Connection,
        me: Session,
        work: Work,
        *,
        now: Callable[[int | None], int],
        decide: Decide,
        usable: Container[str],
    ) -> Round:
        """Write down and claim. `now` turns the database's time, None where it has none, into the one that counts.

        Raises SessionLost when this process was declared dead: then nothing is written.
        """
        if work.limit:
            self._dialect.hold_pause(conn, exclusive=False)
        query = (
            f"SELECT {self._dialect.now} AS now, n FROM {self._p}meta WHERE k = 'paused'"
            f"{self._dialect.share if work.limit else ''}"
        )
        row = conn.execute(text(query)).one()
        us = now(row.now)
        result = Round(moment(us), paused=bool(row.n), met=bool(work.endings or work.returned or work.left))
        self._workers.beat(conn, me, us)
        if work.left:
            self._dialect.delete(conn, "live", "run_id", work.left)
        if work.endings:
            self._finish(conn, me, work.endings, us, work.waiting, result)
        if work.returned:
            self.give_back(conn, me, work.returned, us)
        if work.limit and not result.paused:
            taken = self._claim_waiting(conn, me, us, work, result, usable) if work.waiting else 0
            if taken < work.limit:
                self._claim_due(conn, me, us, work, work.limit - taken, result, decide, usable)
            else:
                result.more = True
        if not result.met and (transaction := conn.get_transaction()) is not None:
            # Others were faster. Not even the heartbeat is worth the disk's time, for which they are waiting.
            transaction.rollback()
        return result

    # What ended

    def _finish(
        self, conn: Connection, me: Session, endings: Sequence[RunRecord], now: int, waiting: bool, result: Round
    ) -> None:
        """Move runs from `live` into the history; those that were not this process's own any more are late."""
        records = {record.run_id: record for record in endings}
        ids = self._dialect.pack(sorted(records))
        again = any(record.retry_at is not None for record in endings)
        query = (
            f"SELECT {', '.join(LIVE_COLUMNS) if again else 'run_id, version, func, lane'} "
            f"FROM {self._dialect.joined('live', 'run_id', 'ids')} owner = :me AND state <> '{LEAVING}' "
            f"ORDER BY run_id{self._dialect.lock}"
        )
        own = conn.execute(text(query), {"ids": ids, "me": me.id}).all()
        if own:
            gone = [row.run_id for row in own if not records[row.run_id].busy]
            if gone:
                self._dialect.delete(conn, "live", "run_id", gone)
            if len(gone) < len(own):
                # Not as the run of its fire, of which there may be another attempt.
                leaving = [(row.run_id, LEAVING, None) for row in own if records[row.run_id].busy]
                self._dialect.update(conn, "live", "run_id", ("state", "fire_us"), leaving)
            rows = [run_row(records[row.run_id], me.id, row.version, row.func) for row in own]
            self._dialect.insert(conn, "runs", RUN_COLUMNS, rows)
            outputs = output_rows(records[row.run_id] for row in own)
            self._dialect.insert(conn, "run_output", OUTPUT_COLUMNS, outputs)
            if waiting:
                # What waits for the place of one of these need not wait longer.
                query = (
                    f"UPDATE {self._p}live SET due_us = :now WHERE {self._dialect.within('job_id', 'jobs')} "
                    "AND owner IS NULL AND state = 'queued' AND due_us > :now"
                )
                jobs = self._dialect.pack(sorted({record.job_id for record in endings}))
                conn.execute(text(query), {"now": now, "jobs": jobs})
            if again:
                retries = [_retry_row(row, at) for row in own if (at := records[row.run_id].retry_at) is not None]
                self._dialect.insert(conn, "live", LIVE_COLUMNS, retries)
                result.waiting += [_waiting(dict(zip(LIVE_COLUMNS, values, strict=True))) for values in retries]
            if lanes := {row.lane for row in own if row.lane and records[row.run_id].retry_at is None}:
                result.advanced = advance(conn, self._dialect, lanes, now)
                result.more = result.more or result.advanced
        missing = records.keys() - {row.run_id for row in own}
        if missing:
            # Written by a commit of ours whose reply was lost; or else somebody has declared them lost.
            query = f"SELECT run_id FROM {self._dialect.joined('runs', 'run_id', 'ids')} recorded_by = :me"
            done = conn.execute(text(query), {"ids": self._dialect.pack(missing), "me": me.id})
            missing -= {row.run_id for row in done}
        result.late = sorted(missing)

    def give_back(self, conn: Connection, me: Session, run_ids: Sequence[str], now: int) -> None:
        """Let others take runs that were claimed here but never begun."""
        statement = (
            f"UPDATE {self._p}live SET owner = NULL, state = 'queued', due_us = :now, claimed_us = NULL "
            f"WHERE {self._dialect.within('run_id', 'ids')} AND owner = :me"
        )
        conn.execute(text(statement), {"ids": self._dialect.pack(run_ids), "me": me.id, "now": now})
        self._dialect.notify(conn)

    def own_runs(self, conn: Connection, me: Session) -> list[str]:
        """Return the runs that the books say this process has."""
        query = f"SELECT run_id FROM {self._p}live WHERE owner = :me"
        return [row.run_id for row in conn.execute(text(query), {"me": me.id})]

    # What waits

    def _claim_waiting(
        self, conn: Connection, me: Session, now: int, work: Work, result: Round, usable: Container[str]
    ) -> int:
        """Take runs that wait for a process: handed back, or to be run again; return how many jobs were taken."""
        condition, values = self.loadable("job_id")
        query = (
            f"SELECT * FROM {self._p}live WHERE owner IS NULL AND due_us <= :now{condition} "
            f"ORDER BY due_us LIMIT :limit{self._dialect.skip}"
        )
        waiting = list(conn.execute(text(query), {"now": now, "limit": work.limit, **values}))
        if not waiting:
            return 0
        result.met = True
        waiting.sort(key=lambda row: (row.due_us, row.sched_us))
        jobs = self._lock_jobs(conn, {row.job_id for row in waiting}, result, usable)
        busy = self.under_way(conn, jobs, work.unwritten)
        taken, put_off, stranded = [], [], []
        for row in waiting:
            job = jobs.get(row.job_id)
            if job is None and row.func in result.unknown:
                continue
            if job is None or job.incarnation != row.incarnation:
                stranded.append(row)
                continue
            running = busy.setdefault(row.job_id, [])
            if len(running) >= job.max_instances:
                put_off.append((row.run_id, now + _LATER))
                continue
            try:
                overridden = Overrides.load(row.overrides).apply(job)
            except InvalidDefinition:
                # Of a kind that newer code knows, whose processes will take it.
                put_off.append((row.run_id, now + _LATER))
                continue
            running.append(row.run_id)
            run = Run(
                overridden, moment(row.sched_us, self._zone(job)), row.cause, run_id=row.run_id, fire_id=row.fire_id,
                attempt=row.attempt,
            )  # fmt: skip
            taken.append((row.run_id, row.run_id, me.id, "running", now))
            result.claimed.append(Claimed(overridden, [run]))
        self._dialect.update(conn, "live", "run_id", ("batch_id", "owner", "state", "claimed_us"), taken)
        put_off += [(row.run_id, now + _LATER) for row in self._cancel_removed(conn, me, stranded, now, result)]
        self._dialect.update(conn, "live", "run_id", ("due_us",), put_off)
        return len(taken)

    def _cancel_removed(
        self, conn: Connection, me: Session, waiting: Sequence[Any], now: int, result: Round
    ) -> list[Any]:
        """End the waiting runs whose jobs have been removed; return the others, which others are at."""
        if not waiting:
            return []
        query = f"SELECT id, incarnation FROM {self._dialect.joined('jobs', 'id', 'ids')} 1 = 1"
        rows = conn.execute(text(query), {"ids": self._dialect.pack(sorted({row.job_id for row in waiting}))})
        incarnations = {row.id: row.incarnation for row in rows}
        gone = [row for row in waiting if incarnations.get(row.job_id) != row.incarnation]
        error = ("JobRemoved", "The job was removed before it ran")
        result.records += self.cancel_waiting(conn, gone, me.worker, me.id, now, error)
        return [row for row in waiting if row not in gone]

    def cancel_waiting(
        self,
        conn: Connection,
        rows: Sequence[Any],
        worker: str,
        recorded_by: str | None,
        now: int,
        error: tuple[str, str],
    ) -> list[RunRecord]:
        """End runs that wait, whose rows are locked; return their records. `error` is its type and message."""
        kind, message = error
        records = [
            RunRecord(
                row.run_id, row.fire_id, row.job_id, moment(row.sched_us), "cancelled", row.cause, worker,
                attempt=row.attempt, finished_at=moment(now), error_type=kind, error_message=message,
                overrides=row.overrides,
            )
            for row in rows
        ]  # fmt: skip
        if rows:
            self._dialect.delete(conn, "live", "run_id", [row.run_id for row in rows])
            advance(conn, self._dialect, {row.lane for row in rows if row.lane and row.due_us is not None}, now)
            books = [
                run_row(record, recorded_by, row.version, row.func) for record, row in zip(records, rows, strict=True)
            ]
            self._dialect.insert(conn, "runs", RUN_COLUMNS, books)
            self._dialect.insert(conn, "run_output", OUTPUT_COLUMNS, output_rows(records))
        return records

    def _lock_jobs(
        self, conn: Connection, ids: set[str], result: Round, usable: Container[str]
    ) -> dict[str, ScheduledJob]:
        query = f"SELECT {JOB_COLUMNS} FROM {self._dialect.joined('jobs', 'id', 'ids')} 1 = 1{self._dialect.skip}"
        rows = conn.execute(text(query), {"ids": self._dialect.pack(sorted(ids))}).all()
        return {row.id: job for row in rows if (job := self._load(row, result, usable)) is not None}

    # What is due

    def _claim_due(
        self,
        conn: Connection,
        me: Session,
        now: int,
        work: Work,
        limit: int,
        result: Round,
        decide: Decide,
        usable: Container[str],
    ) -> None:
        condition, values = self.loadable("id")
        force = f" FORCE INDEX ({self._p}jobs_next_us)" if self._dialect.name == "mysql" else ""
        query = (
            f"SELECT {CLAIM_COLUMNS} FROM {self._p}jobs{force} WHERE next_us <= :now{condition} "
            f"ORDER BY next_us LIMIT :limit{self._dialect.skip}"
        )
        rows = conn.execute(text(query), {"now": now, "limit": limit, **values}).all()
        result.more = result.more or len(rows) == limit
        result.met = result.met or bool(rows)
        books = _Books()
        plans: list[tuple[Any, ScheduledJob, Plan]] = []
        end = time.perf_counter() + _DECIDING
        for number, row in enumerate(self._complete(conn, rows)):
            if number and time.perf_counter() > end:
                result.more = True
                break
            job = self._load(row, result, usable)
            if job is None:
                continue
            try:
                if row.last_us is not None and row.next_us <= row.last_us:
                    self._move_on(row, job, now, books, result)
                else:
                    plans.append((row, job, decide(job, result.now)))
            except Exception as error:
                # A trigger that does not work must not take the rest of the batch down with it.
                reason = f"{TRIGGER_RAISED} {type(error).__name__}: {error}"
                books.broken.append((row.id, None, row.next_us, now, clean(reason)))
                result.broken.append((row.id, reason))
        # A statement of its own, after the locks: as a part of the query above it would count too few.
        busy = self.under_way(conn, {row.id for row, _, plan in plans if plan.fires}, work.unwritten)
        full = {
            row.id: job for row, job, plan in plans if plan.fires and len(busy.get(row.id, ())) >= job.max_instances
        }
        places = self._make_places(conn, me, now, full, result)
        for row, job, plan in plans:
            overlap = _Overlap(busy[row.id], places[row.id]) if row.id in full else None
            self._enter(row, job, plan, overlap, me, now, books, result)
        self._dialect.insert(conn, "live", LIVE_COLUMNS, books.live)
        self._dialect.insert(conn, "runs", RUN_COLUMNS, books.runs)
        self._dialect.update(
            conn, "jobs", "id", ("next_us", "last_us", "ended_us"), books.jobs, also="fence = fence + 1"
        )
        columns = ("next_us", "held_us", "broken_us", "broken_reason")
        self._dialect.update(conn, "jobs", "id", columns, books.broken, also="version = version + 1")
        versions = {row.id: row.version + 1 for row in rows}
        broken = [Entry("broken", job_id, versions[job_id], None, reason) for job_id, *_, reason in books.broken]
        write_down(conn, self._dialect, now, broken)

    def _complete(self, conn: Connection, rows: Sequence[Any]) -> Iterator[Any]:
        """Return rows of CLAIM_COLUMNS, those of jobs that are yet to be loaded as rows of JOB_COLUMNS."""
        new = [row.id for row in rows if self._loader.is_known(row.func) and self._loader.loaded(row) is None]
        whole = {}
        if new:
            query = f"SELECT {JOB_COLUMNS} FROM {self._dialect.joined('jobs', 'id', 'ids')} 1 = 1"
            whole = {row.id: row for row in conn.execute(text(query), {"ids": self._dialect.pack(new)})}
        return (whole.get(row.id, row) for row in rows)

    def _move_on(self, row: Any, job: ScheduledJob, now: int, books: _Books, result: Round) -> None:
        """Take a job behind its last fire that somebody has set back by hand: no fire is consumed twice."""
        fire = first_fire(job.trigger, moment(row.last_us + 1, self._zone(job)))
        following = None if fire is None or micros(fire) <= row.last_us else micros(fire)
        books.jobs.append((row.id, following, row.last_us, None if following is not None else now))
        if following is None:
            result.ended.append(row.id)
        result.more = True

    def _enter(
        self,
        row: Any,
        job: ScheduledJob,
        plan: Plan,
        overlap: _Overlap | None,
        me: Session,
        now: int,
        books: _Books,
        result: Round,
    ) -> None:
        """Write the plan for one job into the books; without an `overlap` its fires run."""
        last = plan.fires[-1] if plan.fires else plan.lapses[-1].last
        following = None if plan.next is None else micros(plan.next)
        books.jobs.append((row.id, following, micros(last), None if following is not None else now))
        if following is None:
            result.ended.append(row.id)
        for lapse in plan.lapses:
            self._account(row, lapse.outcome, lapse.first, lapse.last, lapse.fires, me, books, result)
        fires = plan.fires
        if overlap is not None:
            # Of those that may replace a run the last counts, of those that queue the first.
            places, replaces = overlap.places, job.policy.overlap == "replace"
            fires = plan.fires[-places:] if replaces and places else plan.fires[:places]
            why = overlap_error(overlap.running)
            for fire in plan.fires:
                if fire not in fires:
                    self._account(row, "skipped", None, fire, 1, me, books, result, why)
        runs = [Run(job, fire, "schedule") for fire in fires]
        for run in runs:
            enter = partial(
                live_row, row, run.run_id, sched_us=micros(run.scheduled_at), cause="schedule",
                on_crash=job.policy.on_crash, scheduled=True,
            )  # fmt: skip
            if overlap is None:
                books.live.append(enter(batch_id=runs[0].run_id, state="running", owner=me.id, claimed_us=now))
            else:
                books.live.append(enter(state="queued", due_us=now))
                result.waiting.append(standing(run, "queued", ""))
        if runs and overlap is None:
            result.claimed.append(Claimed(job, runs))

    def _make_places(
        self, conn: Connection, me: Session, now: int, full: dict[str, ScheduledJob], result: Round
    ) -> dict[str, int]:
        """Return how many fires may wait of each of these jobs, all of whose instances run.

        For a fire that replaces a run, the oldest of them is asked to stop, and those that wait are given up.
        """
        places = dict.fromkeys(full, 0)
        waitable = [job_id for job_id, job in full.items() if job.policy.overlap != "skip"]
        if not waitable:
            return places
        query = (
            f"SELECT * FROM {self._dialect.joined('live', 'job_id', 'ids')} state <> '{LEAVING}' "
            f"ORDER BY sched_us, run_id{self._dialect.skip}"
        )
        rows = conn.execute(text(query), {"ids": self._dialect.pack(sorted(waitable))}).all()
        replaced: list[Any] = []
        stopped: list[tuple[str, int]] = []
        for job_id in waitable:
            job = full[job_id]
            waiting = [row for row in rows if row.job_id == job_id and row.owner is None and row.cause == "schedule"]
            if job.policy.overlap == "queue":
                places[job_id] = max(0, job.policy.max_queue - len(waiting))
                continue
            places[job_id] = 1
            replaced += waiting
            running = [row for row in rows if row.job_id == job_id and row.owner is not None and row.cancel_us is None]
            ahead = len({row.batch_id for row in running}) - job.max_instances + 1
            oldest = list(dict.fromkeys(row.batch_id for row in running))[: max(0, ahead)]
            stopped += [(row.run_id, now) for row in running if row.batch_id in oldest]
        error = ("RunCancelled", "A later fire of its job took its place")
        result.records += self.cancel_waiting(conn, replaced, me.worker, me.id, now, error)
        self._dialect.update(conn, "live", "run_id", ("cancel_us",), stopped)
        if stopped:
            self._dialect.notify(conn)
        return places

    def _account(
        self,
        row: Any,
        outcome: Outcome,
        first: datetime | None,
        last: datetime,
        fires: int | None,
        me: Session,
        books: _Books,
        result: Round,
        why: tuple[str, str] | None = None,
    ) -> None:
        """Account for fires that will not run."""
        run_id = new_run_id()
        kind, message = why or (None, None)
        record = RunRecord(
            run_id, run_id, row.id, last, outcome, "schedule", me.worker, finished_at=result.now, error_type=kind,
            error_message=message, first_scheduled_at=first, fires=fires,
        )  # fmt: skip
        result.records.append(record)
        books.runs.append(run_row(record, me.id, row.version, row.func))

    # Parts of both

    def loadable(self, key: str) -> tuple[str, dict[str, Any]]:
        """Return a condition that leaves out what this process cannot load, so that it does not fill the batch."""
        condition, values = "", {}
        for column, name, bad in (
            ("func", "functions", self._loader.bad_functions),
            (key, "jobs", self._loader.bad_jobs),
        ):
            if bad:
                condition += f" AND NOT ({self._dialect.within(column, name)})"
                values[name] = self._dialect.pack(bad)
        return condition, values

    def _load(self, row: Any, result: Round, usable: Container[str]) -> ScheduledJob | None:
        if not self._loader.is_known(row.func):
            result.unknown.add(row.func)
            return None
        return self._loader.attempt(row, usable)

    def under_way(
        self, conn: Connection, job_ids: Collection[str], unwritten: Sequence[RunRecord]
    ) -> dict[str, list[str]]:
        """Return the run that each instance of these jobs is at, over all processes."""
        if not job_ids:
            return {}
        condition, values = "owner IS NOT NULL", {"ids": self._dialect.pack(sorted(job_ids))}
        if ended := [record.run_id for record in unwritten if record.job_id in job_ids]:
            condition += f" AND NOT ({self._dialect.within('run_id', 'ended')})"
            values["ended"] = self._dialect.pack(ended)
        live = self._dialect.joined("live", "job_id", "ids")
        query = f"SELECT job_id, batch_id, sched_us, run_id FROM {live} {condition}"
        instances: dict[str, dict[str, str]] = {}
        for row in sorted(conn.execute(text(query), values), key=lambda row: (row.sched_us, row.run_id)):
            instances.setdefault(row.job_id, {}).setdefault(row.batch_id, row.run_id)
        return {job_id: list(runs.values()) for job_id, runs in instances.items()}

    def _zone(self, job: ScheduledJob) -> Any:
        return getattr(job.trigger, "timezone", None) or job._scheduler.timezone


def _retry_row(row: Any, due: datetime) -> tuple[Any, ...]:
    """Return the row of the next attempt at a fire, whose last one had the row `row`: it waits for any process."""
    run_id = new_run_id()
    changed = {
        "run_id": run_id, "batch_id": run_id, "attempt": row.attempt + 1, "cause": "retry", "state": "retry_wait",
        "owner": None, "due_us": micros(due), "claimed_us": None,
    }  # fmt: skip
    values = dict(row._mapping) | changed
    return tuple(values[column] for column in LIVE_COLUMNS)


def _waiting(row: dict[str, Any]) -> RunRecord:
    """Return the record of a new run that waits, as a row of `live`."""
    return RunRecord(
        row["run_id"], row["fire_id"], row["job_id"], moment(row["sched_us"]), row["state"], row["cause"], "",
        row["attempt"], final=False,
    )  # fmt: skip
