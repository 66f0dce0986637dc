"""Clock marks: what a clock change does to a fire, with a sentence that says it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, NamedTuple, get_args

from apscheduler.triggers.base import BaseTrigger

from .clock_changes import ClockChange, change_around, changes_between
from .fields import Schema, record, ref
from .planning import first_fire
from .schedules import Leaf, fires_at, following, leaves, may_change, normal
from .zones import zone_name

_YEAR = timedelta(days=366)

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


CLOCK_MARK: Schema = record(
    {
        "direction": {"enum": ["forward", "back"]},
        "at": ref("Moment") | {"description": "The first moment of the new time."},
        "wall": ref("Moment") | {"description": "The time on the wall that is skipped, or comes twice."},
        "effect": {"enum": [*get_args(Effect), None], "description": "Null where that is not known."},
        "description": {"type": "string"},
    }
)
"""The JSON Schema of what `ClockMark.to_wire` returns."""


class Step(NamedTuple):
    """A fire as its trigger gives it, and the moment behind which it is the next."""

    fire: datetime
    after: datetime
    after_fire: bool


class Changes:
    """The clock changes of zones, each year of them looked for once."""

    def __init__(self, begin: datetime) -> None:
        """Look for those after `begin`."""
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


class Marker:
    """Marks the fires of a trigger, which has no jitter."""

    def __init__(self, trigger: BaseTrigger, changes: Changes) -> None:
        """Take the clock changes from before the first of the fires."""
        self._trigger = trigger
        self._changes = changes
        self._leaves: list[Leaf] | None = None

    def mark(self, step: Step) -> ClockMark | None:
        """Return what a clock change does to a fire, if there is one. Raises what the trigger raises."""
        at = normal(step.fire)
        zone = at.tzinfo
        assert zone is not None  # fires are aware
        wall = step.fire.replace(tzinfo=None, fold=0)
        change = change_around(wall, zone) if may_change(zone) else None
        if change is None:
            return self._missed(step)
        if change.forward:
            return moved(change, zone, wall, at)
        moments = [wall.replace(tzinfo=UTC) - offset for offset in (change.before, change.after)]
        first = at.astimezone(UTC) < change.at
        both = fires_at(self._trigger, moments[1 if first else 0], step.fire)
        return _repeated(change, zone, wall, first=first, both=both)

    def _missed(self, step: Step) -> ClockMark | None:
        """Return the mark where a time has been skipped since the fire before."""
        if self._leaves is None:
            self._leaves = list(leaves(self._trigger))
        lost: list[tuple[ClockChange, tzinfo, datetime]] = []
        for leaf in self._leaves:
            for change in self._changes.between(step.after, step.fire, leaf.zone):
                walls = leaf.matches(change) if change.forward else []
                own = self._own_fire(leaf, step) if walls else None
                if own is not None and leaf.gave_way(own):
                    if own == step.fire.timestamp():
                        at = step.fire.astimezone(UTC).astimezone(leaf.zone)
                        return moved(change, leaf.zone, walls[0], at)
                    behind = following(leaf.trigger, step.fire)
                    if behind is not None and behind.timestamp() == own:
                        continue  # it has a fire for that, which is still to come
                lost += [(change, leaf.zone, wall) for wall in walls]
        if not lost:
            return None
        change, zone, _ = lost[0]
        return left_out(change, zone, sorted({wall for *where, wall in lost if where == [change, zone]}))

    def _own_fire(self, leaf: Leaf, step: Step) -> float | None:
        """Return when this part of the trigger alone would fire, as a timestamp."""
        ask = following if step.after_fire else first_fire
        fire = ask(leaf.trigger, step.after)
        return None if fire is None else fire.timestamp()


# Words


def moved(change: ClockChange, zone: tzinfo, wall: datetime, at: datetime) -> ClockMark:
    """Return the mark of a time that is skipped, and for which the job fires at another."""
    text = f"{_time(wall)} is skipped, and the job fires at {_time(at)} instead"
    return _mark_of(change, zone, wall, "moved", text)


def left_out(change: ClockChange, zone: tzinfo, walls: list[datetime]) -> ClockMark:
    """Return the mark of times that are skipped, and for which the job does not fire."""
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
