"""Runs: one attempt at a fire, while it lasts and as the record that it leaves."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Self, get_args

from apscheduler.job import Job

from . import pages
from .fields import Field, Schema, choice, moment_of_query, or_null, parse_fields, record, ref, text, wrong
from .ids import new_id
from .instants import micros
from .zones import localize

Outcome = Literal["succeeded", "failed", "timed_out", "cancelled", "missed", "skipped", "coalesced", "lost"]
"""How a fire ended."""
State = Literal["queued", "running", "retry_wait"]
"""How a run stands that has not ended."""
Cause = Literal["schedule", "start", "manual", "api", "retry", "rerun", "backfill"]
BESIDE: tuple[Cause, ...] = ("start", "manual", "api")
"""Causes of runs that belong to no fire of the schedule."""
OUTCOMES: tuple[str, ...] = get_args(Outcome)
STATES: tuple[str, ...] = get_args(State)
LAPSED: tuple[Outcome, ...] = ("missed", "coalesced")
"""What becomes of fires that lapse before they are looked at; those that follow each other share a record."""
MESSAGE_LIMIT = 10_000
"""Characters that are kept of an error's message."""


class Run:
    """One attempt at a fire, as `quart_sched.current_run` shows it to the job.

    `scheduled_at` is when it should have begun, aware, in the trigger's time zone. `cancelled` turns True when the run
    has been asked to stop: a coroutine is cancelled as well, a plain function has to look.
    """

    __slots__ = (
        "attempt", "cancelled", "cause", "fire_id", "job", "log", "origin", "run_id", "scheduled_at", "started_at",
    )  # fmt: skip

    def __init__(
        self,
        job: Job,
        scheduled_at: datetime,
        cause: Cause,
        *,
        run_id: str | None = None,
        fire_id: str | None = None,
        attempt: int = 1,
    ) -> None:
        self.run_id = run_id or new_id()
        self.fire_id = fire_id or self.run_id
        self.job = job
        self.scheduled_at = scheduled_at
        self.cause = cause
        self.attempt = attempt
        self.cancelled = False
        self.started_at: datetime | None = None
        self.log: Any = None
        self.origin: Any = None

    @property
    def job_id(self) -> str:
        """The id of the job that this run belongs to."""
        return str(self.job.id)

    def log_fields(self) -> dict[str, Any]:
        """Return the attributes by which a log record says of which run it is."""
        return {"job_id": self.job_id, "run_id": self.run_id, "attempt": self.attempt}

    @property
    def overrides(self) -> str | None:
        """The arguments that it has in the place of the job's own, as `Overrides.dump` gives them."""
        return getattr(self.job, "overridden", None)

    def __repr__(self) -> str:
        return f"<Run {self.run_id} of {self.job_id} scheduled at {self.scheduled_at.isoformat()}>"


