"""The history: what became of the fires, in memory or in a database, read as one."""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Protocol

from ..model.events import Event, RunEnded
from ..model.runs import STATES, Cursor, RunPage, RunQuery, RunRecord, in_time, standing
from ..model.stretches import Stretch, StretchQuery, merge
from .clock import Clock
from .runner import Runner
from .threads import StoreThread

log = logging.getLogger("quart_sched")

_BATCH = 200
"""Records that are written in one transaction."""
_LINGER = 0.1
"""Seconds that a record waits for company."""
_LONGEST_WAIT = 30.0
_PRUNE_INTERVAL = 3600.0
_CLOSING_WAIT = 0.1
"""Seconds between attempts: the most while the database is away, and when little time is left."""


class Source(Protocol):
    """A history of some of the runs."""

    blocking: bool
    """Whether reading it does I/O, which is no business of the event loop's."""

    def page(self, query: RunQuery) -> list[RunRecord]:
        """Return the runs that are asked for, in the query's order, at most its limit."""

    def find(self, run_id: str) -> RunRecord | None:
        """Return this run, with what it put out, or None."""

    def attempts(self, record: RunRecord) -> list[RunRecord]:
        """Return the runs of the same fire, in the order in which they were attempted."""

    def stretches(self, query: StretchQuery) -> list[Stretch]:
        """Count the runs that have ended and are asked for."""

    def latest(self, job_ids: Sequence[str], count: int) -> dict[str, list[RunRecord]]:
        """Return the last `count` runs that ended of each of these jobs, newest first."""

    def last_outcomes(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return how the last run of each of these jobs ended; those that never ran are left out."""

    def fires_from(self, job_id: str, begin: datetime, limit: int) -> list[RunRecord]:
        """Return the first records of the job's own fires from `begin` on, in order of time, `limit` at most.

        Of fires that were attempted several times the first attempt is there. Records of several fires stand where the
        last of them does.
        """


class Histories:
    """Several sources, read as one."""

    def __init__(self, sources: Iterable[Source] = ()) -> None:
        """Take the sources. A run may move from one to a later one while they are read."""
        self.sources: Sequence[Source] = list(sources)

    @property
    def blocking(self) -> bool:
        """Whether reading does I/O."""
        return any(source.blocking for source in self.sources)

    def page(self, query: RunQuery) -> RunPage:
        """Return a page of the runs that are asked for, newest first."""
        # One more than is shown tells whether there is another page.
        more = replace(query, limit=query.limit + 1)
        found = more.select(_latest(source.page(more) for source in self.sources))
        items = tuple(found[: query.limit])
        return RunPage(items, Cursor.of(items[-1]).encode() if len(found) > query.limit else None)

    def find(self, run_id: str) -> RunRecord | None:
        """Return this run, with what it put out, or None."""
        found = (source.find(run_id) for source in self.sources)
        return next(iter(_latest([record] for record in found if record is not None)), None)

    def attempts(self, record: RunRecord) -> list[RunRecord]:
        """Return the runs of the same fire, in the order in which they were attempted."""
        return sorted(_latest(source.attempts(record) for source in self.sources), key=_by_attempt)

    def stretches(self, query: StretchQuery) -> list[Stretch]:
        """Count the runs that have ended and are asked for. One that moves meanwhile may be counted twice."""
        return merge(source.stretches(query) for source in self.sources)

    def latest(self, job_ids: Sequence[str], count: int) -> dict[str, list[RunRecord]]:
        """Return the last `count` runs that ended of each of these jobs, newest first."""
        parts = [source.latest(job_ids, count) for source in self.sources]
        everything = RunQuery(job_id=None, limit=count)
        return {
            job_id: replace(everything, job_id=job_id).select(_latest(part.get(job_id, ()) for part in parts))
            for job_id in job_ids
        }

    def last_outcomes(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return how the last run of each of these jobs ended; those that never ran are left out."""
        found: dict[str, str] = {}
        # The first source has what is newest.
        for source in reversed(self.sources):
            found |= source.last_outcomes(job_ids)
        return found

    def fires_from(self, job_id: str, begin: datetime, limit: int) -> list[RunRecord]:
        """Return the first records of the job's own fires from `begin` on, in order of time, `limit` at most."""
        found = _latest(source.fires_from(job_id, begin, limit) for source in self.sources)
        return sorted(found, key=in_time)[:limit]


def _latest(parts: Iterable[Iterable[RunRecord]]) -> list[RunRecord]:
    """Return each run once: as it was seen last, and never as under way when it was seen to have ended."""
    found: dict[str, RunRecord] = {}
    for part in parts:
        for record in part:
            known = found.get(record.run_id)
            if known is None or known.outcome in STATES:
                found[record.run_id] = record
    return list(found.values())


Keeps = Callable[[str | None], bool]
"""Tells by its alias whether the runs of a job store are meant."""


def under_way(runner: Runner, keeps: Keeps = lambda alias: True) -> list[RunRecord]:
    """Return what stands on the books of this process for runs that have not ended."""
    return [
        standing(run, "queued" if run.started_at is None else "running", runner.worker)
        for run in runner.running()
        if keeps(run.job._jobstore_alias)
    ] + [
        standing(run, "retry_wait" if run.cause == "retry" else "queued", runner.worker)
        for run in runner.waiting.runs()
        if keeps(run.job._jobstore_alias)
    ]


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
        self._records: OrderedDict[str, RunRecord] = OrderedDict()
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
        if job_id is None:
            return list(self._records.values())
        return [record for record in list(self._records.values()) if record.job_id == job_id]

    def get(self, run_id: str) -> RunRecord | None:
        """Return the record of this run, or None where there is none (any more)."""
        return self._records.get(run_id)

    def page(self, query: RunQuery) -> list[RunRecord]:
        """Return the runs that are asked for, in the query's order, at most its limit."""
        return query.select(self._all())

    def find(self, run_id: str) -> RunRecord | None:
        """Return this run, with what it put out, or None."""
        under_way = next((record for record in self._under_way() if record.run_id == run_id), None)
        return self._records.get(run_id, under_way)

    def attempts(self, record: RunRecord) -> list[RunRecord]:
        """Return the runs of the same fire, in the order in which they were attempted."""
        fire = (record.job_id, record.fire_id)
        return sorted((other for other in self._all() if (other.job_id, other.fire_id) == fire), key=_by_attempt)

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
            if record.job_id in wanted and (known is None or known.scheduled_at <= record.scheduled_at):
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
        if record.outcome in ("missed", "coalesced"):
            previous = self._records.get(self._lapses.get(record.job_id, ""))
            if previous is not None and previous.outcome == record.outcome and not _was_over(previous, record):
                record = _merge(previous, record)
            self._lapses[record.job_id] = record.run_id
        elif self._lapses:
            self._lapses.pop(record.job_id, None)
        self._records[record.run_id] = record
        if len(self._records) <= self.size:
            return 0
        _, dropped = self._records.popitem(last=False)
        self._close(dropped)
        return 1

    def oldest(self, count: int) -> list[RunRecord]:
        """Return the oldest records, as they will stay from now on."""
        records = list(islice(self._records.values(), count))
        for record in records:
            self._close(record)
        return records

    def remove(self, records: Iterable[RunRecord]) -> int:
        """Drop these records; return how many were there."""
        return sum(self._records.pop(record.run_id, None) is not None for record in records)

    def _close(self, record: RunRecord) -> None:
        """Let the record take up no more lapses."""
        if self._lapses and self._lapses.get(record.job_id) == record.run_id:
            del self._lapses[record.job_id]


def _was_over(earlier: RunRecord, later: RunRecord) -> bool:
    """Tell whether lapses had been accounted for before the later ones were due: how late they were differs."""
    return earlier.finished_at is not None and earlier.finished_at < (later.first_scheduled_at or later.scheduled_at)


def _merge(earlier: RunRecord, later: RunRecord) -> RunRecord:
    fires = None if earlier.fires is None or later.fires is None else earlier.fires + later.fires
    first = earlier.first_scheduled_at or earlier.scheduled_at
    return later._replace(run_id=earlier.run_id, fire_id=earlier.fire_id, first_scheduled_at=first, fires=fires)


def _by_attempt(record: RunRecord) -> tuple[int, str]:
    return record.attempt, record.run_id


class WritableHistory(Source, Protocol):
    """A history that takes records in."""

    def write(self, records: Sequence[RunRecord]) -> None:
        """Add the records, whichever are not there yet. Raises anything where that fails."""

    def prune(self, before: datetime) -> int:
        """Delete some of the records from before that time; return how many."""

    def close(self) -> None:
        """Free the connections."""


class HistoryWriter:
    """Brings records into a database, from a thread of its own, and is the source of those that are not there yet.

    A reader of the event stream. While the database is away it keeps the newest `size` records and tries again.
    """

    blocking = False

    def __init__(
        self,
        history: WritableHistory,
        *,
        size: int,
        days: float = 30.0,
        clock: Clock,
        keeps: Keeps,
        under_way: Callable[[], Iterable[RunRecord]] = tuple,
    ) -> None:
        """Write the runs of the stores that `keeps` admits; `under_way` returns those that have not ended.

        Records are deleted again that are older than `days`.
        """
        self.history = history
        self._days = days
        self._pruned_at = float("-inf")
        self._clock = clock
        self._keeps = keeps
        self._waiting = HistoryRing(size, under_way)
        self._dropped = 0
        self._away = False
        self._thread = StoreThread()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closing = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunEnded) and self._keeps(event.jobstore):
            self._dropped += self._waiting.add(event.record)
            self._begin()

    @property
    def away(self) -> bool:
        """Whether the database could not be written to when that was last tried."""
        return self._away

    def __len__(self) -> int:
        """Return how many records are still to be written."""
        return len(self._waiting)

    def page(self, query: RunQuery) -> list[RunRecord]:
        """Return the runs that are asked for, in the query's order, at most its limit."""
        return self._waiting.page(query)

    def find(self, run_id: str) -> RunRecord | None:
        """Return this run, with what it put out, or None."""
        return self._waiting.find(run_id)

    def attempts(self, record: RunRecord) -> list[RunRecord]:
        """Return the runs of the same fire, in the order in which they were attempted."""
        return self._waiting.attempts(record)

    def stretches(self, query: StretchQuery) -> list[Stretch]:
        """Count the runs that have ended and are asked for."""
        return self._waiting.stretches(query)

    def latest(self, job_ids: Sequence[str], count: int) -> dict[str, list[RunRecord]]:
        """Return the last `count` runs that ended of each of these jobs, newest first."""
        return self._waiting.latest(job_ids, count)

    def last_outcomes(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return how the last run of each of these jobs ended; those that never ran are left out."""
        return self._waiting.last_outcomes(job_ids)

    def fires_from(self, job_id: str, begin: datetime, limit: int) -> list[RunRecord]:
        """Return the first records of the job's own fires from `begin` on, in order of time, `limit` at most."""
        return self._waiting.fires_from(job_id, begin, limit)

    async def close(self, timeout: float) -> None:
        """Write what waits, for at most `timeout` seconds; the log says what could not be written."""
        self._closing = True
        try:
            self._begin()
            self._wake.set()
            if self._task is not None:
                _, late = await asyncio.wait([self._task], timeout=timeout)
                for task in late:
                    task.cancel()
                    await asyncio.wait([task])
        finally:
            self._closing = False
            self._task = None
            self._thread.submit(self.history.close)
            self._thread.stop()
        if len(self) or self._dropped:
            log.error(
                "The run history could not be written: %d records are lost, and %d that had been dropped before",
                len(self),
                self._dropped,
            )

    def _begin(self) -> None:
        """Have a task that writes, unless there is one, or nothing to write, or no loop yet."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        busy = self._task is not None and not self._task.done() and self._task.get_loop() is loop
        if len(self) and not busy:
            self._task = loop.create_task(self._write(), context=Context())

    async def _write(self) -> None:
        failures = 0
        while len(self):
            if len(self) < _BATCH and not self._closing:
                await self._pause(_LINGER)
            batch = self._waiting.oldest(_BATCH)
            try:
                await asyncio.wrap_future(self._thread.submit(partial(self.history.write, batch)))
            except Exception as error:
                # Whatever it is, the records stay here, and the next attempt may go better.
                failures += 1
                self._note_failure(error)
                await self._pause(min(0.5 * 2.0 ** min(failures, 10), _LONGEST_WAIT) * random.uniform(0.5, 1))
            else:
                failures = 0
                # Those that had to make room meanwhile have been written all the same.
                self._dropped -= len(batch) - self._waiting.remove(batch)
                self._note_success()
                await self._prune()

    async def _prune(self) -> None:
        """Delete old records, once an hour, a batch at a time."""
        if self._closing or self._clock.monotonic() - self._pruned_at < _PRUNE_INTERVAL:
            return
        self._pruned_at = self._clock.monotonic()
        before = self._clock.now() - timedelta(days=self._days)
        try:
            while await asyncio.wrap_future(self._thread.submit(partial(self.history.prune, before))):
                if self._closing:
                    break
        except Exception as error:
            log.warning("Old records could not be deleted: %s", error)

    async def _pause(self, seconds: float) -> None:
        self._wake = asyncio.Event()
        await self._clock.wait(self._wake, min(seconds, _CLOSING_WAIT) if self._closing else seconds)

    def _note_failure(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            log.error(
                "%s. The newest %d records are kept in memory until they can be written", error, self._waiting.size
            )

    def _note_success(self) -> None:
        if self._away or (self._dropped and not len(self)):
            log.warning("The run history is being written again; %d records had to be dropped", self._dropped)
            self._away = False
            self._dropped = 0
