"""Backfills: past fires of a job that are to run after all, each with the time that it was due at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

from apscheduler.triggers.base import BaseTrigger

from ..errors import InvalidDefinition
from .fields import Field, Schema, flag, listing, moment, nullable, parse_fields, record, ref, whole
from .planning import take_up
from .schedules import following, without_jitter
from .zones import localize

MOST_FIRES = 1000
"""Fires that one backfill may have."""
MOST_AT_ONCE = 100

FIELDS: Mapping[str, Field] = {
    "start": moment.about("The time of the first fire."),
    "end": nullable(moment).about("The time before which the last fire lies, not in the future; left out, now."),
    "dry_run": nullable(flag()).about("Show the fires, and run nothing."),
    "concurrency": nullable(whole(1, MOST_AT_ONCE, text=True)).about("Runs at once, at most.", default=1),
    "rerun": nullable(flag()).about("Also run the fires that one has succeeded at."),
}
"""By key of a request."""


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
        given = parse_fields(FIELDS, values)
        if "start" not in given:
            raise InvalidDefinition("start", "is missing; expected the time of the first fire, in ISO 8601")
        times = {
            key: localize(key, localize(key, given.pop(key), timezone), UTC) for key in ("start", "end") if key in given
        }
        start, end = times["start"], times.get("end", now)
        if end > now:
            raise InvalidDefinition("end", f"is {end.isoformat()}; expected a time that is not in the future")
        if start >= end:
            raise InvalidDefinition(
                "start", f"is {start.isoformat()}; expected a time before the end, {end.isoformat()}"
            )
        return cls(start, end, **given)

    def fires(self, trigger: BaseTrigger) -> list[datetime]:
        """Return the fires of the trigger in that span, jitter left out. Raises InvalidDefinition."""
        found: list[datetime] = []
        try:
            trigger = without_jitter(trigger)
            fire = take_up(trigger, self.start)
            while fire is not None and fire.astimezone(UTC) < self.end and len(found) <= MOST_FIRES:
                found += [fire] if fire.astimezone(UTC) >= self.start else []
                fire = following(trigger, fire)
        except Exception as error:
            # The trigger may be the user's own code, or a combination that has no common fire.
            raise InvalidDefinition("trigger", f"raised {type(error).__name__}: {error}") from error
        if len(found) > MOST_FIRES:
            raise InvalidDefinition("end", f"leaves more than {MOST_FIRES:,} fires; expected a shorter span")
        return found


@dataclass(frozen=True, slots=True)
class Backfill:
    """The fires of a backfill, in order of time, each with its run_id: None where it is a dry run.

    `left_out` counts the fires that need no run: one waits or is under way already, or has succeeded, or the schedule
    has yet to come to it.
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


BACKFILL: Schema = record(
    {
        "job_id": {"type": "string"},
        "dry_run": {"type": "boolean"},
        "left_out": {
            "type": "integer",
            "description": "Fires that need no run: one waits, is under way or succeeded, or the schedule has "
            "yet to come to it.",
        },
        "items": listing(record({"scheduled_at": ref("Moment"), "run_id": {"type": ["string", "null"]}})),
    }
)
"""The JSON Schema of what `Backfill.to_wire` returns."""


def remaining(
    fires: Sequence[datetime], taken: Iterable[datetime], *, jitter: timedelta, upcoming: datetime | None
) -> list[datetime]:
    """Return the `fires`, in order of time, but for those of which a run was due at one of the times `taken`.

    With a `jitter` that may have been so far from the fire; each time stands for one fire alone. Those that the
    schedule may yet come to, the next at `upcoming`, are left out as well.
    """
    exact = {fire.astimezone(UTC) for fire in taken}
    free = [fire for fire in fires if fire.astimezone(UTC) not in exact]
    if upcoming is not None:
        free = [fire for fire in free if fire.astimezone(UTC) < upcoming.astimezone(UTC) - jitter]
    if not jitter:
        return free
    near = deque(sorted(exact - {fire.astimezone(UTC) for fire in fires}))
    left = []
    for fire in free:
        while near and near[0] < fire.astimezone(UTC) - jitter:
            near.popleft()
        if near and near[0] <= fire.astimezone(UTC) + jitter:
            near.popleft()
        else:
            left.append(fire)
    return left
