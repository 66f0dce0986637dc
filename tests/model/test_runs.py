"""Run ids and records."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.date import DateTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched import Scheduler
from quart_sched.errors import InvalidDefinition
from quart_sched.model.ids import new_id
from quart_sched.model.instants import micros
from quart_sched.model.runs import Cursor, Run, RunQuery, RunRecord, blocking_runs, overlap_error, to_wire

NOW = datetime(2026, 3, 2, tzinfo=UTC)


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
    with pytest.raises(AttributeError):
        record.outcome = "failed"  # type: ignore[misc]  # that is what is tested


# On the wire


def test_a_record_on_the_wire_has_its_keys_in_their_order() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    record = RunRecord(
        "r", "f", "job", NOW.astimezone(berlin), "failed", "api", "host:1", 2, NOW, NOW + timedelta(milliseconds=1500),
        "LookupError", "not there", "Traceback", None, None, 1, False, "a line",
    )  # fmt: skip
    wire = to_wire(record)
    expected = {
        "run_id": "r",
        "fire_id": "f",
        "job_id": "job",
        "scheduled_at": "2026-03-02T01:00:00+01:00",
        "started_at": "2026-03-02T00:00:00+00:00",
        "finished_at": "2026-03-02T00:00:01.500000+00:00",
        "duration": 1.5,
        "outcome": "failed",
        "final": False,
        "attempt": 2,
        "cause": "api",
        "worker": "host:1",
        "error": {"type": "LookupError", "message": "not there"},
        "first_scheduled_at": None,
        "fires": 1,
    }
    assert wire == expected
    assert list(wire) == list(expected)
    detail = to_wire(record, detail=True)
    assert detail == wire | {"overrides": None, "result": None, "traceback": "Traceback", "log": "a line"}
    assert json.loads(json.dumps(detail)) == detail
    given = to_wire(record._replace(overrides='{"args": [1]}'), detail=True)
    assert given["overrides"] == {"args": [1]}


def test_what_there_is_not_is_null_on_the_wire() -> None:
    wire = to_wire(RECORD._replace(outcome="missed", first_scheduled_at=NOW - timedelta(days=1), fires=None))
    assert (wire["started_at"], wire["finished_at"], wire["duration"], wire["error"]) == (None, None, None, None)
    assert (wire["first_scheduled_at"], wire["fires"]) == ("2026-03-01T00:00:00+00:00", None)


# Cursors

RECORD = RunRecord("r", "f", "job", NOW, "succeeded", "schedule", "host:1")
RUN_IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=36)


@given(st.datetimes(timezones=st.just(UTC)), RUN_IDS | st.uuids().map(str))
def test_a_cursor_is_read_as_it_was_written(moment: datetime, run_id: str) -> None:
    place = Cursor.of(RECORD._replace(scheduled_at=moment, run_id=run_id))
    assert Cursor.decode(place.encode()) == place == (micros(moment), run_id)
    assert place.encode().isascii()
    assert place.encode().replace("-", "").replace("_", "").isalnum()


def decoded(text: str) -> Cursor | None:
    try:
        return Cursor.decode(text)
    except InvalidDefinition:
        return None


@given(
    st.text()
    | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    | st.tuples(st.text("-0123456789", max_size=25), st.text(max_size=40)).map(
        lambda parts: base64.urlsafe_b64encode(" ".join(parts).encode()).decode().rstrip("=")
    )
)
def test_any_other_text_is_no_cursor(text: str) -> None:
    if (place := decoded(text)) is not None:
        assert place.encode() == text, "one place has one text"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "MQ",
        "MSBy=",
        "MSBy\n",
        " MSBy",
        "MSBy#",
        "MDEgcg",
        "LTAgcg",
        "é",
        "\ud800",
        7,
        None,
        b"MSBy",
        [],
        "A" * 10**6,
    ],
)
def test_what_is_no_cursor_is_refused_by_name(text: Any) -> None:
    with pytest.raises(InvalidDefinition, match=r"^cursor: is .*; expected the `next` of a page of runs$") as caught:
        Cursor.decode(text)
    assert (caught.value.field, caught.value.status) == ("cursor", 400)
    assert Cursor.decode("MSBy") == (1, "r")


# Queries


def parse(**values: Any) -> RunQuery:
    return RunQuery.parse(values, timezone=ZoneInfo("Europe/Berlin"))


def test_a_query_takes_texts_and_objects_alike() -> None:
    place = Cursor.of(RECORD)
    expected = RunQuery("job", "failed", NOW, NOW + timedelta(hours=1), 7, place)
    texts = {"since": "2026-03-02T00:00:00Z", "until": "2026-03-02T02:00:00+01:00", "limit": "7"}
    for times in (texts, {"since": NOW, "until": NOW + timedelta(hours=1), "limit": 7}):
        assert parse(job_id="job", outcome="failed", cursor=place.encode(), **times) == expected
    assert parse() == parse(job_id=None, cursor=None, limit=None) == RunQuery(limit=50)


@pytest.mark.parametrize(
    "since", ["2026-03-02", "2026-03-02T00:00", "20260302T000000", date(2026, 3, 2), datetime(2026, 3, 2)], ids=repr
)
def test_a_naive_time_is_read_in_the_given_zone(since: Any) -> None:
    assert parse(since=since).since == datetime(2026, 3, 1, 23, tzinfo=UTC)
    assert parse(until=since).until == datetime(2026, 3, 1, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("limit", 0, "a whole number from 1 to 500"),
        ("limit", 501, "a whole number from 1 to 500"),
        ("limit", "-1", "a whole number from 1 to 500"),
        ("limit", "ten", "a whole number from 1 to 500"),
        ("limit", "", "a whole number from 1 to 500"),
        ("limit", "٣", "a whole number from 1 to 500"),
        ("limit", "9" * 5000, "a whole number from 1 to 500"),
        ("limit", 1.5, "a whole number from 1 to 500"),
        ("limit", True, "a whole number from 1 to 500"),
        ("outcome", "won", "one of succeeded, failed, "),
        ("outcome", "", "queued, running, retry_wait"),
        ("outcome", ["failed"], "one of succeeded"),
        ("since", "yesterday", "an ISO 8601 date and time"),
        ("until", "", "an ISO 8601 date and time"),
        ("until", 7, "an ISO 8601 date and time"),
        ("since", "0001-01-01T00:00:00+14:00", "out of range"),
        ("until", "9999-12-31T23:59:59-10:00", "out of range"),
        ("job_id", 7, "the id of a job"),
        ("cursor", "garbage", "the `next` of a page of runs"),
        ("offset", "7", "job_id, outcome, since, until, limit, cursor"),
    ],
)
def test_what_is_wrong_with_a_query_is_named(key: str, value: Any, expected: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse(**{key: value})
    assert caught.value.field == key
    assert str(caught.value).startswith(f"{key}: is ")
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 500


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from(["a", "b"])), max_size=15, unique=True),
    st.sampled_from([{}, {"job_id": "a"}, {"until": NOW + timedelta(days=1)}, {"outcome": "succeeded"}]),
    st.integers(1, 4),
)
def test_pages_follow_each_other_without_gap_or_repetition(
    runs: list[tuple[int, int, str]], filters: dict[str, Any], limit: int
) -> None:
    records = [
        RECORD._replace(run_id=f"{made}-{scheduled}-{job}", scheduled_at=NOW + timedelta(seconds=scheduled), job_id=job)
        for made, scheduled, job in runs
    ]
    everything = RunQuery(**filters).select(records)
    assert len(everything) == len([record for record in records if record.job_id == "a" or "job_id" not in filters])
    seen: list[RunRecord] = []
    before = None
    while page := RunQuery(**filters, limit=limit, before=before).select(records):
        assert len(page) <= limit
        seen += page
        before = Cursor.decode(Cursor.of(page[-1]).encode())
    assert seen == everything


def test_a_skipped_fire_says_which_runs_were_in_its_way_as_far_as_there_is_room() -> None:
    ids = [new_id() for _ in range(25)]
    for number in (1, 2, 20, 25):
        kind, message = overlap_error(ids[:number])
        skipped = RunRecord(
            "r", "f", "job", NOW, "skipped", "schedule", "host:1", error_type=kind, error_message=message
        )
        assert blocking_runs(skipped) == tuple(ids[: min(number, 20)])
        assert message.endswith("and 5 more") == (number == 25)


def test_the_message_of_another_error_names_no_runs() -> None:
    other = RunRecord("r", "f", "job", NOW, "failed", "schedule", "host:1", error_message=new_id())
    assert blocking_runs(other) == blocking_runs(other._replace(error_message=None)) == ()