class RunRecord(NamedTuple):
    """What became of a fire. Times are aware; `traceback`, `result` and `log` are bounded texts.

    `finished_at` is when the run ended, or when a fire that did not run was accounted for.

    A run that has not ended has its state for an outcome, and is not `final`; nor is an attempt that another one
    follows.

    Consecutive missed or coalesced fires share one record: it covers the fires from `first_scheduled_at` to
    `scheduled_at`, `fires` of them (None where counting them would have meant walking the whole schedule).
    """

    run_id: str
    fire_id: str
    job_id: str
    scheduled_at: datetime
    outcome: Outcome | State
    cause: Cause
    worker: str
    attempt: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    result: str | None = None
    first_scheduled_at: datetime | None = None
    fires: int | None = 1
    final: bool = True
    log: str | None = None
    retry_at: datetime | None = None
    """When the next attempt is due, where one follows that is not under way yet."""
    busy: bool = False
    """Whether its function is still busy in its thread, and so holds its place among the instances."""
    overrides: str | None = None
    """The arguments that it had in the place of the job's own, as JSON."""

    @property
    def duration(self) -> float | None:
        """Seconds from start to finish, 0 if the clock was set back by more meanwhile; None if it never started."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


_OVERLAP = "RunsAlready"
_NAMED = 20
"""Runs that are named where a fire was skipped."""
_RUN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def overlap_error(run_ids: Sequence[str]) -> tuple[str, str]:
    """Return the type and message of the error of a fire that is skipped because of the runs under way."""
    more = f" and {len(run_ids) - _NAMED} more" if len(run_ids) > _NAMED else ""
    return _OVERLAP, f"Its job runs already, as often as max_instances allows: {', '.join(run_ids[:_NAMED])}{more}"


def blocking_runs(record: RunRecord) -> tuple[str, ...]:
    """Return the runs because of which a fire was skipped, as `overlap_error` has named them."""
    return tuple(_RUN_ID.findall(record.error_message or "")) if record.error_type == _OVERLAP else ()


def standing(run: Run, state: State, worker: str) -> RunRecord:
    """Return what is to be said of a run that has not ended."""
    return RunRecord(
        run.run_id,
        run.fire_id,
        run.job_id,
        run.scheduled_at,
        state,
        run.cause,
        worker,
        run.attempt,
        run.started_at,
        final=False,
        overrides=run.overrides,
    )


def waiting(run: Run, worker: str) -> RunRecord:
    """Return what is to be said of a run that waits: a retry for its time, any other for its turn."""
    return standing(run, "retry_wait" if run.cause == "retry" else "queued", worker)


def to_wire(record: RunRecord, *, detail: bool = False) -> dict[str, Any]:
    """Return the record as JSON; with `detail`, also what the run put out."""
    failed = record.error_type is not None or record.error_message is not None
    wire = {
        "run_id": record.run_id,
        "fire_id": record.fire_id,
        "job_id": record.job_id,
        "scheduled_at": record.scheduled_at.isoformat(),
        "started_at": _iso(record.started_at),
        "finished_at": _iso(record.finished_at),
        "duration": record.duration,
        "outcome": record.outcome,
        "final": record.final,
        "attempt": record.attempt,
        "cause": record.cause,
        "worker": record.worker,
        "error": {"type": record.error_type, "message": record.error_message} if failed else None,
        "first_scheduled_at": _iso(record.first_scheduled_at),
        "fires": record.fires,
    }
    if detail:
        wire["overrides"] = None if record.overrides is None else json.loads(record.overrides)
        wire |= {"result": record.result, "traceback": record.traceback, "log": record.log}
    return wire


_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
RUN: Mapping[str, Schema] = {
    "run_id": _TEXT | {"description": "One attempt at a fire."},
    "fire_id": _TEXT | {"description": "The same for all attempts at a fire."},
    "job_id": _TEXT,
    "scheduled_at": ref("Moment"),
    "started_at": or_null(ref("Moment")),
    "finished_at": or_null(ref("Moment")),
    "duration": {"type": ["number", "null"], "description": "Seconds from start to finish."},
    "outcome": {"enum": [*OUTCOMES, *STATES]},
    "final": {"type": "boolean", "description": "Whether it ends the fire: no attempt follows."},
    "attempt": {"type": "integer", "minimum": 1},
    "cause": {"enum": [*get_args(Cause)]},
    "worker": _TEXT | {"description": "The process, as host:pid."},
    "error": or_null(record({"type": _TEXT_OR_NULL, "message": _TEXT_OR_NULL})),
    "first_scheduled_at": or_null(ref("Moment")),
    "fires": {"type": ["integer", "null"], "description": "Fires that the record covers; null where not counted."},
}
"""By key, the JSON Schema of what `to_wire` returns."""
DETAIL: Mapping[str, Schema] = {
    "overrides": or_null(record({"args": {"type": "array"}, "kwargs": {"type": "object"}}, optional=("args", "kwargs")))
    | {"description": "Arguments that it had in the place of the job's own."},
    "result": _TEXT_OR_NULL | {"description": "What the job returned, as a text, cut off where it is long."},
    "traceback": _TEXT_OR_NULL,
    "log": _TEXT_OR_NULL | {"description": "What the job logged."},
}
"""What `detail` adds."""


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


class Cursor(NamedTuple):
    """The place of a run in the order of a page. It holds good for every RunQuery, whatever it asks for."""

    scheduled_us: int
    run_id: str

    @classmethod
    def of(cls, record: RunRecord) -> Self:
        """Return the place of this record."""
        return cls(micros(record.scheduled_at), record.run_id)

    def encode(self) -> str:
        """Return the place as the opaque text that clients send back."""
        return pages.pack(f"{self.scheduled_us} {self.run_id}")

    @classmethod
    def decode(cls, text: Any) -> Self:
        """Return the place that `encode` made the text of. Raises InvalidDefinition."""
        if isinstance(text, cls):
            return text
        if match := _CURSOR.fullmatch(pages.unpack(text)):
            place = cls(int(match[1]), match[2])
            if place.encode() == text:
                return place
        wrong("cursor", text, "the `next` of a page of runs")


_CURSOR = re.compile(r"(-?[0-9]{1,18}) ([!-~]{1,36})")


QUERY: Mapping[str, Field] = {
    "job_id": text(0, expected="the id of a job").about("Runs of this job alone."),
    "outcome": choice(*OUTCOMES, *STATES, expected=f"one of {', '.join((*OUTCOMES, *STATES))}").about(
        "Runs that ended so, or stand so."
    ),
    "since": moment_of_query.about("Runs that were due at this time or later."),
    "until": moment_of_query.about("Runs that were due before this time."),
    "limit": pages.LIMIT,
    "cursor": pages.cursor(Cursor.decode),
}
"""What can be asked of the history, by key of a query."""


class RunPage(NamedTuple):
    """Some runs, newest first, and the cursor that leads on from there: None where there are no more."""

    items: tuple[RunRecord, ...]
    next: str | None


class RunQuery(NamedTuple):
    """Which runs to list, newest first: by when they were made, which is the order of their run_ids.

    With a job, or with `until`, they come by scheduled_at instead, and then by run_id: a database can find the end of
    such a list, however late some runs were. `outcome` may be a state; scheduled_at lies at or after `since`, and
    before `until`. `before` is the place where the page before ended.
    """

    job_id: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    before: Cursor | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, timezone: tzinfo) -> Self:
        """Take job_id, outcome, since, until, limit and cursor, as Python's objects or as text.

        None stands for what is not given; a naive time is read in `timezone`. Raises InvalidDefinition naming the key,
        the value and what was expected.
        """
        given = parse_fields(QUERY, values)
        for key in given.keys() & {"since", "until"}:
            given[key] = localize(key, localize(key, given[key], timezone), UTC)
        return cls(before=given.pop("cursor", None), **given)

    @property
    def by_time(self) -> bool:
        """Whether scheduled_at comes before the run_id in the order."""
        return self.job_id is not None or self.until is not None

    def select(self, records: Iterable[RunRecord]) -> list[RunRecord]:
        """Return those of the records that are asked for, in order, at most `limit`."""
        chosen = list(records)
        # One pass for each condition that is given, as the many records of a ring are read on the event loop.
        if self.job_id is not None:
            chosen = [record for record in chosen if record.job_id == self.job_id]
        if self.outcome is not None:
            chosen = [record for record in chosen if record.outcome == self.outcome]
        if self.since is not None:
            chosen = [record for record in chosen if record.scheduled_at >= self.since]
        if self.until is not None:
            chosen = [record for record in chosen if record.scheduled_at < self.until]
        if self.by_time:
            if self.before is not None:
                end = (self.before.scheduled_us / 1_000_000, self.before.run_id)
                chosen = [record for record in chosen if in_time(record) < end]
            return heapq.nlargest(self.limit, chosen, key=in_time)
        if self.before is not None:
            chosen = [record for record in chosen if record.run_id < self.before.run_id]
        return heapq.nlargest(self.limit, chosen, key=attrgetter("run_id"))


def in_time(record: RunRecord) -> tuple[float, str]:
    """Return what sorts records by the time of their fires."""
    # A float of seconds is exact to the microsecond for times that are ours; times of one zone, compared with each
    # other, would be those of the clock on the wall, which is put back once a year.
    return record.scheduled_at.timestamp(), record.run_id


def in_attempt_order(record: RunRecord) -> tuple[int, str]:
    """Return what sorts the runs of one fire in the order in which they were attempted."""
    return record.attempt, record.run_id
