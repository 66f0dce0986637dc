"""Runs: one attempt at a fire, while it lasts and as the record that it leaves."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from apscheduler.job import Job

Outcome = Literal["succeeded", "failed", "cancelled", "missed", "skipped", "coalesced"]
Cause = Literal["schedule", "manual", "api"]


def new_run_id() -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7) as text: ids sort by the time at which they were made."""
    millis = time.time_ns() // 1_000_000
    noise = random.getrandbits(74)
    head = f"{millis:012x}"
    tail = f"{0x8000 | noise >> 48 & 0x3FFF:04x}-{noise & 0xFFFFFFFFFFFF:012x}"
    return f"{head[:8]}-{head[8:]}-{0x7000 | noise >> 62:04x}-{tail}"


class Run:
    """One attempt at a fire, as `quart_sched.current_run` shows it to the job.

    `scheduled_at` is when it should have begun, aware, in the trigger's time zone. `cancelled` turns True when the run
    has been asked to stop: a coroutine is cancelled as well, a plain function has to look.
    """

    __slots__ = ("attempt", "cancelled", "cause", "fire_id", "job", "run_id", "scheduled_at", "started_at")

    def __init__(self, job: Job, scheduled_at: datetime, cause: Cause) -> None:
        self.run_id = self.fire_id = new_run_id()
        self.job = job
        self.scheduled_at = scheduled_at
        self.cause = cause
        self.attempt = 1
        self.cancelled = False
        self.started_at: datetime | None = None

    @property
    def job_id(self) -> str:
        """The id of the job that this run belongs to."""
        return str(self.job.id)

    def __repr__(self) -> str:
        return f"<Run {self.run_id} of {self.job_id} scheduled at {self.scheduled_at.isoformat()}>"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What became of a fire. Times are aware; `traceback` and `result` are bounded texts.

    Consecutive missed or coalesced fires share one record: it covers the fires from `first_scheduled_at` to
    `scheduled_at`, `fires` of them (None where counting them would have meant walking the whole schedule).
    """

    run_id: str
    fire_id: str
    job_id: str
    scheduled_at: datetime
    outcome: Outcome
    cause: Cause
    worker: str
    attempt: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    result: str | None = None
    first_scheduled_at: datetime | None = None
    fires: int | None = 1
    final: bool = True

    @property
    def duration(self) -> float | None:
        """Seconds from start to finish; None for a fire that never started."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()
