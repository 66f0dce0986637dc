"""Explanations: what happened to one fire of a job, and the moment that is asked about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, get_args

from apscheduler.triggers.base import BaseTrigger

from ..errors import InvalidDefinition
from .circumstances import Hold
from .clock_changes import change_around
from .clock_marks import CLOCK_MARK, ClockMark
from .fields import Schema, listing, moment_of_query, or_null, record, ref
from .schedules import jitter_of, may_change

Verdict = Literal[
    "ran", "waiting", "cancelled", "missed", "coalesced", "skipped", "job_paused", "scheduler_paused", "process_down",
    "broken", "clock_gap", "not_a_fire", "to_come", "overdue", "job_absent", "no_record",
]  # fmt: skip
Hindrance = Literal["broken", "scheduler_paused", "process_down"]

FURTHEST = timedelta(days=50 * 366)
"""How far from now a moment may be that is asked about."""
_SECOND = timedelta(seconds=1)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that kept a fire back: of the job or of the whole scheduler (`scope`)."""

    scope: Literal["job", "scheduler"]
    hold: Hold

    def to_wire(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        times = self.hold.to_wire()
        return {"scope": self.scope, "since": times["since"], "by": self.hold.by, "until": times["until"]}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened to the fire of a job at some moment, as `verdict` says in one word and `description` in a sentence.

    - `ran`: it runs or has run; `outcome` is that of its last attempt, `run_ids` are all of them, `late` is by how many
      seconds it began late.
    - `waiting`: it is claimed and waits for its place or its next attempt; `outcome` is queued or retry_wait.
    - `cancelled`: it was given up before it began.
    - `missed`: it came too late to run, by `late` seconds when that was decided; `first`, `last` and `fires` (None
      where they were not counted) are those of the record that it shares with others.
    - `coalesced`: it was due together with a later one that ran for it, the run `into`.
    - `skipped`: as many runs as may be were under way, `blocked_by`.
    - `job_paused`, `scheduler_paused`, `process_down`, `broken`: so it was, and nothing has been recorded since;
      `pause` and `down` say since when, by whom and until when.
    - `clock_gap`: the clocks skip that time of the schedule; `at` is naive, and `clock_change` says what happens
      instead.
    - `not_a_fire`: the trigger of that moment does not fire then; `previous` and `next` are the nearest fires.
    - `to_come`: it is to come; a `pause` may stand in its way.
    - `overdue`: it is due, and no process has claimed it yet.
    - `job_absent`: the job was not there yet, or not any more.
    - `no_record`: it should have fired, but nothing is known of it: the record has been pruned, or it is older than the
      history, or nobody knows the trigger of that time.

    `at` is the fire itself where there is one, in the trigger's zone. `cause` is what held up a fire that was missed,
    coalesced or late: scheduler_paused, process_down or broken; None where the process was busy. `clock_change` is also
    given where a clock change moves the fire, or where its time comes twice.
    """

    job_id: str
    at: datetime
    verdict: Verdict
    description: str = ""
    outcome: str | None = None
    run_ids: tuple[str, ...] = ()
    late: float | None = None
    first: datetime | None = None
    last: datetime | None = None
    fires: int | None = None
    blocked_by: tuple[str, ...] = ()
    into: str | None = None
    cause: Hindrance | None = None
    pause: Pause | None = None
    down: Hold | None = None
    clock_change: ClockMark | None = None
    previous: datetime | None = None
    next: datetime | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return it as the API shows it: all keys, null where they do not apply."""

        def shown(at: datetime | None) -> str | None:
            return None if at is None else at.isoformat()

        return {
            "job_id": self.job_id,
            "at": self.at.isoformat(),
            "verdict": self.verdict,
            "description": self.description,
            "outcome": self.outcome,
            "run_ids": list(self.run_ids) or None,
            "late": self.late,
            "from": shown(self.first),
            "to": shown(self.last),
            "fires": self.fires,
            "blocked_by": list(self.blocked_by) or None,
            "into": self.into,
            "cause": self.cause,
            "pause": None if self.pause is None else self.pause.to_wire(),
            "down": None if self.down is None else self.down.to_wire(),
            "clock_change": None if self.clock_change is None else self.clock_change.to_wire(),
            "previous": shown(self.previous),
            "next": shown(self.next),
        }


_TIME = or_null(ref("Moment"))
_IDS = or_null(listing({"type": "string"}))
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_HELD: dict[str, Schema] = {"since": _TIME, "until": _TIME}
EXPLANATION: Schema = record(
    {
        "job_id": {"type": "string"},
        "at": ref("Moment") | {"description": "The fire, or the moment that was asked about where there is none."},
        "verdict": {"enum": [*get_args(Verdict)], "description": "What happened, in a word."},
        "description": {"type": "string", "description": "The same in a sentence."},
        "outcome": _TEXT_OR_NULL | {"description": "That of the last attempt."},
        "run_ids": _IDS,
        "late": {"type": ["number", "null"], "description": "Seconds by which it began late, or was too late."},
        "from": _TIME,
        "to": _TIME,
        "fires": {"type": ["integer", "null"], "description": "Fires that share the record, due between from and to."},
        "blocked_by": _IDS | {"description": "The runs because of which it was skipped."},
        "into": _TEXT_OR_NULL | {"description": "The run of the later fire that ran for it."},
        "cause": {"enum": [*get_args(Hindrance), None], "description": "What held it up."},
        "pause": or_null(record({"scope": {"enum": ["job", "scheduler"]}, **_HELD, "by": _TEXT_OR_NULL})),
        "down": or_null(record(_HELD)),
        "clock_change": or_null(CLOCK_MARK),
        "previous": _TIME,
        "next": _TIME,
    }
)
"""The JSON Schema of what `Explanation.to_wire` returns."""


# The question

AT = moment_of_query.about("The moment of the fire: naive, it is read in the time zone of the job's trigger.")


def parse_at(value: Any, now: datetime) -> datetime:
    """Return the moment that is asked about, naive where it is given so. Raises InvalidDefinition."""
    at: datetime = AT("at", value)
    utc = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    if not abs(utc.timestamp() - now.timestamp()) <= FURTHEST.total_seconds():
        raise InvalidDefinition("at", f"is {at.isoformat()}; expected a time within 50 years from now")
    return at


def moments(at: datetime, zone: tzinfo) -> list[datetime]:
    """Return what a time means in `zone`: two moments where it is naive and comes twice, none where it is skipped."""
    if at.tzinfo is not None:
        return [at.astimezone(UTC).astimezone(zone)]
    change = change_around(at, zone) if may_change(zone) else None
    if change is None:
        return [at.replace(tzinfo=zone)]
    return [] if change.forward else [at.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]


def window(at: datetime, trigger: BaseTrigger | None) -> tuple[datetime, datetime]:
    """Return begin and end, in UTC, of the fires that are meant by `at`: its second, and as far as jitter goes."""
    slack = jitter_of(trigger)
    begin = at.astimezone(UTC)
    return begin - slack, begin + slack + (_TICK if begin.microsecond else _SECOND)
