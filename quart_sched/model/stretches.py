"""Stretches of time, with the runs in each counted and timed by outcome: for charts and time lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from ..errors import InvalidDefinition
from .arguments import bounded_repr
from .instants import micros, moment
from .runs import RunRecord

MOST_BUCKETS = 1_000


@dataclass(frozen=True, slots=True)
class StretchQuery:
    """Which runs to count: those scheduled at or after `since` and before `until`, in `buckets` equal stretches.

    With `job_ids` those of these jobs alone, with `outcomes` those that ended so; with either, counted for each job.
    """

    since: datetime
    until: datetime
    buckets: int
    job_ids: tuple[str, ...] | None = None
    outcomes: tuple[str, ...] | None = None

    @classmethod
    def parse(
        cls,
        since: datetime,
        until: datetime,
        buckets: int,
        job_ids: Iterable[str] | None = None,
        outcomes: Iterable[str] | None = None,
    ) -> Self:
        """Check the values. Raises InvalidDefinition."""
        if isinstance(buckets, bool) or not isinstance(buckets, int) or not 1 <= buckets <= MOST_BUCKETS:
            raise InvalidDefinition(
                "buckets", f"is {bounded_repr(buckets)}; expected a whole number from 1 to {MOST_BUCKETS}"
            )
        for key, value in (("since", since), ("until", until)):
            if not isinstance(value, datetime) or value.utcoffset() is None:
                raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected an aware datetime")
        if micros(until) - micros(since) < buckets:
            raise InvalidDefinition(
                "until", f"is {until.isoformat()}; expected a time after since, {since.isoformat()}"
            )
        ids, ends = (None if given is None else tuple(dict.fromkeys(given)) for given in (job_ids, outcomes))
        return cls(since, until, buckets, ids, ends)

    @property
    def by_job(self) -> bool:
        """Whether each job is counted for itself."""
        return self.job_ids is not None or self.outcomes is not None

    @property
    def width_us(self) -> int:
        """Microseconds of one stretch."""
        return -(-(micros(self.until) - micros(self.since)) // self.buckets)

    def begins(self, bucket: int) -> datetime:
        """Return when a stretch begins."""
        return moment(micros(self.since) + bucket * self.width_us)

    def stretches(self, records: Iterable[RunRecord]) -> list[Stretch]:
        """Count some records, whichever are asked for."""
        begin, end, width = micros(self.since), micros(self.until), self.width_us
        jobs, outcomes = (None if names is None else set(names) for names in (self.job_ids, self.outcomes))
        found: dict[tuple[str, int, str], Stretch] = {}
        for record in records:
            us = micros(record.scheduled_at)
            wanted = (jobs is None or record.job_id in jobs) and (outcomes is None or record.outcome in outcomes)
            if begin <= us < end and wanted:
                one = _stretch_of(record, record.job_id if self.by_job else None, (us - begin) // width)
                key = (one.job_id, one.bucket, one.outcome)
                found[key] = found[key].plus(one) if key in found else one
        return list(found.values())


@dataclass(frozen=True, slots=True)
class Stretch:
    """The runs of one stretch with one outcome: how many they are, and how long they took.

    `timed` of them have a duration; `seconds` is the sum and `longest` the greatest. They lie between `first_us` and
    `last_us`, in microseconds since 1970. `run_id` is the last of them; None where all jobs are counted together.
    """

    job_id: str
    bucket: int
    outcome: str
    runs: int
    timed: int
    seconds: float
    longest: float
    first_us: int
    last_us: int
    run_id: str | None

    def plus(self, other: Stretch) -> Stretch:
        """Return both together."""
        return replace(
            self,
            runs=self.runs + other.runs,
            timed=self.timed + other.timed,
            seconds=self.seconds + other.seconds,
            longest=max(self.longest, other.longest),
            first_us=min(self.first_us, other.first_us),
            last_us=max(self.last_us, other.last_us),
            run_id=max(filter(None, (self.run_id, other.run_id)), default=None),
        )


def merge(parts: Iterable[Iterable[Stretch]]) -> list[Stretch]:
    """Return the stretches of several histories as one."""
    found: dict[tuple[str, int, str], Stretch] = {}
    for part in parts:
        for stretch in part:
            key = (stretch.job_id, stretch.bucket, stretch.outcome)
            found[key] = found[key].plus(stretch) if key in found else stretch
    return sorted(found.values(), key=lambda stretch: (stretch.job_id, stretch.bucket, stretch.outcome))


def _stretch_of(record: RunRecord, job_id: str | None, bucket: int) -> Stretch:
    seconds = record.duration
    scheduled = micros(record.scheduled_at)
    return Stretch(
        job_id or "",
        bucket,
        record.outcome,
        1,
        0 if seconds is None else 1,
        seconds or 0.0,
        seconds or 0.0,
        scheduled if record.started_at is None else micros(record.started_at),
        scheduled if record.finished_at is None else micros(record.finished_at),
        None if job_id is None else record.run_id,
    )
