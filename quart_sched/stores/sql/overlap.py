"""Overlap: the instances of jobs that run, counted over all processes, and the places where further fires may wait."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from ...errors import OverlapForbidden
from ...model.jobs import ScheduledJob
from ...model.runs import RunRecord
from .cancellations import cancel_waiting
from .dialects import Dialect
from .rows import LEAVING
from .statements import text
from .workers import Session


@dataclass(frozen=True, slots=True)
class Overlap:
    """The runs that a job without a free instance is at, and how many of its fires may wait for one."""

    running: list[str]
    places: int


def under_way(
    conn: Connection, dialect: Dialect, job_ids: Collection[str], unwritten: Sequence[RunRecord]
) -> dict[str, list[str]]:
    """Return the run that each instance of these jobs is at, over all processes, those `unwritten` aside."""
    if not job_ids:
        return {}
    condition, values = "owner IS NOT NULL", {"ids": dialect.pack(sorted(job_ids))}
    if ended := [record.run_id for record in unwritten if record.job_id in job_ids]:
        condition += f" AND NOT ({dialect.within('run_id', 'ended')})"
        values["ended"] = dialect.pack(ended)
    live = dialect.joined("live", "job_id", "ids")
    query = f"SELECT job_id, batch_id, sched_us, run_id FROM {live} {condition}"
    instances: dict[str, dict[str, str]] = {}
    for row in sorted(dialect.execute(conn, query, values), key=lambda row: (row.sched_us, row.run_id)):
        instances.setdefault(row.job_id, {}).setdefault(row.batch_id, row.run_id)
    return {job_id: list(runs.values()) for job_id, runs in instances.items()}


def check_free(conn: Connection, dialect: Dialect, job: ScheduledJob, ended: Container[str]) -> None:
    """Raise OverlapForbidden where all instances of a job run; runs that have `ended` are not counted any more."""
    query = f"SELECT run_id, batch_id FROM {dialect.prefix}live WHERE job_id = :id AND owner IS NOT NULL"
    running = [row for row in conn.execute(text(query), {"id": job.id}) if row.run_id not in ended]
    if len({row.batch_id for row in running}) >= job.max_instances:
        raise OverlapForbidden(job.id, [row.run_id for row in running])


@dataclass(slots=True)
class Places:
    """How many fires of each job may wait for an instance, and what has to make way for them.

    `given_up` are the records of fires that waited; the runs in `stopped` are this process's own and are to stop.
    """

    free: dict[str, int]
    given_up: list[RunRecord] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)


def make_places(conn: Connection, dialect: Dialect, me: Session, now: int, full: dict[str, ScheduledJob]) -> Places:
    """Find or make places for fires of these jobs, all of whose instances run.

    For a fire that replaces a run, the oldest of them is asked to stop, and those that wait are given up.
    """
    places = Places(dict.fromkeys(full, 0))
    waitable = [job_id for job_id, job in full.items() if job.policy.overlap != "skip"]
    if not waitable:
        return places
    # Unlocked, and so with those that others have locked: nobody can begin one without its job, which is locked here.
    query = f"SELECT run_id, job_id FROM {dialect.joined('live', 'job_id', 'ids')} owner IS NULL AND cause = 'schedule'"
    waiting: dict[str, list[str]] = {job_id: [] for job_id in waitable}
    for row in conn.execute(text(query), {"ids": dialect.pack(sorted(waitable))}):
        waiting[row.job_id].append(row.run_id)
    for job_id, run_ids in waiting.items():
        policy = full[job_id].policy
        places.free[job_id] = 1 if policy.overlap == "replace" else max(0, policy.max_queue - len(run_ids))
    replacing = [full[job_id] for job_id in waitable if full[job_id].policy.overlap == "replace"]
    if replacing:
        _stop_oldest(conn, dialect, me, now, replacing, places)
    if replaced := [run_id for job in replacing for run_id in waiting[job.id]]:
        # Whoever has locked one of them is soon done with it.
        query = f"SELECT * FROM {dialect.joined('live', 'run_id', 'ids')} owner IS NULL ORDER BY run_id{dialect.lock}"
        rows = conn.execute(text(query), {"ids": dialect.pack(sorted(replaced))}).all()
        error = ("RunCancelled", "A later fire of its job took its place")
        places.given_up = cancel_waiting(conn, dialect, rows, me.worker, me.id, now, error)
    return places


def _stop_oldest(
    conn: Connection, dialect: Dialect, me: Session, now: int, jobs: Sequence[ScheduledJob], places: Places
) -> None:
    """Ask the oldest run of each of these jobs to stop, unless one is about to end."""
    query = (
        f"SELECT * FROM {dialect.joined('live', 'job_id', 'ids')} owner IS NOT NULL AND cancel_us IS NULL "
        f"AND state <> '{LEAVING}' ORDER BY sched_us, run_id{dialect.skip}"
    )
    rows = conn.execute(text(query), {"ids": dialect.pack(sorted(job.id for job in jobs))}).all()
    stopped: list[tuple[str, int]] = []
    for job in jobs:
        running = [row for row in rows if row.job_id == job.id]
        ahead = len({row.batch_id for row in running}) - job.max_instances + 1
        oldest = list(dict.fromkeys(row.batch_id for row in running))[: max(0, ahead)]
        making_way = [row for row in running if row.batch_id in oldest]
        stopped += [(row.run_id, now) for row in making_way]
        places.stopped += [row.run_id for row in making_way if row.owner == me.id]
    dialect.update(conn, "live", "run_id", ("cancel_us",), stopped)
    if stopped:
        dialect.notify(conn)
