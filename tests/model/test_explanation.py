"""Explanations out of what is known of a fire, whatever the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger

from quart_sched.errors import InvalidDefinition
from quart_sched.model.changes import Change
from quart_sched.model.circumstances import Circumstances, Hold
from quart_sched.model.explanation import Explanation, moments, parse_at, window
from quart_sched.model.inquiry import Evidence, explain, explain_gap
from quart_sched.model.runs import RunRecord, overlap_error
from quart_sched.model.sentences import spell
from quart_sched.model.trigger_parser import parse_trigger

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
RUN = "019cb1e0-0000-7000-8000-00000000000"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def built(kind: str, **fields: Any) -> BaseTrigger:
    return parse_trigger({"trigger": kind, "timezone": "UTC", **fields}).build(UTC, NOW)


EVERY_TEN = built("interval", seconds=10, start_date=at(-3600).isoformat())


def record(number: int, seconds: float, outcome: Any = "succeeded", **values: Any) -> RunRecord:
    moments = {"started_at": at(seconds), "finished_at": at(seconds + 2)}
    values = {"run_id": f"{RUN}{number}", "fire_id": f"{RUN}{number}", "cause": "schedule", "worker": "host:1"} | values
    return RunRecord(job_id="job", scheduled_at=at(seconds), outcome=outcome, **(moments | values))


def lapse(number: int, outcome: Any, first: float, last: float, accounted: float, fires: int | None) -> RunRecord:
    return record(
        number, last, outcome, started_at=None, finished_at=at(accounted), first_scheduled_at=at(first), fires=fires
    )


def asked(
    seconds: float,
    *records: RunRecord,
    now: float = 600,
    trigger: BaseTrigger | None = EVERY_TEN,
    upcoming: float | None = 610,
    job: bool = True,
    broken: str | None = None,
    **here: Any,
) -> Explanation:
    """Explain a moment, with all records of the job at hand."""
    next_run_time = None if upcoming is None else at(upcoming)
    known: Any = SimpleNamespace(trigger=trigger, next_run_time=next_run_time, pending=False) if job else None
    begin, end = window(at(seconds), trigger)
    evidence = Evidence(
        "job", at(seconds), at(now), known, Circumstances(trigger, **here),
        [each for each in records if begin <= each.scheduled_at < end],
        [each for each in records if begin <= each.scheduled_at and each.cause == "schedule"],
        broken,
    )  # fmt: skip
    return explain(evidence)


# With records


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("succeeded", "and succeeded after 2 seconds."),
        ("failed", "and failed after 2 seconds."),
        ("timed_out", "and ran into its timeout after 2 seconds."),
        ("cancelled", "and was cancelled after 2 seconds."),
        ("lost", "and was lost with its process after 2 seconds."),
    ],
)
def test_a_fire_that_ran_is_told_with_how_it_ended(outcome, told):
    found = asked(10, record(1, 10, outcome))
    assert (found.verdict, found.outcome, found.run_ids) == ("ran", outcome, (f"{RUN}1",))
    assert found.description.endswith(told)


def test_the_last_attempt_says_how_a_fire_ended_and_the_first_how_late_it_began():
    fire = {"fire_id": f"{RUN}1"}
    first = record(1, 10, "failed", started_at=at(13), final=False)
    again = record(2, 10, "succeeded", started_at=at(60), attempt=2, cause="retry", **fire)
    found = asked(10, again, first)
    assert (found.verdict, found.outcome, found.late, found.run_ids) == ("ran", "succeeded", 3, (f"{RUN}1", f"{RUN}2"))
    assert "ran at 12:00:13, 3 seconds late, on host:1, and succeeded" in found.description


def test_a_lapse_covers_the_fires_between_its_first_and_its_last_alone():
    missed, ran = lapse(1, "missed", 10, 40, 47, 4), record(2, 50)
    found = asked(20, missed, ran)
    assert (found.verdict, found.late, found.first, found.last, found.fires) == ("missed", 27, at(10), at(40), 4)
    assert found.description.endswith("too late to run it; so were 4 fires from 12:00:10 to 12:00:40.")
    assert asked(25, missed, ran).verdict == "not_a_fire"
    assert asked(0, missed, ran).verdict == "no_record"
    assert asked(50, missed, ran).verdict == "ran"


def test_fires_of_an_interval_that_was_set_going_by_hand_follow_the_first_of_the_lapse():
    missed = lapse(1, "missed", 13, 43, 47, 4)
    assert asked(23, missed).verdict == "missed"
    assert asked(20, missed).verdict == "not_a_fire"


def test_the_run_that_stood_for_coalesced_fires_is_the_first_behind_them():
    first, second = lapse(1, "coalesced", 10, 30, 52, None), lapse(2, "coalesced", 40, 40, 52, 1)
    found = asked(20, first, second, record(3, 50), record(4, 60))
    assert (found.verdict, found.into, found.fires) == ("coalesced", f"{RUN}3", None)
    assert "so were all fires from 12:00:10 to 12:00:30" in found.description
    assert asked(20, first).into is None


def test_what_held_up_a_fire_is_its_cause():
    missed = lapse(1, "missed", 10, 10, 47, 1)
    hold = Hold(at(5), at(45), "alice")
    paused = asked(10, missed, scheduler_pause=hold, down=hold)
    assert (paused.cause, paused.down) == ("scheduler_paused", None)
    assert paused.pause is not None
    down = asked(10, missed, down=hold)
    assert (down.cause, down.pause, down.down) == ("process_down", None, hold)
    assert asked(10, missed, broken=None, scheduler_pause=None).cause is None
    noticed = Hold(at(20), at(45))  # the job was broken before, which showed by this fire
    assert asked(10, missed, breaks=noticed).cause == "broken"
    assert asked(10, missed, breaks=Hold(at(50))).cause is None
    assert asked(10, record(1, 10, started_at=at(15)), breaks=noticed).cause is None
    assert replace(asked(10, missed)).cause is None


def test_a_skipped_fire_names_the_runs_that_were_in_its_way():
    kind, message = overlap_error([f"{RUN}8", f"{RUN}9"])
    found = asked(10, record(1, 10, "skipped", started_at=None, error_type=kind, error_message=message))
    assert (found.verdict, found.blocked_by, found.run_ids) == ("skipped", (f"{RUN}8", f"{RUN}9"), ())


def test_runs_by_hand_do_not_stand_for_the_fire_of_the_same_second():
    by_hand = record(1, 10, cause="api")
    assert asked(10, by_hand).verdict == "no_record"
    assert asked(10, by_hand, record(2, 10)).run_ids == (f"{RUN}2",)
    assert asked(11, record(3, 11, cause="manual")).run_ids == (f"{RUN}3",)


def test_a_record_counts_even_where_the_trigger_of_that_time_is_not_known():
    assert asked(10, record(1, 10), trigger=None, upcoming=None).verdict == "ran"
    assert asked(20, lapse(1, "missed", 10, 40, 47, 4), trigger=None, upcoming=None).verdict == "missed"
    assert asked(20, trigger=None, upcoming=None).verdict == "no_record"


# Without


def test_what_is_nearest_to_the_job_counts_where_several_things_kept_it_from_firing():
    hold = Hold(at(5), None, "alice")
    everything = {"job_pause": hold, "scheduler_pause": hold, "down": hold}
    assert asked(10, **everything, added=Change(at(20), "bob", "add")).verdict == "job_absent"
    assert asked(10, **everything).verdict == "job_paused"
    assert asked(10, scheduler_pause=hold, down=hold).verdict == "scheduler_paused"
    assert asked(10, down=hold).verdict == "process_down"
    assert asked(11, **everything).verdict == "not_a_fire"


def test_a_fire_that_is_due_is_overdue_and_one_that_was_due_before_has_no_record():
    assert asked(590, upcoming=590).verdict == "overdue"
    assert asked(600, upcoming=590).verdict == "overdue"
    assert asked(580, upcoming=590).verdict == "no_record"


def test_fires_to_come_follow_the_next_one_and_not_the_start_date():
    assert asked(633, upcoming=613).at == at(633)
    assert asked(630, upcoming=613).verdict == "not_a_fire"
    assert asked(630).verdict == "to_come"


def test_a_fire_to_come_of_a_broken_job_does_not_come():
    found = asked(630, broken="no module named jobs")
    assert found.verdict == "broken"
    assert found.description.endswith("as long as the job is broken: no module named jobs.")


def test_a_job_that_is_gone_has_no_fires_to_come():
    found = asked(630, job=False, removed=Change(at(20), "bob", "remove"))
    assert found.verdict == "job_absent"
    assert found.description == "The job was not there: it had been removed at 12:00:20 by bob."


def test_fires_of_a_broken_job_that_nobody_claimed_did_not_run_for_that_reason():
    for upcoming in (590, None):  # before it is marked as broken in the store, and after that
        found = asked(590, record(1, 580), upcoming=upcoming, broken="no module named jobs")
        assert found.verdict == "broken"
        assert "did not run, because the job is broken: no module named jobs." in found.description
        assert asked(570, record(1, 580), upcoming=upcoming, broken="no module named jobs").verdict == "no_record"


class Doubling(BaseTrigger):
    """Each fire comes after twice the time of the one before; it cannot be asked where it is."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return at(1) if previous_fire_time is None else NOW + 2 * (previous_fire_time - NOW)


