"""Triggers in Chinese."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from apscheduler.triggers.base import BaseTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched.errors import InvalidDefinition
from quart_sched.model.trigger_parser import parse_trigger
from quart_sched.model.unrestorable import Unrestorable
from quart_sched.web.dashboard.words.triggers_zh import describe

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def words(**wire: Any) -> str | None:
    return describe(parse_trigger(wire).build(UTC, NOW))


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ({"trigger": "interval", "minutes": 10}, "每 10 分钟"),
        ({"trigger": "interval", "hours": 1, "seconds": 1.5}, "每 1 小时 1.5 秒"),
        ({"trigger": "interval", "weeks": 2, "start_date": "2026-01-05 08:00"}, "每 2 周，自 2026-01-05 08:00 起"),
        ({"trigger": "interval", "seconds": 30, "jitter": 5}, "每 30 秒，随机延后最多 5 秒"),
        ({"trigger": "date", "run_date": "2026-05-01T08:30:00"}, "2026-05-01 08:30（UTC）"),
        (
            {"trigger": "calendarinterval", "months": 1, "hour": 6, "start_date": "2026-01-31"},
            "每 1 个月的 06:00，自 2026-01-31 起（UTC）",
        ),
        ({"trigger": "cron", "hour": 2, "minute": 30}, "02:30（UTC）"),
        ({"trigger": "cron", "hour": "8,20", "day_of_week": "mon-fri"}, "周一至周五，08:00、20:00（UTC）"),
        ({"trigger": "cron", "day_of_week": "0,6", "hour": 1}, "周一、周日，01:00（UTC）"),
        ({"trigger": "cron", "minute": "*/5"}, "每 5 分钟（UTC）"),
        ({"trigger": "cron", "second": "*/10"}, "每 10 秒（UTC）"),
        ({"trigger": "cron", "hour": "*/4", "minute": 15}, "每 4 小时的第 15 分（UTC）"),
        ({"trigger": "cron", "day": "last", "hour": 23}, "每月最后一天，23:00（UTC）"),
        ({"trigger": "cron", "day": "2nd tue", "hour": 9}, "每月第二个周二，09:00（UTC）"),
        ({"trigger": "cron", "month": "jan", "day": 1}, "1 月，每月 1 日，00:00（UTC）"),
        ({"trigger": "cron", "year": 2027, "end_date": "2027-06-01"},
         "2027 年，1 月，每月 1 日，00:00，直到 2027-06-01 00:00（UTC）"),
        ({"trigger": "crontab", "expression": "0 9 * * 1-5"}, "周一至周五，09:00（UTC）"),
        ({"trigger": "crontab", "expression": "30 4 1 * *"}, "每月 1 日，04:30（UTC）"),
        ({"trigger": "crontab", "expression": "0 0 * * 7"}, "周日，00:00（UTC）"),
        ({"trigger": "crontab", "expression": "@hourly"}, "每小时的第 0 分（UTC）"),
        ({"trigger": "crontab", "expression": "*/15 9-17 * * *"}, "9-17 时 */15 分（UTC）"),
        ({"trigger": "crontab", "expression": "0 0 9 * * 1#2"}, "星期 1#2，09:00（UTC）"),
        (
            {"trigger": "or", "triggers": [{"trigger": "cron", "hour": 3}, {"trigger": "interval", "hours": 5}]},
            "（03:00（UTC））或（每 5 小时）",
        ),
    ],
)  # fmt: skip
def test_a_trigger_in_chinese(wire: dict[str, Any], text: str) -> None:
    assert words(**wire) == text
    assert describe(Unrestorable("gone", parse_trigger(wire).build(UTC, NOW))) == text


def test_a_trigger_of_the_users_own_has_no_words() -> None:
    class Own(BaseTrigger):  # type: ignore[misc]
        def get_next_fire_time(self, previous: Any, now: Any) -> Any:
            return None

    assert describe(Own()) is None


_FIELD = st.sampled_from(["*", "*/2", "1", "1,3", "1-5", "1-5/2", "2", "3-4,1"])


@given(st.tuples(*[_FIELD] * 5))
def test_whatever_is_written_has_words(parts: tuple[str, ...]) -> None:
    try:
        built = parse_trigger({"trigger": "crontab", "expression": " ".join(parts)}).build(UTC, NOW)
    except InvalidDefinition:
        return
    assert describe(built)
    names = ("minute", "hour", "day", "month", "day_of_week")
    assert words(trigger="cron", **dict(zip(names, parts, strict=True)))
