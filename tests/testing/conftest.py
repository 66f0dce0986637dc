"""What the tests of the testing kit share: a loop of virtual time, and a scheduler in real time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from quart_sched import APScheduler, RunRecord, Scheduler

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def scheduler() -> APScheduler:
    return APScheduler(Scheduler(timezone="UTC"))


def seconds(moment: datetime | None) -> float | None:
    """How long after START it is."""
    return None if moment is None else (moment - START).total_seconds()


def told(records: list[RunRecord]) -> list[tuple[str, float | None, float | None, float | None, str]]:
    """Of each record: its job, when it was due, when it began and ended, in seconds after START, and its outcome."""
    return [
        (
            record.job_id,
            seconds(record.scheduled_at),
            seconds(record.started_at),
            seconds(record.finished_at),
            record.outcome,
        )
        for record in records
    ]
