"""Overlap: the instances of jobs that run, counted over all processes, and the places where further fires may wait."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, field

from ...errors import OverlapForbidden
from ...model.jobs import ScheduledJob
from ...model.runs import RunRecord
from .cancellations import cancel_waiting
from .rows import LEAVING
from .transaction import Transaction
from .workers import Session


@dataclass(frozen=True, slots=True)
class Overlap:
    """The runs that a job without a free instance is at, and how many of its fires may wait for one."""

    running: list[str]
    places: int


def under_way(tx: Transaction, job_ids: Collection[str], unwritten: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Return the run that each instance of these jobs is at, over all processes, those `unwritten` aside."""
    if not job_ids:
        return {}
    condition, values = "owner IS NOT NULL", {}
    if ended := [record.run_id for record in unwritten if record.job_id in job_ids]:
        condition += f" AND NOT ({tx.dialect.within('run_id', 'ended')})"
        values["ended"] = tx.dialect.pack(ended)
    rows = tx.among("live", "job_id", job_ids, "job_id, batch_id, sched_us, run_id", condition, **values)
    instances: dict[str, dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: (row.sched_us, row.run_id)):
        instances.setdefault(row.job_id, {}).setdefault(row.batch_id, row.run_id)
    return {job_id: list(runs.values()) for job_id, runs in instances.items()}


def check_free(tx: Transaction, job: ScheduledJob, ended: Container[str]) -> None:
    """Raise OverlapForbidden where all instances of a job run; runs that have `ended` are not counted any more."""
    query = f"SELECT run_id, batch_id FROM {tx.prefix}live WHERE job_id = :id AND owner IS NOT NULL"
    running = [row for row in tx.rows(query, id=job.id) if row.run_id not in ended]
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


def make_places(tx: Transaction, me: Session, full: dict[str, ScheduledJob]) -> Places:
    """Find or make places for fires of these jobs, all of whose instances run.

    For a fire that replaces a run, the oldest of them is asked to stop, and those that wait are given up.
    """
    places = Places(dict.fromkeys(full, 0))
    waitable = [job_id for job_id, job in full.items() if job.policy.overlap != "skip"]
    if not waitable:
        return places
    waiting: dict[str, list[str]] = {job_id: [] for job_id in waitable}
    # Unlocked, and so with those that others have locked: nobody can begin one without its job, which is locked here.
    for row in tx.among("live", "job_id", waitable, "run_id, job_id", "owner IS NULL AND cause = 'schedule'"):
        waiting[row.job_id].append(row.run_id)
    for job_id, run_ids in waiting.items():
        policy = full[job_id].policy
        places.free[job_id] = 1 if policy.overlap == "replace" else max(0, policy.max_queue - len(run_ids))
    replacing = [full[job_id] for job_id in waitable if full[job_id].policy.overlap == "replace"]
    if replacing:
        _stop_oldest(tx, me, replacing, places)
    if replaced := [run_id for job in replacing for run_id in waiting[job.id]]:
        # Whoever has locked one of them is soon done with it.
        rows = tx.among("live", "run_id", replaced, "*", f"owner IS NULL ORDER BY run_id{tx.dialect.lock}")
        error = ("RunCancelled", "A later fire of its job took its place")
        places.given_up = cancel_waiting(tx, rows, me.worker, me.id, error)
    return places


def _stop_oldest(tx: Transaction, me: Session, jobs: Sequence[ScheduledJob], places: Places) -> None:
    """Ask the oldest run of each of these jobs to stop, unless one is about to end."""
    condition = (
        f"owner IS NOT NULL AND cancel_us IS NULL AND state <> '{LEAVING}' ORDER BY sched_us, run_id{tx.dialect.skip}"
    )
    rows = tx.among("live", "job_id", [job.id for job in jobs], "*", condition)
    stopped: list[tuple[str, int]] = []
    for job in jobs:
        running = [row for row in rows if row.job_id == job.id]
        ahead = len({row.batch_id for row in running}) - job.max_instances + 1
        oldest = list(dict.fromkeys(row.batch_id for row in running))[: max(0, ahead)]
        making_way = [row for row in running if row.batch_id in oldest]
        stopped += [(row.run_id, tx.now) for row in making_way]
        places.stopped += [row.run_id for row in making_way if row.owner == me.id]
    tx.update("live", "run_id", ("cancel_us",), stopped)
    if stopped:
        tx.notify()
