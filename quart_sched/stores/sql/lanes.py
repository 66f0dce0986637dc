"""Lanes: runs that wait for each other. A backfill is a few lanes of them, as many as may run at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from ...model.backfill import remaining
from ...model.ids import new_id
from ...model.instants import micros, moment
from ...model.jobs import ScheduledJob
from ...model.runs import BESIDE
from ...model.schedules import jitter_of
from .rows import LEAVING, LIVE_COLUMNS, live_row
from .transaction import Transaction

_BEHIND = "owner IS NULL AND due_us IS NULL"
"""Runs that are not due until the ones before them in their lanes have ended."""


def advance(tx: Transaction, lanes: Collection[str]) -> bool:
    """Let the next run of each lane begin; tell whether there is any.

    To be called by the transaction that removes the run which was under way or due, and by it alone: a lane has one
    such run, so that no two transactions are at the same lane.
    """
    begun = False
    find = f"SELECT run_id FROM {tx.prefix}live WHERE lane = :lane AND {_BEHIND} ORDER BY sched_us LIMIT 1"
    begin = f"UPDATE {tx.prefix}live SET due_us = :now WHERE run_id = :run_id AND {_BEHIND}"
    for lane in sorted(lanes):
        while (run_id := tx.scalar(find, lane=lane)) is not None:
            # Somebody may just be cancelling it, for whom this waits.
            if tx.execute(begin, run_id=run_id, now=tx.now):
                begun = True
                break
    if begun:
        tx.notify()
    return begun


def enter_backfill(
    tx: Transaction,
    row: Any,
    job: ScheduledJob,
    fires: Sequence[datetime],
    *,
    concurrency: int,
    rerun: bool,
    dry_run: bool,
) -> list[tuple[datetime, str | None]]:
    """Let past fires of the job, whose `row` is locked, run in so many lanes; return them, each with its run_id.

    Left out are those that the schedule has yet to come to, those of which a run waits or is under way and, unless
    `rerun`, those that one has succeeded at. In a dry run nothing is written, and no run has an id.
    """
    if not fires:
        return []
    jitter = jitter_of(job.trigger)
    # In UTC, as a moment less on the wall may be an hour less, or more, where clocks change.
    first, last = micros(fires[0].astimezone(UTC) - jitter), micros(fires[-1].astimezone(UTC) + jitter)
    taken = _taken(tx, job.id, first, last, rerun=rerun)
    free = remaining(fires, taken, jitter=jitter, upcoming=job.next_run_time)
    if dry_run or not free:
        return [(fire, None) for fire in free]
    name, runs = new_id(), [new_id() for _ in free]
    rows = [
        live_row(
            row, run_id, sched_us=micros(fire), cause="backfill", on_crash=job.policy.on_crash, state="queued",
            due_us=tx.now if number < concurrency else None, lane=f"{name}.{number % concurrency}",
        )
        for number, (fire, run_id) in enumerate(zip(free, runs, strict=True))
    ]  # fmt: skip
    tx.insert("live", LIVE_COLUMNS, rows)
    tx.notify()
    return list(zip(free, runs, strict=True))


def _taken(tx: Transaction, job_id: str, first: int, last: int, *, rerun: bool) -> list[datetime]:
    """Return when the fires of that span were due that are not to be run again."""
    beside = ", ".join(f"'{cause}'" for cause in BESIDE)
    span = f"WHERE job_id = :id AND sched_us >= :first AND sched_us <= :last AND cause NOT IN ({beside})"
    # In this order, as a run that ends moves from the one to the other.
    queries = [f"SELECT sched_us FROM {tx.prefix}live {span} AND state <> '{LEAVING}'"]
    if not rerun:
        queries.append(f"SELECT sched_us FROM {tx.prefix}runs {span} AND outcome = 'succeeded'")
    return [moment(row.sched_us) for query in queries for row in tx.rows(query, id=job_id, first=first, last=last)]
