"""Run ids and records."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta

from quart_sched.model.runs import RunRecord, new_run_id

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def test_a_run_id_is_a_uuid_of_version_7_and_sorts_by_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_run_id() for _ in range(1000)]
    parsed = [uuid.UUID(run_id) for run_id in ids]
    assert {(run_id.version, run_id.variant) for run_id in parsed} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 1000
    assert before <= parsed[0].int >> 80 <= parsed[-1].int >> 80 <= time.time_ns() // 1_000_000
    assert [str(run_id) for run_id in parsed] == ids


def test_a_record_knows_its_duration_in_seconds() -> None:
    record = RunRecord("r", "f", "job", NOW, "succeeded", "schedule", "host:1", started_at=NOW)
    assert record.duration is None
    ended = RunRecord(
        "r", "f", "job", NOW, "succeeded", "schedule", "host:1", 1, NOW, NOW + timedelta(milliseconds=1500)
    )
    assert ended.duration == 1.5
