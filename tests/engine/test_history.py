"""The history in memory: the last final records, consecutive lapses in one."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler import events as aps
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_lapse_of_several_fires_is_continued_from_its_own_beginning() -> None:
    ring = HistoryRing(10)
    begun = NOW - timedelta(hours=1)
    long = RunRecord("r0", "f", "job", NOW, "missed", "schedule", "host:1", first_scheduled_at=begun, fires=61)
    ring(RunEnded(long, "default"))
    end(ring, 60, "missed")
    [record] = ring.records()
    assert (record.run_id, record.first_scheduled_at, record.fires) == ("r0", begun, 62)
    assert ring.get("r0") == record
    assert ring.get("r60") is None


def test_a_ring_of_one_keeps_the_last_and_still_joins_lapses() -> None:
    ring = HistoryRing(1)
    for number, outcome in enumerate(("succeeded", "missed", "missed")):
        end(ring, number, outcome)
    [record] = ring.records()
    assert (record.run_id, record.fires) == ("r1", 2)


def test_the_list_of_records_is_the_readers_own() -> None:
    ring = HistoryRing(10)
    end(ring, 1)
    ring.records().clear()
    assert len(ring) == 1
    assert ring.records("nobody") == []


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["succeeded", "missed", "coalesced"])), max_size=40),
    st.integers(1, 50),
)
def test_every_fire_is_counted_once_and_the_ring_never_grows_over_its_size(
    fires: list[tuple[str, str]], size: int
) -> None:
    ring = HistoryRing(size)
    for number, (job, outcome) in enumerate(fires):
        end(ring, number, outcome, job)
        assert len(ring) <= size
    if size >= len(fires):
        for key in {*fires}:
            counted = sum(r.fires or 0 for r in ring.records(key[0]) if r.outcome == key[1])
            assert counted == fires.count(key)
    for records in (ring.records("a"), ring.records("b")):
        assert [r.scheduled_at for r in records] == sorted(r.scheduled_at for r in records)
        pairs = itertools.pairwise(records)
        assert not [1 for one, two in pairs if one.outcome == two.outcome != "succeeded"]