def test_the_fires_to_come_of_the_users_own_trigger_are_looked_for_one_after_the_other():
    assert asked(4096, trigger=Doubling(), upcoming=1024, now=600).verdict == "to_come"
    assert asked(4097, trigger=Doubling(), upcoming=1024, now=600).verdict == "not_a_fire"
    assert asked(4096, trigger=Doubling(), upcoming=None, now=600).verdict == "no_record"
    assert asked(512, trigger=Doubling(), upcoming=1024, now=600).verdict == "no_record"


# Time


def test_times_are_told_in_the_zone_of_the_trigger_and_with_their_date_where_that_differs():
    trigger = built("crontab", expression="30 0 * * *", timezone="Europe/Berlin")
    moment = (datetime(2026, 3, 2, 0, 30, tzinfo=BERLIN) - NOW).total_seconds()
    hold = Hold(datetime(2026, 3, 1, 17, tzinfo=BERLIN), datetime(2026, 3, 2, 7, tzinfo=BERLIN), "alice")
    found = asked(moment, trigger=trigger, upcoming=None, job_pause=hold)
    assert found.description == (
        "The fire of 2026-03-02 00:30 (Europe/Berlin) did not run, because the job was paused by alice "
        "from 2026-03-01 17:00 to 07:00."
    )
    assert found.at.isoformat() == "2026-03-02T00:30:00+01:00"


