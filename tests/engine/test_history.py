"""The history in memory: the last final records, consecutive lapses in one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler import events as aps

from quart_sched.engine.history import HistoryRing
from quart_sched.model.events import RunEnded, SchedulerChanged
from quart_sched.model.runs import RunRecord

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def end(ring: HistoryRing, number: int, outcome: Any = "succeeded", job: str = "job", fires: int | None = 1) -> None:
    moment = NOW + timedelta(seconds=number)
    ring(RunEnded(RunRecord(f"r{number}", "f", job, moment, outcome, "schedule", "host:1", fires=fires), "default"))


def test_the_newest_records_are_kept_oldest_first() -> None:
    ring = HistoryRing(3)
    for number in range(5):
        end(ring, number)
    assert [record.run_id for record in ring.records()] == ["r2", "r3", "r4"]
    assert len(ring) == 3
    assert ring.get("r0") is None
    assert ring.get("r4") is not None


def test_records_of_one_job_can_be_asked_for() -> None:
    ring = HistoryRing(10)
    end(ring, 1, job="a")
    end(ring, 2, job="b")
    assert [record.run_id for record in ring.records("b")] == ["r2"]


def test_other_events_leave_no_record() -> None:
    ring = HistoryRing(10)
    ring(SchedulerChanged(aps.EVENT_SCHEDULER_PAUSED))
    assert ring.records() == []


def test_consecutive_lapses_of_a_kind_share_one_record() -> None:
    ring = HistoryRing(10)
    for number in (1, 2, 3):
        end(ring, number, "missed")
    [record] = ring.records()
    assert (record.run_id, record.fires) == ("r1", 3)
    assert record.first_scheduled_at == NOW + timedelta(seconds=1)
    assert record.scheduled_at == NOW + timedelta(seconds=3)


def test_another_outcome_in_between_parts_them() -> None:
    ring = HistoryRing(10)
    end(ring, 1, "missed")
    end(ring, 2, "coalesced")
    end(ring, 3)
    end(ring, 4, "missed", job="other")
    end(ring, 5, "missed")
    assert [(record.run_id, record.outcome) for record in ring.records("job")] == [
        ("r1", "missed"),
        ("r2", "coalesced"),
        ("r3", "succeeded"),
        ("r5", "missed"),
    ]


def test_a_count_that_is_not_known_stays_unknown() -> None:
    ring = HistoryRing(10)
    end(ring, 1, "missed", fires=None)
    end(ring, 2, "missed")
    assert ring.records()[0].fires is None


def test_a_lapse_that_left_the_ring_is_not_continued() -> None:
    ring = HistoryRing(2)
    end(ring, 1, "missed", job="a")
    for number in (2, 3, 4):
        end(ring, number, job="b")
    end(ring, 5, "missed", job="a")
    assert [record.run_id for record in ring.records("a")] == ["r5"]
