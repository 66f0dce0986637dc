"""Rows: records and moments as the tables hold them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ...model.instants import micros, moment
from ...model.jobs import ScheduledJob
from ...model.runs import MESSAGE_LIMIT, Cause, RunRecord
from ...model.zones import zone_of

RUN_COLUMNS = (
    "run_id", "fire_id", "job_id", "version", "func", "sched_us", "first_us", "fires", "outcome", "final", "cause",
    "worker", "recorded_by", "attempt", "started_us", "ended_us", "error_type", "error_message",
)  # fmt: skip
RUN = ", ".join(f"r.{column}" for column in RUN_COLUMNS if column not in ("version", "func", "recorded_by"))
"""What `record_of` reads of the table `runs AS r`."""
OUTPUT_COLUMNS = ("run_id", "result", "traceback", "log", "overrides")
LIVE_COLUMNS = (
    "run_id", "fire_id", "batch_id", "job_id", "incarnation", "fire_us", "sched_us", "attempt", "cause", "on_crash",
    "version", "func", "state", "owner", "due_us", "claimed_us", "lane", "overrides",
)  # fmt: skip

LEAVING = "leaving"
"""The state of a run that is on record, but whose function still holds its place among the instances."""


def clean(text: str | None, limit: int | None = None) -> str | None:
    """Return what any of the databases can hold: no NUL, no half of a surrogate pair."""
    if text is None or (text.isascii() and (limit is None or len(text) <= limit) and "\0" not in text):
        return text
    return text[:limit].encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def moment_of(job: ScheduledJob, us: int) -> datetime:
    """Return microseconds since 1970 as the job's trigger would show them."""
    return moment(us, zone_of(job.trigger) or job._scheduler.timezone)


def run_row(record: RunRecord, recorded_by: str | None, version: int | None, func: str | None) -> tuple[Any, ...]:
    """Return `record` in the order of RUN_COLUMNS."""
    return (
        record.run_id,
        record.fire_id,
        record.job_id,
        version,
        func,
        micros(record.scheduled_at),
        None if record.first_scheduled_at is None else micros(record.first_scheduled_at),
        record.fires,
        record.outcome,
        int(record.final),
        record.cause,
        clean(record.worker, 191),
        recorded_by,
        record.attempt,
        None if record.started_at is None else micros(record.started_at),
        None if record.finished_at is None else micros(record.finished_at),
        clean(record.error_type, 191),
        clean(record.error_message, MESSAGE_LIMIT),
    )


def output_rows(records: Iterable[RunRecord]) -> list[tuple[Any, ...]]:
    """Return what the runs put out, and were given, in the order of OUTPUT_COLUMNS: of those that have any of it."""
    found = [(record.run_id, record.result, record.traceback, record.log, record.overrides) for record in records]
    return [(run_id, *map(clean, texts)) for run_id, *texts in found if texts != [None] * len(texts)]


def live_row(
    job: Any,
    run_id: str,
    *,
    sched_us: int,
    cause: Cause,
    on_crash: str,
    state: str,
    batch_id: str | None = None,
    scheduled: bool = False,
    owner: str | None = None,
    due_us: int | None = None,
    claimed_us: int | None = None,
    lane: str | None = None,
    overrides: str | None = None,
) -> tuple[Any, ...]:
    """Return the first attempt at a fire of a job, given by its row, in the order of LIVE_COLUMNS.

    `scheduled` fires are those that the schedule caused, of which the store takes each only once.
    """
    return (
        run_id, run_id, batch_id or run_id, job.id, job.incarnation, sched_us if scheduled else None,
        sched_us, 1, cause, on_crash, job.version, job.func, state, owner, due_us, claimed_us, lane, overrides,
    )  # fmt: skip


def record_of(row: Any) -> RunRecord:
    """Return the record of a row of `runs`, joined with `run_output` or not."""
    first, started, ended = row.first_us, row.started_us, row.ended_us
    return RunRecord(
        run_id=row.run_id,
        fire_id=row.fire_id,
        job_id=row.job_id,
        scheduled_at=moment(row.sched_us),
        outcome=row.outcome,
        cause=row.cause,
        worker=row.worker or "",
        attempt=row.attempt,
        started_at=None if started is None else moment(started),
        finished_at=None if ended is None else moment(ended),
        error_type=row.error_type,
        error_message=row.error_message,
        traceback=getattr(row, "traceback", None),
        result=getattr(row, "result", None),
        first_scheduled_at=None if first is None else moment(first),
        fires=row.fires,
        final=bool(row.final),
        log=getattr(row, "log", None),
        overrides=getattr(row, "overrides", None),
    )
