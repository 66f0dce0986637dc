"""Overdue jobs: those that did not succeed in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from .policies import Policy
from .runs import Cause

UNEXPECTED: tuple[Cause, ...] = ("manual", "api", "retry", "rerun", "backfill")
"""Causes of runs that nobody expects to succeed in time: of a fire that is tried again, the first attempt is."""
REMEMBERED = timedelta(hours=1)
"""How long a job is overdue whose schedule is over: it can never succeed any more."""
_SHOWN = 20
"""Overdue jobs that are named."""


class Overdue(NamedTuple):
    """A job that did not succeed in time, as the hook of `on_overdue` gets it. Times are aware.

    `expected_at` is the fire that should have led to a success, `since` when its time was up. `last_success` is when
    a run of the job last ended in success, None where nothing is known of one.
    """

    job_id: str
    expected_at: datetime
    since: datetime
    last_success: datetime | None = None
    jobstore: str = "default"

    def __str__(self) -> str:
        success = self.last_success
        last = "no success is known" if success is None else f"last success at {_to_second(success)}"
        fire = _to_second(self.expected_at)
        return f'Job "{self.job_id}" is overdue: its fire at {fire} has not led to a success; {last}'


def _to_second(moment: datetime) -> str:
    return moment.isoformat(" ", "seconds")


def told(late: Sequence[Overdue]) -> list[str]:
    """Return a sentence for each overdue job, as far as there are not too many."""
    more = [f"{len(late) - _SHOWN} more jobs are overdue"] if len(late) > _SHOWN else []
    return [*map(str, late[:_SHOWN]), *more]


def allowance(policy: Policy, grace: float, usual: float | None) -> timedelta:
    """Return how long after a fire a success may come.

    That is what the job says in `overdue_after`; else `grace` seconds beyond the time that a run takes: the job's
    `timeout`, or the `usual` seconds of its last success.
    """
    if policy.overdue_after is not None:
        return timedelta(seconds=policy.overdue_after)
    return timedelta(seconds=grace + (policy.timeout or usual or 0.0))
