"""SqlStore: the store as the scheduler uses it. It is safe from any thread, and each call is one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from apscheduler.jobstores.base import BaseJobStore, JobLookupError

from ...errors import ConfigError, InvalidDefinition
from ...model.actor import current_actor
from ...model.idempotency import RunRequest
from ...model.jobs import ScheduledJob
from ...model.overrides import NO_OVERRIDES, Overrides
from ...model.runs import Cause, Run, RunRecord
from . import workers
from .audit import Audit
from .cancellations import UNLESS_BEGUN, cancel
from .changes import Changes, Entry, write_down
from .database import Database
from .endings import give_back_strays
from .events import SqlEvents
from .failures import DatabaseFailure, SchemaProblem, first_line
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
from .tallies import SqlTallies
from .transaction import Transaction
from .wakeups import Wakeups
from .workers import Session, Worker

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
        self.events = SqlEvents(self.database)

    def __repr__(self) -> str:
        return f"<SqlStore {self.database.url}>"

    def start(self, scheduler: Any, alias: str) -> None:
        """Connect, and make the tables if they are missing. Raises DatabaseFailure."""
        super().start(scheduler, alias)
        self.database.clock = scheduler.clock
        self.database.idle_limit = max(1.0, scheduler.settings.lease / 2)
        self.loader = JobLoader(scheduler, alias)
        self.index = JobIndex(self.database, self.loader, alias)
        # When this process, in whichever session, came with these declarations.
        self._announced: dict[str, int] = {}
        self._rounds = Rounds(self._dialect, self.loader)
        self._polls = Polls(self.database, self._rounds, self.events)
        self.mending = Mending(self.database, self.loader, lambda: scheduler.runner.executors)
        self.house = Housekeeping(self.database)
        self.audit = Audit(self.database, alias, scheduler.settings.lease)
        self.overdue = OverdueBooks(self.database, alias)
        self.tallies = SqlTallies(self.database)
        self.database.resume()
        try:
            self.database.schema.open()
        except BaseException as error:
            # Nobody closes a store that was not opened.
            self.database.dispose()
            if isinstance(error, SchemaProblem):
                raise DatabaseFailure(str(error)) from error
            raise

    def shutdown(self) -> None:
        """Close the connections."""
        self.database.dispose()

    # Verbs

    def perform(self, op: Callable[[Changes], T], *, write: bool = True) -> T:
        """Return `op(changes)`, run in one transaction."""
        return self.database.transact(lambda tx: op(Changes(tx, self.loader, writing=write)), write=write)

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

        def switch(tx: Transaction) -> bool:
            self._dialect.hold_pause(tx, exclusive=True)
            statement = f"UPDATE {self._p}meta SET n = :n, v = :actor, at_us = :now WHERE k = 'paused' AND n <> :n"
            actor = clean(current_actor.get(), 191)
            changed = bool(tx.execute(statement, n=int(paused), actor=actor, now=tx.now))
            if changed:
                write_down(tx, [Entry("pause" if paused else "resume", None, None)])
            return changed

        return self.database.transact(switch)

    # Sessions

    def join(self) -> Session:
        """Take part as a process of one's own."""
        me = Session()
        self.database.transact(lambda tx: workers.register(tx, me))
        return me

    def beat(self, me: Session) -> None:
        """Show that this process lives, and nothing else. Raises SessionLost."""
        self.database.transact(lambda tx: workers.beat(tx, me))

    def heartbeat(self, me: Session, known: Container[str]) -> Beat:
        """Show that this process lives, and give back what is its own in the books but `known` to it no more.

        That is what a claim took whose commit went through without a reply. Raises SessionLost.
        """

        def beat(tx: Transaction) -> Beat:
            workers.beat(tx, me)
            strays = give_back_strays(tx, me, known)
            return Beat(workers.beats(tx, me), strays)

        return self.database.transact(beat)

    def reap(self, worker: str, beat: int, me: Session) -> list[RunRecord] | None:
        """Declare another process dead; return the records of the runs that it lost, None where it cannot be."""
        return self.database.transact(lambda tx: workers.reap(tx, worker, beat, me))

    def sign_off(self, me: Session) -> list[RunRecord]:
        """End the session; return the records of the runs that had not ended."""
        return self.database.transact(lambda tx: workers.sign_off(tx, me))

    def workers(self) -> list[Worker]:
        """Return the processes that live, as far as is known, oldest first."""
        return self.database.transact(workers.living, write=False)

    def reconcile(
        self, me: Session, declared: Sequence[Declaration], prune: Prune, *, start_runs: dict[str, str] | None = None
    ) -> Reconciled:
        """Bring the declared jobs in; let those run that want that at a start, for which there are `start_runs`.

        Those are the runs by job, and are kept by whoever repeats a start whose answer was lost. Raises SessionLost.
        """

        def run(tx: Transaction) -> tuple[Reconciled, int]:
            now = tx.now  # before it waits for others
            done = reconcile(Changes(tx, self.loader, writing=True), me, declared, prune, self._announced)
            if start_runs is not None:
                run_on_start(tx, me, int(self._scheduler.settings.lease * 1e6), start_runs)
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
        if not self.database.schema.is_there():
            return of_nothing(declared)
        self.database.clock = scheduler.clock
        loader = JobLoader(scheduler, alias)
        return self.database.transact(
            lambda tx: preview(Changes(tx, loader, writing=False), declared, prune), write=False
        )

    # Claims

    def poll(self, me: Session | None = None) -> Poll:
        """Look whether there is something to do, for `me` too, with one light query."""
        return self._polls.poll(me)

    def round(self, me: Session, work: Work, decide: Decide, usable: Container[str]) -> Round:
        """Write down what ended, and claim what is due. Raises SessionLost."""
        return self.database.transact(lambda tx: self._rounds.round(tx, me, work, decide=decide, usable=usable))

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

        def claim(tx: Transaction) -> Run | str:
            workers.beat(tx, me)
            row, job = self._lock_sound(tx, job_id)
            overrides.check(job)
            if request is not None and (kept := run_of(tx, request, run_id)) != run_id:
                return kept
            check_free(tx, job, ended)
            values = live_row(
                row, run_id, sched_us=tx.now, cause=cause, on_crash=job.policy.on_crash, state="running", owner=me.id,
                claimed_us=tx.now, overrides=given,
            )  # fmt: skip
            tx.insert("live", LIVE_COLUMNS, [values])
            return Run(overrides.apply(job), moment_of(job, tx.now), cause, run_id=run_id)

        return self.database.transact(claim)

    def backfill(self, job_id: str, fires: Sequence[datetime], **options: Any) -> list[tuple[datetime, str | None]]:
        """Let past fires run in whichever process, with the options and the answer of `lanes.enter_backfill`.

        Raises JobLookupError, or InvalidDefinition for a job that is broken.
        """

        def enter(tx: Transaction) -> list[tuple[datetime, str | None]]:
            return enter_backfill(tx, *self._lock_sound(tx, job_id), fires, **options)

        return self.database.transact(enter)

    def _lock_sound(self, tx: Transaction, job_id: str) -> tuple[Any, ScheduledJob]:
        """Return the row of a job, locked, and the job. Raises JobLookupError, or InvalidDefinition if it is broken."""
        query = f"SELECT {JOB_COLUMNS} FROM {self._p}jobs WHERE id = :id{self._dialect.lock}"
        row = tx.first(query, id=job_id)
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
        return self.database.transact(lambda tx: cancel(tx, run_id, worker))

    def listen(self) -> Wakeups | None:
        """Return a connection that hears of changes at once; None where the database has no such thing.

        Raises DatabaseFailure.
        """
        channel = self._dialect.channel
        try:
            return None if channel is None else Wakeups(self.database, channel)
        except Exception as error:  # the driver's own class
            raise DatabaseFailure(first_line(error)) from error
