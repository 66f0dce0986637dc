"""Triggers in plain English, for people who read a list of jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron.expressions import LastDayOfMonthExpression, WeekdayPositionExpression
from apscheduler.triggers.cron.fields import MAX_VALUES, MIN_VALUES
from cronsim import CronSim

from .crontab import CrontabTrigger
from .triggers import CalendarInterval, Combined, Custom, Date, Interval, TriggerSpec, spec_of
from .unrestorable import as_stored
from .zones import zone_name

MAX_DESCRIPTION = 500
"""Characters of the longest description."""

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", CronSim.LAST: "last"}


def describe(trigger: BaseTrigger, spec: TriggerSpec | None = None) -> str:
    """Return in plain English when `trigger` fires; its own `str()` where its class is not known. Never raises.

    `spec` is what `spec_of` makes of it, where that is at hand.
    """
    try:
        trigger = as_stored(trigger)
        text = _describe(trigger, spec_of(trigger) if spec is None else spec)
    except Exception:
        # The user's own class, or values that no parser of ours has seen; the job must be shown all the same.
        text = type(trigger).__name__
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"


def _describe(trigger: Any, known: TriggerSpec) -> str:
    if isinstance(known, Custom):
        return str(trigger)
    spec: Any = known  # nothing in it is left out
    if isinstance(known, Date):
        return f"on {_moment(spec.run_date)} {zone_name(spec.timezone)}"
    if isinstance(known, Combined):
        parts = [_describe(part, spec_of(part)) for part in trigger.triggers]
        words = [_combined(parts, isinstance(trigger, OrTrigger))]
    elif isinstance(known, Interval):
        words = [_interval(spec.every)]
        # The start of a short one is of no interest; that of a long one says at what time of day.
        if spec.every >= timedelta(days=1):
            words.append(f"counted from {_moment(spec.start_date)}")
    elif isinstance(known, CalendarInterval):
        units = ((getattr(spec, f"{unit}s"), unit) for unit in ("year", "month", "week", "day"))
        words = [f"{_every(*units)} at {_time(time(spec.hour, spec.minute, spec.second))}"]
        words.append(f"counted from {spec.start_date}")
    else:
        words = _crontab(trigger.pattern) if isinstance(trigger, CrontabTrigger) else _cron(trigger)
        if spec.start_date is not None:
            words.append(f"not before {_moment(spec.start_date)}")
    if getattr(spec, "end_date", None) is not None:
        words.append(f"until {_moment(spec.end_date) if isinstance(spec.end_date, datetime) else spec.end_date}")
    text = ", ".join(filter(None, words))
    if not isinstance(known, Combined) and not (isinstance(known, Interval) and len(words) == 1):
        text += f" ({zone_name(spec.timezone)})"
    return f"{text}, up to {_plural(spec.jitter, 'second')} later at random" if spec.jitter else text


def _combined(parts: Sequence[str], any_of_them: bool) -> str:
    if len(parts) == 1:
        return parts[0]
    if any_of_them:
        return " or ".join(f"({part})" for part in parts)
    return "when these coincide: " + " and ".join(f"({part})" for part in parts)


def _interval(every: timedelta) -> str:
    if every.days and every == timedelta(weeks=every.days // 7):
        return _every((every.days // 7, "week"))
    minutes, seconds = divmod(every.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    exact = round(seconds + every.microseconds / 1_000_000, 6) if every.microseconds else seconds
    return _every((every.days, "day"), (hours, "hour"), (minutes, "minute"), (exact, "second"))


def _every(*parts: tuple[float, str]) -> str:
    given = [(number, unit) for number, unit in parts if number]
    if len(given) == 1 and given[0][0] == 1:
        return f"every {given[0][1]}"
    return "every " + _listed([_plural(number, unit) for number, unit in given])


def _plural(number: float, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _moment(moment: datetime) -> str:
    return f"{moment.date()} at {_time(moment.time())}"


def _time(at: time) -> str:
    if at.microsecond:
        return at.isoformat().rstrip("0")
    return at.isoformat("auto" if at.second else "minutes")


def _listed(items: Sequence[str], last: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


# Cron expressions. A field is taken as the set of its values, as the same can be written in many ways, some of which
# cron-descriptor reads unlike cron.


def _crontab(pattern: CronSim) -> list[str]:
    special = {CronSim.LAST: "the last day", CronSim.LAST_WEEKDAY: "the last weekday"}
    days = _days(
        [day for day in pattern.days if day not in special],
        [words for day, words in special.items() if day in pattern.days],
    )
    weekdays = _weekdays(
        {(item - 1) % 7 for item in pattern.weekdays if isinstance(item, int)},
        [f"the {_ORDINALS[item[1]]} {_WEEKDAYS[(item[0] - 1) % 7]}" for item in _pairs(pattern.weekdays)],
    )
    if not pattern.day_and and not (days and weekdays):
        days, weekdays = "", []  # either will do, and one of them is every day
    return [
        _clock((pattern.seconds, pattern.minutes, pattern.hours), pattern.parts[:3]),
        _on(days, weekdays, pattern.day_and),
        _in("", [month - 1 for month in pattern.months], range(12), _MONTHS),
    ]


def _pairs(items: Collection[Any]) -> list[tuple[int, int]]:
    return sorted(item for item in items if isinstance(item, tuple))


def _cron(trigger: Any) -> list[str]:
    fields = {field.name: field for field in trigger.fields}
    special: list[str] = []
    for expression in fields["day"].expressions:
        if isinstance(expression, LastDayOfMonthExpression):
            special.append("the last day")
        elif isinstance(expression, WeekdayPositionExpression):
            nth = "last" if expression.option_num == 5 else _ORDINALS[expression.option_num + 1]
            special.append(f"the {nth} {_WEEKDAYS[expression.weekday]}")
    clock = [fields[name] for name in ("second", "minute", "hour")]
    return [
        _clock([_values(field) for field in clock], [str(field) for field in clock]),
        _on(_days(_values(fields["day"]), special), _weekdays(_values(fields["day_of_week"]), []), True),
        _in("", [month - 1 for month in _values(fields["month"])], range(12), _MONTHS),
        _in("week", _values(fields["week"]), range(1, 54)),
        _in("", _values(fields["year"]), range(MIN_VALUES["year"], MAX_VALUES["year"] + 1)),
    ]


def _values(field: Any) -> Collection[int]:
    """Return the numbers that a field of APScheduler's cron stands for."""
    low, high = MIN_VALUES[field.name], MAX_VALUES[field.name]
    if str(field) == "*":
        return range(low, high + 1)
    found: set[int] = set()
    for expression in field.expressions:
        if not isinstance(expression, LastDayOfMonthExpression | WeekdayPositionExpression):
            first, last = getattr(expression, "first", low), getattr(expression, "last", high)
            found |= set(range(first, (high if last is None else last) + 1, expression.step or 1))
    return found


