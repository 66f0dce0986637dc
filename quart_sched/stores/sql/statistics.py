"""Statistics of the history in the database: counted there, so that only sums travel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...model.instants import micros
from ...model.runs import RunRecord
from ...model.stretches import Stretch, StretchQuery
from .rows import RUN, clean, record_of
from .transaction import Transaction

_COUNTED = (
    "r.outcome, COUNT(*) AS runs, COUNT(r.ended_us - r.started_us) AS timed, SUM(r.ended_us - r.started_us) AS us, "
    "MAX(r.ended_us - r.started_us) AS longest_us"
)


def stretches(tx: Transaction, query: StretchQuery) -> list[Stretch]:
    """Count the runs that are asked for."""
    return _by_stretch(tx, query) if query.job_ids is None else _by_job(tx, query)


def _by_stretch(tx: Transaction, query: StretchQuery) -> list[Stretch]:
    # One stretch after the other, each a range of an index: together, the rows would all be sorted first.
    statement = (
        f"SELECT {_COUNTED} FROM {tx.prefix}runs AS r WHERE r.sched_us >= :begin AND r.sched_us < :end "
        "GROUP BY r.outcome"
    )
    found = []
    for bucket in range(query.buckets):
        begin = micros(query.since) + bucket * query.width_us
        end = min(begin + query.width_us, micros(query.until))
        rows = tx.rows(statement, begin=begin, end=end)
        found += [_stretch_of(row, "", bucket, begin, end, None) for row in rows]
    return found


def _by_job(tx: Transaction, query: StretchQuery) -> list[Stretch]:
    statement = (
        f"SELECT r.job_id, (r.sched_us - :since) {tx.dialect.divide} :width AS bucket, {_COUNTED}, "
        "MIN(COALESCE(r.started_us, r.sched_us)) AS first_us, MAX(COALESCE(r.ended_us, r.sched_us)) AS last_us, "
        f"MAX(r.run_id) AS run_id FROM {tx.prefix}runs AS r WHERE {tx.dialect.within('r.job_id', 'ids')} "
        "AND r.sched_us >= :since AND r.sched_us < :until GROUP BY r.job_id, bucket, r.outcome"
    )
    by_id = {clean(job_id, 191) or "": job_id for job_id in query.job_ids or ()}
    span = {"since": micros(query.since), "until": micros(query.until), "width": query.width_us}
    rows = tx.rows(statement, ids=tx.dialect.pack(by_id), **span)
    return [_stretch_of(row, by_id[row.job_id], int(row.bucket), row.first_us, row.last_us, row.run_id) for row in rows]


def _stretch_of(row: Any, job_id: str, bucket: int, first_us: int, last_us: int, run_id: str | None) -> Stretch:
    seconds, longest = int(row.us or 0) / 1e6, int(row.longest_us or 0) / 1e6
    return Stretch(job_id, bucket, row.outcome, row.runs, row.timed, seconds, longest, first_us, last_us, run_id)


def latest(tx: Transaction, job_ids: Iterable[str], count: int) -> dict[str, list[RunRecord]]:
    """Return the last runs of each of some jobs, newest first."""
    # One short read from the end of an index for each: a job may have any number of runs.
    statement = (
        f"SELECT {RUN} FROM {tx.prefix}runs AS r WHERE r.job_id = :job_id "
        "ORDER BY r.job_id DESC, r.sched_us DESC, r.run_id DESC LIMIT :count"
    )
    return {
        job_id: [record_of(row) for row in tx.rows(statement, job_id=clean(job_id, 191), count=count)]
        for job_id in job_ids
    }


def last_outcomes(tx: Transaction, job_ids: Iterable[str]) -> dict[str, str]:
    """Return how the last run of each of some jobs ended; those that never ran are left out."""
    by_id = {clean(job_id, 191) or "": job_id for job_id in job_ids}
    statement = (
        f"SELECT packed.v AS job_id, (SELECT r.outcome FROM {tx.prefix}runs AS r WHERE r.job_id = packed.v "
        "ORDER BY r.job_id DESC, r.sched_us DESC, r.run_id DESC LIMIT 1) AS outcome "
        f"FROM {tx.dialect.listed('ids')}"
    )
    rows = tx.rows(statement, ids=tx.dialect.pack(by_id))
    return {by_id[row.job_id]: row.outcome for row in rows if row.outcome is not None}
