"""The history: what became of the fires, in memory or in a database, read as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from ..model.runs import STATES, Cursor, RunPage, RunQuery, RunRecord, in_attempt_order, in_time

if TYPE_CHECKING:
    from ..model.stretches import Stretch, StretchQuery


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

    def __init__(
        self, sources: Iterable[Source] = (), unwritten: Callable[[], Sequence[RunRecord]] = lambda: ()
    ) -> None:
        """Take the sources. A run may move from one to a later one while they are read.

        `unwritten` returns the runs that have ended here, which a source has as under way until that is written.
        """
        self.sources: Sequence[Source] = list(sources)
        self._unwritten = unwritten

    @property
    def blocking(self) -> bool:
        """Whether reading does I/O."""
        return any(source.blocking for source in self.sources)

    def page(self, query: RunQuery) -> RunPage:
        """Return a page of the runs that are asked for, newest first."""
        ended = self._unwritten()
        # One more than is shown tells whether there is another page; what is under way no more falls out of it.
        spare = len(ended) if query.outcome in STATES else 0
        more = query._replace(limit=query.limit + 1 + spare)
        found = more.select(_latest([*(source.page(more) for source in self.sources), ended]))
        items = tuple(found[: query.limit])
        return RunPage(items, Cursor.of(items[-1]).encode() if len(found) > query.limit else None)

    def find(self, run_id: str) -> RunRecord | None:
        """Return this run, with what it put out, or None."""
        ended = [record for record in self._unwritten() if record.run_id == run_id]
        found = [[record] for source in self.sources if (record := source.find(run_id)) is not None]
        return next(iter(_latest([*found, ended])), None)

    def attempts(self, record: RunRecord) -> list[RunRecord]:
        """Return the runs of the same fire, in the order in which they were attempted."""
        fire = (record.job_id, record.fire_id)
        ended = [other for other in self._unwritten() if (other.job_id, other.fire_id) == fire]
        return sorted(_latest([*(source.attempts(record) for source in self.sources), ended]), key=in_attempt_order)

    def stretches(self, query: StretchQuery) -> list[Stretch]:
        """Count the runs that have ended and are asked for. One that moves meanwhile may be counted twice."""
        from ..model.stretches import merge

        return merge(source.stretches(query) for source in self.sources)

    def latest(self, job_ids: Sequence[str], count: int) -> dict[str, list[RunRecord]]:
        """Return the last `count` runs that ended of each of these jobs, newest first."""
        parts = [source.latest(job_ids, count) for source in self.sources]
        everything = RunQuery(job_id=None, limit=count)
        return {
            job_id: everything._replace(job_id=job_id).select(_latest(part.get(job_id, ()) for part in parts))
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