def _clock(values: Sequence[Collection[int]], written: Sequence[str]) -> str:
    """Return second, minute and hour in words."""
    seconds, minutes, hours = values
    stepped = ["/" in text for text in written]
    one_time = len(seconds) == len(minutes) == 1
    second, minute = _rewritten(seconds, 60, stepped[0]), _rewritten(minutes, 60, stepped[1])
    hour = _rewritten(hours, 24, stepped[2], each=one_time)
    if "," in hour and not one_time:
        # To cron-descriptor these are times, at which alone the job would fire.
        spans = [f"between {first:02}:00 and {last:02}:59" for first, last in _spans(sorted(hours))]
        return f"{_time_of_day(second, minute, '*')}, {_listed(spans)}"
    return _time_of_day(second, minute, hour)


def _rewritten(values: Collection[int], size: int, stepped: bool, *, each: bool = False) -> str:
    """Return a cron field for `values`, of `size` possible ones, that cron-descriptor reads as it is meant.

    What was `stepped` remains a step, if it is an even one. `each` lists the values, where they are not all in a row.
    """
    if len(values) == size:
        return "*"
    ordered = sorted(values)
    first, last, step = ordered[0], ordered[-1], _step(ordered)
    if step and step > 1 and first + size == last + step and (stepped or len(ordered) > 2):
        return f"{first or '*'}/{step}"
    if step and (len(ordered) > 4 or each) and len(ordered) > 2 and (step == 1 or not each):
        return f"{first}-{last}" if step == 1 else f"{first}-{last}/{step}"
    if each:
        return ",".join(map(str, ordered))
    return ",".join(f"{a}-{b}" if a < b else str(a) for a, b in _runs(ordered))


