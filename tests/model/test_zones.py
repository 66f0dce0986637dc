"""Which zone a trigger goes by, and what zones are called."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger

from quart_sched.model.trigger_parser import parse_trigger
from quart_sched.model.unrestorable import Unrestorable
from quart_sched.model.zones import zone_name, zone_of

BERLIN = ZoneInfo("Europe/Berlin")
CRON: dict[str, Any] = {"trigger": "cron", "hour": 9, "timezone": "Europe/Berlin"}


class Own(BaseTrigger):
    def __init__(self, timezone: Any = None) -> None:
        self.timezone = timezone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        return None


@pytest.mark.parametrize(
    "wire",
    [
        CRON,
        {"trigger": "date", "run_date": "2026-03-02T09:00:00", "timezone": "Europe/Berlin"},
        {"trigger": "or", "triggers": [CRON]},
        {"trigger": "and", "triggers": [{"trigger": "or", "triggers": [CRON]}, CRON | {"timezone": "UTC"}]},
    ],
)
def test_the_zone_of_a_trigger_is_that_of_its_first_part_or_of_its_date(wire: dict[str, Any]) -> None:
    trigger = parse_trigger(wire).build(UTC, datetime(2026, 3, 2, tzinfo=UTC))
    assert zone_of(trigger) == BERLIN
    assert zone_of(Unrestorable("gone", trigger)) == BERLIN


@pytest.mark.parametrize("trigger", [None, Own(), Own("Europe/Berlin"), Unrestorable("gone")])
def test_a_trigger_may_have_no_zone(trigger: BaseTrigger | None) -> None:
    assert zone_of(trigger) is None


def test_the_zone_of_a_trigger_of_the_users_own_is_what_it_says() -> None:
    assert zone_of(Own(BERLIN)) is BERLIN


def test_a_zone_without_a_name_is_shown_as_it_calls_itself() -> None:
    class Odd(tzinfo):
        def __str__(self) -> str:
            return "odd"

    assert zone_name(Odd()) == "odd"
