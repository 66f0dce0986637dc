"""The crontab trigger: what it accepts, when it fires, and what it does when clocks change."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import time as clock
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched import Scheduler
from quart_sched.errors import InvalidDefinition
from quart_sched.model import state
from quart_sched.model.clock_changes import ClockChange, change_around, changes_between
from quart_sched.model.crontab import ALIASES, MAX_EXPRESSION, CrontabTrigger, compile_expression, parse_expression
from quart_sched.model.jobs import JobChanges, JobDefinition, ScheduledJob, to_wire
from quart_sched.model.planning import WALK_LIMIT, Lapse, first_fire, plan
from quart_sched.model.trigger_parser import parse_trigger
from quart_sched.model.triggers import Crontab, spec_of

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    ZoneInfo(name)
    for name in (
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",  # by half an hour
        "America/Havana",  # at midnight, and back from one
        "Asia/Beirut",  # at midnight, and back into the day before
        "America/St_Johns",  # an odd offset
        "Asia/Tokyo",  # without any
    )
]
SCHEDULER = Scheduler(timezone="UTC")


async def run() -> None: ...


def crontab(expression: str, zone: tzinfo = UTC, **options: Any) -> CrontabTrigger:
    return CrontabTrigger(expression, timezone=zone, **options)


def make(trigger: Any, due: datetime | None, **options: Any) -> Job:
    defaults = {"misfire_grace_time": 1, "coalesce": True, "max_instances": 1, "executor": "default", "id": "job"}
    given = {"func": run, "args": (), "kwargs": {}, "trigger": trigger, "next_run_time": due}
    job = ScheduledJob(SCHEDULER, **{**defaults, **given, **options})
    job._jobstore_alias = "default"
    return job


def fires(trigger: Any, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The fires of a schedule from `begin` up to `end`."""
    fire = trigger.get_next_fire_time(None, begin)
    while fire is not None and fire.astimezone(UTC) < end:
        yield fire
        fire = trigger.get_next_fire_time(fire, fire)


def shown(trigger: Any, count: int, begin: datetime = NOW) -> list[str]:
    return [
        fire.isoformat() for fire, _ in zip(fires(trigger, begin, begin + 20_000 * DAY), range(count), strict=False)
    ]


# What it accepts


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/5 9-17 * * mon-fri", "2026-03-02T12:00:00+00:00"),
        ("30 2 * * *", "2026-03-03T02:30:00+00:00"),
        ("15 30 2 * * *", "2026-03-03T02:30:15+00:00"),
        ("*/20 * * * * *", "2026-03-02T12:00:00+00:00"),
        ("0 0 * * 0", "2026-03-08T00:00:00+00:00"),
        ("0 0 * * 7", "2026-03-08T00:00:00+00:00"),
        ("0 0 * * SUN", "2026-03-08T00:00:00+00:00"),
        ("0 0 * * 1", "2026-03-09T00:00:00+00:00"),
        ("0 0 1 jan,Jul *", "2026-07-01T00:00:00+00:00"),
        ("0 0 L * *", "2026-03-31T00:00:00+00:00"),
        ("0 0 LW * *", "2026-03-31T00:00:00+00:00"),
        ("0 0 * * 5L", "2026-03-27T00:00:00+00:00"),
        ("0 0 * * mon#2", "2026-03-09T00:00:00+00:00"),
        ("0 0 13 * 5", "2026-03-06T00:00:00+00:00"),
        ("0 0 13 * */5", "2026-03-13T00:00:00+00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
        ("0 0 * 2 mon#5", "2044-02-29T00:00:00+00:00"),
        ("@yearly", "2027-01-01T00:00:00+00:00"),
        ("@annually", "2027-01-01T00:00:00+00:00"),
        ("@monthly", "2026-04-01T00:00:00+00:00"),
        ("@weekly", "2026-03-08T00:00:00+00:00"),
        ("@daily", "2026-03-03T00:00:00+00:00"),
        ("@MIDNIGHT", "2026-03-03T00:00:00+00:00"),
        ("@hourly", "2026-03-02T12:00:00+00:00"),
    ],
)
def test_the_first_fire_of_an_expression(expression: str, expected: str) -> None:
    assert shown(crontab(expression), 1) == [expected]


