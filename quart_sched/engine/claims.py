"""Claims: the due fires of a store's jobs, each moved on in the store before it may run."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, JobLookupError

from ..model.planning import Plan, plan
from ..stores.adapter import unrestorable_reason

_NO_PLAN = Plan((), (), None)


@dataclass(slots=True)
class Round:
    """The outcome of one claim on a store.

    `broken` jobs come with the reason, `ended` ones have no fire left, the store raised on `failed` ones. There is
    `more` due than was taken, or what is due is `stuck` there. `next_due` is a POSIX timestamp in seconds.
    """

    claims: list[tuple[Job, Plan]] = field(default_factory=list)
    broken: list[tuple[Job, str]] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    more: bool = False
    stuck: bool = False
    next_due: float | None = None


def claim(
    store: BaseJobStore,
    due: Iterable[Job],
    now: datetime,
    max_catch_up: int,
    usable: Container[str],
    limit: int,
    seconds: float = float("inf"),
) -> Round:
    """Claim the fires of up to `limit` of the `due` jobs: move each on in the store, and only then let its fires run.

    After so many `seconds` no other job is begun; where there is one, there is more. A job whose trigger raises, or
    whose executor is not among the `usable` ones, is paused and reported as broken. One that the store fails on is
    reported as failed and stays due; one that was removed meanwhile is left alone.
    """
    outcome = Round()
    taken, end = 0, time.perf_counter() + seconds
    for job in due:
        if (reason := unrestorable_reason(job)) is not None:
            outcome.broken.append((job, reason))
            outcome.stuck = True
            continue
        if taken == limit or (taken and time.perf_counter() > end):
            outcome.more = True
            break
        taken += 1
        before = job.next_run_time
        reason = "" if job.executor in usable else f'there is no executor "{job.executor}"'
        planned = _NO_PLAN
        if not reason:
            try:
                planned = plan(job, now, max_catch_up)
            except Exception as error:
                # A trigger may be the user's own code: it must not take the others down with it.
                reason = f"its trigger raised {type(error).__name__}: {error}"
        try:
            if reason or planned.next is not None:
                job.next_run_time = planned.next
                store.update_job(job)
            else:
                store.remove_job(job.id)
                outcome.ended.append(job.id)
        except JobLookupError:
            continue
        except Exception as error:
            # Whatever the store's driver raises: nothing is known to have moved on, so nothing may run.
            job.next_run_time = before
            outcome.failed[job.id] = error
            continue
        if reason:
            outcome.broken.append((job, reason))
        else:
            outcome.claims.append((job, planned))
    return outcome
