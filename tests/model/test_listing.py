"""Lists of jobs: what is found, in which order, and what cannot be asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quart_sched.errors import InvalidDefinition
from quart_sched.model.listing import OVERDUE, JobEntry, JobQuery, count_states

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def entry(job_id: str, minutes: float | None = 5, state: str = "scheduled", **more: Any) -> JobEntry:
    fire = None if minutes is None else NOW + timedelta(minutes=minutes)
    given = {"name": job_id.upper(), "func": "app:work", "tags": (), "jobstore": "default"} | more
    return JobEntry(id=job_id, state=state, next_run_time=fire, **given)


ENTRIES = [
    entry("b", 10, tags=("mail",)),
    entry("a", 20, name="Zebra", tags=("mail", "Night Shift")),
    entry("c", None, "paused", func="app:other"),
    entry("d", None, "broken"),
    entry("e", -5),
]


def ids(running: set[str] = frozenset(), outcomes: dict[str, str] | None = None, **values: Any) -> list[str]:  # type: ignore[assignment]
    return [
        found.id
        for found in JobQuery.parse(values).select([one.judged(NOW) for one in ENTRIES], running, outcomes or {})
    ]


def test_jobs_come_by_their_next_fire_and_those_without_one_last() -> None:
    assert ids() == ["e", "b", "a", "c", "d"]
    assert ids(descending="1") == ["a", "b", "e", "c", "d"]


@pytest.mark.parametrize(
    ("search", "found"),
    [("ZEB", ["a"]), ("mail", ["b", "a"]), ("mail zebra", ["a"]), ("other", ["c"]), ("night", ["a"]), ("%", [])],
)
def test_every_word_is_looked_for_everywhere(search: str, found: list[str]) -> None:
    assert ids(search=search) == found


@pytest.mark.parametrize(
    ("state", "found"),
    [("scheduled", ["b", "a"]), ("overdue", ["e"]), ("paused", ["c"]), ("broken", ["d"]), ("running", ["b", "d"])],
)
def test_a_state_is_how_the_job_stands_now(state: str, found: list[str]) -> None:
    assert ids(running={"b", "d"}, state=state) == found


def test_a_job_is_overdue_only_after_a_while() -> None:
    late = JobEntry("x", "x", "f", (), "scheduled", NOW - OVERDUE, "default")
    assert late.judged(NOW).state == "scheduled"
    assert late.judged(NOW + timedelta(microseconds=1)).state == "overdue"
    assert late.judged(NOW, {"x"}).state == "overdue"
    assert entry("c", None, "paused").judged(NOW, {"c"}).state == "paused"


def test_jobs_are_filtered_and_sorted_by_their_last_outcome() -> None:
    outcomes = {"a": "succeeded", "b": "failed", "c": "missed"}
    assert ids(outcomes=outcomes, outcome="failed") == ["b"]
    assert ids(outcomes=outcomes, outcome="none") == ["e", "d"]
    assert ids(outcomes=outcomes, sort="outcome") == ["b", "c", "a", "d", "e"]


def test_other_orders() -> None:
    assert ids(sort="id") == ["a", "b", "c", "d", "e"]
    assert ids(sort="name") == ["b", "c", "d", "e", "a"]
    assert ids(sort="state") == ["e", "d", "c", "a", "b"]


def test_some_may_come_first_or_alone() -> None:
    assert ids(first=("d", "gone", "a")) == ["d", "a", "e", "b", "c"]
    assert ids(ids=("a", "gone")) == ["a"]
    assert ids(tag="mail", first=("a",)) == ["a", "b"]


def test_states_are_counted_whatever_runs() -> None:
    assert count_states([one.judged(NOW) for one in ENTRIES], {"a"}) == {
        "running": 1, "overdue": 1, "broken": 1, "paused": 1, "scheduled": 2, "pending": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"state": "odd"}, "state: is 'odd'; expected one of running, overdue"),
        ({"outcome": "odd"}, "outcome: is 'odd'; expected one of succeeded"),
        ({"sort": "colour"}, "sort: is 'colour'; expected one of next, name"),
        ({"limit": 0}, "limit: is 0; expected a whole number from 1 to 500"),
        ({"limit": "501"}, "limit: is '501'"),
        ({"limit": True}, "limit: is True"),
        ({"offset": "-1"}, "offset: is '-1'"),
        ({"offset": 1.5}, "offset: is 1.5"),
    ],
)
def test_what_cannot_be_asked_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDefinition, match=message):
        JobQuery.parse(values)
