"""Sentences: explanations in plain English, for a person at three in the morning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from .changes import Change
from .circumstances import Circumstances, Hold
from .runs import RunRecord
from .zones import zone_name

if TYPE_CHECKING:
    from .explanation import Explanation, Pause

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_ENDS = {
    "succeeded": "succeeded",
    "failed": "failed",
    "timed_out": "ran into its timeout",
    "cancelled": "was cancelled",
    "lost": "was lost with its process",
}
_ERROR = 200
"""Characters of an error that are told."""


def in_words(number: str, unit: str) -> str:
    """Return a number of days, hours, minutes or seconds, whose unit is given in the singular."""
    return f"{number} {unit}{'' if number == '1' else 's'}"


def spell(seconds: float, say: Callable[[str, str], str] = in_words) -> str:
    """Return a duration in its largest unit and the next smaller one, or in fractions of a few seconds.

    `say` puts a number of one unit into words.
    """
    if seconds < 10 and seconds != int(seconds):
        return say(f"{max(seconds, 0.001):.3g}", "second")
    left, parts = round(seconds), list[str]()
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or (unit == "second" and not parts):
            parts.append(say(str(number), unit))
        elif parts:
            break
    return " ".join(parts[:2])


class Teller:
    """Tells of the fire at some time: other times of that day go without their date."""

    def __init__(self, zone: tzinfo, at: datetime) -> None:
        self._zone = zone
        self._day = at.date()

    # What there is a record of

    def recorded(self, found: Explanation, runs: Sequence[RunRecord]) -> str:
        """Tell of a fire with the records of its attempts."""
        last = runs[-1]
        fire = self._fire(found.at)
        if found.verdict == "ran":
            return self._ran(found, runs)
        if found.verdict == "waiting":
            wait = "its next attempt" if last.outcome == "retry_wait" else "its turn"
            return f"{fire} has been claimed and waits for {wait}."
        if found.verdict == "cancelled":
            why = f": {_brief(last.error_message)}" if last.error_message else ""
            return f"{fire} was cancelled before it began{why}."
        if found.verdict == "skipped":
            ids = ", ".join(found.blocked_by)
            return (
                f"{fire} was skipped, because as many runs as max_instances allows were under way{ids and f': {ids}'}."
            )
        late = "" if found.late is None else f" {spell(found.late)} later"
        if found.verdict == "missed":
            what = f"{fire} was missed: it was looked at{late or ' later'}, which was too late to run it"
        else:
            into = f"run {found.into}" if found.into else "a later one, which has not run yet"
            what = f"{fire} was coalesced into {into}: when the job was looked at{late or ' later'}, both were due"
        return f"{what}{self._shared(found)}{self._because(found)}."

    def _ran(self, found: Explanation, runs: Sequence[RunRecord]) -> str:
        first, last = runs[0], runs[-1]
        late = found.late or 0.0
        punctual = "on time" if late < 0.1 else f"{spell(late)} late"
        begun = "" if first.started_at is None else f" at {self._clock(first.started_at)}, {punctual},"
        where = f" on {last.worker}" if last.worker else ""
        if first.cause == "schedule":
            what = f"{self._fire(found.at)} ran{begun}{where}"
        else:
            what = f"The job was run beside its schedule{begun}{where} (cause: {first.cause})"
        attempts = f" in {len(runs)} attempts" if len(runs) > 1 else ""
        if last.outcome == "running":
            return f"{what}{self._because(found)}, and is running still{attempts and f', in its {len(runs)}. attempt'}."
        if last.outcome not in _ENDS:
            return f"{what}{self._because(found)}, and waits for its next attempt."
        took = "" if last.duration is None else f" after {spell(last.duration)}"
        error = "" if last.error_type is None else f" ({last.error_type}: {_brief(last.error_message)})"
        return f"{what}{self._because(found)}, and {_ENDS[last.outcome]}{took}{attempts}{error}."

    def _shared(self, found: Explanation) -> str:
        if found.first is None or found.last is None or found.first == found.last:
            return ""
        many = "all fires" if found.fires is None else f"{found.fires} fires"
        return f"; so were {many} from {self._clock(found.first)} to {self._clock(found.last)}"

    def _because(self, found: Explanation) -> str:
        if found.cause == "scheduler_paused" and found.pause is not None:
            return f", because the scheduler was paused {self._span(found.pause.hold)}"
        if found.cause == "process_down" and found.down is not None:
            return f", because no process was running {self._span(found.down)}"
        return ", because the job was broken" if found.cause == "broken" else ""

    # What there is none of

    def to_come(self, found: Explanation, broken: str | None) -> str:
        """Tell of a fire to come."""
        fire = self._fire(found.at)
        if broken:
            return f"{fire} is not going to run as long as the job is broken: {_brief(broken)}."
        if found.pause is not None:
            return f"{fire} is to come, but {self._paused(found.pause)}: it has to be resumed first."
        if found.down is not None:
            return f"{fire} is to come, but no process is running {self._span(found.down)}."
        return f"{fire} is to come."

    def unrecorded(self, found: Explanation, broken: Hold | str | None, *, due: bool) -> str:
        """Tell of a fire of the past without a record; `due` tells whether it may still run.

        `broken` is since when the job was broken, or why it is where that was not known then.
        """
        fire = self._fire(found.at)
        later = " It is still due, and is decided on when that ends." if due else ""
        if found.verdict == "broken":
            if isinstance(broken, str):
                return f"{fire} did not run, because the job is broken: {_brief(broken)}.{later}"
            reason = f": {_brief(broken.reason)}" if broken is not None and broken.reason else ""
            return f"{fire} did not run, because the job was broken {self._span(broken, by=False)}{reason}."
        if found.verdict in ("job_paused", "scheduler_paused") and found.pause is not None:
            return f"{fire} did not run, because {self._paused(found.pause, past=True)}.{later}"
        if found.verdict == "process_down":
            return f"{fire} did not run, because no process was running {self._span(found.down)}.{later}"
        if found.verdict == "overdue":
            return f"{fire} has been due for {spell(found.late or 0)}, and no process has claimed it yet."
        return (
            f"{fire} should have run, but nothing is known of it: its record has been deleted since, or the history "
            "does not go back so far."
        )

    def unknown(self, at: datetime) -> str:
        """Tell of a time of which nobody knows whether the job fires."""
        return f"Nothing is known of {self._stamp(at)}: there is no record, and the trigger of that time cannot tell."

    def not_a_fire(self, found: Explanation) -> str:
        """Tell of a time at which the job does not fire."""
        nearest = [f"the fire before is at {self._clock(found.previous)}"] if found.previous else []
        nearest += [f"the next is at {self._clock(found.next)}"] if found.next else []
        which = f": {' and '.join(nearest)}" if nearest else ""
        return f"The job does not fire at {self._stamp(found.at)}{which}."

    def absent(self, here: Circumstances) -> str:
        """Tell of a job that was not there."""
        parts = []
        if here.removed is not None:
            parts.append(f"had been removed {self._by(here.removed)}")
        if here.added is not None:
            parts.append(f"was only added {self._by(here.added)}")
        return f"The job was not there: it {' and '.join(parts)}." if parts else "The job is not there any more."

    def gap(self, found: Explanation, resumed: datetime) -> str:
        """Tell of a naive time that the clocks skip."""
        if found.clock_change is not None:
            return found.clock_change.description
        time = f"{found.at.date()} {_time(found.at)} ({zone_name(self._zone)})"
        return (
            f"There is no {time}, since the clocks go forward to {self._clock(resumed)}, and the job has no such fire."
        )

    # Parts

    def _paused(self, pause: Pause, *, past: bool = False) -> str:
        what = "the job" if pause.scope == "job" else "the scheduler"
        if pause.hold.by == "prune":
            return f"the code has not declared the job {self._span(pause.hold, by=False)}"
        return f"{what} {'was' if past else 'is'} paused {self._span(pause.hold)}"

    def _span(self, hold: Hold | None, *, by: bool = True) -> str:
        if hold is None:
            return "then"
        who = f"by {hold.by} " if by and hold.by else ""
        if hold.until is None:
            return f"{who}since {self._clock(hold.since)}" if hold.since else f"{who}then"
        since = f"from {self._clock(hold.since)} to" if hold.since else "until"
        return f"{who}{since} {self._clock(hold.until)}"

    def _by(self, change: Change) -> str:
        who = f" by {change.actor}" if change.actor else ""
        return f"at {self._clock(change.at)}{who}"

    def _fire(self, at: datetime) -> str:
        return f"The fire of {self._stamp(at)}"

    def _stamp(self, at: datetime) -> str:
        return f"{at.date()} {_time(at)} ({zone_name(self._zone)})"

    def _clock(self, moment: datetime) -> str:
        local = moment.astimezone(UTC).astimezone(self._zone)
        return _time(local) if local.date() == self._day else f"{local.date()} {_time(local)}"


def _time(moment: Any) -> str:
    rounded = moment if moment.microsecond == 0 else moment + timedelta(microseconds=500)
    form = "milliseconds" if moment.microsecond else "seconds" if moment.second else "minutes"
    return str(rounded.time().isoformat(form))


def _brief(text: str | None) -> str:
    line = (text or "").strip().partition("\n")[0].rstrip(".")
    return line if len(line) <= _ERROR else f"{line[: _ERROR - 1]}…"
