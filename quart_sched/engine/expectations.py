"""Expectations: which fires of the jobs in this process's own stores have not led to a success."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apscheduler import events as aps

from ..model.events import JobChanged, RunEnded, RunSubmitted, SchedulerChanged
from ..model.overdue import Overdue, allowance
from ..model.policies import DEFAULT, Policy, policy_of
from ..model.runs import Cause

_BY_HAND: tuple[Cause, ...] = ("manual", "api")
_COVERED = ("skipped", "coalesced")
"""Outcomes of fires that another one stands for."""


class Expectation:
    """What is expected of one job: `earliest` is the first fire since the last success, None where there is none."""

    __slots__ = ("earliest", "ended", "job_id", "jobstore", "last_success", "latest", "met", "policy", "usual")

    def __init__(self, job_id: str, jobstore: str | None) -> None:
        self.job_id = job_id
        self.jobstore = jobstore or "default"
        self.policy: Policy = DEFAULT
        self.earliest: datetime | None = None
        self.latest: datetime | None = None
        self.met: datetime | None = None
        """The latest fire that led to a success."""
        self.last_success: datetime | None = None
        self.usual: float | None = None
        self.ended = False
        """Whether its schedule is over, so that no store has the job any more."""

    def expect(self, fire: datetime) -> None:
        """Take note of a fire."""
        if self.met is not None and fire <= self.met:
            return
        if self.earliest is None or fire < self.earliest:
            self.earliest = fire
        if self.latest is None or fire > self.latest:
            self.latest = fire

    def meet(self, fire: datetime, finished_at: datetime | None, duration: float | None) -> None:
        """Take note of a success."""
        self.last_success, self.usual = finished_at or self.last_success, duration
        if self.met is None or fire > self.met:
            self.met = fire
        if self.latest is fire or (self.latest is not None and self.latest <= fire):
            self.earliest = self.latest = None
        elif self.earliest is not None and self.earliest <= fire:
            self.earliest = self.latest

    def overdue(self, grace: float, policy: Policy, fire: datetime | None = None) -> Overdue | None:
        """Return how the job is overdue, from `since` on; None where no fire is open. `fire` is one not claimed yet."""
        fires = [at for at in (self.earliest, fire) if at is not None]
        if not fires:
            return None
        expected = min(fires)
        since = expected + allowance(policy, grace, self.usual)
        return Overdue(self.job_id, expected, since, self.last_success, self.jobstore)


class Expectations:
    """Those of the jobs of some stores, by what happens in these."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], Expectation] = {}

    def unmet(self, jobstore: str) -> list[Expectation]:
        """Return the jobs of a store that have fires without a success."""
        return [entry for entry in self._jobs.values() if entry.jobstore == jobstore and entry.earliest is not None]

    def get(self, job_id: str, jobstore: str) -> Expectation:
        """Return what is expected of a job, which may be nothing."""
        return self._jobs.get((jobstore, job_id)) or Expectation(job_id, jobstore)

    def forget(self, entry: Expectation) -> None:
        """Expect nothing more of a job."""
        self._jobs.pop((entry.jobstore, entry.job_id), None)

    def expect(self, job_id: str, jobstore: str, fire: datetime) -> None:
        """Expect a success of the job, as after a fire."""
        self._entry(job_id, jobstore).expect(fire)

    def hear_submitted(self, event: RunSubmitted) -> Expectation | None:
        """Take note of a run that begins; return its job if that came to have an open fire by it."""
        run = event.run
        if run.cause in _BY_HAND:
            return None
        entry = self._entry(run.job.id, event.jobstore)
        entry.policy = policy_of(run.job)
        return self._open(entry, run.scheduled_at)

    def hear_ended(self, event: RunEnded) -> Expectation | None:
        """Take note of a fire that is accounted for; return its job if that came to have an open fire by it."""
        record = event.record
        if record.outcome == "succeeded":
            entry = self._entry(record.job_id, event.jobstore)
            entry.meet(record.scheduled_at, record.finished_at, record.duration)
            if entry.ended and entry.earliest is None:
                self.forget(entry)
        elif record.outcome not in _COVERED and record.cause not in _BY_HAND:
            fire = record.first_scheduled_at or record.scheduled_at
            return self._open(self._entry(record.job_id, event.jobstore), fire)
        return None

    def hear_changed(self, event: JobChanged | SchedulerChanged) -> None:
        """Take note of jobs that are there no more."""
        if isinstance(event, SchedulerChanged):
            if event.code == aps.EVENT_ALL_JOBS_REMOVED:
                gone = event.alias
                self._jobs = {} if gone is None else {key: one for key, one in self._jobs.items() if key[0] != gone}
        elif event.code == aps.EVENT_JOB_REMOVED:
            entry = self._entry(event.job_id, event.jobstore)
            entry.ended = event.ended and entry.earliest is not None
            if not entry.ended:
                self.forget(entry)

    def _open(self, entry: Expectation, fire: datetime) -> Expectation | None:
        before = entry.earliest
        entry.expect(fire)
        return entry if entry.earliest is not before else None

    def _entry(self, job_id: str, jobstore: Any) -> Expectation:
        key = (jobstore or "default", job_id)
        entry = self._jobs.get(key)
        if entry is None:
            entry = self._jobs[key] = Expectation(job_id, jobstore)
        return entry
