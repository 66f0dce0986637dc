"""The index: what a list shows of all jobs, read without loading them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from ...model.instants import moment
from ...model.jobs import ScheduledJob
from ...model.listing import JobEntry
from .database import Database
from .loader import JOB_COLUMNS, JobLoader, keys_of

_MOVING = "id, incarnation, version, next_us, func, paused_us, orphan_us, broken_us"


class _Known(NamedTuple):
    """A row as it was read last, and what was made of it."""

    row: tuple[Any, ...]
    entry: JobEntry


class JobIndex:
    """Lists the jobs of one store. It is safe from any thread; what has not changed since is not parsed again."""

    def __init__(self, database: Database, loader: JobLoader, alias: str) -> None:
        self._database = database
        self._loader = loader
        self._alias = alias
        self._known: dict[str, _Known] = {}

    def entries(self) -> list[JobEntry]:
        """Return an entry for each job, in no particular order."""
        table = f"{self._database.prefix}jobs"
        rows = self._database.query(f"SELECT {_MOVING} FROM {table} WHERE ended_us IS NULL")
        before = self._known
        # Those that are gone are forgotten here.
        known = {row[0]: kept for row in rows if (kept := before.get(row[0])) is not None and kept.row == row}
        changed = {row[0]: row for row in rows if row[0] not in known}
        texts = {
            job_id: (before[job_id].entry.name, before[job_id].entry.tags)
            for job_id, row in changed.items()
            if _same_text(before.get(job_id), row)
        }
        if unread := [job_id for job_id in changed if job_id not in texts]:
            texts |= self._texts(table, unread)
        for job_id, row in changed.items():
            if job_id in texts:  # else it was removed between the two queries
                known[job_id] = _Known(tuple(row), self._entry(row, *texts[job_id]))
        self._known = known
        if self._loader.has_failures:
            return [self._judged(kept.entry) for kept in known.values()]
        return [kept.entry for kept in known.values()]

    def _texts(self, table: str, ids: list[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return name and tags of jobs, which are in their definitions."""
        dialect = self._database.dialect
        rows = self._database.query(
            f"SELECT id, definition FROM {table} WHERE {dialect.within('id', 'ids')}", ids=dialect.pack(ids)
        )
        return {row.id: _parsed(row) for row in rows}

    def jobs(self, ids: list[str]) -> dict[str, ScheduledJob]:
        """Return these jobs by id, as far as they are there."""
        dialect = self._database.dialect
        rows = self._database.query(
            f"SELECT {JOB_COLUMNS} FROM {self._database.prefix}jobs "
            f"WHERE {dialect.within('id', 'ids')} AND ended_us IS NULL",
            ids=dialect.pack(ids),
        )
        return {row.id: self._loader.show(row) for row in rows}

    def _entry(self, row: Any, name: str, tags: tuple[str, ...]) -> JobEntry:
        state = "broken" if row.broken_us is not None else "paused" if row.next_us is None else "scheduled"
        fire = None if row.next_us is None else moment(row.next_us)
        return JobEntry(row.id, name, row.func, tags, state, fire, self._alias)

    def _judged(self, entry: JobEntry) -> JobEntry:
        """Return the entry, as broken where this process cannot load the job."""
        bad = entry.func in self._loader.bad_functions or entry.id in self._loader.bad_jobs
        return replace(entry, state="broken") if bad else entry


def _same_text(known: _Known | None, row: Any) -> bool:
    return known is not None and known.row[1:3] == (row.incarnation, row.version)


def _parsed(row: Any) -> tuple[str, tuple[str, ...]]:
    stored = keys_of(row.definition)  # a broken one is shown as such by the loader
    name, tags = stored.get("name"), stored.get("tags")
    return str(name or row.id), tuple(map(str, tags)) if isinstance(tags, list) else ()
