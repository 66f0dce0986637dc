"""Forecasts: when jobs fire next, with jitter left out, and what clock changes do to them."""

from __future__ import annotations

import copy
import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from .clock_changes import ClockChange, change_around, changes_between
from .combining import EarliestOrTrigger
from .crontab import CrontabTrigger
from .fields import Schema, number, or_null, record, ref, whole
from .jobs import JobState, state_of
from .planning import TriggerStuck, first_fire, plan
from .triggers import SPAN, BoundedAndTrigger, zone_name

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
_YEAR = timedelta(days=366)
_FORESEEN = 10 * _YEAR
"""How far ahead clock changes are marked. No law is certain for longer, and to look for them takes its time."""
_TICK = timedelta(microseconds=1)
_LAST_YEAR = 9999

Effect = Literal["moved", "left_out", "both", "once"]


@dataclass(frozen=True, slots=True)
class ClockMark:
    """What a clock change does to a fire.

    `wall` is the naive time of the schedule that is skipped, or comes twice. Where it is skipped, the fire has been
    `"moved"` from it; or it is the next after one that is `"left_out"`. Where it comes twice the job fires at `"both"`
    times, or `"once"` and at this one alone; None where the trigger is of the user's own and nobody knows.
    """

    change: ClockChange
    zone: tzinfo
    wall: datetime
    effect: Effect | None
    description: str

    def to_wire(self) -> dict[str, Any]:
        """Return it as the API shows it; `at` is the first moment of the new time."""
        return {
            "direction": "forward" if self.change.forward else "back",
            "at": self.change.at.astimezone(self.zone).isoformat(),
            "wall": self.wall.isoformat(),
            "effect": self.effect,
            "description": self.description,
        }


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
    "clock_change": or_null(
        record(
            {
                "direction": {"enum": ["forward", "back"]},
                "at": ref("Moment") | {"description": "The first moment of the new time."},
                "wall": ref("Moment") | {"description": "The time on the wall that is skipped, or comes twice."},
                "effect": {"enum": [*get_args(Effect), None], "description": "Null where that is not known."},
                "description": {"type": "string"},
            }
        )
    ),
}
"""By key, the JSON Schema of what `Fire.to_wire` returns."""


@dataclass(frozen=True, slots=True)
class NextFires:
    """The next fires of a job.

    It is `paused` if it has to be resumed first, and the fires are those that it would have if it were now.
    `reason` says why there are fewer fires than the schedule has: the job is broken, or its trigger raised.
    """

    job_id: str
    state: JobState
    paused: bool
    items: tuple[Fire, ...]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """The fires of all jobs up to `until`, in order of time. There are more if it is `truncated`."""

    until: datetime
    items: tuple[Fire, ...]
    truncated: bool


def next_fires(job: Job, now: datetime, count: int, *, max_catch_up: int, broken: str | None = None) -> NextFires:
    """Return the next fires of `job`, at most `count`; none where it is `broken`.

    One that waits for the start is to be given as it would be if that were now. Those fires come first that are due
    and would run. The next one is as it is stored, jitter included; behind it there is none.
    """
    state = state_of(job, broken)
    paused = job.next_run_time is None and state != "broken"
    reason = broken or getattr(job, "broken", None)
    if reason:
        return NextFires(job.id, "broken", paused, (), reason)
    outlook = _Outlook(job, now, max_catch_up, _Changes(now))
    items = tuple(outlook.shown(fire) for fire in islice(outlook.fires(), count))
    if paused and not items and outlook.reason is None:
        state = "ended"  # what is resumed then is removed
    return NextFires(job.id, state, paused, items, outlook.reason)


def forecast(jobs: Iterable[Job], now: datetime, hours: float, limit: int, *, max_catch_up: int) -> Forecast:
    """Return the fires of `jobs` within so many hours, the first `limit` of them. Paused jobs have none.

    However often they fire, no more than that are looked at. The `jobs` are to be those that are not broken.
    """
    until = now.astimezone(UTC) + timedelta(hours=hours)
    changes = _Changes(now)
    outlooks = [_Outlook(job, now, max_catch_up, changes) for job in jobs if job.next_run_time is not None]
    merged = heapq.merge(*(outlook.until(until) for outlook in outlooks), key=_place)
    found = list(islice(merged, limit + 1))
    items = tuple(outlook.shown(fire) for outlook, fire in found[:limit])
    return Forecast(until, items, len(found) > limit)


