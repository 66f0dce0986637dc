"""Forecasts: when jobs fire next, with jitter left out, and what clock changes do to them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeAlias

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger

from .clock_marks import CLOCK_MARK, Changes, ClockMark, Marker, Step
from .fields import Schema, number, or_null, ref, whole
from .jobs import JobState, state_of
from .planning import first_fire, plan
from .schedules import following, normal, without_jitter

MAX_COUNT = 1000
"""Fires of one job that can be asked for."""
MAX_HOURS = 24 * 366
MAX_LIMIT = 10_000
"""Fires of a forecast."""

COUNT = whole(1, MAX_COUNT, text=True).about("Fires to show, at most.", default=10)
HOURS = number(0, MAX_HOURS, above=True, text=True, expected=f"more than 0 and at most {MAX_HOURS}").about(
    "Hours to look ahead.", default=24
)
LIMIT = whole(1, MAX_LIMIT, text=True).about("Fires to show, at most.", default=1000)

_PLANS = 20
"""Plans after which a trigger that is still behind is given up."""
_FORESEEN = timedelta(days=3660)
"""How far ahead clock changes are marked. No law is certain for longer, and to look for them takes its time."""


@dataclass(frozen=True, slots=True)
class Fire:
    """A fire to come, with what a clock change does to it."""

    job_id: str
    at: datetime
    clock_change: ClockMark | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        mark = self.clock_change
        return {"at": self.at.isoformat(), "clock_change": None if mark is None else mark.to_wire()}


FIRE: Mapping[str, Schema] = {
    "at": ref("Moment"),
    "clock_change": or_null(CLOCK_MARK),
}
"""By key, the JSON Schema of what `Fire.to_wire` returns."""


@dataclass(frozen=True, slots=True)
class NextFires:
    """The next fires of a job.

    It is `paused` if it, or the scheduler, has to be resumed first: the fires are those that it would have if that were
    now.
    `reason` says why there are fewer fires than the schedule has: the job is broken, or its trigger raised.
    """

    job_id: str
    state: JobState
    paused: bool
    items: tuple[Fire, ...]
    reason: str | None = None

    def head(self) -> dict[str, Any]:
        """Return all but the `items` as the API shows it."""
        return {"job_id": self.job_id, "state": self.state, "paused": self.paused, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Forecast:
    """The fires of all jobs up to `until`, in order of time. There are more if it is `truncated`.

    It is `paused` if the scheduler is, and has to be resumed first.
    """

    until: datetime
    items: tuple[Fire, ...]
    truncated: bool
    paused: bool = False


def next_fires(
    job: Job, now: datetime, count: int, *, max_catch_up: int, broken: str | None = None, all_paused: bool = False
) -> NextFires:
    """Return the next fires of `job`, at most `count`; none where it is `broken`.

    One that waits for the start is to be given as it would be if that were now. Those fires come first that are due
    and would run. The next one is as it is stored, jitter included; behind it there is none.
    """
    state = state_of(job, broken)
    paused = job.next_run_time is None and state != "broken"
    reason = broken or getattr(job, "broken", None)
    if reason:
        return NextFires(job.id, "broken", paused or all_paused, (), reason)
    outlook = _Outlook(job, now, max_catch_up, Changes(now))
    items = tuple(outlook.shown(fire) for fire in islice(outlook.fires(), count))
    if paused and not items and outlook.reason is None:
        state = "ended"  # what is resumed then is removed
    return NextFires(job.id, state, paused or all_paused, items, outlook.reason)


def forecast(jobs: Iterable[Job], now: datetime, hours: float, limit: int, *, max_catch_up: int) -> Forecast:
    """Return the fires of `jobs` within so many hours, the first `limit` of them. Paused jobs have none.

    However often they fire, no more than that are looked at. The `jobs` are to be those that are not broken.
    """
    until = now.astimezone(UTC) + timedelta(hours=hours)
    changes = Changes(now)
    outlooks = [_Outlook(job, now, max_catch_up, changes) for job in jobs if job.next_run_time is not None]
    merged = heapq.merge(*(outlook.until(until) for outlook in outlooks), key=_place)
    found = list(islice(merged, limit + 1))
    items = tuple(outlook.shown(fire) for outlook, fire in found[:limit])
    return Forecast(until, items, len(found) > limit)


def preview(trigger: BaseTrigger, now: datetime, count: int) -> NextFires:
    """Return the first fires, at most `count`, of a job that had this trigger and were added now."""
    job: Any = _Schedule(trigger, None, True, None)
    outlook = _Outlook(job, now, 1, Changes(now))
    items = tuple(outlook.shown(fire) for fire in islice(outlook.fires(), count))
    return NextFires("", "scheduled", False, items, outlook.reason)


_Placed: TypeAlias = "tuple[_Outlook, Step]"


def _place(entry: _Placed) -> tuple[float, str]:
    outlook, step = entry
    return step.fire.timestamp(), outlook.job.id


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What a plan reads of a job, its trigger without jitter."""

    trigger: BaseTrigger
    next_run_time: datetime | None
    coalesce: bool
    misfire_grace_time: int | None
    id: str = ""


class _Outlook:
    """The fires to come of one job; `reason` says why they break off."""

    def __init__(self, job: Job, now: datetime, max_catch_up: int, changes: Changes) -> None:
        self.job = job
        self.reason: str | None = None
        self._now = now
        self._max_catch_up = max_catch_up
        self._changes = changes
        self._trigger: BaseTrigger | None = None
        self._marker: Marker | None = None

    @property
    def trigger(self) -> BaseTrigger:
        if self._trigger is None:
            self._trigger = without_jitter(self.job.trigger)
        return self._trigger

    def until(self, end: datetime) -> Iterator[_Placed]:
        for step in self.fires():
            if step.fire.astimezone(UTC) > end:
                return
            yield self, step

    def fires(self) -> Iterator[Step]:
        try:
            yield from self._walk()
        except Exception as error:
            # The trigger may be the user's own code, or a combination that has no common fire.
            self.reason = f"its trigger raised {type(error).__name__}: {error}"

    def _walk(self) -> Iterator[Step]:
        now = self._now.astimezone(UTC)
        fire: datetime | None = self.job.next_run_time or first_fire(self.trigger, now)
        step = None if fire is None else Step(fire, now, False)
        for _ in range(_PLANS):
            if fire is None or fire.astimezone(UTC) > now:
                break
            schedule: Any = _Schedule(self.trigger, fire, self.job.coalesce, self.job.misfire_grace_time)
            planned = plan(schedule, now, self._max_catch_up)
            for due in planned.fires:
                yield Step(due, due, True)
            fire = planned.next
            step = None if fire is None else Step(fire, now, False)
        else:
            self.reason = "its trigger is too far behind to tell"
            return
        while step is not None:
            yield step
            fire = following(self.trigger, step.fire)
            step = None if fire is None else Step(fire, step.fire, True)

    def shown(self, step: Step) -> Fire:
        try:
            mark = self._mark(step)
        except Exception:
            # As above; the fire itself is known.
            mark = None
        return Fire(self.job.id, normal(step.fire), mark)

    def _mark(self, step: Step) -> ClockMark | None:
        if step.fire.astimezone(UTC) > self._now.astimezone(UTC) + _FORESEEN:
            return None
        if self._marker is None:
            self._marker = Marker(self.trigger, self._changes)
        return self._marker.mark(step)