@lru_cache(maxsize=4096)
def _time_of_day(second: str, minute: str, hour: str) -> str:
    from cron_descriptor import Options, get_description

    # Given explicitly, as the locale of the process is not asked for.
    options = Options(locale_code="en_US", use_24hour_time_format=True)
    text: str = get_description(f"{second} {minute} {hour} * * *", options)
    return text[0].lower() + text[1:]


def _on(days: str, weekdays: Sequence[str], both: bool) -> str:
    """Return days of the month and of the week in words; both have to match, or either."""
    if not weekdays:
        return f"on {days}" if days else ""
    if days and both:
        return f"on {days} if that is {_listed(weekdays, 'or')}"
    a_run = len(weekdays) == 1 and " to " in weekdays[0]
    on_weekdays = f"{'from' if a_run else 'on'} {_listed(weekdays)}"
    return f"on {days} and also {on_weekdays}" if days else on_weekdays


def _days(numbers: Collection[int], special: Sequence[str]) -> str:
    """Return days of the month in words; nothing where they are all."""
    if len(numbers) == 31:
        return ""
    plain = [f"{'day' if len(numbers) == 1 else 'days'} {_series(numbers)}"] if numbers else []
    return f"{_listed([*plain, *special])} of the month"


def _weekdays(numbers: Collection[int], special: Sequence[str]) -> list[str]:
    """Return days of the week, of which Monday is 0, in words; nothing where they are all."""
    if len(numbers) == 7:
        return []
    return [*_parts(sorted(numbers), _WEEKDAYS), *(f"{words} of the month" for words in special)]


def _in(noun: str, values: Collection[int], whole: range, names: Sequence[str] | None = None) -> str:
    if len(values) == len(whole):
        return ""
    noun = f"{noun}s " if noun and len(values) > 1 else f"{noun} " if noun else ""
    return f"in {noun}{_series(values, names)}"


def _series(values: Collection[int], names: Sequence[str] | None = None) -> str:
    """Return numbers, or what they count in `names`, as text: runs by their ends, and long progressions too."""
    ordered = sorted(values)
    step = _step(ordered)
    if names is None and step and step > 1 and len(ordered) > 4:
        return f"{ordered[0]} to {ordered[-1]} in steps of {step}"
    return _listed(_parts(ordered, names))


def _parts(ordered: Sequence[int], names: Sequence[str] | None) -> list[str]:
    shown = str if names is None else names.__getitem__
    return [f"{shown(a)} to {shown(b)}" if a < b else shown(a) for a, b in _runs(ordered)]


def _step(ordered: Sequence[int]) -> int | None:
    """Return the distance between all neighbours; None where it is not the same."""
    steps = {b - a for a, b in pairwise(ordered)}
    return steps.pop() if len(steps) == 1 else None


def _runs(ordered: Sequence[int]) -> list[tuple[int, int]]:
    """Return the numbers as (first, last): three or more in a row together, others one by one."""
    parted = ([(a, a), (b, b)] if b == a + 1 else [(a, b)] for a, b in _spans(ordered))
    return [run for runs in parted for run in runs]


def _spans(ordered: Sequence[int]) -> list[tuple[int, int]]:
    """Return the numbers as (first, last), those in a row together."""
    spans: list[tuple[int, int]] = []
    for value in ordered:
        if spans and value == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], value)
        else:
            spans.append((value, value))
    return spans