class _Step(NamedTuple):
    """A fire as its trigger gives it, and the moment behind which it is the next."""

    fire: datetime
    after: datetime
    after_fire: bool


_Placed: TypeAlias = "tuple[_Outlook, _Step]"


def _place(entry: _Placed) -> tuple[float, str]:
    outlook, step = entry
    return step.fire.timestamp(), outlook.job.id


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What a plan reads of a job, its trigger without jitter."""

    trigger: BaseTrigger
    next_run_time: datetime
    coalesce: bool
    misfire_grace_time: int | None


class _Outlook:
    """The fires to come of one job; `reason` says why they break off."""

    def __init__(self, job: Job, now: datetime, max_catch_up: int, changes: _Changes) -> None:
        self.job = job
        self.reason: str | None = None
        self._now = now
        self._max_catch_up = max_catch_up
        self._changes = changes
        self._trigger: BaseTrigger | None = None
        self._leaves: list[_Leaf] | None = None

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

    def fires(self) -> Iterator[_Step]:
        try:
            yield from self._walk()
        except Exception as error:
            # The trigger may be the user's own code, or a combination that has no common fire.
            self.reason = f"its trigger raised {type(error).__name__}: {error}"

    def _walk(self) -> Iterator[_Step]:
        now = self._now.astimezone(UTC)
        fire: datetime | None = self.job.next_run_time or first_fire(self.trigger, now)
        step = None if fire is None else _Step(fire, now, False)
        for _ in range(_PLANS):
            if fire is None or fire.astimezone(UTC) > now:
                break
            schedule: Any = _Schedule(self.trigger, fire, self.job.coalesce, self.job.misfire_grace_time)
            planned = plan(schedule, now, self._max_catch_up)
            for due in planned.fires:
                yield _Step(due, due, True)
            fire = planned.next
            step = None if fire is None else _Step(fire, now, False)
        else:
            self.reason = "its trigger is too far behind to tell"
            return
        while step is not None:
            yield step
            following = following_fire(self.trigger, step.fire)
            step = None if following is None else _Step(following, step.fire, True)

    def shown(self, step: _Step) -> Fire:
        # By way of UTC: APScheduler's cron gives times that the clocks skip.
        at = step.fire.astimezone(UTC).astimezone(step.fire.tzinfo)
        try:
            mark = self._mark(step, at)
        except Exception:
            # As above; the fire itself is known.
            mark = None
        return Fire(self.job.id, at, mark)

    def _mark(self, step: _Step, at: datetime) -> ClockMark | None:
        zone = at.tzinfo
        assert zone is not None  # fires are aware
        if step.fire.astimezone(UTC) > self._now.astimezone(UTC) + _FORESEEN:
            return None
        wall = step.fire.replace(tzinfo=None, fold=0)
        change = change_around(wall, zone) if _may_change(zone) else None
        if change is None:
            return self._missed(step)
        if change.forward:
            return _moved(change, zone, wall, at)
        moments = [wall.replace(tzinfo=UTC) - offset for offset in (change.before, change.after)]
        first = at.astimezone(UTC) < change.at
        both = _fires_at(self.trigger, moments[1 if first else 0], step.fire)
        return _repeated(change, zone, wall, first=first, both=both)

    def _missed(self, step: _Step) -> ClockMark | None:
        """Return the mark where a time has been skipped since the fire before."""
        if self._leaves is None:
            self._leaves = list(_leaves(self.trigger))
        lost: list[tuple[ClockChange, tzinfo, datetime]] = []
        for leaf in self._leaves:
            for change in self._changes.between(step.after, step.fire, leaf.zone):
                walls = leaf.matches(change) if change.forward else []
                own = self._own_fire(leaf, step) if walls else None
                if own is not None and leaf.gave_way(own):
                    if own == step.fire.timestamp():
                        at = step.fire.astimezone(UTC).astimezone(leaf.zone)
                        return _moved(change, leaf.zone, walls[0], at)
                    following = following_fire(leaf.trigger, step.fire)
                    if following is not None and following.timestamp() == own:
                        continue  # it has a fire for that, which is still to come
                lost += [(change, leaf.zone, wall) for wall in walls]
        if not lost:
            return None
        change, zone, _ = lost[0]
        return _left_out(change, zone, sorted({wall for *where, wall in lost if where == [change, zone]}))

    def _own_fire(self, leaf: _Leaf, step: _Step) -> float | None:
        """Return when this part of the trigger alone would fire, as a timestamp."""
        ask = following_fire if step.after_fire else first_fire
        fire = ask(leaf.trigger, step.after)
        return None if fire is None else fire.timestamp()


class _Changes:
    """The clock changes of zones, each year of them looked for once."""

    def __init__(self, begin: datetime) -> None:
        self._begin = begin.astimezone(UTC)
        self._known: dict[tzinfo, tuple[list[ClockChange], datetime]] = {}

    def between(self, begin: datetime, end: datetime, zone: tzinfo) -> list[ClockChange]:
        """Return those after `begin`, which is not before the first moment, and up to `end`."""
        begin, end = begin.astimezone(UTC), end.astimezone(UTC)
        found, known_until = self._known.get(zone, ([], self._begin))
        while known_until < end:
            more = known_until + _YEAR
            found.extend(changes_between(known_until, more, zone))
            known_until = more
        self._known[zone] = (found, known_until)
        moments = [change.at for change in found] if begin < end else []
        return found[bisect_right(moments, begin) : bisect_right(moments, end)] if moments else []


# Triggers


def without_jitter(trigger: BaseTrigger) -> BaseTrigger:
    """Return a trigger with the same fires and no jitter, which can be asked without any effect on the job's own."""
    kind = type(trigger)
    if kind in (OrTrigger, EarliestOrTrigger):
        return kind([without_jitter(part) for part in trigger.triggers])
    if kind in (AndTrigger, BoundedAndTrigger):
        return BoundedAndTrigger([without_jitter(part) for part in trigger.triggers])
    if kind in (CronTrigger, CrontabTrigger, IntervalTrigger, CalendarIntervalTrigger):
        return _changed(trigger, jitter=None) if trigger.jitter else trigger
    # One of the user's own may count its fires.
    return trigger if kind is DateTrigger else copy.deepcopy(trigger)


