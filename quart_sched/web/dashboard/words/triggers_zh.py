"""Triggers in Chinese. A cron field that has no short name is shown as it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger

from ....model.crontab import ALIASES
from ....model.triggers import CalendarInterval, Combined, Cron, Crontab, Date, Interval, spec_of
from ....model.unrestorable import as_stored
from ....model.zones import zone_name

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_PLACES = {"1st": "第一个", "2nd": "第二个", "3rd": "第三个", "4th": "第四个", "5th": "第五个", "last": "最后一个"}
_UNITS = {
    "years": "年",
    "months": "个月",
    "weeks": "周",
    "days": "天",
    "hours": "小时",
    "minutes": "分钟",
    "seconds": "秒",
}


def describe(trigger: BaseTrigger) -> str | None:
    """Return in Chinese when `trigger` fires; None for a class that is not known."""
    trigger = as_stored(trigger)
    known = spec_of(trigger)
    spec: Any = known  # nothing in it is left out
    if isinstance(known, Combined):
        parts = [describe(part) for part in trigger.triggers]
        if None in parts:
            return None
        return ("或" if isinstance(trigger, OrTrigger) else "并且").join(f"（{part}）" for part in parts)
    if isinstance(known, Date):
        return f"{_moment(spec.run_date)}（{zone_name(spec.timezone)}）"
    if isinstance(known, Interval):
        words = [_interval(spec.every)]
        if spec.every >= timedelta(days=1):
            words.append(f"自 {_moment(spec.start_date)} 起")
    elif isinstance(known, CalendarInterval):
        every = "".join(f" {count} {_UNITS[unit]}" for unit in ("years", "months", "weeks", "days")
                        if (count := getattr(spec, unit)))  # fmt: skip
        words = [f"每{every}的 {spec.hour:02}:{spec.minute:02}{f':{spec.second:02}' if spec.second else ''}"]
        words.append(f"自 {spec.start_date} 起")
    elif isinstance(known, Cron | Crontab):
        words = _cron(_fields(trigger, spec))
        if spec.start_date is not None:
            words.append(f"不早于 {_moment(spec.start_date)}")
    else:
        return None
    if getattr(spec, "end_date", None) is not None:
        words.append(f"直到 {_moment(spec.end_date)}")
    text = "，".join(filter(None, words))
    if not isinstance(known, Interval):
        text += f"（{zone_name(spec.timezone)}）"
    return f"{text}，随机延后最多 {spec.jitter} 秒" if spec.jitter else text


def _moment(moment: datetime | date) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00") if isinstance(moment, datetime) else str(moment)


def _interval(every: timedelta) -> str:
    rest = every
    words = "每"
    for unit in ("weeks", "days", "hours", "minutes"):
        size = timedelta(**{unit: 1})
        if unit == "weeks" and rest % size:
            continue
        count, rest = divmod(rest, size)
        words += f" {count} {_UNITS[unit]}" if count else ""
    return words + (f" {rest.total_seconds():g} 秒" if rest else "")


def _fields(trigger: Any, spec: Cron | Crontab) -> dict[str, str]:
    """Return what is written for each field of a cron trigger."""
    if isinstance(spec, Cron):
        return {field.name: str(field) for field in trigger.fields}
    parts = ALIASES.get(trigger.expression.lower(), trigger.expression).lower().split()
    names = ("second", "minute", "hour", "day", "month", "day_of_week")
    fields = dict(zip(names, parts if len(parts) == 6 else ["0", *parts], strict=True))
    # Cron counts the days of the week from Sunday.
    weekday = re.sub(
        r"(?<![/#\w])[0-7](?![#\w])", lambda found: _WEEKDAYS[(int(found[0]) - 1) % 7], fields["day_of_week"]
    )
    return fields | {"day_of_week": weekday}


def _cron(fields: Mapping[str, str]) -> list[str]:
    days = [
        _field(fields.get("year", "*"), "{} 年", "年份 {}"),
        _field(fields["month"], "{} 月", "月份 {}", _MONTHS, 1),
        _field(fields.get("week", "*"), "第 {} 周", "周数 {}"),
        _day(fields["day"]),
        _weekday(fields["day_of_week"]),
    ]
    return [*filter(None, days), _clock(fields["second"], fields["minute"], fields["hour"])]


def _field(text: str, one: str, other: str, names: tuple[str, ...] = (), first: int = 0) -> str:
    if text == "*":
        return ""
    numbered = re.sub(
        r"[a-z]{3}", lambda found: str(names.index(found[0]) + first) if found[0] in names else found[0], text
    )
    return (one if numbered.isdigit() else other).format(numbered)


def _day(text: str) -> str:
    if text in ("last", "l"):
        return "每月最后一天"
    if text == "lw":
        return "每月最后一个工作日"
    place, _, weekday = text.partition(" ")
    if place in _PLACES and weekday in _WEEKDAYS:
        return f"每月{_PLACES[place]}{_name(weekday)}"
    return _field(text, "每月 {} 日", "日期 {}")


def _weekday(text: str) -> str:
    if text == "*":
        return ""
    text = re.sub(r"(?<![/#\w])[0-6](?![#\w])", lambda found: _WEEKDAYS[int(found[0])], text)
    if re.fullmatch(r"[a-z]{3}([,-][a-z]{3})*", text) and all(name in _WEEKDAYS for name in re.split("[,-]", text)):
        return re.sub(r"[a-z]{3}", lambda found: _name(found[0]), text).replace("-", "至").replace(",", "、")
    return f"星期 {text}"


def _name(weekday: str) -> str:
    return f"周{'一二三四五六日'[_WEEKDAYS.index(weekday)]}"


def _clock(second: str, minute: str, hour: str) -> str:
    if second.isdigit() and minute.isdigit() and re.fullmatch(r"\d+(,\d+)*", hour):
        tail = f":{int(minute):02}" + (f":{int(second):02}" if int(second) else "")
        return "、".join(f"{int(one):02}{tail}" for one in hour.split(","))
    steps = [re.fullmatch(r"\*/(\d+)", text) for text in (second, minute, hour)]
    if minute == hour == "*" and (second == "*" or steps[0]):
        return f"每 {steps[0][1]} 秒" if steps[0] else "每秒"
    if second == "0" and hour == "*" and (minute == "*" or steps[1]):
        return f"每 {steps[1][1]} 分钟" if steps[1] else "每分钟"
    if second == "0" and minute.isdigit() and (hour == "*" or steps[2]):
        return f"每{f' {steps[2][1]} ' if steps[2] else ''}小时的第 {int(minute)} 分"
    shown = [f"{hour} 时" if hour != "*" else "", f"{minute} 分" if minute != "*" else "每分钟"]
    return " ".join(filter(None, [*shown, f"{second} 秒" if second not in ("0", "00") else ""]))