def test_the_week_begins_on_sunday_and_that_of_apschedulers_cron_still_on_monday() -> None:
    assert shown(crontab("0 0 * * 1-5"), 1, NOW + 4 * DAY) == ["2026-03-09T00:00:00+00:00"]
    assert CronTrigger(day_of_week="0", timezone=UTC).get_next_fire_time(None, NOW).weekday() == 0
    stock = spec_of(parse_trigger({"trigger": "cron", "day_of_week": 0, "hour": 3}).build(UTC, NOW))
    assert stock.to_dict() == {"trigger": "cron", "day_of_week": "0", "hour": "3", "timezone": "UTC"}


BAD = [
    ("61 * * * *", "has '61' as its minute; expected 0 to 59"),
    ("* 24 * * *", "has '24' as its hour; expected 0 to 23"),
    ("* * 0 * *", "has '0' as its day-of-month; expected 1 to 31"),
    ("* * * foo *", "has 'foo' as its month; expected 1 to 12 or jan to dec"),
    ("* * * * 8", "has '8' as its day-of-week; expected 0 to 7 (Sunday is 0 and 7)"),
    ("* * * * fri-mon", "ranges from low to high"),
    ("* * * * mon#6", "has 'mon#6' as its day-of-week"),
    ("* * * * L", "has 'L' as its day-of-week"),
    ("60 * * * * *", "has '60' as its second; expected 0 to 59"),
    ("*/0 * * * *", "has '*/0' as its minute"),
    ("1,,2 * * * *", "has '1,,2' as its minute"),
    ("0 0 ? * *", "has '?' as its day-of-month"),
    ("² * * * *", "has '²' as its minute"),
    ("* * * *", "of 4 fields; expected 5 fields, minute hour day-of-month month day-of-week, or 6"),
    ("5", "of 1 field; expected 5 fields"),
    ("0 0 0 1 1 * 2030", "of 7 fields; expected 5 fields"),
    ("@dayly", "is '@dayly'; expected one of @yearly"),
    ("@reboot", "run_on_start"),
    ("0 0 31 2 *", "never fires: there is no day-of-month '31' with month '2' and day-of-week '*'"),
    ("0 0 31 2,4,6 *", "never fires"),
    ("* * */20 * 1L", "never fires"),
    ("0 0 30 2 */7", "never fires"),
    ("", "expected a crontab expression"),
    ("  ", "expected a crontab expression"),
    ("* " * MAX_EXPRESSION, f"of at most {MAX_EXPRESSION} characters"),
    (5, "is 5; expected a crontab expression"),
    ([], "is []; expected a crontab expression"),
]


@pytest.mark.parametrize(("expression", "text"), BAD, ids=lambda value: str(value)[:40])
def test_a_wrong_expression_is_refused_with_its_field_and_what_was_expected(expression: Any, text: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse_trigger({"trigger": "crontab", "expression": expression}, where="body.")
    assert caught.value.field == "body.expression"
    assert text in str(caught.value)
    assert len(str(caught.value)) < 500


def test_without_an_expression_it_says_so() -> None:
    with pytest.raises(InvalidDefinition, match=r"^expression: is missing; expected a crontab"):
        parse_trigger({"trigger": "crontab"})
    with pytest.raises(InvalidDefinition, match=r"^minute: is no field of the trigger"):
        parse_trigger({"trigger": "crontab", "expression": "@daily", "minute": 5})


def test_where_either_day_will_do_an_impossible_day_of_the_month_does_no_harm() -> None:
    assert shown(crontab("0 0 31 2 mon"), 1, NOW + 300 * DAY) == ["2027-02-01T00:00:00+00:00"]


@given(st.text(max_size=40) | st.text("0123456789*,-/L#W@monjan ", max_size=40))
def test_any_text_is_an_expression_or_refused_as_one(text: str) -> None:
    try:
        parsed = parse_expression("expression", text)
    except InvalidDefinition:
        return
    assert first_fire(crontab(parsed), NOW) is not None


# The wire, pickles, combinations


EXPRESSIONS = ["*/5 9-17 * * mon-fri", "0 30 2 * * *", "@daily", "0 0 L * 5L", "@Hourly"]
aware = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.sampled_from([UTC, *ZONES]))


