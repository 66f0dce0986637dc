"""Triggers in plain English: each kind, in words that hold, and never an error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched.errors import InvalidDefinition
from quart_sched.model.crontab import CrontabTrigger
from quart_sched.model.descriptions import MAX_DESCRIPTION, describe
from quart_sched.model.trigger_parser import parse_trigger

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def words(kind: str, **fields: Any) -> str:
    return describe(parse_trigger({"trigger": kind, **fields}).build(UTC, NOW))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/5 9-17 * * mon-fri", "every 5 minutes, between 09:00 and 17:59, from Monday to Friday"),
        ("* * * * *", "every minute"),
        ("* * * * * *", "every second"),
        ("*/15 * * * * *", "every 15 seconds"),
        ("30 2 * * *", "at 02:30"),
        ("0 30 2 * * *", "at 02:30"),
        ("05 02 * * 007", "at 02:05, on Sunday"),
        ("@daily", "at 00:00"),
        ("@weekly", "at 00:00, on Sunday"),
        ("@hourly", "every hour"),
        ("0 0 L * *", "at 00:00, on the last day of the month"),
        ("0 0 15,LW * *", "at 00:00, on day 15 and the last weekday of the month"),
        ("0 0 * * 5L", "at 00:00, on the last Friday of the month"),
        ("0 0 * * 1#2,0", "at 00:00, on Sunday and the second Monday of the month"),
        ("0 0 * * 5-7", "at 00:00, from Friday to Sunday"),
        ("0 0 * * 5/2", "at 00:00, on Friday and Sunday"),
        ("0 0 1-7,15 * *", "at 00:00, on days 1 to 7 and 15 of the month"),
        ("0 0 */2 * *", "at 00:00, on days 1 to 31 in steps of 2 of the month"),
        ("0 0 * jan-mar,7 *", "at 00:00, in January to March and July"),
        ("0 22-23,0-1 * * *", "at 00:00, 01:00, 22:00 and 23:00"),
        ("*/30 * * * *", "every 30 minutes"),
        ("0,30 * * * *", "at 0 and 30 minutes past the hour"),
    ],
)
def test_a_crontab_in_words(expression: str, expected: str) -> None:
    assert words("crontab", expression=expression) == f"{expected} (UTC)"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/10 9,17 * * *", "every 10 minutes, between 09:00 and 09:59 and between 17:00 and 17:59"),
        ("* 9,17 * * *", "every minute, between 09:00 and 09:59 and between 17:00 and 17:59"),
        ("*/2 9-10 * * *", "every 2 minutes, between 09:00 and 10:59"),
        ("0,9 9,11,14 * * *", "at 0 and 9 minutes past the hour, between 09:00 and 09:59, between 11:00 and 11:59 "
         "and between 14:00 and 14:59"),
        ("*/10 22-23,0-1 * * *", "every 10 minutes, between 00:00 and 01:59 and between 22:00 and 23:59"),
        ("0-10 9,17 * * *", "minutes 0 through 10 past the hour, between 09:00 and 09:59 and between 17:00 and 17:59"),
        ("30 * 9,17 * * *", "at 30 seconds past the minute, between 09:00 and 09:59 and between 17:00 and 17:59"),
        ("5 9,17 * * *", "at 09:05 and 17:05"),
    ],
)  # fmt: skip
def test_an_hour_in_which_it_fires_more_than_once_is_no_time_of_day(expression: str, expected: str) -> None:
    assert words("crontab", expression=expression) == f"{expected} (UTC)"
    names = ("second", "minute", "hour", "day", "month", "day_of_week")
    parts = expression.split()
    cron = dict(zip(names, parts if len(parts) == 6 else ["0", *parts], strict=True))
    assert words("cron", **cron) == f"{expected} (UTC)"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 13 * 5", "on day 13 of the month and also on Friday"),
        ("0 0 13 * 1-5", "on day 13 of the month and also from Monday to Friday"),
        ("0 0 13 * */5", "on day 13 of the month if that is Friday or Sunday"),
        ("0 0 */10 * 5", "on days 1, 11, 21 and 31 of the month if that is Friday"),
    ],
)
def test_where_both_days_are_restricted_it_says_whether_either_will_do(expression: str, expected: str) -> None:
    assert words("crontab", expression=expression) == f"at 00:00, {expected} (UTC)"


def test_a_day_that_is_every_day_is_not_worth_a_word() -> None:
    assert words("crontab", expression="0 0 1-31 * mon") == "at 00:00 (UTC)"
    assert words("crontab", expression="0 0 13 * 0-6") == "at 00:00 (UTC)"
    assert words("crontab", expression="0 0 * * 0-7") == "at 00:00 (UTC)"


def test_a_step_that_does_not_divide_the_hour_or_day_is_not_called_regular() -> None:
    assert words("crontab", expression="*/70 * * * *") == "every hour (UTC)"
    assert words("crontab", expression="*/45 * * * *") == "at 0 and 45 minutes past the hour (UTC)"
    assert words("crontab", expression="*/7 * * * *") == "every 7 minutes, minutes 0 through 56 past the hour (UTC)"
    assert words("crontab", expression="0 */7 * * *") == "at 00:00, 07:00, 14:00 and 21:00 (UTC)"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"minutes": 5}, "every 5 minutes"),
        ({"minutes": 1}, "every minute"),
        ({"hours": 1, "minutes": 30}, "every 1 hour and 30 minutes"),
        ({"seconds": 0.1}, "every 0.1 seconds"),
        ({"days": 1}, "every day, counted from 2026-03-03 at 12:00 (UTC)"),
        ({"weeks": 2, "timezone": "Europe/Berlin"}, "every 2 weeks, counted from 2026-03-16 at 13:00 (Europe/Berlin)"),
        ({"days": 8, "hours": 1}, "every 8 days and 1 hour, counted from 2026-03-10 at 13:00 (UTC)"),
        ({"seconds": 5, "end_date": "2027-01-01"}, "every 5 seconds, until 2027-01-01 at 00:00 (UTC)"),
        ({"seconds": 5, "jitter": 1}, "every 5 seconds, up to 1 second later at random"),
        ({"seconds": 5, "jitter": 0}, "every 5 seconds"),
    ],
)
def test_an_interval_in_words(fields: dict[str, Any], expected: str) -> None:
    assert words("interval", **fields) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"hour": 3}, "at 03:00"),
        (
            {"minute": "*/5", "hour": "9-17", "day_of_week": "mon-fri"},
            "every 5 minutes, between 09:00 and 17:59, from Monday to Friday",
        ),
        ({"day_of_week": 0}, "at 00:00, on Monday"),
        ({"day": "last"}, "at 00:00, on the last day of the month"),
        ({"day": "1st mon,last sun,15"}, "at 00:00, on day 15, the first Monday and the last Sunday of the month"),
        ({"day": 13, "day_of_week": "fri"}, "at 00:00, on day 13 of the month if that is Friday"),
        ({"month": "*/3"}, "at 00:00, on day 1 of the month, in January, April, July and October"),
        ({"week": 5}, "at 00:00, in week 5"),
        ({"week": "10-20"}, "at 00:00, in weeks 10 to 20"),
        ({"year": 2030}, "at 00:00, on day 1 of the month, in January, in 2030"),
        ({"hour": "5/6"}, "every 6 hours, starting at 05:00"),
        ({"second": "*/10"}, "every 10 seconds"),
    ],
)
def test_apschedulers_cron_in_words(fields: dict[str, Any], expected: str) -> None:
    assert words("cron", **fields) == f"{expected} (UTC)"


def test_the_other_kinds_in_words() -> None:
    assert words("date", run_date="2026-03-02 12:00") == "on 2026-03-02 at 12:00 UTC"
    assert words("date", run_date="2026-03-02 12:00:05.5", timezone="Europe/Berlin") == (
        "on 2026-03-02 at 12:00:05.5 Europe/Berlin"
    )
    assert words("calendarinterval", months=1, hour=9) == "every month at 09:00, counted from 2026-03-02 (UTC)"
    assert words("calendarinterval", years=2, weeks=1, end_date="2030-01-01", timezone="+02:00") == (
        "every 2 years and 1 week at 00:00, counted from 2026-03-02, until 2030-01-01 (+02:00)"
    )


def test_span_and_jitter_in_words() -> None:
    text = words("crontab", expression="@daily", start_date="2026-05-01", end_date="2026-06-01 12:30:15", jitter=5)
    assert text == (
        "at 00:00, not before 2026-05-01 at 00:00, until 2026-06-01 at 12:30:15 (UTC), up to 5 seconds later at random"
    )


def test_combinations_in_words() -> None:
    parts = [{"trigger": "interval", "minutes": 5}, {"trigger": "cron", "day_of_week": "sat"}]
    assert words("or", triggers=parts, jitter=9) == (
        "(every 5 minutes) or (at 00:00, on Saturday (UTC)), up to 9 seconds later at random"
    )
    assert words("and", triggers=parts) == "when these coincide: (every 5 minutes) and (at 00:00, on Saturday (UTC))"
    assert words("or", triggers=parts[:1]) == "every 5 minutes"


class EveryLeapSecond(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: Any) -> None: ...

    def __str__(self) -> str:
        return "leap seconds"


class Shy(EveryLeapSecond):
    def __str__(self) -> str:
        raise ValueError("no name")


class Subclass(IntervalTrigger):
    pass


def test_a_trigger_class_that_is_not_known_speaks_for_itself() -> None:
    assert describe(EveryLeapSecond()) == "leap seconds"
    own = Subclass(minutes=5, timezone=UTC)
    assert describe(own) == str(own)
    five = IntervalTrigger(minutes=5, timezone=UTC)
    assert describe(OrTrigger([five, EveryLeapSecond()])) == "(every 5 minutes) or (leap seconds)"
    assert describe(Shy()) == "Shy"


def test_a_description_is_bounded() -> None:
    text = words("or", triggers=[{"trigger": "crontab", "expression": "1-59/2 1-23/3 */2 * *"}] * 20)
    assert len(text) == MAX_DESCRIPTION
    assert text.endswith("…")


# Properties


numbers = st.sampled_from(["*", "0", "5", "*/5", "*/7", "10-20", "10-20/3", "3/9", "1,2,3", "1,5-9,11", "0-59"])
hours = st.sampled_from(["*", "0", "2", "*/2", "*/5", "9-17", "9-17/2", "1/6", "6,14-16", "0-23"])
days = st.sampled_from(["*", "1", "L", "LW", "*/2", "1,15,L", "10-20", "1-31", "L/2", "5/9"])
months = st.sampled_from(["*", "1", "jan-mar", "*/2", "feb,dec", "1-12", "3/4"])
weekdays = st.sampled_from(["*", "0", "7", "mon-fri", "5L", "1#2,3#1", "*/2", "0-7", "fri/2", "1L,2,sun#5"])
expressions = st.tuples(numbers, numbers, hours, days, months, weekdays).map(" ".join)


@given(expressions)
def test_every_crontab_has_a_description(expression: str) -> None:
    try:
        trigger = CrontabTrigger(expression, timezone=BERLIN)
    except InvalidDefinition:
        return
    text = describe(trigger)
    assert text.endswith(" (Europe/Berlin)")
    assert not any(odd in text for odd in ("?", "-1000", "  ", ", ,", "{", "CrontabTrigger"))


cron_days = st.sampled_from(["*", "1", "last", "*/2", "1,15,last", "2nd mon", "last fri,5", "10-20", "5/9"])
cron_weekdays = st.sampled_from(["*", "0", "mon-fri", "*/2", "sat,sun", "1-3/2"])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "year": st.sampled_from(["*", "2030", "2026-2030", "*/2"]),
            "month": months.filter(lambda text: text != "feb,dec"),
            "day": cron_days,
            "week": st.sampled_from(["*", "10", "10-20", "*/2"]),
            "day_of_week": cron_weekdays,
            "hour": hours,
            "minute": numbers,
            "second": numbers,
        },
    )
)
def test_every_cron_has_a_description(fields: dict[str, str]) -> None:
    text = describe(CronTrigger(**fields, timezone=BERLIN))
    assert text.endswith(" (Europe/Berlin)")
    assert not any(odd in text for odd in ("?", "  ", ", ,", "{", "CronTrigger"))


def test_two_ways_to_write_the_same_have_the_same_words() -> None:
    for one, other in (
        ("0 0 * * 1,2,3,4,5", "0 0 * * mon-fri"),
        ("0 0 * * 0", "0 0 * * SUN"),
        ("*/1 * * * *", "0-59 0-23 1-31 1-12 *"),
        ("0 0 1 1 *", "@yearly"),
    ):
        assert words("crontab", expression=one) == words("crontab", expression=other)


def test_the_description_does_not_depend_on_the_start_of_a_short_interval() -> None:
    later = parse_trigger({"trigger": "interval", "hours": 5}).build(UTC, NOW + timedelta(days=1))
    assert describe(later) == words("interval", hours=5)
