"""Endings: runs that have ended move from the live ones into the history, and make way for what waits for them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...model.ids import new_id
from ...model.instants import micros, moment
from ...model.runs import RunRecord
from .cancellations import cancel_waiting
from .lanes import advance
from .rows import LEAVING, LIVE_COLUMNS, OUTPUT_COLUMNS, RUN_COLUMNS, output_rows, run_row
from .transaction import Transaction
from .workers import Session

_ASKED_TO_STOP = ("RunCancelled", "The attempt before it was asked to stop")


@dataclass(slots=True)
class Ended:
    """What came of endings.

    `late` are runs whose end came after they had been recorded as lost; `retries` are the next attempts, which wait for
    their time; `cancelled` are the records of those that will not be made; `advanced` tells that runs which waited for
    others of their lane have become due.
    """

    late: list[str] = field(default_factory=list)
    retries: list[RunRecord] = field(default_factory=list)
    cancelled: list[RunRecord] = field(default_factory=list)
    advanced: bool = False


def finish(tx: Transaction, me: Session, endings: Sequence[RunRecord], *, waiting: bool) -> Ended:
    """Move runs from `live` into the history; those that were not this process's own any more are late.

    `waiting` tells that there may be runs that wait for a place.
    """
    ended = Ended()
    records = {record.run_id: record for record in endings}
    again = any(record.retry_at is not None for record in endings)
    columns = ", ".join((*LIVE_COLUMNS, "cancel_us")) if again else "run_id, version, func, lane"
    condition = f"owner = :me AND state <> '{LEAVING}' ORDER BY run_id{tx.dialect.lock}"
    own = tx.among("live", "run_id", records, columns, condition, me=me.id)
    if own:
        gone = [row.run_id for row in own if not records[row.run_id].busy]
        if gone:
            tx.delete("live", "run_id", gone)
        if len(gone) < len(own):
            # Not as the run of its fire, of which there may be another attempt.
            leaving = [(row.run_id, LEAVING, None) for row in own if records[row.run_id].busy]
            tx.update("live", "run_id", ("state", "fire_us"), leaving)
        tx.insert("runs", RUN_COLUMNS, [run_row(records[row.run_id], me.id, row.version, row.func) for row in own])
        tx.insert("run_output", OUTPUT_COLUMNS, output_rows(records[row.run_id] for row in own))
        if waiting:
            # What waits for the place of one of these need not wait longer.
            statement = (
                f"UPDATE {tx.prefix}live SET due_us = :now WHERE {tx.dialect.within('job_id', 'jobs')} "
                "AND owner IS NULL AND state = 'queued' AND due_us > :now"
            )
            tx.execute(statement, now=tx.now, jobs=tx.dialect.pack(sorted({record.job_id for record in endings})))
        if again:
            _enter_retries(tx, me, own, records, ended)
        if lanes := {row.lane for row in own if row.lane and records[row.run_id].retry_at is None}:
            ended.advanced = advance(tx, lanes)
    missing = records.keys() - {row.run_id for row in own}
    if missing:
        # Written by a commit of ours whose reply was lost; or else somebody has declared them lost.
        missing -= {row.run_id for row in tx.among("runs", "run_id", missing, "run_id", "recorded_by = :me", me=me.id)}
    ended.late = sorted(missing)
    return ended


def _enter_retries(
    tx: Transaction, me: Session, own: Sequence[Any], records: Mapping[str, RunRecord], ended: Ended
) -> None:
    """Let the next attempts wait that the `records` of our `own` runs ask for."""
    tried = [(row, at) for row in own if (at := records[row.run_id].retry_at) is not None]
    retries = [_retry_row(row, at) for row, at in tried]
    tx.insert("live", LIVE_COLUMNS, retries)
    ended.retries = [_waiting(dict(zip(LIVE_COLUMNS, values, strict=True))) for values in retries]
    # Somebody was promised that these would stop, and they ended before they knew.
    pairs = zip(tried, ended.retries, strict=True)
    asked = [retry.run_id for (row, _), retry in pairs if row.cancel_us is not None]
    if asked:
        given_up = tx.among("live", "run_id", asked, "*")
        ended.cancelled = cancel_waiting(tx, given_up, me.worker, me.id, _ASKED_TO_STOP)


def give_back(tx: Transaction, me: Session, run_ids: Sequence[str]) -> None:
    """Let others take runs that were claimed here but never begun."""
    statement = (
        f"UPDATE {tx.prefix}live SET owner = NULL, state = 'queued', due_us = :now, claimed_us = NULL "
        f"WHERE {tx.dialect.within('run_id', 'ids')} AND owner = :me"
    )
    tx.execute(statement, ids=tx.dialect.pack(run_ids), me=me.id, now=tx.now)
    tx.notify()


def give_back_strays(tx: Transaction, me: Session, known: Container[str]) -> list[str]:
    """Let others take the runs that the books say this process has, and that are not `known` to it; return them."""
    rows = tx.rows(f"SELECT run_id FROM {tx.prefix}live WHERE owner = :me", me=me.id)
    strays = [row.run_id for row in rows if row.run_id not in known]
    if strays:
        give_back(tx, me, strays)
    return strays


def _retry_row(row: Any, due: datetime) -> tuple[Any, ...]:
    """Return the row of the next attempt at a fire, whose last one had the row `row`: it waits for any process."""
    run_id = new_id()
    changed: dict[str, Any] = {
        "run_id": run_id, "batch_id": run_id, "attempt": row.attempt + 1, "cause": "retry", "state": "retry_wait",
        "owner": None, "due_us": micros(due), "claimed_us": None,
    }  # fmt: skip
    return tuple(changed[column] if column in changed else getattr(row, column) for column in LIVE_COLUMNS)


def _waiting(row: dict[str, Any]) -> RunRecord:
    """Return the record of a new run that waits, as a row of `live`."""
    return RunRecord(
        row["run_id"], row["fire_id"], row["job_id"], moment(row["sched_us"]), row["state"], row["cause"], "",
        row["attempt"], final=False,
    )  # fmt: skip
