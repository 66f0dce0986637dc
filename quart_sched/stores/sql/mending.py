"""Mending: jobs that nobody can load are marked as broken, and released once their code can be loaded again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from typing import Any

from .changes import Entry, write_down
from .database import Database
from .loader import JOB_COLUMNS, JobLoader
from .rounds import TRIGGER_RAISED
from .rows import clean
from .transaction import Transaction

QUARANTINE = 60.0
"""Seconds for which this process sees that nobody claims a due job which it cannot load, before it marks it as broken.

Long enough for a rolling deploy, in which old code meets new jobs.
"""


class Mending:
    """Looks after the broken jobs of one store. Safe from any thread; raises DatabaseFailure."""

    def __init__(self, database: Database, loader: JobLoader, usable: Callable[[], Container[str]]) -> None:
        """`usable` returns the executors that this process has."""
        self._database = database
        self._dialect = database.dialect
        self._p = database.prefix
        self._loader = loader
        self._usable = usable
        self._seen: dict[str, tuple[int, int]] = {}
        """Due jobs that cannot be loaded here: for which fire, and since when that has been seen, in microseconds."""

    def mend(self, *, starting: bool = False) -> list[tuple[str, str]]:
        """Try again what could not be loaded here: release what can be now, mark as broken what is long overdue.

        Returns the id and reason of each job that was marked. With `starting`, jobs whose trigger raised get another
        chance as well: the code may be new.
        """
        functions, jobs = self._still_used(self._loader.bad_functions), self._dialect.pack(self._loader.bad_jobs)
        self._loader.forget_failures()
        select = f"SELECT {JOB_COLUMNS} FROM {self._p}jobs WHERE"
        broken = self._database.query(f"{select} broken_us IS NOT NULL AND ended_us IS NULL")
        unmarked = f"{self._dialect.within('id', 'jobs')} AND broken_us IS NULL"
        suspects = self._database.query(f"{select} {unmarked}", jobs=jobs)
        self._loader.learn({*functions, *(row.func for row in (*broken, *suspects))})
        usable = self._usable()
        released = [
            row
            for row in broken
            if (starting or not row.broken_reason.startswith(TRIGGER_RAISED)) and self._loader.attempt(row, usable)
        ]
        # Only those that are not marked yet are to be kept out of the claims.
        self._loader.bad_jobs.clear()
        for row in suspects:
            self._loader.attempt(row, usable)
        if not (released or self._loader.has_failures):
            self._seen = {}
            return []
        return self._database.transact(lambda tx: self._mend(tx, released))

    def _still_used(self, functions: Collection[str]) -> set[str]:
        """Return those of the functions that any job has by now."""
        if not functions:
            return set()
        query = f"SELECT DISTINCT func FROM {self._p}jobs WHERE {self._dialect.within('func', 'functions')}"
        return {row.func for row in self._database.query(query, functions=self._dialect.pack(functions))}

    def unclaimed(self, before: int) -> dict[str, list[str]]:
        """Return the jobs, by reason, that this process cannot load and that are due since `before` (microseconds)."""
        condition, values = self._bad(before)
        found: dict[str, list[str]] = {}
        for row in self._database.query(f"SELECT id, func FROM {self._p}jobs WHERE {condition}", **values):
            if reason := self._reason(row):
                found.setdefault(reason, []).append(row.id)
        return found

    def _bad(self, before: int) -> tuple[str, dict[str, Any]]:
        """Return a condition for the jobs that this process cannot load and that are due since `before`."""
        within = self._dialect.within
        return f"next_us <= :before AND ({within('func', 'functions')} OR {within('id', 'jobs')})", {
            "functions": self._dialect.pack(self._loader.bad_functions),
            "jobs": self._dialect.pack(self._loader.bad_jobs),
            "before": before,
        }

    def _reason(self, row: Any) -> str | None:
        # None where a change has mended the job meanwhile.
        return self._loader.bad_jobs.get(row.id) or self._loader.bad_functions.get(row.func)

    def _mend(self, tx: Transaction, released: list[Any]) -> list[tuple[str, str]]:
        log: list[Entry] = []
        release = (
            f"UPDATE {self._p}jobs SET broken_us = NULL, broken_reason = NULL, "
            "next_us = CASE WHEN paused_us IS NULL AND orphan_us IS NULL THEN held_us ELSE NULL END, "
            "version = version + 1 WHERE id = :id AND version = :version AND broken_us IS NOT NULL"
        )
        for row in released:
            if tx.execute(release, id=row.id, version=row.version):
                log.append(Entry("mended", row.id, row.version + 1))
        marked = []
        for row in self._long_seen(tx):
            if (reason := self._reason(row)) is None:
                continue
            marked.append((row.id, reason))
            log.append(Entry("broken", row.id, row.version + 1, None, reason))
            tx.update(
                "jobs", "id", ("next_us", "held_us", "broken_us", "broken_reason"),
                [(row.id, None, row.next_us, tx.now, clean(reason))], also="version = version + 1",
            )  # fmt: skip
        write_down(tx, log)
        return marked

    def _long_seen(self, tx: Transaction) -> list[Any]:
        """Return, locked, the jobs that this process has seen due and unclaimed for long enough."""
        if tx.scalar(f"SELECT n FROM {self._p}meta WHERE k = 'paused'"):
            # Nobody may claim them: that says nothing about who could.
            self._seen = {}
            return []
        now = tx.now
        condition, values = self._bad(now)
        before, self._seen = self._seen, {}
        for row in tx.rows(f"SELECT id, next_us FROM {self._p}jobs WHERE {condition}", **values):
            fire, since = before.get(row.id, (row.next_us, now))
            self._seen[row.id] = (row.next_us, since if fire == row.next_us else now)
        long = [job_id for job_id, (_, since) in self._seen.items() if now - since >= QUARANTINE * 1e6]
        if not long:
            return []
        return tx.among("jobs", "id", long, JOB_COLUMNS, f"{condition}{self._dialect.skip}", **values)