@given(
    st.sampled_from(EXPRESSIONS),
    st.none() | aware,
    st.none() | aware,
    st.none() | st.sampled_from(ZONES),
    st.none() | st.integers(0, 1000) | st.floats(0, 1000),
)
def test_what_is_shown_parses_to_an_equal_trigger(
    expression: str, start: datetime | None, end: datetime | None, zone: tzinfo | None, jitter: float | None
) -> None:
    if start is not None and end is not None and end < start:
        start, end = end, start
    data = {
        "trigger": "crontab",
        "expression": expression,
        "start_date": start,
        "end_date": end,
        "timezone": zone,
        "jitter": jitter,
    }
    written = parse_trigger(data)
    live = written.build(BERLIN, NOW)
    spec = spec_of(live)
    assert isinstance(spec, Crontab)
    assert parse_trigger(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.build(UTC, NOW).__getstate__() == live.__getstate__()
    assert written.describes(spec, BERLIN)


def test_the_zone_is_always_shown_and_blanks_are_evened() -> None:
    spec = spec_of(parse_trigger({"trigger": "crontab", "expression": " */5  9-17 * * mon-fri\n"}).build(BERLIN, NOW))
    assert spec.to_dict() == {
        "trigger": "crontab",
        "expression": "*/5 9-17 * * mon-fri",
        "timezone": "Europe/Berlin",
    }


def test_another_expression_zone_or_jitter_is_another_trigger() -> None:
    stored = spec_of(crontab("@daily"))
    assert parse_trigger({"trigger": "crontab", "expression": "@daily"}).describes(stored, UTC)
    for other in (
        {"expression": "0 0 * * *"},
        {"expression": "@daily", "timezone": "Europe/Berlin"},
        {"expression": "@daily", "jitter": 1},
    ):
        assert not parse_trigger({"trigger": "crontab", **other}).describes(stored, UTC)


def test_a_job_with_a_crontab_comes_back_from_a_stores_json() -> None:
    trigger = crontab("0 30 2 * * *", BERLIN, start_date="2026-05-01", jitter=5)
    loaded = state.load("job", state.dump(make(trigger, NOW)), SCHEDULER)
    assert loaded.trigger.__getstate__() == trigger.__getstate__()
    assert loaded.trigger.get_next_fire_time(None, NOW) >= datetime(2026, 5, 1, 2, 30, tzinfo=BERLIN)


def test_a_job_with_a_crontab_can_be_declared_shown_and_changed() -> None:
    data = {"id": "job", "func": run, "trigger": "crontab", "expression": "@daily", "jitter": 5}
    definition = JobDefinition.parse(data)
    wire = to_wire(make(definition.trigger.build(UTC, NOW), NOW))
    assert list(wire)[5:10] == ["trigger", "expression", "timezone", "jitter", "misfire_grace_time"]
    assert wire["trigger_description"] == "at 00:00 (UTC), up to 5 seconds later at random"
    assert JobChanges.from_wire(wire, wire, lambda ref: run).trigger == spec_of(definition.trigger.build(UTC, NOW))
    changes = JobChanges.from_wire(wire | {"expression": "@hourly"}, wire, lambda ref: run)
    assert changes.trigger is not None
    assert changes.trigger.to_dict()["expression"] == "@hourly"
    with pytest.raises(InvalidDefinition, match=r"^trigger_description: is .never.; it is read-only"):
        JobChanges.from_wire(wire | {"trigger_description": "never"}, wire, lambda ref: run)


def test_it_can_be_pickled_as_apschedulers_own_can() -> None:
    trigger = crontab("*/5 9-17 * * mon-fri", BERLIN, start_date=NOW, end_date="2027-01-01", jitter=5)
    again = pickle.loads(pickle.dumps(trigger))
    assert again.__getstate__() == trigger.__getstate__()
    assert (str(again), repr(again)) == (str(trigger), repr(trigger))
    with pytest.raises(ValueError, match="of version 2; expected 1"):
        again.__setstate__(again.__getstate__() | {"version": 2})


def test_it_says_what_it_is() -> None:
    trigger = crontab("@daily", BERLIN, start_date="2026-05-01", jitter=5)
    assert str(trigger) == "crontab['@daily']"
    assert repr(trigger) == (
        "<CrontabTrigger ('@daily', start_date='2026-05-01 00:00:00 CEST', jitter=5, timezone='Europe/Berlin')>"
    )


def test_made_by_hand_it_takes_its_zone_from_its_dates_and_is_checked() -> None:
    start = datetime(2026, 5, 1, tzinfo=BERLIN)
    assert CrontabTrigger("@daily", start_date=start).timezone is BERLIN
    assert CrontabTrigger("@daily", end_date=start).timezone is BERLIN
    assert CrontabTrigger("@daily", timezone="Asia/Tokyo").timezone == ZoneInfo("Asia/Tokyo")
    assert CrontabTrigger("@daily").timezone is not None
    with pytest.raises(InvalidDefinition, match="never fires"):
        CrontabTrigger("0 0 31 2 *")


def combined(kind: str, *parts: dict[str, Any]) -> Any:
    return parse_trigger({"trigger": kind, "triggers": list(parts)}).build(BERLIN, NOW)


def cron(expression: str) -> dict[str, Any]:
    return {"trigger": "crontab", "expression": expression}


AUTUMN = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)  # 02:00 in summer time; 03:00 becomes 02:00 an hour later


