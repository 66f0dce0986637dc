"""Changes to jobs: each verb within its own transaction, written to the list of changes with who made it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from sqlalchemy.exc import IntegrityError

from ...errors import DeclaredJob, DuplicateJob, InvalidDefinition
from ...model import state
from ...model.actor import current_actor
from ...model.changes import Action
from ...model.ids import new_id
from ...model.instants import micros, moment
from ...model.jobs import ScheduledJob
from ...model.planning import first_fire
from .cancellations import JOB_REMOVED, cancel_unbegun, cancel_waiting
from .loader import JOB_COLUMNS, JobLoader
from .rows import clean
from .transaction import Transaction

NEW_JOB = (
    "id", "incarnation", "next_us", "func", "definition", "version", "held_us", "paused_us", "paused_by", "source",
    "trig_hash", "decl_hash", "ended_us",
)  # fmt: skip
_HOLDS = ("paused_us", "paused_by", "held_us", "broken_us", "broken_reason")
"""What keeps a job from firing, and the fire that it keeps."""
_CHANGE = ("at_us", "actor", "action", "job_id", "version", "definition", "detail")


class Entry(NamedTuple):
    """An entry of the list of changes; it has a `definition` where that is another one than before."""

    action: Action
    job_id: str | None
    version: int | None
    definition: str | None = None
    detail: str | None = None


def write_down(tx: Transaction, entries: Sequence[Entry]) -> None:
    """Write changes to the list, with who makes them, and tell the other processes."""
    if entries:
        actor = clean(current_actor.get(), 191)
        rows = [(tx.now, actor, *entry[:4], clean(entry.detail)) for entry in entries]
        tx.insert("changes", _CHANGE, rows)
        tx.notify()


class Changes:
    """The jobs, within one transaction; `writing` ones lock what they read."""

    def __init__(self, tx: Transaction, loader: JobLoader, *, writing: bool) -> None:
        self.tx = tx
        self._p = tx.prefix
        self._loader = loader
        self.lock = tx.dialect.lock if writing else ""
        """What a SELECT ends with that reads what is to be changed."""

    def _row(self, job_id: str) -> Any:
        try:
            state.check_id(job_id)
        except InvalidDefinition:
            return None  # Not in there, and some databases would take it for another or fail on it.
        return self.tx.first(f"SELECT {JOB_COLUMNS} FROM {self._p}jobs WHERE id = :id{self.lock}", id=job_id)

    def _set(self, job_id: str, **values: Any) -> None:
        sets = ", ".join(f"{column} = :{column}" for column in values)
        self.tx.execute(f"UPDATE {self._p}jobs SET {sets}, version = version + 1 WHERE id = :id", id=job_id, **values)

    @property
    def actor(self) -> str | None:
        """Who makes the changes."""
        return clean(current_actor.get(), 191)

    def load(self, row: Any) -> ScheduledJob:
        """Return the job of a row. Raises InvalidDefinition where this process cannot load it."""
        return self._loader.load(row)

    def show(self, row: Any) -> ScheduledJob:
        """Return the job of a row for a reader, also where this process cannot load it: then it is `broken`."""
        return self._loader.show(row)

    def first_fire(self, job: ScheduledJob) -> datetime | None:
        """Return the first fire of a schedule that is taken up now."""
        return first_fire(job.trigger, moment(self.tx.now))

    def log(self, entries: Sequence[Entry]) -> None:
        """Write down changes."""
        write_down(self.tx, entries)

    # What APScheduler's stores offer

    def lookup_job(self, job_id: str) -> ScheduledJob | None:
        """Return the job, or None; one whose schedule is over is none any more."""
        row = self._row(job_id)
        return None if row is None or row.ended_us is not None else self._loader.show(row)

    def get_all_jobs(self) -> list[ScheduledJob]:
        """Return all jobs by time of their next fire, paused ones last."""
        query = (
            f"SELECT {JOB_COLUMNS} FROM {self._p}jobs WHERE ended_us IS NULL "
            "ORDER BY CASE WHEN next_us IS NULL THEN 1 ELSE 0 END, next_us, id"
        )
        return [self._loader.show(row) for row in self.tx.rows(query)]

    def add_job(self, job: ScheduledJob) -> None:
        """Add the job. Raises ConflictingIdError where the id is taken, InvalidDefinition where JSON cannot hold it."""
        state.check_id(job.id)
        row = self._row(job.id)
        if row is not None and row.ended_us is None:
            raise ConflictingIdError(job.id)
        if row is not None and row.source == "declared" and row.orphan_us is None:
            raise DuplicateJob(job.id, "the code declares it, and its schedule is over")
        if row is not None:
            self.tx.delete("jobs", "id", [job.id])
        values = new_row(job, self.tx.now, "added", None, None)
        try:
            self.tx.insert("jobs", NEW_JOB, [values])
        except IntegrityError:
            raise ConflictingIdError(job.id) from None
        self.log(entries_of_new(values))

    def is_written(self, job_id: str, hashes: tuple[str, str]) -> bool:
        """Tell whether the job is there as what was written with these hashes, whatever was changed by hand since."""
        row = self._row(job_id)
        there = row is not None and row.ended_us is None and row.orphan_us is None
        return there and (row.trig_hash, row.decl_hash) == hashes

    def note_written(self, job_id: str, hashes: tuple[str, str]) -> None:
        """Keep the hashes of a task, which from now on is none of those that the code declares before the start."""
        statement = (
            f"UPDATE {self._p}jobs SET source = 'added', orphan_us = NULL, modified = 0, "
            "trig_hash = :trigger, decl_hash = :options WHERE id = :id"
        )
        self.tx.execute(statement, id=job_id, trigger=hashes[0], options=hashes[1])

    def update_job(self, job: ScheduledJob) -> None:
        """Replace the job with the same id. Raises JobLookupError where there is none."""
        row = self._row(job.id)
        if row is None or row.ended_us is not None:
            raise JobLookupError(job.id)
        definition, func = state.dump_and_ref(job)
        changed = definition != row.definition
        next_us = None if job.next_run_time is None else micros(job.next_run_time)
        values: dict[str, Any] = {"definition": definition, "func": func, "next_us": next_us}
        if changed and row.source == "declared":
            values["modified"] = 1
        action: Action | None = None
        if next_us is None:
            # Without a next fire before, it is paused already, or pruned or broken: those are not the same.
            if row.next_us is not None:
                action = "pause"
                values |= {"paused_us": self.tx.now, "paused_by": self.actor}
                values["held_us"] = row.next_us
        else:
            if row.last_us is not None and next_us <= row.last_us:
                last = moment(row.last_us).isoformat()
                raise InvalidDefinition(
                    "next_run_time", f"is {job.next_run_time.isoformat()}; expected a time after the last fire, {last}"
                )
            if row.next_us is None:
                action = "resume"
            values |= dict.fromkeys(_HOLDS)
        self._loader.bad_jobs.pop(job.id, None)
        self._set(job.id, **values)
        entries = []
        if changed or action is None:
            detail = state.differences(row.definition, definition) if changed else "next_run_time"
            entries.append(Entry("modify", job.id, row.version + 1, definition if changed else None, detail))
        if action is not None:
            entries.append(Entry(action, job.id, row.version + 1))
        self.log(entries)

    def pause(self, job_id: str) -> None:
        """Pause a job, also one that cannot be loaded here. Raises JobLookupError."""
        row = self._row(job_id)
        if row is None or row.ended_us is not None:
            raise JobLookupError(job_id)
        if row.paused_us is None:
            held = row.held_us if row.next_us is None else row.next_us
            self._set(job_id, next_us=None, held_us=held, paused_us=self.tx.now, paused_by=self.actor)
            self.log([Entry("pause", job_id, row.version + 1)])

    def end_job(self, job_id: str) -> None:
        """End a job that is resumed when its schedule is over; what waits of it goes on. Raises JobLookupError."""
        row = self._row(job_id)
        if row is None or row.ended_us is not None:
            raise JobLookupError(job_id)
        self._set(job_id, next_us=None, ended_us=self.tx.now, **dict.fromkeys(_HOLDS))
        self.log([Entry("resume", job_id, row.version + 1, None, "its schedule is over")])

    def remove_job(self, job_id: str) -> None:
        """Remove the job; what has not begun of it is cancelled. Raises JobLookupError, or DeclaredJob."""
        row = self._row(job_id)
        if row is None or row.ended_us is not None:
            raise JobLookupError(job_id)
        if row.source == "declared" and row.orphan_us is None:
            raise DeclaredJob(job_id)
        self.discard([job_id])
        self.log([Entry("remove", job_id, row.version, row.definition)])

    def remove_all_jobs(self) -> None:
        """Remove every job but those that the code declares."""
        query = f"SELECT id FROM {self._p}jobs WHERE source <> 'declared' OR orphan_us IS NOT NULL{self.lock}"
        ids = [row.id for row in self.tx.rows(query)]
        self.discard(ids)
        self.log([Entry("remove", job_id, None) for job_id in ids])

    def discard(self, ids: Sequence[str]) -> None:
        """Delete jobs, and cancel their runs that wait or have been claimed and not begun."""
        if not ids:
            return
        waiting = self.tx.among("live", "job_id", ids, "*", f"owner IS NULL{self.tx.dialect.lock}")
        cancel_waiting(self.tx, waiting, "", None, JOB_REMOVED)
        cancel_unbegun(self.tx, ids)
        self.tx.delete("jobs", "id", ids)


def entries_of_new(values: Sequence[Any]) -> list[Entry]:
    """Return the entries of a new job, whose row is `values` in the order of NEW_JOB."""
    row = dict(zip(NEW_JOB, values, strict=True))
    entries = [Entry("add", row["id"], row["version"], row["definition"])]
    return entries if row["paused_us"] is None else [*entries, Entry("pause", row["id"], row["version"])]


def new_row(
    job: ScheduledJob, now: int, source: str, trigger_hash: str | None, options_hash: str | None, *, over: bool = False
) -> tuple[Any, ...]:
    """Return a new job in the order of NEW_JOB; one without a next fire is paused, unless its schedule is `over`."""
    fire = job.next_run_time
    paused = fire is None and not over
    definition, func = state.dump_and_ref(job)
    return (
        job.id,
        new_id(),
        None if fire is None else micros(fire),
        func,
        definition,
        1,
        None,
        now if paused else None,
        clean(current_actor.get(), 191) if paused else None,
        source,
        trigger_hash,
        options_hash,
        now if over else None,
    )
