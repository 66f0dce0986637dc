"""Inquiries: what happened to one fire of a job, out of its records, its trigger and how it stood at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger

from .circumstances import Circumstances, Hold
from .clock_changes import ClockChange, change_around
from .clock_marks import Changes, ClockMark, Marker, Step, left_out, moved
from .explanation import Explanation, Hindrance, Pause, Verdict, window
from .planning import counts_from_last
from .runs import BESIDE, LAPSED, STATES, RunRecord, blocking_runs, in_attempt_order, in_time
from .schedules import fire_before, fire_from, following, leaves, looks_at_the_present, without_jitter
from .sentences import Teller
from .zones import zone_of

_SECOND = timedelta(seconds=1)
_TICK = timedelta(microseconds=1)
_WALK = 10_000
"""Fires of a trigger that are looked at one after the other, where there is no other way."""
_LATE = 1.0
"""Seconds from which on a fire that ran is late, so that it is worth saying what held it up."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a job around the aware moment `at`.

    `records` are those within the `window`, `ahead` the first records of the job's own fires from its begin on.
    `broken` is why the job cannot run here.
    """

    job_id: str
    at: datetime
    now: datetime
    job: Job | None
    circumstances: Circumstances
    records: Sequence[RunRecord] = ()
    ahead: Sequence[RunRecord] = ()
    broken: str | None = None


def explain(evidence: Evidence) -> Explanation:
    """Say what happened to the fire at that moment. Asks the trigger a few hundred times at most."""
    return _Inquiry(evidence).explain()


def explain_gap(job_id: str, wall: datetime, zone: tzinfo, trigger: BaseTrigger | None) -> Explanation:
    """Say what happens at a naive time that the clocks of `zone` skip."""
    change = change_around(wall, zone)
    assert change is not None
    timetable = None if trigger is None else _Timetable(trigger)
    mark = None if timetable is None else timetable.mark_of_gap(wall, zone, change)
    found = Explanation(job_id, wall, "not_a_fire" if mark is None else "clock_gap", clock_change=mark)
    if timetable is not None:
        found = replace(found, previous=timetable.before(change.at), next=timetable.behind(change.at - _TICK))
    return replace(found, description=Teller(zone, wall).gap(found, change.at.astimezone(zone)))


class _Timetable:
    """A trigger, asked for its fires around a moment. Whatever it raises, it has no answer then."""

    def __init__(self, trigger: BaseTrigger) -> None:
        self.trigger = without_jitter(trigger)
        self.answers = looks_at_the_present(trigger)

    def within(self, begin: datetime, end: datetime) -> datetime | None:
        fire = self._asked(lambda: fire_from(self.trigger, begin))
        return fire if fire is not None and fire.timestamp() < end.timestamp() else None

    def walked(self, fire: datetime | None, begin: datetime, end: datetime) -> datetime | None:
        """Return the fire within, looked for one after the other from `fire` on, as far as that leads."""
        try:
            for _ in range(_WALK):
                if fire is None or fire.timestamp() >= end.timestamp():
                    return None
                if fire.timestamp() >= begin.timestamp():
                    return fire
                fire = following(self.trigger, fire)
        except Exception:
            return None  # It may be the user's own code.
        return None

    def before(self, at: datetime) -> datetime | None:
        return self._asked(lambda: fire_before(self.trigger, at))

    def behind(self, at: datetime) -> datetime | None:
        return self._asked(lambda: fire_from(self.trigger, at.astimezone(UTC) + _TICK))

    def mark(self, fire: datetime) -> ClockMark | None:
        """Return what a clock change does to a fire of the schedule."""
        begin = self.before(fire) or fire - timedelta(days=1)
        marker = Marker(self.trigger, Changes(begin))
        try:
            return marker.mark(Step(fire, begin, True)) if self.answers else None
        except Exception:
            return None  # as in a forecast: the fire itself is known

    def mark_of_gap(self, wall: datetime, zone: tzinfo, change: ClockChange) -> ClockMark | None:
        """Return what happens instead at a time that is skipped; None where the schedule does not have that time."""
        begin = wall.replace(tzinfo=UTC, fold=0)
        end = begin + (_TICK if wall.microsecond else _SECOND)
        unchanging = (leaf.unchanging for leaf in leaves(self.trigger) if leaf.zone == zone)
        own = [fire for each in unchanging if (fire := _Timetable(each).within(begin, end)) is not None]
        if not own:
            return None
        fire = self.behind(change.at - _TICK)
        mark = None if fire is None else self.mark(fire)
        if fire is not None and mark is not None and (mark.effect, mark.change) == ("moved", change):
            return moved(change, zone, wall, fire)
        return left_out(change, zone, [wall])

    def _asked(self, question: Callable[[], datetime | None]) -> datetime | None:
        try:
            return question() if self.answers else None
        except Exception:
            # A combination may have no fire in common.
            return None


class _Inquiry:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._here = evidence.circumstances
        future = evidence.at.timestamp() > evidence.now.timestamp()
        trigger = evidence.job.trigger if future and evidence.job is not None else self._here.trigger
        self._timetable = None if trigger is None else _Timetable(trigger)
        self._begin, self._end = window(evidence.at, trigger)
        # Jitter puts a fire off, and so the time without it does not lie behind the moment that is asked about.
        self._last = self._end - (evidence.at - self._begin)
        self._zone: tzinfo = zone_of(trigger) or evidence.at.tzinfo or UTC
        self._at = evidence.at.astimezone(UTC).astimezone(self._zone)
        self._teller = Teller(self._zone, self._at)

    def explain(self) -> Explanation:
        fires = _by_fire(self._evidence.records)
        own = [runs for runs in fires if runs[0].cause not in BESIDE]
        if own:
            return self._recorded(min(own, key=lambda runs: (abs(self._distance(runs[0])), in_time(runs[0]))))
        lapse = next((record for record in self._evidence.ahead if self._covers(record)), None)
        fire = self._fire(lapse)
        if lapse is not None and (fire is not None or not self._answers):
            return self._recorded([lapse], fire or self._at)
        if fire is None and fires:
            # Not a fire of the schedule: somebody has run the job at that moment.
            return self._recorded(fires[0])
        if (fire or self._at).timestamp() > self._evidence.now.timestamp():
            return self._to_come(fire)
        return self._without_record(fire)

    @property
    def _upcoming(self) -> datetime | None:
        job = self._evidence.job
        upcoming: datetime | None = None if job is None or job.pending else job.next_run_time
        return upcoming

    def _distance(self, record: RunRecord) -> float:
        return record.scheduled_at.timestamp() - self._at.timestamp()

    def _covers(self, record: RunRecord) -> bool:
        first = record.first_scheduled_at or record.scheduled_at
        return record.outcome in LAPSED and first.timestamp() < self._end.timestamp()

    def _fire(self, lapse: RunRecord | None) -> datetime | None:
        """Return the fire of the schedule that is meant, if there is one; the `lapse` covers the moment."""
        upcoming, timetable = self._upcoming, self._timetable
        if upcoming is not None and self._begin <= upcoming.astimezone(UTC) < self._end:
            return self._local(upcoming)
        if timetable is None:
            return None
        if counts_from_last(timetable.trigger) and lapse is not None:
            return self._in_step(lapse.first_scheduled_at or lapse.scheduled_at, timetable.trigger.interval)
        if upcoming is not None and self._begin > upcoming.astimezone(UTC):
            if counts_from_last(timetable.trigger):
                return self._in_step(upcoming, timetable.trigger.interval)
            if not timetable.answers:
                found = timetable.walked(upcoming, self._begin, self._last)
                return None if found is None else self._local(found)
        found = timetable.within(self._begin, self._last)
        return None if found is None else self._local(found)

    def _in_step(self, known: datetime, interval: timedelta) -> datetime | None:
        """Return the fire that is whole intervals away from a known one.

        They follow one another, and need not be those that the start date alone would give.
        """
        fire = self._begin + (known.astimezone(UTC) - self._begin) % interval
        return self._local(fire) if fire < self._end else None

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(UTC).astimezone(self._zone)

    # With records

    def _recorded(self, runs: Sequence[RunRecord], fire: datetime | None = None) -> Explanation:
        first, last = runs[0], runs[-1]
        at = self._local(fire or first.scheduled_at)
        found = Explanation(self._evidence.job_id, at, _verdict(runs), outcome=last.outcome)
        if found.verdict in ("missed", "coalesced", "skipped"):
            ended = last.finished_at
            found = replace(
                found,
                late=None if ended is None else ended.timestamp() - at.timestamp(),
                first=self._local(last.first_scheduled_at or last.scheduled_at),
                last=self._local(last.scheduled_at),
                fires=last.fires,
                blocked_by=blocking_runs(last),
                into=self._stood_for_it(last) if found.verdict == "coalesced" else None,
            )
        else:
            begun = first.started_at
            found = replace(
                found,
                run_ids=tuple(run.run_id for run in runs),
                late=None if begun is None else begun.timestamp() - at.timestamp(),
            )
        if found.verdict in LAPSED or (found.verdict == "ran" and (found.late or 0) >= _LATE):
            found = self._held(found, *self._cause(last))
        if self._timetable is not None and first.cause == "schedule":
            found = replace(found, clock_change=self._timetable.mark(at))
        return replace(found, description=self._teller.recorded(found, runs))

    def _stood_for_it(self, lapse: RunRecord) -> str | None:
        later = (
            each for each in self._evidence.ahead if in_time(each) > in_time(lapse) and each.outcome != "coalesced"
        )
        return next((record.run_id for record in later), None)

    def _cause(self, last: RunRecord) -> tuple[Hindrance | None, Hold | None]:
        here = self._here
        if here.broken is not None:
            return "broken", here.broken
        noticed = None if here.breaks is None else here.breaks.since
        lapsed = last.finished_at if last.outcome in LAPSED else None
        if noticed is not None and lapsed is not None and noticed < lapsed:
            return "broken", here.breaks
        if here.scheduler_pause is not None:
            return "scheduler_paused", here.scheduler_pause
        return ("process_down", here.down) if here.down is not None else (None, None)

    def _held(self, found: Explanation, cause: Hindrance | None, hold: Hold | None) -> Explanation:
        """Say what held the fire up."""
        pause = Pause("scheduler", hold) if cause == "scheduler_paused" and hold is not None else None
        return replace(found, cause=cause, pause=pause, down=hold if cause == "process_down" else None)

    # Without

    def _to_come(self, fire: datetime | None) -> Explanation:
        evidence, here = self._evidence, self._here
        if evidence.job is None:
            return self._absent()
        if fire is None:
            return self._not_a_fire() if self._answers or self._upcoming is not None else self._unknown()
        found = Explanation(evidence.job_id, fire, "to_come", pause=self._pause(), down=here.down)
        if self._timetable is not None:
            found = replace(found, clock_change=self._timetable.mark(fire))
        broken = evidence.broken or (here.broken and (here.broken.reason or "nobody can run it"))
        if broken:
            found = replace(found, verdict="broken")
        return replace(found, description=self._teller.to_come(found, broken or None))

    def _pause(self) -> Pause | None:
        here = self._here
        if here.job_pause is not None:
            return Pause("job", here.job_pause)
        if here.pruned is not None:
            return Pause("job", replace(here.pruned, by="prune"))
        return None if here.scheduler_pause is None else Pause("scheduler", here.scheduler_pause)

    def _without_record(self, fire: datetime | None) -> Explanation:
        here, evidence, pause = self._here, self._evidence, self._pause()
        if here.absent:
            return self._absent()
        if fire is None:
            return self._not_a_fire() if self._answers else self._unknown()
        found = Explanation(evidence.job_id, fire, "no_record")
        if here.broken is not None:
            found = replace(found, verdict="broken")
        elif pause is not None:
            found = replace(found, verdict="job_paused" if pause.scope == "job" else "scheduler_paused", pause=pause)
        elif here.down is not None:
            found = replace(found, verdict="process_down", down=here.down)
        elif evidence.broken is not None and self._is_left(fire):
            found = replace(found, verdict="broken")
        elif self._is_due():
            found = replace(found, verdict="overdue", late=evidence.now.timestamp() - fire.timestamp())
        if self._timetable is not None:
            found = replace(found, clock_change=self._timetable.mark(fire))
        broken = here.broken or evidence.broken
        return replace(found, description=self._teller.unrecorded(found, broken, due=self._is_due()))

    def _is_left(self, fire: datetime) -> bool:
        """Tell whether nobody has claimed this fire or a later one: a job is marked only some time after the first."""
        last: datetime | None = getattr(self._evidence.job, "last_fire", None)
        return not self._evidence.ahead and (last is None or last.timestamp() < fire.timestamp())

    @property
    def _answers(self) -> bool:
        return self._timetable is not None and self._timetable.answers

    def _unknown(self) -> Explanation:
        found = Explanation(self._evidence.job_id, self._at, "no_record")
        return replace(found, description=self._teller.unknown(self._at))

    def _is_due(self) -> bool:
        """Tell whether the fire may still be claimed."""
        return self._upcoming is not None and self._upcoming.timestamp() < self._end.timestamp()

    def _not_a_fire(self) -> Explanation:
        found = Explanation(self._evidence.job_id, self._at, "not_a_fire")
        if self._timetable is not None:
            before, behind = self._timetable.before(self._begin), self._timetable.behind(self._at)
            found = replace(found, previous=before, next=behind)
        return replace(found, description=self._teller.not_a_fire(found))

    def _absent(self) -> Explanation:
        found = Explanation(self._evidence.job_id, self._at, "job_absent")
        return replace(found, description=self._teller.absent(self._here))


def _verdict(runs: Sequence[RunRecord]) -> Verdict:
    outcome = runs[-1].outcome
    if outcome in ("missed", "coalesced", "skipped"):
        return outcome
    if outcome in STATES and outcome != "running":
        return "waiting"
    return "cancelled" if all(run.started_at is None for run in runs) and outcome == "cancelled" else "ran"


def _by_fire(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Return the runs of each fire in the order of their attempts; the fires in order of time."""
    fires: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=in_time):
        fires.setdefault(record.fire_id, []).append(record)
    return [sorted(runs, key=in_attempt_order) for runs in fires.values()]