@pytest.mark.parametrize("stock", [False, True], ids=["crontab", "cron"])
def test_an_and_goes_on_through_the_hour_that_comes_twice(stock: bool) -> None:
    parts = [{"trigger": "cron", "minute": f"*/{n}"} if stock else cron(f"*/{n} * * * *") for n in (30, 15)]
    found = shown(combined("and", *parts), 6, AUTUMN)
    assert [text[11:] for text in found] == [
        *("02:00:00+02:00", "02:30:00+02:00", "02:00:00+01:00", "02:30:00+01:00"),
        *("03:00:00+01:00", "03:30:00+01:00"),
    ]


@pytest.mark.parametrize("stock", [False, True], ids=["crontab", "cron"])
def test_an_or_loses_no_fire_in_the_hour_that_comes_twice(stock: bool) -> None:
    parts = [{"trigger": "cron", "minute": n} if stock else cron(f"{n} * * * *") for n in (0, 50)]
    found = shown(combined("or", *parts), 6, AUTUMN)
    assert [text[11:] for text in found] == [
        *("02:00:00+02:00", "02:50:00+02:00", "02:00:00+01:00", "02:50:00+01:00"),
        *("03:00:00+01:00", "03:50:00+01:00"),
    ]


def test_a_daily_job_among_others_fires_once_when_clocks_go_back() -> None:
    found = shown(combined("or", cron("50 2 * * *"), cron("0 * * * *")), 4, AUTUMN)
    assert [text[11:] for text in found] == ["02:00:00+02:00", "02:50:00+02:00", "02:00:00+01:00", "03:00:00+01:00"]


# Start, end, jitter


def test_start_and_end_are_fires_themselves() -> None:
    trigger = crontab("0 * * * *", start_date=NOW + 2 * HOUR, end_date=NOW + 4 * HOUR)
    assert list(fires(trigger, NOW, NOW + DAY)) == [NOW + hours * HOUR for hours in (2, 3, 4)]
    assert trigger.get_next_fire_time(NOW, NOW) == NOW + 2 * HOUR
    assert trigger.get_next_fire_time(NOW + 4 * HOUR, NOW + 4 * HOUR) is None


def test_the_present_is_a_fire_unless_a_part_of_its_second_is_over() -> None:
    trigger = crontab("* * * * * *")
    assert trigger.get_next_fire_time(None, NOW) == NOW
    assert trigger.get_next_fire_time(None, NOW + timedelta(microseconds=1)) == NOW + SECOND
    assert trigger.get_next_fire_time(NOW, NOW) == NOW + SECOND
    assert trigger.get_next_fire_time(NOW + SECOND / 2, NOW) == NOW + SECOND


def test_jitter_comes_on_top_and_not_after_the_end() -> None:
    trigger = crontab("0 * * * *", BERLIN, end_date=AUTUMN + 2 * HOUR, jitter=600)
    for base in (AUTUMN, AUTUMN + HOUR):
        fire = trigger.get_next_fire_time(None, base)
        assert fire is not None
        assert base <= fire.astimezone(UTC) <= base + 600 * SECOND
    assert trigger.get_next_fire_time(None, AUTUMN + 2 * HOUR) == AUTUMN + 2 * HOUR


@pytest.mark.parametrize("zone", [UTC, BERLIN, ZoneInfo("Pacific/Kiritimati")])
def test_the_calendar_ends_with_the_year_9999(zone: tzinfo) -> None:
    trigger = crontab("0 0 29 2 *", zone, start_date=datetime(9999, 6, 1, tzinfo=UTC))
    assert trigger.get_next_fire_time(None, NOW) is None
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert crontab("* * * * * *", zone).get_next_fire_time(last, NOW) is None
    assert crontab("0 0 1 1 *", start_date=datetime(1, 1, 1, tzinfo=UTC)).get_next_fire_time(None, NOW) is not None


