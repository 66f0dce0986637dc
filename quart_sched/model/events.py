"""What happens in a scheduler, as frozen events. History and listeners are readers of this one stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .runs import Run, RunRecord


@dataclass(frozen=True, slots=True)
class SchedulerChanged:
    """The scheduler, or one of its stores and executors (`alias`), changed; `code` is APScheduler's event code."""

    code: int
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A job was added, modified or removed; `code` is APScheduler's event code."""

    code: int
    job_id: str
    jobstore: str | None
    switched: Literal["paused", "resumed"] | None = None
    """What became of it with a modification that concerns whether it fires."""


@dataclass(frozen=True, slots=True)
class RunSubmitted:
    """A run was handed to its executor."""

    run: Run
    jobstore: str | None


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A fire is accounted for. `result` and `exception` are the job's own objects, for listeners in this process."""

    record: RunRecord
    jobstore: str | None
    result: Any = None
    exception: BaseException | None = None


@dataclass(frozen=True, slots=True)
class RunReturned:
    """A run that was claimed, but not begun, goes back to its store, for another process to take."""

    run: Run
    jobstore: str | None


@dataclass(frozen=True, slots=True)
class RunWaits:
    """A run waits for its time or its place; `record` says how it stands."""

    record: RunRecord
    jobstore: str | None


@dataclass(frozen=True, slots=True)
class RunLeft:
    """The function of a run that ended `busy` has left its thread."""

    run_id: str
    jobstore: str | None


Event = SchedulerChanged | JobChanged | RunSubmitted | RunEnded | RunReturned | RunWaits | RunLeft
