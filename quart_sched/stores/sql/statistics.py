"""Statistics of the history in the database: counted there, so that only sums travel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, text

from ...model.runs import RunRecord, first_run_id, micros
from ...model.tallies import Tally, TallyQuery
from .dialects import Dialect
from .rows import RUN_COLUMNS, clean, record_of

_RUN = ", ".join(f"r.{column}" for column in RUN_COLUMNS if column not in ("version", "func", "recorded_by"))


def tally(conn: Connection, dialect: Dialect, query: TallyQuery, slack: int) -> list[Tally]:
    """Count the runs that are asked for. No run_id is older than its fire by more than `slack` microseconds."""
    begin = micros(query.since)
    values: dict[str, Any] = {"since": begin, "until": micros(query.until), "width": query.width_us}
    where = "r.sched_us >= :since AND r.sched_us < :until"
    job = "''"
    if query.job_ids is None:
        # Ids sort by time as well, and the table itself is read in their order.
        where += " AND r.run_id >= :first"
        values["first"] = first_run_id(begin - slack)
    else:
        job = "r.job_id"
        where = f"{dialect.within('r.job_id', 'ids')} AND {where}"
        values["ids"] = dialect.pack(clean(job_id, 191) for job_id in query.job_ids)
    divide = "DIV" if dialect.name == "mysql" else "/"
    statement = (
        f"SELECT {job} AS job, (r.sched_us - :since) {divide} :width AS bucket, r.outcome, COUNT(*) AS runs, "
        "SUM(COALESCE(r.fires, 1)) AS fires, COUNT(r.ended_us - r.started_us) AS timed, "
        "SUM(r.ended_us - r.started_us) AS us, MAX(r.ended_us - r.started_us) AS longest_us, "
        "MIN(COALESCE(r.started_us, r.sched_us)) AS first_us, MAX(COALESCE(r.ended_us, r.sched_us)) AS last_us, "
        f"MAX(r.run_id) AS run_id FROM {dialect.prefix}runs AS r WHERE {where} GROUP BY job, bucket, outcome"
    )
    return [
        Tally(
            row.job, int(row.bucket), row.outcome, row.runs, int(row.fires), row.timed, int(row.us or 0) / 1e6,
            int(row.longest_us or 0) / 1e6, row.first_us, row.last_us, row.run_id,
        )
        for row in conn.execute(text(statement), values)
    ]  # fmt: skip


def latest(conn: Connection, dialect: Dialect, job_ids: Iterable[str], count: int) -> dict[str, list[RunRecord]]:
    """Return the last runs of each of some jobs, newest first."""
    # One short read from the end of an index for each: a job may have any number of runs.
    statement = text(
        f"SELECT {_RUN} FROM {dialect.prefix}runs AS r WHERE r.job_id = :job_id "
        "ORDER BY r.job_id DESC, r.sched_us DESC, r.run_id DESC LIMIT :count"
    )
    return {
        job_id: [record_of(row) for row in conn.execute(statement, {"job_id": clean(job_id, 191), "count": count})]
        for job_id in job_ids
    }


def last_outcomes(conn: Connection, dialect: Dialect, job_ids: Iterable[str]) -> dict[str, str]:
    """Return how the last run of each of some jobs ended; those that never ran are left out."""
    by_id = {clean(job_id, 191) or "": job_id for job_id in job_ids}
    statement = text(
        f"SELECT packed.v AS job_id, (SELECT r.outcome FROM {dialect.prefix}runs AS r WHERE r.job_id = packed.v "
        "ORDER BY r.job_id DESC, r.sched_us DESC, r.run_id DESC LIMIT 1) AS outcome "
        f"FROM {dialect.listed('ids')}"
    )
    rows = conn.execute(statement, {"ids": dialect.pack(by_id)})
    return {by_id[row.job_id]: row.outcome for row in rows if row.outcome is not None}
