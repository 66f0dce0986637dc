"""Run ids and records."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.date import DateTrigger

from quart_sched import Scheduler
from quart_sched.model.runs import Run, RunRecord, new_run_id

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def test_a_run_id_is_a_uuid_of_version_7_and_sorts_by_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_run_id() for _ in range(1000)]
    parsed = [uuid.UUID(run_id) for run_id in ids]
    assert {(run_id.version, run_id.variant) for run_id in parsed} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 1000
    assert before <= parsed[0].int >> 80 <= parsed[-1].int >> 80 <= time.time_ns() // 1_000_000
    assert [str(run_id) for run_id in parsed] == ids


def test_ids_of_different_milliseconds_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.time_ns()
    ids = []
    for millis in range(500):
        monkeypatch.setattr(time, "time_ns", lambda millis=millis: begun + millis * 1_000_000)
        ids.append(new_run_id())
    assert ids == sorted(ids)


@pytest.mark.parametrize("bits", [0, 2**74 - 1], ids=["all zero", "all one"])
@pytest.mark.parametrize("millis", [0, 2**48 - 1])
def test_chance_and_time_leave_version_and_variant_alone(
    monkeypatch: pytest.MonkeyPatch, millis: int, bits: int
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: millis * 1_000_000)
    monkeypatch.setattr(random, "getrandbits", lambda count: bits)
    parsed = uuid.UUID(new_run_id())
    assert (parsed.version, parsed.variant, parsed.int >> 80) == (7, uuid.RFC_4122, millis)


def test_a_run_begins_as_the_first_attempt_at_its_fire() -> None:
    job = Scheduler(timezone="UTC").add_job(print, DateTrigger(NOW), id="job")
    run = Run(job, NOW, "manual")
    assert (run.job_id, run.scheduled_at, run.cause, run.attempt) == ("job", NOW, "manual", 1)
    assert (run.run_id == run.fire_id, run.cancelled, run.started_at) == (True, False, None)
    assert repr(run) == f"<Run {run.run_id} of job scheduled at 2026-03-02T00:00:00+00:00>"


def test_a_record_knows_its_duration_in_seconds() -> None:
    record = RunRecord("r", "f", "job", NOW, "succeeded", "schedule", "host:1", started_at=NOW)
    assert record.duration is None
    never = RunRecord("r", "f", "job", NOW, "missed", "schedule", "host:1", finished_at=NOW)
    assert never.duration is None
    ended = RunRecord(
        "r", "f", "job", NOW, "succeeded", "schedule", "host:1", 1, NOW, NOW + timedelta(milliseconds=1500)
    )
    assert ended.duration == 1.5


def test_a_duration_is_real_time_over_a_clock_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    begun = datetime(2026, 10, 25, 2, 30, tzinfo=berlin)
    ended = begun.replace(fold=1)  # 02:30 again, an hour later
    moments = {"started_at": begun.astimezone(UTC), "finished_at": ended.astimezone(UTC)}
    assert RunRecord("r", "f", "job", begun, "succeeded", "schedule", "host:1", **moments).duration == 3600


def test_a_record_cannot_be_changed() -> None:
    record = RunRecord("r", "f", "job", NOW, "succeeded", "schedule", "host:1")
    assert (record.final, record.fires, record.attempt) == (True, 1, 1)
    with pytest.raises(FrozenInstanceError):
        record.outcome = "failed"  # type: ignore[misc]  # that is what is tested