def test_a_gap_has_no_fire_for_a_trigger_that_does_not_go_by_the_wall():
    found = explain_gap(
        "job", datetime(2026, 3, 29, 2, 30), BERLIN, built("interval", minutes=30, timezone="Europe/Berlin")
    )
    assert (found.verdict, found.clock_change) == ("not_a_fire", None)
    assert explain_gap("job", datetime(2026, 3, 29, 2, 30), BERLIN, None).verdict == "not_a_fire"


def test_apschedulers_cron_moves_by_the_length_of_the_gap():
    trigger = built("cron", hour=2, minute=30, timezone="Europe/Berlin")
    found = explain_gap("job", datetime(2026, 3, 29, 2, 30), BERLIN, trigger)
    assert found.clock_change is not None
    assert (found.verdict, found.clock_change.effect) == ("clock_gap", "moved")
    assert found.description.endswith("02:30 is skipped, and the job fires at 03:30 instead.")


def test_a_naive_time_means_one_moment_two_or_none():
    assert moments(datetime(2026, 3, 2, 12), BERLIN) == [datetime(2026, 3, 2, 12, tzinfo=BERLIN)]
    assert moments(datetime(2026, 3, 29, 2, 30), BERLIN) == []
    twice = moments(datetime(2026, 10, 25, 2, 30), BERLIN)
    assert [moment.astimezone(UTC).hour for moment in twice] == [0, 1]
    assert [moment.isoformat() for moment in moments(NOW, BERLIN)] == ["2026-03-02T13:00:00+01:00"]


def test_a_window_is_a_second_or_a_moment_and_as_wide_as_jitter_makes_it():
    assert window(NOW, EVERY_TEN) == (NOW, at(1))
    assert window(at(0.5), EVERY_TEN) == (at(0.5), at(0.500001))
    assert window(NOW, built("cron", minute=0, jitter=30)) == (at(-30), at(31))


@pytest.mark.parametrize(
    "wrong", ["", "now", 12, None, "2080-01-01", "1970-01-01T00:00:00Z", "9999-12-31", "0001-01-01"]
)
def test_what_is_no_time_or_too_far_away_is_refused(wrong):
    with pytest.raises(InvalidDefinition, match=r"^at: is .*; expected"):
        parse_at(wrong, NOW)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"), (0.25, "0.25 seconds"), (0.0001, "0.001 seconds"), (1, "1 second"), (9.876, "9.88 seconds"),
        (10.4, "10 seconds"), (60, "1 minute"), (200, "3 minutes 20 seconds"), (3600, "1 hour"), (3605, "1 hour"),
        (0.9999, "1 second"), (86_700, "1 day"), (90_000, "1 day 1 hour"), (200_000, "2 days 7 hours"),
    ],
)  # fmt: skip
def test_durations_are_told_in_words(seconds, words):
    assert spell(seconds) == words
