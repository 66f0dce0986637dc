"""Ids sort by the time at which they were made."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime

import pytest

from quart_sched.model import ids
from quart_sched.model.ids import first_id, new_id
from quart_sched.model.instants import micros

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def test_a_run_id_is_a_uuid_of_version_7_and_sorts_by_time() -> None:
    before = time.time_ns() // 1_000_000
    made = [new_id() for _ in range(1000)]
    parsed = [uuid.UUID(run_id) for run_id in made]
    assert {(run_id.version, run_id.variant) for run_id in parsed} == {(7, uuid.RFC_4122)}
    assert len(set(made)) == 1000
    assert before <= parsed[0].int >> 80 <= parsed[-1].int >> 80 <= time.time_ns() // 1_000_000
    assert [str(run_id) for run_id in parsed] == made


def test_ids_of_different_milliseconds_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.time_ns()
    made = []
    for millis in range(500):
        monkeypatch.setattr(time, "time_ns", lambda millis=millis: begun + millis * 1_000_000)
        made.append(new_id())
    assert made == sorted(made)


@pytest.mark.parametrize("bits", [0, 2**48 - 1], ids=["all zero", "all one"])
@pytest.mark.parametrize("millis", [0, 2**48 - 1])
def test_chance_and_time_leave_version_and_variant_alone(
    monkeypatch: pytest.MonkeyPatch, millis: int, bits: int
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: millis * 1_000_000)
    monkeypatch.setattr(ids, "_noise", lambda count: bits % 2**count)
    ids._series.cache_clear()
    for run_id in [new_id() for _ in range(3)]:
        parsed = uuid.UUID(run_id)
        assert (parsed.version, parsed.variant, parsed.int >> 80) == (7, uuid.RFC_4122, millis)
    ids._series.cache_clear()


def test_ids_of_one_millisecond_sort_in_the_order_in_which_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    made = [new_id() for _ in range(100)]
    assert made == sorted(set(made))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_makes_ids_of_its_own_in_the_same_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    new_id()
    receiver, sender = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(sender, new_id().encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    of_child = os.read(receiver, 100).decode()
    os.close(receiver)
    os.close(sender)
    assert len(of_child) == 36
    assert of_child != new_id()


@pytest.mark.parametrize("bits", [0, 2**48 - 1], ids=["all zero", "all one"])
def test_the_first_id_of_a_moment_lies_below_all_that_are_made_then(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    monkeypatch.setattr(ids, "_noise", lambda count: bits % 2**count)
    ids._series.cache_clear()
    millis = micros(NOW) // 1000
    monkeypatch.setattr(time, "time_ns", lambda: millis * 1_000_000 + 999_999)
    assert first_id(micros(NOW)) <= new_id() < first_id(micros(NOW) + 1000)
    assert first_id(micros(NOW) - 1) < first_id(micros(NOW)) == first_id(micros(NOW) + 999)


@pytest.mark.parametrize("year", [1, 1969, 9999])
def test_every_date_has_a_first_id(year: int) -> None:
    run_id = uuid.UUID(first_id(micros(datetime(year, 1, 1, tzinfo=UTC))))
    assert (run_id.version, run_id.variant) == (7, uuid.RFC_4122)
