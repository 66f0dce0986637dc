"""Cancellations: runs under way are asked to stop, and those that wait end before they begin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...model.instants import moment
from ...model.runs import RunRecord
from .lanes import advance
from .rows import LEAVING, OUTPUT_COLUMNS, RUN_COLUMNS, output_rows, run_row
from .transaction import Transaction
from .workers import Session

UNLESS_BEGUN = 0
"""The `cancel_us` of runs that are not to begin any more: what the store does not know of has begun, and goes on."""
JOB_REMOVED = ("JobRemoved", "The job was removed before it ran")


def cancel(tx: Transaction, run_id: str, worker: str) -> bool | RunRecord:
    """Ask the process that has the run to stop it; end one that waits, and return its record.

    False where no such run is under way. `worker` (host:pid) is who asks.
    """
    query = f"SELECT * FROM {tx.prefix}live WHERE run_id = :id AND state <> '{LEAVING}'{tx.dialect.lock}"
    row = tx.first(query, id=run_id)
    if row is None:
        return False
    if row.owner is None:
        error = ("RunCancelled", "It was cancelled before it began")
        return cancel_waiting(tx, [row], worker, None, error)[0]
    unasked = f"COALESCE(cancel_us, {UNLESS_BEGUN}) = {UNLESS_BEGUN}"
    statement = f"UPDATE {tx.prefix}live SET cancel_us = :now WHERE run_id = :id AND {unasked}"
    if tx.execute(statement, now=tx.now, id=run_id):
        tx.notify()
    return True


def cancel_waiting(
    tx: Transaction, rows: Sequence[Any], worker: str, recorded_by: str | None, error: tuple[str, str]
) -> list[RunRecord]:
    """End runs that wait, whose rows are locked; return their records. `error` is its type and message."""
    kind, message = error
    records = [
        RunRecord(
            row.run_id, row.fire_id, row.job_id, moment(row.sched_us), "cancelled", row.cause, worker,
            attempt=row.attempt, finished_at=moment(tx.now), error_type=kind, error_message=message,
            overrides=row.overrides,
        )
        for row in rows
    ]  # fmt: skip
    if rows:
        tx.delete("live", "run_id", [row.run_id for row in rows])
        advance(tx, {row.lane for row in rows if row.lane and row.due_us is not None})
        books = [run_row(record, recorded_by, row.version, row.func) for record, row in zip(records, rows, strict=True)]
        tx.insert("runs", RUN_COLUMNS, books)
        tx.insert("run_output", OUTPUT_COLUMNS, output_rows(records))
    return records


def cancel_unbegun(tx: Transaction, job_ids: Iterable[str]) -> None:
    """Let the processes that have claimed fires of these jobs begin no more of them."""
    order = "ORDER BY sched_us, run_id"
    begun: set[str] = set()
    unbegun = []
    for row in tx.among("live", "job_id", job_ids, "run_id, batch_id, cancel_us", f"owner IS NOT NULL {order}"):
        # The fires of a batch come one after the other.
        if row.batch_id in begun and row.cancel_us is None:
            unbegun.append((row.run_id, UNLESS_BEGUN))
        begun.add(row.batch_id)
    tx.update("live", "run_id", ("cancel_us",), sorted(unbegun))


def cancel_removed(tx: Transaction, me: Session, waiting: Sequence[Any]) -> tuple[list[RunRecord], list[Any]]:
    """End the waiting runs whose jobs have been removed; return their records, and the rows that others are at."""
    if not waiting:
        return [], []
    rows = tx.among("jobs", "id", {row.job_id for row in waiting}, "id, incarnation")
    incarnations = {row.id: row.incarnation for row in rows}
    gone = [row for row in waiting if incarnations.get(row.job_id) != row.incarnation]
    records = cancel_waiting(tx, gone, me.worker, me.id, JOB_REMOVED)
    return records, [row for row in waiting if row not in gone]