def _changed(trigger: BaseTrigger, **changes: Any) -> BaseTrigger:
    changed: BaseTrigger = object.__new__(type(trigger))
    changed.__setstate__(trigger.__getstate__() | changes)
    return changed


def following_fire(trigger: BaseTrigger, fire: datetime) -> datetime | None:
    """Return the fire after `fire`. Raises TriggerStuck, and what the trigger raises."""
    kind = type(trigger)
    behind = fire.astimezone(UTC) + _TICK
    following: datetime | None
    if kind in (OrTrigger, EarliestOrTrigger):
        found = [each for part in trigger.triggers if (each := following_fire(part, fire)) is not None]
        # APScheduler's own compares times on the wall, and so loses fires in the hour that comes twice.
        following = min(found, key=None if kind is OrTrigger else datetime.timestamp, default=None)
    elif kind is CronTrigger:
        following = first_fire(trigger, behind)  # which gives up where it never comes true again
    elif kind is CalendarIntervalTrigger and _is_at_the_end(trigger, fire):
        return None
    else:
        following = trigger.get_next_fire_time(fire, behind)
    if following is not None and following.timestamp() <= fire.timestamp():
        raise TriggerStuck(f"the trigger returned {following} after {fire}: it does not advance")
    return following


def _is_at_the_end(trigger: Any, fire: datetime) -> bool:
    """Tell whether a calendar interval could pass the year 9999: there APScheduler searches for minutes."""
    # A 29 February comes again within eight steps, or as many years.
    return bool(fire.year + 9 * (trigger.years + trigger.months // 12 + 1) > _LAST_YEAR)


def _fires_at(trigger: BaseTrigger, moment: datetime, fire: datetime) -> bool | None:
    """Tell whether a trigger that gave `fire` fires at `moment` too, when the wall shows the same time."""
    kind = type(trigger)
    if kind in (OrTrigger, EarliestOrTrigger):
        answers = [_fires_at(part, moment, fire) for part in trigger.triggers]
        return True if True in answers else None if None in answers else False
    if kind is IntervalTrigger:
        return not (moment - fire.astimezone(UTC)) % trigger.interval
    if kind in (CronTrigger, CrontabTrigger, BoundedAndTrigger):
        found = first_fire(trigger, moment)
        return found is not None and found.timestamp() == moment.timestamp()
    return False if kind in (DateTrigger, CalendarIntervalTrigger) else None


def _may_change(zone: tzinfo) -> bool:
    return not isinstance(zone, timezone)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A trigger that goes by the clock on the wall, and the same on a clock that never changes: UTC's."""

    trigger: BaseTrigger
    unchanging: BaseTrigger
    zone: tzinfo

    def matches(self, change: ClockChange) -> list[datetime]:
        """Return the first times that the schedule has among those skipped, two at most."""
        begin, end = (wall.replace(tzinfo=UTC) for wall in change.wall)
        found: list[datetime] = []
        fire = first_fire(self.unchanging, begin)
        while fire is not None and begin <= fire < end and len(found) < 2:
            found.append(fire.replace(tzinfo=None))
            fire = following_fire(self.unchanging, fire)
        return found

    def gave_way(self, timestamp: float) -> bool:
        """Tell whether a fire is there for a time that was skipped: it is none of the schedule itself."""
        wall = datetime.fromtimestamp(timestamp, self.zone).replace(tzinfo=UTC, fold=0)
        return first_fire(self.unchanging, wall) != wall


def _leaves(trigger: BaseTrigger) -> Iterator[_Leaf]:
    kind = type(trigger)
    if kind in (OrTrigger, EarliestOrTrigger):
        for part in trigger.triggers:
            yield from _leaves(part)
    elif kind is BoundedAndTrigger:
        parts = [leaf for part in trigger.triggers for leaf in _leaves(part)]
        # Otherwise it is not a schedule on one wall.
        if len(parts) == len(trigger.triggers) and len({leaf.zone for leaf in parts}) == 1:
            yield _Leaf(trigger, BoundedAndTrigger([leaf.unchanging for leaf in parts]), parts[0].zone)
    elif kind in (CronTrigger, CrontabTrigger, CalendarIntervalTrigger) and _may_change(trigger.timezone):
        zone = trigger.timezone
        span = {
            name: moment.astimezone(zone).replace(tzinfo=UTC, fold=0)
            for name in SPAN
            if isinstance(moment := getattr(trigger, name), datetime)
        }
        yield _Leaf(trigger, _changed(trigger, timezone=UTC, **span), zone)


# Words


def _moved(change: ClockChange, zone: tzinfo, wall: datetime, at: datetime) -> ClockMark:
    text = f"{_time(wall)} is skipped, and the job fires at {_time(at)} instead"
    return _mark_of(change, zone, wall, "moved", text)


def _left_out(change: ClockChange, zone: tzinfo, walls: list[datetime]) -> ClockMark:
    text = f"{_time(walls[0])} is skipped, and the job does not fire for it"
    if len(walls) > 1:
        text = f"{_time(walls[0])} and more times of the job are skipped, and it does not fire for them"
    return _mark_of(change, zone, walls[0], "left_out", text)


def _repeated(change: ClockChange, zone: tzinfo, wall: datetime, *, first: bool, both: bool | None) -> ClockMark:
    this, other = ("first", "second") if first else ("second", "first")
    if both is None:
        return _mark_of(change, zone, wall, None, f"{_time(wall)} comes twice, and this is the {this} time")
    text = f"the job fires both times, of which this is the {this}"
    if not both:
        text = f"the job fires the {this} time and not the {other}"
    return _mark_of(change, zone, wall, "both" if both else "once", f"{_time(wall)} comes twice, and {text}")


def _mark_of(change: ClockChange, zone: tzinfo, wall: datetime, effect: Effect | None, text: str) -> ClockMark:
    local = change.at.astimezone(zone)
    before = local.replace(tzinfo=None) + (change.before - change.after)
    to = _time(local) if local.date() == before.date() else f"{local.date()} {_time(local)}"
    direction = "forward" if change.forward else "back"
    clocks = f"The clocks go {direction} on {before.date()} from {_time(before)} to {to} ({zone_name(zone)})"
    return ClockMark(change, zone, wall, effect, f"{clocks}: {text}.")


def _time(moment: datetime) -> str:
    return moment.time().isoformat("auto" if moment.second or moment.microsecond else "minutes")
