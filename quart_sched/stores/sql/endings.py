"""Endings: runs that have ended move from the live ones into the history, and make way for what waits for them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from ...model.ids import new_id
from ...model.instants import micros, moment
from ...model.runs import RunRecord
from .cancellations import cancel_waiting
from .dialects import Dialect
from .lanes import advance
from .rows import LEAVING, LIVE_COLUMNS, OUTPUT_COLUMNS, RUN_COLUMNS, output_rows, run_row
from .statements import text
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


def finish(
    conn: Connection, dialect: Dialect, me: Session, endings: Sequence[RunRecord], now: int, *, waiting: bool
) -> Ended:
    """Move runs from `live` into the history; those that were not this process's own any more are late.

    `waiting` tells that there may be runs that wait for a place.
    """
    ended = Ended()
    records = {record.run_id: record for record in endings}
    ids = dialect.pack(sorted(records))
    again = any(record.retry_at is not None for record in endings)
    query = (
        f"SELECT {', '.join((*LIVE_COLUMNS, 'cancel_us')) if again else 'run_id, version, func, lane'} "
        f"FROM {dialect.joined('live', 'run_id', 'ids')} owner = :me AND state <> '{LEAVING}' "
        f"ORDER BY run_id{dialect.lock}"
    )
    own = dialect.execute(conn, query, {"ids": ids, "me": me.id}).all()
    if own:
        gone = [row.run_id for row in own if not records[row.run_id].busy]
        if gone:
            dialect.delete(conn, "live", "run_id", gone)
        if len(gone) < len(own):
            # Not as the run of its fire, of which there may be another attempt.
            leaving = [(row.run_id, LEAVING, None) for row in own if records[row.run_id].busy]
            dialect.update(conn, "live", "run_id", ("state", "fire_us"), leaving)
        rows = [run_row(records[row.run_id], me.id, row.version, row.func) for row in own]
        dialect.insert(conn, "runs", RUN_COLUMNS, rows)
        outputs = output_rows(records[row.run_id] for row in own)
        dialect.insert(conn, "run_output", OUTPUT_COLUMNS, outputs)
        if waiting:
            # What waits for the place of one of these need not wait longer.
            query = (
                f"UPDATE {dialect.prefix}live SET due_us = :now WHERE {dialect.within('job_id', 'jobs')} "
                "AND owner IS NULL AND state = 'queued' AND due_us > :now"
            )
            jobs = dialect.pack(sorted({record.job_id for record in endings}))
            dialect.execute(conn, query, {"now": now, "jobs": jobs})
        if again:
            tried = [(row, at) for row in own if (at := records[row.run_id].retry_at) is not None]
            retries = [_retry_row(row, at) for row, at in tried]
            dialect.insert(conn, "live", LIVE_COLUMNS, retries)
            ended.retries = [_waiting(dict(zip(LIVE_COLUMNS, values, strict=True))) for values in retries]
            # Somebody was promised that these would stop, and they ended before they knew.
            pairs = zip(tried, ended.retries, strict=True)
            asked = [retry.run_id for (row, _), retry in pairs if row.cancel_us is not None]
            if asked:
                query = f"SELECT * FROM {dialect.joined('live', 'run_id', 'ids')} 1 = 1"
                given_up = conn.execute(text(query), {"ids": dialect.pack(asked)}).all()
                ended.cancelled = cancel_waiting(conn, dialect, given_up, me.worker, me.id, now, _ASKED_TO_STOP)
        if lanes := {row.lane for row in own if row.lane and records[row.run_id].retry_at is None}:
            ended.advanced = advance(conn, dialect, lanes, now)
    missing = records.keys() - {row.run_id for row in own}
    if missing:
        # Written by a commit of ours whose reply was lost; or else somebody has declared them lost.
        query = f"SELECT run_id FROM {dialect.joined('runs', 'run_id', 'ids')} recorded_by = :me"
        done = conn.execute(text(query), {"ids": dialect.pack(missing), "me": me.id})
        missing -= {row.run_id for row in done}
    ended.late = sorted(missing)
    return ended


def give_back(conn: Connection, dialect: Dialect, me: Session, run_ids: Sequence[str], now: int) -> None:
    """Let others take runs that were claimed here but never begun."""
    statement = (
        f"UPDATE {dialect.prefix}live SET owner = NULL, state = 'queued', due_us = :now, claimed_us = NULL "
        f"WHERE {dialect.within('run_id', 'ids')} AND owner = :me"
    )
    conn.execute(text(statement), {"ids": dialect.pack(run_ids), "me": me.id, "now": now})
    dialect.notify(conn)


def give_back_strays(conn: Connection, dialect: Dialect, me: Session, known: Container[str], now: int) -> list[str]:
    """Let others take the runs that the books say this process has, and that are not `known` to it; return them."""
    query = f"SELECT run_id FROM {dialect.prefix}live WHERE owner = :me"
    strays = [row.run_id for row in conn.execute(text(query), {"me": me.id}) if row.run_id not in known]
    if strays:
        give_back(conn, dialect, me, strays, now)
    return strays


def _retry_row(row: Any, due: datetime) -> tuple[Any, ...]:
    """Return the row of the next attempt at a fire, whose last one had the row `row`: it waits for any process."""
    run_id = new_id()
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
