"""SqlStore: the store as the scheduler uses it. It is safe from any thread, and each call is one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from apscheduler.jobstores.base import BaseJobStore, JobLookupError
from sqlalchemy import Connection

from ...errors import ConfigError, InvalidDefinition
from ...model.actor import current_actor
from ...model.idempotency import RunRequest
from ...model.instants import micros
from ...model.jobs import ScheduledJob
from ...model.overrides import NO_OVERRIDES, Overrides
from ...model.runs import Cause, Run, RunRecord
from .audit import Audit
from .cancellations import UNLESS_BEGUN, cancel
from .changes import Changes, Entry
from .database import Database, DatabaseFailure, SchemaProblem, first_line
from .endings import give_back_strays
from .events import SqlEvents
from .history import SqlHistory
from .housekeeping import Housekeeping
from .idempotency import run_of
from .lanes import enter_backfill
from .listing import JobIndex
from .loader import JOB_COLUMNS, JobLoader
from .mending import Mending
from .overdue import OverdueBooks
from .overlap import check_free
from .polls import Poll, Polls
from .preview import Preview, of_nothing, preview
from .reconcile import Declaration, Prune, Reconciled, reconcile, run_on_start
from .rounds import Decide, Round, Rounds, Work
from .rows import LIVE_COLUMNS, clean, live_row, moment_of
from .statements import text
from .tallies import SqlTallies
from .wakeups import Wakeups
from .workers import Session, Worker, Workers

T = TypeVar("T")

_WARM = 1000
"""Jobs that a process loads before it claims."""
_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat shows: the others' heartbeats, and runs of this process's that it gave back."""

    others: dict[str, int]
    strays: list[str]


