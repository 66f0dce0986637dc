"""The list of changes, and what it tells of how it stood at a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quart_sched.errors import InvalidDefinition
from quart_sched.model.changes import Action, Change, ChangeQuery, Place, changed_keys
from quart_sched.model.circumstances import Circumstances, Hold, circumstances, down_at

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def change(seconds: float, action: Action, actor: str | None = "alice", detail: str | None = None) -> Change:
    return Change(at(seconds), actor, action, "job", None, detail)


def stood(
    seconds: float, *of_job: Change, scheduler: tuple[Change, ...] = (), down: Hold | None = None
) -> Circumstances:
    return circumstances(at(seconds), of_job, scheduler, trigger=None, down=down)


# What it was like


def test_a_job_is_there_from_its_add_to_its_remove() -> None:
    changes = change(10, "add"), change(20, "remove"), change(30, "add"), change(40, "remove")
    assert [stood(second, *changes).absent for second in (5, 10, 15, 20, 25, 30, 35, 45)] == [
        True, False, False, True, True, False, False, True,
    ]  # fmt: skip
    between = stood(25, *changes)
    assert (between.removed, between.added) == (changes[1], changes[2])
    assert (stood(5, *changes).added, stood(5, *changes).removed) == (changes[0], None)


def test_a_job_whose_add_is_not_known_any_more_was_there() -> None:
    assert not stood(5, change(10, "modify"), change(20, "remove"), change(30, "add")).absent
    assert not stood(5).absent


def test_a_pause_lasts_until_it_is_lifted_and_is_of_whom_it_was_first() -> None:
    changes = change(10, "pause"), change(12, "pause", "bob"), change(20, "modify"), change(30, "resume", "bob")
    assert stood(9, *changes).job_pause is None
    assert stood(10, *changes).job_pause == stood(29, *changes).job_pause == Hold(at(10), at(30), "alice")
    assert stood(30, *changes).job_pause is None
    assert stood(15, *changes[:1]).job_pause == Hold(at(10), None, "alice")


def test_a_job_that_is_added_again_is_paused_no_more() -> None:
    changes = change(10, "pause"), change(20, "remove"), change(30, "add")
    assert stood(35, *changes).job_pause is None
    assert stood(15, *changes).job_pause == Hold(at(10), at(20), "alice")


def test_prune_and_break_end_by_what_ends_them() -> None:
    assert stood(15, change(10, "prune", "deploy"), change(20, "declare")).pruned == Hold(at(10), at(20), "deploy")
    assert stood(25, change(10, "prune"), change(20, "declare")).pruned is None
    broken = stood(15, change(10, "broken", "code", "no such file"), change(12, "declare"), change(20, "mended"))
    assert broken.broken == Hold(at(10), at(20), "code", "no such file")


def test_the_pause_of_a_scheduler_ends_with_its_start_and_stop_too() -> None:
    for action in ("resume", "stop", "start"):
        scheduler = change(10, "pause"), change(20, action)
        assert stood(15, scheduler=scheduler).scheduler_pause == Hold(at(10), at(20), "alice")
        assert stood(25, scheduler=scheduler).scheduler_pause is None


def test_the_processes_were_down_where_none_of_their_sessions_lasted() -> None:
    sessions = [(at(10), at(20)), (at(15), at(30)), (at(50), None)]
    assert [down_at(at(second), sessions) for second in (5, 12, 29, 40, 60)] == [
        Hold(None, at(10)), None, None, Hold(at(30), at(50)), None,
    ]  # fmt: skip
    assert down_at(at(30), sessions) == Hold(at(30), at(50))
    assert down_at(at(30), sessions[:2]) == Hold(at(30), None)
    assert down_at(at(30), []) == Hold(None, None)


# Pages


def test_a_cursor_is_the_place_that_it_was_made_of() -> None:
    place = Place(1_772_000_000_000_000, "störe 2", 17)
    assert Place.decode(place.encode()) == place


@pytest.mark.parametrize("wrong", ["", "x", "!", 5, "MSAy", Place(1, "a", 2).encode() + "="])
def test_what_is_no_cursor_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidDefinition, match=r"^cursor: is .*; expected the `next` of a page of changes"):
        ChangeQuery.parse(None, 50, wrong)


@pytest.mark.parametrize(("key", "values"), [("limit", (None, 0, None)), ("job_id", (5, 50, None))])
def test_what_else_is_wrong_with_a_query_is_named(key: str, values: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidDefinition, match=f"^{key}: is "):
        ChangeQuery.parse(*values)


def test_pages_of_several_lists_follow_one_another_without_gap_or_repetition() -> None:
    placed = [
        (Place(us, source, n), change(us, "modify")) for n, us in enumerate((1, 2, 2, 3)) for source in ("", "a", "b")
    ]
    seen, cursor = [], None
    while True:
        query = ChangeQuery.parse(None, "5", cursor)
        page = query.select(each for each in placed if query.before is None or each[0] < query.before)
        seen += page.items
        if (cursor := page.next) is None:
            break
    assert [(each.at - NOW).total_seconds() for each in seen] == [3] * 3 + [2] * 6 + [1] * 3


def test_changed_keys_are_those_whose_values_differ() -> None:
    assert changed_keys({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": None}) == "b"
    assert changed_keys({"a": 1}, {"a": 1}) is None
