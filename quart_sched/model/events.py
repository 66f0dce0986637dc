"""What happens in a scheduler, as frozen events. Its history, listeners and metrics are readers of this one stream."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from apscheduler.job import Job

from .overdue import Overdue
from .runs import Run, RunRecord


class SchedulerChanged(NamedTuple):
    """The scheduler, or one of its stores and executors (`alias`), changed; `code` is APScheduler's event code."""

    code: int
    alias: str | None = None


Switch = Literal["paused", "resumed"]


class JobChanged(NamedTuple):
    """A job was added, modified or removed; `code` is APScheduler's event code.

    `ended` tells that it was removed because its last fire has been claimed.
    """

    code: int
    job_id: str
    jobstore: str | None
    switched: Switch | None = None
    """What became of it with a modification that concerns whether it fires."""
    ended: bool = False


class RunSubmitted(NamedTuple):
    """A run was handed to its executor."""

    run: Run
    jobstore: str | None


class RunEnded(NamedTuple):
    """A fire is accounted for. `result` and `exception` are the job's own objects, for listeners in this process.

    `job` is what ran, where this process has it at hand.
    """

    record: RunRecord
    jobstore: str | None
    result: Any = None
    exception: BaseException | None = None
    job: Job | None = None


class RunReturned(NamedTuple):
    """A run that was claimed, but not begun, goes back to its store, for another process to take."""

    run: Run
    jobstore: str | None


class RunWaits(NamedTuple):
    """A run waits for its time or its place; `record` says how it stands."""

    record: RunRecord
    jobstore: str | None


class RunLeft(NamedTuple):
    """The function of a run that ended `busy` has left its thread."""

    run_id: str
    jobstore: str | None


class JobOverdue(NamedTuple):
    """A job did not succeed in time. Each process that watches tells of it once, until the job has succeeded."""

    overdue: Overdue


class PumpFailed(NamedTuple):
    """The pump of a job store could not do its turn, and is going to try again."""

    jobstore: str
    error: Exception


Event = (
    SchedulerChanged | JobChanged | RunSubmitted | RunEnded | RunReturned | RunWaits | RunLeft | JobOverdue | PumpFailed
)
