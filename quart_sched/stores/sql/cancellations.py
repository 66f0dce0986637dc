"""Cancellations: runs under way are asked to stop, and those that wait end before they begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from ...model.instants import moment
from ...model.runs import RunRecord
from .dialects import Dialect
from .lanes import advance
from .rows import LEAVING, OUTPUT_COLUMNS, RUN_COLUMNS, output_rows, run_row
from .statements import text
from .workers import Session

UNLESS_BEGUN = 0
"""The `cancel_us` of runs that are not to begin any more: what the store does not know of has begun, and goes on."""
JOB_REMOVED = ("JobRemoved", "The job was removed before it ran")


def cancel(conn: Connection, dialect: Dialect, run_id: str, worker: str, now: int) -> bool | RunRecord:
    """Ask the process that has the run to stop it; end one that waits, and return its record.

    False where no such run is under way. `worker` (host:pid) is who asks.
    """
    query = f"SELECT * FROM {dialect.prefix}live WHERE run_id = :id AND state <> '{LEAVING}'{dialect.lock}"
    row = conn.execute(text(query), {"id": run_id}).first()
    if row is None:
        return False
    if row.owner is None:
        error = ("RunCancelled", "It was cancelled before it began")
        return cancel_waiting(conn, dialect, [row], worker, None, now, error)[0]
    unasked = f"COALESCE(cancel_us, {UNLESS_BEGUN}) = {UNLESS_BEGUN}"
    statement = f"UPDATE {dialect.prefix}live SET cancel_us = :now WHERE run_id = :id AND {unasked}"
    if conn.execute(text(statement), {"now": now, "id": run_id}).rowcount:
        dialect.notify(conn)
    return True


def cancel_waiting(
    conn: Connection,
    dialect: Dialect,
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
        dialect.delete(conn, "live", "run_id", [row.run_id for row in rows])
        advance(conn, dialect, {row.lane for row in rows if row.lane and row.due_us is not None}, now)
        books = [run_row(record, recorded_by, row.version, row.func) for record, row in zip(records, rows, strict=True)]
        dialect.insert(conn, "runs", RUN_COLUMNS, books)
        dialect.insert(conn, "run_output", OUTPUT_COLUMNS, output_rows(records))
    return records


def cancel_unbegun(conn: Connection, dialect: Dialect, job_ids: Sequence[str]) -> None:
    """Let the processes that have claimed fires of these jobs begin no more of them."""
    query = (
        f"SELECT run_id, batch_id, cancel_us FROM {dialect.joined('live', 'job_id', 'ids')} owner IS NOT NULL "
        "ORDER BY sched_us, run_id"
    )
    begun: set[str] = set()
    unbegun = []
    for row in conn.execute(text(query), {"ids": dialect.pack(sorted(job_ids))}):
        # The fires of a batch come one after the other.
        if row.batch_id in begun and row.cancel_us is None:
            unbegun.append((row.run_id, UNLESS_BEGUN))
        begun.add(row.batch_id)
    dialect.update(conn, "live", "run_id", ("cancel_us",), sorted(unbegun))


def cancel_removed(
    conn: Connection, dialect: Dialect, me: Session, waiting: Sequence[Any], now: int
) -> tuple[list[RunRecord], list[Any]]:
    """End the waiting runs whose jobs have been removed; return their records, and the rows that others are at."""
    if not waiting:
        return [], []
    query = f"SELECT id, incarnation FROM {dialect.joined('jobs', 'id', 'ids')} 1 = 1"
    rows = conn.execute(text(query), {"ids": dialect.pack(sorted({row.job_id for row in waiting}))})
    incarnations = {row.id: row.incarnation for row in rows}
    gone = [row for row in waiting if incarnations.get(row.job_id) != row.incarnation]
    records = cancel_waiting(conn, dialect, gone, me.worker, me.id, now, JOB_REMOVED)
    return records, [row for row in waiting if row not in gone]