# Clock changes: ten years of the real ones against another reckoning, which steps through the moments one by one


def walk_the_clock(
    zone: tzinfo, begin: datetime, end: datetime, step: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Each moment, and the time that the clock on the wall shows then."""
    moment = begin
    while moment < end:
        yield moment, moment.astimezone(zone).replace(tzinfo=None, fold=0)
        moment += step


def first_shown(day: date, hour: int, minute: int, zone: tzinfo) -> datetime:
    """The first moment of a day at which the clock on the wall shows this time, or a later one."""
    begin = datetime.combine(day, clock(0), UTC) - 18 * HOUR
    end = begin + 2 * DAY
    offset = begin.astimezone(zone).utcoffset()
    if offset is not None and offset == end.astimezone(zone).utcoffset():
        return datetime.combine(day, clock(hour, minute), UTC) - offset
    return next(
        moment
        for moment, wall in walk_the_clock(zone, begin, end, 15 * MINUTE)
        if wall.date() == day and (wall.hour, wall.minute) >= (hour, minute)
    )


DECADE = datetime(2016, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


def days_around_changes(zone: tzinfo) -> list[date]:
    return [change.at.date() + number * DAY for change in changes_between(*DECADE, zone) for number in range(-2, 3)]


@pytest.mark.parametrize("zone", ZONES, ids=lambda zone: zone.key)
def test_a_daily_job_fires_once_each_day_for_ten_years(zone: ZoneInfo) -> None:
    days = [DECADE[0].date() + number * DAY for number in range((DECADE[1] - DECADE[0]).days)]
    expected = [first_shown(day, 2, 30, zone) for day in days]
    found = list(fires(crontab("30 2 * * *", zone), expected[0], expected[-1] + SECOND))
    assert [fire.astimezone(UTC) for fire in found] == expected
    assert [fire.date() for fire in found] == days


@pytest.mark.parametrize("zone", ZONES, ids=lambda zone: zone.key)
@pytest.mark.parametrize(("hour", "minute"), [(2, 30), (1, 45), (0, 0), (0, 30), (23, 30)])
def test_five_fields_and_six_fire_once_a_day_around_all_changes_of_ten_years(
    zone: ZoneInfo, hour: int, minute: int
) -> None:
    for day in days_around_changes(zone):
        expected = first_shown(day, hour, minute, zone)
        for expression in (f"{minute} {hour} * * *", f"0 {minute} {hour} * * *"):
            trigger = crontab(expression, zone)
            fire = trigger.get_next_fire_time(None, expected - 20 * HOUR)
            assert fire is not None
            assert fire.astimezone(UTC) == expected
            following = trigger.get_next_fire_time(fire, expected)
            assert following is not None
            assert following.date() == day + DAY


@pytest.mark.parametrize("zone", ZONES, ids=lambda zone: zone.key)
@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("*/30 * * * *", lambda wall: wall.minute % 30 == 0),
        ("0 * * * *", lambda wall: wall.minute == 0),
        ("*/15 1,2 * * *", lambda wall: wall.minute % 15 == 0 and wall.hour in (1, 2)),
        ("45 */2 * * sun", lambda wall: wall.minute == 45 and wall.hour % 2 == 0 and wall.weekday() == 6),
        ("0 */15 0,23 * 3,4,10,11 *", lambda wall: wall.hour in (0, 23) and wall.month in (3, 4, 10, 11)),
    ],
)
def test_a_wildcard_follows_the_clock_on_the_wall_for_ten_years(
    zone: ZoneInfo, expression: str, matches: Callable[[datetime], bool]
) -> None:
    trigger = crontab(expression, zone)
    # The days around the changes, and some like any other.
    days = [change.at for change in changes_between(*DECADE, zone)] + [DECADE[0] + n * 365 * DAY for n in range(10)]
    for day in days:
        begin, end = day - DAY, day + DAY
        expected = [moment for moment, wall in walk_the_clock(zone, begin, end, 15 * MINUTE) if matches(wall)]
        assert [fire.astimezone(UTC) for fire in fires(trigger, begin, end)] == expected


@pytest.mark.parametrize("zone", ZONES, ids=lambda zone: zone.key)
def test_around_each_change_of_ten_years_the_schedule_can_be_taken_up_at_any_moment(zone: ZoneInfo) -> None:
    for expression in ("30 2 * * *", "15,45 0-3,23 * * *", "*/20 * * * *", "0 */20 1,2 * * *"):
        trigger = crontab(expression, zone)
        for change in list(changes_between(*DECADE, zone))[:6]:
            walked = list(fires(trigger, change.at - DAY, change.at + 2 * DAY))
            moments = [fire.astimezone(UTC) for fire in walked]
            assert moments == sorted(set(moments))
            for at, _ in walk_the_clock(zone, change.at - 4 * HOUR, change.at + 4 * HOUR, 10 * MINUTE):
                following = next(fire for fire in walked if fire.astimezone(UTC) >= at)
                assert first_fire(trigger, at) == first_fire(trigger, at.astimezone(zone)) == following


def test_what_would_fire_in_the_gap_fires_once_after_it() -> None:
    spring = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # 01:30; 02:00 becomes 03:00
    for expression in ("15,45 2,3 * * *", "* 15,45 2,3 * * *", "0 15-45/30 2-3 * * *"):
        found = shown(crontab(expression, BERLIN), 2, spring)
        assert found == ["2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00"]


def test_a_zone_that_left_a_whole_day_out_fires_after_it() -> None:
    apia = ZoneInfo("Pacific/Apia")
    found = shown(crontab("30 2 * * *", apia), 3, datetime(2011, 12, 29, 0, tzinfo=apia).astimezone(UTC))
    assert [text[:16] for text in found] == ["2011-12-29T02:30", "2011-12-31T00:00", "2011-12-31T02:30"]


def test_clock_changes_are_found_with_what_they_skip_or_repeat() -> None:
    spring, autumn = changes_between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), BERLIN)
    assert spring == ClockChange(datetime(2026, 3, 29, 1, tzinfo=UTC), HOUR, 2 * HOUR)
    assert (spring.forward, autumn.forward) == (True, False)
    assert spring.wall == (datetime(2026, 3, 29, 2), datetime(2026, 3, 29, 3))
    assert autumn.wall == (datetime(2026, 10, 25, 2), datetime(2026, 10, 25, 3))
    assert change_around(datetime(2026, 3, 29, 2, 30), BERLIN) == spring
    assert change_around(datetime(2026, 10, 25, 2), BERLIN) == autumn
    assert change_around(datetime(2026, 10, 25, 3), BERLIN) is None
    assert list(changes_between(autumn.at - SECOND, autumn.at, BERLIN)) == [autumn]
    assert list(changes_between(autumn.at, autumn.at + DAY, BERLIN)) == []
    assert list(changes_between(*DECADE, UTC)) == []


@pytest.mark.parametrize("zone", ZONES[2:5], ids=lambda zone: zone.key)
def test_all_changes_of_ten_years_are_found(zone: ZoneInfo) -> None:
    offsets = [moment.astimezone(zone).utcoffset() for moment, _ in walk_the_clock(zone, *DECADE, 30 * MINUTE)]
    expected = [
        DECADE[0] + number * 30 * MINUTE
        for number, (before, after) in enumerate(pairwise(offsets), 1)
        if before != after
    ]
    assert [change.at for change in changes_between(*DECADE, zone)] == expected


# Time that it takes


RARE = ["0 0 29 2 1", "0 0 29 2 *", "0 0 * 2 mon#5", "0 0 */31 12 5", "59 59 23 31 12 */7", "58,59 58,59 23 * 2 */2"]


def quickest(action: Callable[[], Any]) -> float:
    """The least of some times of the processor, in seconds: not of what else the machine was at."""
    times = []
    for _ in range(5):
        begin = time.thread_time()
        action()
        times.append(time.thread_time() - begin)
    return min(times)


@pytest.mark.parametrize("expression", [*RARE, ",".join(map(str, range(60))) + " * " + "1-31," * 20 + "L * *"])
def test_any_expression_is_parsed_and_evaluated_in_little_time(expression: str) -> None:
    def parse() -> None:
        compile_expression.cache_clear()
        parse_expression("expression", expression)

    assert quickest(parse) < 0.010
    for zone in (UTC, BERLIN):
        trigger = crontab(expression, zone)
        assert quickest(lambda: trigger.get_next_fire_time(None, NOW)) < 0.010  # noqa: B023  # called at once
        far = crontab(expression, zone, start_date=datetime(9900, 1, 1))
        assert quickest(lambda: far.get_next_fire_time(None, NOW)) < 0.010  # noqa: B023


def test_what_never_fires_is_found_out_in_little_time() -> None:
    def refuse() -> None:
        with pytest.raises(ValueError, match="never fires"):
            compile_expression("* * */20 * 1L")

    assert quickest(refuse) < 0.020


# Far behind


class Counting(CrontabTrigger):
    __slots__ = ("calls",)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        self.calls = getattr(self, "calls", 0) + 1
        return super().get_next_fire_time(previous_fire_time, now)


@pytest.mark.parametrize(
    ("expression", "last"),
    [("* * * * * *", NOW + 365 * DAY), ("* * 9 * * *", datetime(2027, 3, 2, 9, 59, 59, tzinfo=UTC))],
)
@pytest.mark.parametrize("grace", [None, 3 * 365 * 86_400], ids=["no grace", "long grace"])
def test_after_a_year_the_latest_fires_are_found_with_a_few_hundred_calls(
    expression: str, last: datetime, grace: int | None
) -> None:
    later, first = NOW + 365 * DAY + SECOND / 2, first_fire(crontab(expression), NOW)
    for coalesce, runs in ((True, 1), (False, 100)):
        trigger = Counting(expression, timezone=UTC)
        planned = plan(make(trigger, first, misfire_grace_time=grace, coalesce=coalesce), later, 100)
        assert planned.fires == tuple(last - number * SECOND for number in range(runs - 1, -1, -1))
        [lapse] = planned.lapses
        assert (lapse.first, lapse.last, lapse.fires) == (first, last - runs * SECOND, None)
        assert planned.next is not None
        assert planned.next > later
        assert trigger.calls < 4 * WALK_LIMIT


@pytest.mark.parametrize(("days", "count"), [(99, 99), (365, None)])
def test_a_daily_crontab_is_counted_over_a_hundred_days(days: int, count: int | None) -> None:
    first = datetime(2026, 3, 3, 2, 30, tzinfo=BERLIN)
    now = first + days * DAY  # by the clock on the wall
    planned = plan(make(crontab("30 2 * * *", BERLIN), first, misfire_grace_time=None), now, 100)
    assert planned.fires == (now,)
    assert planned.lapses == (Lapse("coalesced", first, now - DAY, count),)


@given(
    st.sampled_from(["*/7 * * * *", "30 */2 * * *", "30 2 * * *", "15,45 1-3 * * *", "*/20 1,2 * * *"]),
    st.sampled_from(ZONES),
    st.sampled_from([datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)]),
    st.integers(0, 3 * 86_400),
    st.none() | st.integers(1, 200_000),
    st.booleans(),
)
def test_what_is_planned_is_the_schedule_as_it_is_walked_fire_by_fire(
    expression: str, zone: tzinfo, begin: datetime, late: int, grace: int | None, coalesce: bool
) -> None:
    trigger = crontab(expression, zone)
    first = first_fire(trigger, begin)
    assert first is not None
    now = first.astimezone(UTC) + late * SECOND
    due = list(fires(trigger, begin, now + SECOND))
    planned = plan(make(trigger, first, misfire_grace_time=grace, coalesce=coalesce), now, 50)
    in_time = [fire for fire in due if grace is None or (now - fire).total_seconds() <= grace]
    expected = in_time[-1:] if coalesce else in_time[-50:]
    assert [fire.isoformat() for fire in planned.fires] == [fire.isoformat() for fire in expected]
    assert planned.next == trigger.get_next_fire_time(due[-1], now)
    lapsed = len(due) - len(expected)
    assert len(planned.lapses) == bool(lapsed)
    assert all(lapse.fires in ([lapsed] if len(due) <= WALK_LIMIT else [lapsed, None]) for lapse in planned.lapses)


def test_an_or_with_a_crontab_is_taken_up_near_the_present() -> None:
    trigger = combined("or", cron("* * * * * *"), {"trigger": "date", "run_date": NOW})
    planned = plan(make(trigger, NOW, misfire_grace_time=None), NOW + 365 * DAY, 100)
    assert planned.fires == (NOW + 365 * DAY,)
    assert planned.lapses == (Lapse("coalesced", NOW, NOW + 365 * DAY - SECOND, None),)


def test_the_aliases_are_expressions_themselves() -> None:
    for alias, expression in ALIASES.items():
        assert shown(crontab(alias), 3) == shown(crontab(expression), 3)
