"""Expectations: which fires of the jobs in this process's own stores have not led to a success."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from apscheduler import events as aps

from ..model.events import JobChanged, RunEnded, SchedulerChanged
from ..model.overdue import UNEXPECTED, Overdue, allowance
from ..model.policies import DEFAULT, Policy, policy_of
from ..model.runs import Run

_COVERED = ("skipped", "coalesced")
"""Outcomes of fires that another one stands for."""

_Success = tuple[float, datetime | None, datetime | None]
"""The latest fire that led to a success, as a timestamp, and when the last run to succeed began and ended.

One is made for each run. It is a plain tuple because the garbage collector stops looking at these.
"""


class Expectation:
    """One job's fires without a success: `earliest` is the first of them, `latest` the last."""

    __slots__ = ("earliest", "ended", "job_id", "jobstore", "latest", "policy")

    def __init__(self, job_id: str, jobstore: str, fire: datetime) -> None:
        self.job_id = job_id
        self.jobstore = jobstore
        self.policy: Policy = DEFAULT
        self.earliest = self.latest = fire
        self.ended = False
        """Whether its schedule is over, so that no store has the job any more."""


class Expectations:
    """Those of the jobs of some stores, by what happens in these."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Expectation] = {}
        self._met: defaultdict[str, dict[str, _Success]] = defaultdict(dict)
        """By store and job."""
        self._ignored: set[str] = set()

    def ignore(self, run_ids: Iterable[str]) -> None:
        """Expect nothing of runs under way whose job is gone."""
        self._ignored.update(run_ids)

    def unmet(self, jobstore: str) -> list[Expectation]:
        """Return the jobs of a store that have fires without a success."""
        return [entry for entry in self._open.values() if entry.jobstore == jobstore]

    def is_open(self, job_id: str, jobstore: str) -> bool:
        """Tell whether the job has fires without a success."""
        return (jobstore, job_id) in self._open

    def overdue(
        self, job_id: str, jobstore: str, grace: float, policy: Policy, fire: datetime | None = None
    ) -> Overdue | None:
        """Return how the job is overdue, from `since` on; None where no fire is open. `fire` is one not claimed yet."""
        entry = self._open.get((jobstore, job_id))
        expected = fire if entry is None else entry.earliest
        if expected is None:
            return None
        if fire is not None:
            expected = min(expected, fire, key=datetime.timestamp)
        _, began, ended = self._met[jobstore].get(job_id, (None, None, None))
        usual = None if began is None or ended is None else max(0.0, (ended - began).total_seconds())
        since = expected.astimezone(UTC) + allowance(policy, grace, usual)
        return Overdue(job_id, expected, since, ended, jobstore)

    def forget(self, job_id: str, jobstore: str) -> None:
        """Expect nothing more of a job."""
        self._open.pop((jobstore, job_id), None)
        self._met[jobstore].pop(job_id, None)

    def expect(self, job_id: str, jobstore: str, fire: datetime, policy: Policy | None = None) -> Expectation | None:
        """Expect a success of the job after a fire; return the job if that is its earliest one without."""
        met = self._met[jobstore].get(job_id)
        # By timestamps, as times on the wall come twice when clocks go back.
        if met is not None and fire.timestamp() <= met[0]:
            return None
        entry = self._open.get((jobstore, job_id))
        if entry is None:
            first = True
            entry = self._open[jobstore, job_id] = Expectation(job_id, jobstore, fire)
        else:
            first = fire.timestamp() < entry.earliest.timestamp()
            entry.earliest = min(entry.earliest, fire, key=datetime.timestamp)
            entry.latest = max(entry.latest, fire, key=datetime.timestamp)
        entry.policy = policy or entry.policy
        return entry if first else None

    def begun(self, run: Run, jobstore: str) -> Expectation | None:
        """Take note of a run under way; return its job if that came to have an earliest open fire by it."""
        if run.cause in UNEXPECTED or run.run_id in self._ignored:
            return None
        return self.expect(run.job.id, jobstore, run.scheduled_at, policy_of(run.job))

    def hear_ended(self, event: RunEnded, jobstore: str) -> Expectation | None:
        """Take note of a fire that is accounted for; return its job if that came to have an open fire by it."""
        record = event.record
        if self._ignored and record.run_id in self._ignored:
            self._ignored.discard(record.run_id)
            return None
        if record.outcome == "succeeded":
            self.meet(record.job_id, jobstore, record.scheduled_at, record.started_at, record.finished_at)
        elif record.outcome not in _COVERED and record.cause not in UNEXPECTED:
            fire = record.first_scheduled_at or record.scheduled_at
            policy = None if event.job is None else policy_of(event.job)
            return self.expect(record.job_id, jobstore, fire, policy)
        return None

    def meet(self, job_id: str, jobstore: str, fire: datetime, began: datetime | None, ended: datetime | None) -> None:
        """Take note of a fire that led to a success."""
        successes, at = self._met[jobstore], fire.timestamp()
        before = successes.get(job_id)
        successes[job_id] = (at if before is None or before[0] < at else before[0], began, ended)
        if self._open and (entry := self._open.get((jobstore, job_id))) is not None:
            if entry.latest.timestamp() <= at:
                del self._open[jobstore, job_id]
                if entry.ended:
                    self.forget(job_id, jobstore)
            elif entry.earliest.timestamp() <= at:
                entry.earliest = entry.latest

    def hear_changed(self, event: JobChanged | SchedulerChanged) -> None:
        """Take note of jobs that are there no more, or again."""
        if isinstance(event, SchedulerChanged):
            if event.code == aps.EVENT_ALL_JOBS_REMOVED:
                for jobstore, job_id in list(self._open):
                    if event.alias in (None, jobstore):
                        del self._open[jobstore, job_id]
                for jobstore, successes in self._met.items():
                    if event.alias in (None, jobstore):
                        successes.clear()
        elif event.code == aps.EVENT_JOB_REMOVED:
            jobstore = event.jobstore or "default"
            entry = self._open.get((jobstore, event.job_id))
            if event.ended and entry is not None:
                entry.ended = True
            else:
                self.forget(event.job_id, jobstore)
        elif event.code == aps.EVENT_JOB_ADDED and self.is_open(event.job_id, event.jobstore or "default"):
            self._open[event.jobstore or "default", event.job_id].ended = False
