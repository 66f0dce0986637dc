"""The history in memory: what runs, and the last records of what has ended."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..model.events import Event, RunEnded
from ..model.runs import LAPSED, RunQuery, RunRecord, in_attempt_order, in_time, standing, waiting
from .runner import Runner

if TYPE_CHECKING:
    from ..model.stretches import Stretch, StretchQuery

Keeps = Callable[[str | None], bool]
"""Tells by its alias whether the runs of a job store are meant."""


def under_way(runner: Runner, keeps: Keeps = lambda alias: True) -> list[RunRecord]:
    """Return what stands on the books of this process for runs that have not ended."""
    return [
        standing(run, "queued" if run.started_at is None else "running", runner.worker)
        for run in runner.under_way.runs()
        if keeps(run.job._jobstore_alias)
    ] + [waiting(run, runner.worker) for run in runner.waiting.runs() if keeps(run.job._jobstore_alias)]


_JOB_ID = RunRecord._fields.index("job_id")


class HistoryRing:
    """The last `size` records, oldest first. A reader of the event stream, and a source."""

    blocking = False

    def __init__(
        self,
        size: int,
        under_way: Callable[[], Iterable[RunRecord]] = tuple,
        keeps: Keeps = lambda alias: True,
    ) -> None:
        """Keep the runs of the stores that `keeps` admits; `under_way` returns those that have not ended."""
        self.size = size
        self._under_way = under_way
        self._keeps = keeps
        # Plain tuples, which the garbage collector stops looking at: among many thousand records of a burst it would
        # come to a full collection, which holds up everything.
        self._records: OrderedDict[str, tuple[Any, ...]] = OrderedDict()
        self._lapses: dict[str, str] = {}

    def keep(self, keeps: Keeps, under_way: Callable[[], Iterable[RunRecord]]) -> None:
        """Keep the runs of other stores from now on."""
        self._keeps, self._under_way = keeps, under_way

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunEnded) and self._keeps(event.jobstore):
            self.add(event.record)

    def __len__(self) -> int:
        return len(self._records)

    # What is there

    def records(self, job_id: str | None = None) -> list[RunRecord]:
        """Return the records, oldest first; of one job where `job_id` is given."""
        rows = list(self._records.values())
        return [RunRecord._make(row) for row in rows if job_id is None or row[_JOB_ID] == job_id]

    def get(self, run_id: str) -> RunRecord | None:
        """Return the record of this run, or None where there is none (any more)."""
        row = self._records.get(run_id)
        return None if row is None else RunRecord._make(row)

    def page(self, query: RunQuery) -> list[RunRecord]:
        """Return the runs that are asked for, in the query's order, at most its limit."""
        return query.select(self._all())

    def find(self, run_id: str) -> RunRecord | None:
        """Return this run, with what it put out, or None."""
        under_way = next((record for record in self._under_way() if record.run_id == run_id), None)
        return self.get(run_id) or under_way

    def attempts(self, record: RunRecord) -> list[RunRecord]:
        """Return the runs of the same fire, in the order in which they were attempted."""
        fire = (record.job_id, record.fire_id)
        return sorted((other for other in self._all() if (other.job_id, other.fire_id) == fire), key=in_attempt_order)

    def stretches(self, query: StretchQuery) -> list[Stretch]:
        """Count the runs that have ended and are asked for."""
        return query.stretches(self.records())

    def latest(self, job_ids: Sequence[str], count: int) -> dict[str, list[RunRecord]]:
        """Return the last `count` runs that ended of each of these jobs, newest first."""
        found: dict[str, list[RunRecord]] = {job_id: [] for job_id in job_ids}
        for record in self.records():
            if record.job_id in found:
                found[record.job_id].append(record)
        return {job_id: RunQuery(job_id=job_id, limit=count).select(records) for job_id, records in found.items()}

    def last_outcomes(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return how the last run of each of these jobs ended; those that never ran are left out."""
        wanted = set(job_ids)
        last: dict[str, RunRecord] = {}
        for record in self.records():
            known = last.get(record.job_id)
            # Not by the times on the wall, which come twice when clocks go back.
            if record.job_id in wanted and (
                known is None or known.scheduled_at.timestamp() <= record.scheduled_at.timestamp()
            ):
                last[record.job_id] = record
        return {job_id: record.outcome for job_id, record in last.items()}

    def fires_from(self, job_id: str, begin: datetime, limit: int) -> list[RunRecord]:
        """Return the first records of the job's own fires from `begin` on, in order of time, `limit` at most."""
        own = (record for record in self._all() if record.job_id == job_id and record.cause == "schedule")
        return heapq.nsmallest(limit, (record for record in own if record.scheduled_at >= begin), key=in_time)

    def _all(self) -> list[RunRecord]:
        # In this order, a run that ends in between is seen, and as what it is then.
        under_way, records = list(self._under_way()), self.records()
        if under_way:
            ended = {record.run_id for record in records}
            records += [record for record in under_way if record.run_id not in ended]
        return records

    # What comes and goes

    def add(self, record: RunRecord) -> int:
        """Take a record in; return how many older ones had to go."""
        if record.outcome in LAPSED:
            previous = self.get(self._lapses.get(record.job_id, ""))
            if previous is not None and previous.outcome == record.outcome and not _was_over(previous, record):
                record = _merge(previous, record)
            self._lapses[record.job_id] = record.run_id
        elif self._lapses:
            self._lapses.pop(record.job_id, None)
        self._records[record.run_id] = tuple(record)
        if len(self._records) <= self.size:
            return 0
        run_id, dropped = self._records.popitem(last=False)
        if self._lapses:
            self._close(run_id, dropped[_JOB_ID])
        return 1

    def oldest(self, count: int) -> list[RunRecord]:
        """Return the oldest records, as they will stay from now on."""
        records = [RunRecord._make(row) for row in islice(self._records.values(), count)]
        for record in records:
            self._close(record.run_id, record.job_id)
        return records

    def remove(self, records: Iterable[RunRecord]) -> int:
        """Drop these records; return how many were there."""
        return sum(self._records.pop(record.run_id, None) is not None for record in records)

    def _close(self, run_id: str, job_id: str) -> None:
        """Let the record take up no more lapses."""
        if self._lapses.get(job_id) == run_id:
            del self._lapses[job_id]


def _was_over(earlier: RunRecord, later: RunRecord) -> bool:
    """Tell whether lapses had been accounted for before the later ones were due: how late they were differs."""
    return earlier.finished_at is not None and earlier.finished_at < (later.first_scheduled_at or later.scheduled_at)


def _merge(earlier: RunRecord, later: RunRecord) -> RunRecord:
    fires = None if earlier.fires is None or later.fires is None else earlier.fires + later.fires
    first = earlier.first_scheduled_at or earlier.scheduled_at
    return later._replace(run_id=earlier.run_id, fire_id=earlier.fire_id, first_scheduled_at=first, fires=fires)
