"""Lanes: runs that wait for each other. A backfill is a few lanes of them, as many as may run at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from ...model.jobs import ScheduledJob
from ...model.runs import new_run_id
from .dialects import Dialect
from .rows import LEAVING, LIVE_COLUMNS, live_row, micros

_LOOKS = 3
"""Looks for the next run of a lane, as another process may have cancelled the one that was found."""


def advance(conn: Connection, dialect: Dialect, lanes: Collection[str], now: int) -> bool:
    """Let the next run of each lane begin, unless one of it is under way or about to begin; tell whether any may."""
    query = text(
        f"SELECT run_id, owner, due_us FROM {dialect.prefix}live WHERE lane = :lane AND state <> '{LEAVING}' "
        f"ORDER BY CASE WHEN owner IS NULL AND due_us IS NULL THEN 1 ELSE 0 END, sched_us, run_id LIMIT 1{dialect.lock}"
    )
    ready = []
    for lane in sorted(lanes):
        for _ in range(_LOOKS):
            if (row := conn.execute(query, {"lane": lane}).first()) is not None:
                break
        if row is not None and row.owner is None and row.due_us is None:
            ready.append((row.run_id, now))
    if ready:
        dialect.update(conn, "live", "run_id", ("due_us",), ready)
        dialect.notify(conn)
    return bool(ready)


def enter_backfill(
    conn: Connection,
    dialect: Dialect,
    row: Any,
    job: ScheduledJob,
    fires: Sequence[datetime],
    now: int,
    *,
    concurrency: int,
    rerun: bool,
    dry_run: bool,
) -> list[tuple[datetime, str | None]]:
    """Let past fires of the job, whose `row` is locked, run in so many lanes; return them, each with its run_id.

    Left out are those of which a run waits or is under way and, unless `rerun`, those that one has succeeded at. In a
    dry run nothing is written, and no run has an id.
    """
    jitter = int((getattr(job.trigger, "jitter", None) or 0) * 1e6)
    times = [micros(fire) for fire in fires]
    taken = _taken(conn, dialect, job.id, times[0] - jitter, times[-1] + jitter, rerun=rerun) if times else []

    def is_free(us: int) -> bool:
        place = bisect_left(taken, us - jitter)
        return place == len(taken) or taken[place] > us + jitter

    free = [fire for fire in fires if is_free(micros(fire))]
    if dry_run or not free:
        return [(fire, None) for fire in free]
    name, runs = new_run_id(), [new_run_id() for _ in free]
    rows = [
        live_row(
            row, run_id, sched_us=micros(fire), cause="backfill", on_crash=job.policy.on_crash, state="queued",
            due_us=now if number < concurrency else None, lane=f"{name}.{number % concurrency}",
        )
        for number, (fire, run_id) in enumerate(zip(free, runs, strict=True))
    ]  # fmt: skip
    dialect.insert(conn, "live", LIVE_COLUMNS, rows)
    dialect.notify(conn)
    return list(zip(free, runs, strict=True))


def _taken(conn: Connection, dialect: Dialect, job_id: str, first: int, last: int, *, rerun: bool) -> list[int]:
    """Return when the fires of that span were due that are not to be run again, in order."""
    span = "WHERE job_id = :id AND sched_us >= :first AND sched_us <= :last"
    queries = [f"SELECT sched_us FROM {dialect.prefix}live {span}"]
    if not rerun:
        queries.append(f"SELECT sched_us FROM {dialect.prefix}runs {span} AND outcome = 'succeeded'")
    values = {"id": job_id, "first": first, "last": last}
    return sorted(row.sched_us for query in queries for row in conn.execute(text(query), values))
