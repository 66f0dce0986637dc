"""Backfills: past fires of a job that are to run after all, each with the time that it was due at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Self

from apscheduler.triggers.base import BaseTrigger

from ..errors import InvalidDefinition
from .arguments import bounded_repr
from .forecast import following_fire, parse_whole, without_jitter
from .planning import first_fire
from .trigger_parser import moment
from .triggers import localize

MOST_FIRES = 1000
"""Fires that one backfill may have."""
MOST_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """The fires from `start` on and before `end`, which is not in the future, and how they are to run."""

    start: datetime
    end: datetime
    dry_run: bool = False
    concurrency: int = 1
    rerun: bool = False

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, timezone: tzinfo, now: datetime) -> Self:
        """Take Python's objects or JSON; None stands for what is not given, a naive time is read in `timezone`.

        Raises InvalidDefinition naming the key, the value and what was expected.
        """
        given = {key: value for key, value in values.items() if value is not None}
        for key in given.keys() - set(_KEYS):
            raise InvalidDefinition(key, f"is {bounded_repr(given[key])}; expected {', '.join(_KEYS)} alone")
        if "start" not in given:
            raise InvalidDefinition("start", "is missing; expected the time of the first fire, in ISO 8601")
        start = _time("start", given["start"], timezone)
        end = _time("end", given["end"], timezone) if "end" in given else now
        if end > now:
            raise InvalidDefinition("end", f"is {end.isoformat()}; expected a time that is not in the future")
        if start >= end:
            raise InvalidDefinition(
                "start", f"is {start.isoformat()}; expected a time before the end, {end.isoformat()}"
            )
        flags = {key: _flag(key, given[key]) for key in ("dry_run", "rerun") if key in given}
        concurrency = parse_whole("concurrency", given.get("concurrency", 1), MOST_AT_ONCE)
        return cls(start, end, concurrency=concurrency, **flags)

    def fires(self, trigger: BaseTrigger) -> list[datetime]:
        """Return the fires of the trigger in that span, jitter left out. Raises InvalidDefinition."""
        found: list[datetime] = []
        try:
            trigger = without_jitter(trigger)
            fire = first_fire(trigger, self.start)
            while fire is not None and fire.astimezone(UTC) < self.end and len(found) <= MOST_FIRES:
                found += [fire] if fire.astimezone(UTC) >= self.start else []
                fire = following_fire(trigger, fire)
        except Exception as error:
            # The trigger may be the user's own code, or a combination that has no common fire.
            raise InvalidDefinition("trigger", f"raised {type(error).__name__}: {error}") from error
        if len(found) > MOST_FIRES:
            raise InvalidDefinition("end", f"leaves more than {MOST_FIRES:,} fires; expected a shorter span")
        return found


@dataclass(frozen=True, slots=True)
class Backfill:
    """The fires of a backfill, in order of time, each with its run_id: None where it is a dry run.

    `left_out` counts the fires that need no run: one waits or is under way already, or has succeeded.
    """

    job_id: str
    items: tuple[tuple[datetime, str | None], ...]
    left_out: int
    dry_run: bool

    def to_wire(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "job_id": self.job_id,
            "dry_run": self.dry_run,
            "left_out": self.left_out,
            "items": [{"scheduled_at": fire.isoformat(), "run_id": run_id} for fire, run_id in self.items],
        }


_KEYS = ("start", "end", "dry_run", "concurrency", "rerun")


def _time(key: str, value: Any, timezone: tzinfo) -> datetime:
    return localize(key, localize(key, moment(key, value), timezone), UTC)


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected true or false")
    return value