class SqlStore(BaseJobStore):
    """Jobs in an SQL database, shared by any number of processes, each fire claimed by one of them."""

    shared = True
    failures = (DatabaseFailure,)
    """What it raises when the database does not do its part. Any other exception is a bug."""

    def __init__(
        self, url: Any, table_prefix: str = "quart_sched_", create_tables: bool = True,
        engine_options: Mapping[str, Any] | None = None, *, key: str = "The SQL store",
    ) -> None:  # fmt: skip
        """Take a SQLAlchemy URL and options of `create_engine`; nothing is connected yet. Raises ConfigError."""
        super().__init__()
        if not isinstance(table_prefix, str) or not _PREFIX.fullmatch(table_prefix):
            raise ConfigError(
                f"{key} has table_prefix {table_prefix!r}; expected small letters, digits and underscores, at most 32"
            )
        if not isinstance(create_tables, bool):
            raise ConfigError(f"{key} has create_tables {create_tables!r}; expected True or False")
        options = {} if engine_options is None else engine_options
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise ConfigError(f"{key} has engine_options that are no dict of options of SQLAlchemy's create_engine")
        self.database = Database(key, url, table_prefix, create_tables=create_tables, engine_options=options)
        self.history = SqlHistory(self.database)
        self._dialect = self.database.dialect
        self._p = table_prefix
        self._workers = Workers(self._dialect)
        self.events = SqlEvents(self.database, self._now)

    def __repr__(self) -> str:
        return f"<SqlStore {self.database.url}>"

    def start(self, scheduler: Any, alias: str) -> None:
        """Connect, and make the tables if they are missing. Raises DatabaseFailure."""
        super().start(scheduler, alias)
        self.database.idle_limit = max(1.0, scheduler.settings.lease / 2)
        self.loader = JobLoader(scheduler, alias)
        self.index = JobIndex(self.database, self.loader, alias)
        # When this process, in whichever session, came with these declarations.
        self._announced: dict[str, int] = {}
        self._rounds = Rounds(self._dialect, self._workers, self.loader)
        self._polls = Polls(self.database, self._rounds, self.events, scheduler.clock, self._time)
        self.mending = Mending(self.database, self.loader, self._now, lambda: scheduler.runner.executors)
        self.house = Housekeeping(self.database, self._now, scheduler.clock)
        self.audit = Audit(self.database, alias, self._now, scheduler.settings.lease)
        self.overdue = OverdueBooks(self.database, alias, self._time)
        self.tallies = SqlTallies(self.database, self._now)
        self.database.resume()
        try:
            self.database.open()
        except BaseException as error:
            # Nobody closes a store that was not opened.
            self.database.dispose()
            if isinstance(error, SchemaProblem):
                raise DatabaseFailure(str(error)) from error
            raise

    def shutdown(self) -> None:
        """Close the connections."""
        self.database.dispose()

    # Time

    def _time(self, database_us: int | None) -> int:
        """Return the time that counts: the database's, or the process's clock where that is all, or a test's."""
        clock = self._scheduler.clock
        return micros(clock.now()) if database_us is None or not clock.real else int(database_us)

    def _now(self, conn: Connection) -> int:
        return self._time(conn.scalar(text(f"SELECT {self._dialect.now}")))

    # Verbs

    def perform(self, op: Callable[[Changes], T], *, write: bool = True) -> T:
        """Return `op(changes)`, run in one transaction."""

        def run(conn: Connection) -> T:
            now = self._now(conn) if write else 0
            return op(Changes(conn, self._dialect, self.loader, now, writing=write))

        return self.database.transact(run, write=write)

    def lookup_job(self, job_id: str) -> ScheduledJob | None:
        """Return the job, or None."""
        return self.perform(lambda changes: changes.lookup_job(job_id), write=False)

    def get_all_jobs(self) -> list[ScheduledJob]:
        """Return all jobs by time of their next fire, paused ones last."""
        return self.perform(lambda changes: changes.get_all_jobs(), write=False)

    def get_due_jobs(self, now: datetime) -> list[ScheduledJob]:
        """Return the jobs due at `now`, without claiming them."""
        return [job for job in self.get_all_jobs() if job.next_run_time is not None and job.next_run_time <= now]

    def get_next_run_time(self) -> datetime | None:
        """Return the time of the earliest fire, or None."""
        times = [job.next_run_time for job in self.get_all_jobs() if job.next_run_time is not None]
        return min(times, default=None)

    def add_job(self, job: ScheduledJob) -> None:
        """Add the job. Raises ConflictingIdError or InvalidDefinition."""
        self.perform(lambda changes: changes.add_job(job))

    def update_job(self, job: ScheduledJob) -> None:
        """Replace the job with the same id. Raises JobLookupError or InvalidDefinition."""
        self.perform(lambda changes: changes.update_job(job))

    def remove_job(self, job_id: str) -> None:
        """Remove the job. Raises JobLookupError or DeclaredJob."""
        self.perform(lambda changes: changes.remove_job(job_id))

    def remove_all_jobs(self) -> None:
        """Remove every job but those that the code declares."""
        self.perform(lambda changes: changes.remove_all_jobs())

    def set_paused(self, paused: bool) -> bool:
        """Pause or resume all claims, of every process; tell whether that changed anything.

        No claim is committed after this returned for a pause.
        """

        def switch(conn: Connection) -> bool:
            self._dialect.hold_pause(conn, exclusive=True)
            now, actor = self._now(conn), clean(current_actor.get(), 191)
            statement = f"UPDATE {self._p}meta SET n = :n, v = :v, at_us = :now WHERE k = 'paused' AND n <> :n"
            changed = conn.execute(text(statement), {"n": int(paused), "v": actor, "now": now}).rowcount
            if changed:
                changes = Changes(conn, self._dialect, self.loader, now, writing=True)
                changes.log([Entry("pause" if paused else "resume", None, None)])
            return bool(changed)

        return self.database.transact(switch)

    # Sessions

    def join(self) -> Session:
        """Take part as a process of one's own."""
        me = Session()
        self.database.transact(lambda conn: self._workers.register(conn, me, self._now(conn)))
        return me

    def beat(self, me: Session) -> None:
        """Show that this process lives, and nothing else. Raises SessionLost."""
        self.database.transact(lambda conn: self._workers.beat(conn, me, self._now(conn)))

    def heartbeat(self, me: Session, known: Container[str]) -> Beat:
        """Show that this process lives, and give back what is its own in the books but `known` to it no more.

        That is what a claim took whose commit went through without a reply. Raises SessionLost.
        """

        def beat(conn: Connection) -> Beat:
            now = self._now(conn)
            self._workers.beat(conn, me, now)
            strays = give_back_strays(conn, self._dialect, me, known, now)
            return Beat(self._workers.beats(conn, me), strays)

        return self.database.transact(beat)

    def reap(self, worker: str, beat: int, me: Session) -> list[RunRecord] | None:
        """Declare another process dead; return the records of the runs that it lost, None where it cannot be."""
        return self.database.transact(lambda conn: self._workers.reap(conn, worker, beat, me, self._now(conn)))

    def sign_off(self, me: Session) -> list[RunRecord]:
        """End the session; return the records of the runs that had not ended."""
        return self.database.transact(lambda conn: self._workers.sign_off(conn, me, self._now(conn)))

    def workers(self) -> list[Worker]:
        """Return the processes that live, as far as is known, oldest first."""
        return self.database.transact(lambda conn: self._workers.living(conn, self._now(conn)), write=False)

    def reconcile(
        self, me: Session, declared: Sequence[Declaration], prune: Prune, *, start_runs: dict[str, str] | None = None
    ) -> Reconciled:
        """Bring the declared jobs in; let those run that want that at a start, for which there are `start_runs`.

        Those are the runs by job, and are kept by whoever repeats a start whose answer was lost. Raises SessionLost.
        """

        def run(conn: Connection) -> tuple[Reconciled, int]:
            now = self._now(conn)
            changes = Changes(conn, self._dialect, self.loader, now, writing=True)
            done = reconcile(conn, self._dialect, changes, me, declared, now, prune, self._announced)
            if start_runs is not None:
                run_on_start(conn, self._dialect, me, now, int(self._scheduler.settings.lease * 1e6), start_runs)
            return done, now

        token = current_actor.set("deploy")
        try:
            done, now = self.database.transact(run)
        finally:
            current_actor.reset(token)
        me.decl = done.version
        self._announced.setdefault(done.version, now)
        return done

    def preview(self, scheduler: Any, alias: str, declared: Sequence[Declaration], prune: Prune) -> Preview:
        """Return what `reconcile` would come to if no other code were alive; nothing is written, nor made.

        The store need not have been opened. Raises SchemaProblem or DatabaseFailure.
        """
        if not self.database.has_tables():
            return of_nothing(declared)
        clock, loader = scheduler.clock, JobLoader(scheduler, alias)

        def look(conn: Connection) -> Preview:
            database_us = conn.scalar(text(f"SELECT {self._dialect.now}"))
            now = micros(clock.now()) if database_us is None or not clock.real else int(database_us)
            changes = Changes(conn, self._dialect, loader, now, writing=False)
            return preview(conn, self._dialect, changes, declared, now, prune)

        return self.database.transact(look, write=False)

    # Claims

    def poll(self, me: Session | None = None) -> Poll:
        """Look whether there is something to do, for `me` too, with one light query."""
        return self._polls.poll(me)

    def round(self, me: Session, work: Work, decide: Decide, usable: Container[str]) -> Round:
        """Write down what ended, and claim what is due. Raises SessionLost."""
        return self.database.transact(
            lambda conn: self._rounds.round(conn, me, work, now=self._time, decide=decide, usable=usable)
        )

    def warm_up(self) -> None:
        """Load the jobs that are due next, so that the first burst of fires finds them loaded."""
        query = f"SELECT {JOB_COLUMNS} FROM {self._p}jobs WHERE next_us IS NOT NULL ORDER BY next_us LIMIT :limit"
        rows = self.database.query(query, limit=_WARM)
        self.loader.learn({row.func for row in rows})
        for row in rows:
            self.loader.attempt(row, self._scheduler.runner.executors)

    def start_now(
        self,
        me: Session,
        job_id: str,
        run_id: str,
        cause: Cause,
        ended: Container[str] = (),
        overrides: Overrides = NO_OVERRIDES,
        request: RunRequest | None = None,
    ) -> Run | str:
        """Claim a run beside the schedule for this process; runs that have `ended` here are not counted any more.

        For a `request` that was carried out before, this returns the id of its run. Raises JobLookupError,
        InvalidDefinition for a job that is broken or takes no such arguments, IdempotencyKeyReused, or
        OverlapForbidden.
        """
        given = overrides.dump()

        def claim(conn: Connection) -> Run | str:
            now = self._now(conn)
            self._workers.beat(conn, me, now)
            row, job = self._lock_sound(conn, job_id)
            overrides.check(job)
            if request is not None and (kept := run_of(conn, self._dialect, request, run_id, now)) != run_id:
                return kept
            check_free(conn, self._dialect, job, ended)
            values = live_row(
                row, run_id, sched_us=now, cause=cause, on_crash=job.policy.on_crash, state="running", owner=me.id,
                claimed_us=now, overrides=given,
            )  # fmt: skip
            self._dialect.insert(conn, "live", LIVE_COLUMNS, [values])
            return Run(overrides.apply(job), moment_of(job, now), cause, run_id=run_id)

        return self.database.transact(claim)

    def backfill(self, job_id: str, fires: Sequence[datetime], **options: Any) -> list[tuple[datetime, str | None]]:
        """Let past fires run in whichever process, with the options and the answer of `lanes.enter_backfill`.

        Raises JobLookupError, or InvalidDefinition for a job that is broken.
        """

        def enter(conn: Connection) -> list[tuple[datetime, str | None]]:
            row, job = self._lock_sound(conn, job_id)
            return enter_backfill(conn, self._dialect, row, job, fires, self._now(conn), **options)

        return self.database.transact(enter)

    def _lock_sound(self, conn: Connection, job_id: str) -> tuple[Any, ScheduledJob]:
        """Return the row of a job, locked, and the job. Raises JobLookupError, or InvalidDefinition if it is broken."""
        query = f"SELECT {JOB_COLUMNS} FROM {self._p}jobs WHERE id = :id{self._dialect.lock}"
        row = conn.execute(text(query), {"id": job_id}).first()
        if row is None or row.ended_us is not None:
            raise JobLookupError(job_id)
        job = self.loader.show(row)
        if job.broken:
            raise InvalidDefinition("job", f"{job_id!r} is broken: {job.broken}")
        return row, job

    def to_cancel(self, me: Session) -> dict[str, bool]:
        """Return this process's runs that are to stop, each with whether it is to stop only if it has not begun."""
        query = f"SELECT run_id, cancel_us FROM {self._p}live WHERE owner = :me AND cancel_us IS NOT NULL"
        return {row.run_id: row.cancel_us == UNLESS_BEGUN for row in self.database.query(query, me=me.id)}

    def cancel(self, run_id: str, worker: str) -> bool | RunRecord:
        """Ask the process that has the run to stop it; end one that waits, and return its record.

        False where no such run is under way. `worker` (host:pid) is who asks.
        """
        if clean(run_id, 36) != run_id:
            return False
        return self.database.transact(lambda conn: cancel(conn, self._dialect, run_id, worker, self._now(conn)))

    def listen(self) -> Wakeups | None:
        """Return a connection that hears of changes at once; None where the database has no such thing.

        Raises DatabaseFailure.
        """
        channel = getattr(self._dialect, "channel", None)
        try:
            return None if channel is None else Wakeups(self.database, channel)
        except Exception as error:  # the driver's own class
            raise DatabaseFailure(first_line(error)) from error
