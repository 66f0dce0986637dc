"""Mending: jobs that nobody can load are marked as broken, and released once their code can be loaded again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from typing import Any

from ...model.runs import RunRecord
from .cancellations import cancel_waiting
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
GIVEN_UP = 86_400.0
"""Seconds for which a run waits for code that can load its job, where that is over and so has no other way to show."""

_UNMARKED = "(broken_us IS NULL OR ended_us IS NOT NULL OR orphan_us IS NOT NULL)"
"""A condition for jobs that do not show as broken, or no more."""


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
        """Due jobs that cannot be loaded here: since when they are, and since when that was seen, in microseconds."""

    def mend(self, *, starting: bool = False) -> tuple[list[tuple[str, str]], list[RunRecord]]:
        """Try again what could not be loaded here: release what can be now, mark as broken what is long overdue.

        Returns the id and reason of each job that was marked, and the records of runs that were given up. With
        `starting`, jobs whose trigger raised get another chance as well: the code may be new.
        """
        functions, jobs = self._still_used(self._loader.bad_functions), self._dialect.pack(self._loader.bad_jobs)
        self._loader.forget_failures()
        select = f"SELECT {JOB_COLUMNS} FROM {self._p}jobs WHERE"
        broken = self._database.query(f"{select} broken_us IS NOT NULL AND ended_us IS NULL")
        unmarked = f"{self._dialect.within('id', 'jobs')} AND {_UNMARKED}"
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
            return [], []
        return self._database.transact(lambda tx: self._mend(tx, released))

    def _still_used(self, functions: Collection[str]) -> set[str]:
        """Return those of the functions that any job has by now."""
        if not functions:
            return set()
        query = f"SELECT DISTINCT func FROM {self._p}jobs WHERE {self._dialect.within('func', 'functions')}"
        return {row.func for row in self._database.query(query, functions=self._dialect.pack(functions))}

    def unclaimed(self, before: int) -> dict[str, list[str]]:
        """Return the jobs, by reason, that this process cannot load and that are due since `before` (microseconds)."""
        found: dict[str, list[str]] = {}
        for row in self._database.query(self._due(), **self._values(before)):
            if (reason := self._reason(row)) and row.id not in found.setdefault(reason, []):
                found[reason].append(row.id)
        return found

    def _due(self) -> str:
        """Return a query for the jobs that this process cannot load and of which a fire, or a run that waits, is due.

        A job comes once for each of the two.
        """
        live = f"{self._p}live AS w JOIN {self._p}jobs AS j ON j.id = w.job_id"
        return (
            f"SELECT j.id, j.func, j.next_us AS due_us FROM {self._p}jobs AS j "
            f"WHERE j.next_us <= :before AND {self._bad('j')} "
            f"UNION ALL SELECT j.id, j.func, MIN(w.due_us) FROM {live} "
            f"WHERE w.owner IS NULL AND w.due_us <= :before AND {_UNMARKED} AND {self._bad('j')} "
            "GROUP BY j.id, j.func"
        )

    def _bad(self, jobs: str) -> str:
        """Return a condition for the jobs, in the table of that name, that this process cannot load."""
        within = self._dialect.within
        return f"({within(f'{jobs}.func', 'functions')} OR {within(f'{jobs}.id', 'jobs')})"

    def _values(self, before: int) -> dict[str, Any]:
        return {
            "functions": self._dialect.pack(self._loader.bad_functions),
            "jobs": self._dialect.pack(self._loader.bad_jobs),
            "before": before,
        }

    def _reason(self, row: Any) -> str | None:
        # None where a change has mended the job meanwhile.
        return self._loader.bad_jobs.get(row.id) or self._loader.bad_functions.get(row.func)

    def _mend(self, tx: Transaction, released: list[Any]) -> tuple[list[tuple[str, str]], list[RunRecord]]:
        log: list[Entry] = []
        release = (
            f"UPDATE {self._p}jobs SET broken_us = NULL, broken_reason = NULL, "
            "next_us = CASE WHEN paused_us IS NULL AND orphan_us IS NULL THEN held_us ELSE NULL END, "
            "version = version + 1 WHERE id = :id AND version = :version AND broken_us IS NOT NULL"
        )
        for row in released:
            if tx.execute(release, id=row.id, version=row.version):
                log.append(Entry("mended", row.id, row.version + 1))
        marked, over = [], {}
        for row in self._long_seen(tx):
            if (reason := self._reason(row)) is None:
                continue
            if row.next_us is None and (row.ended_us is not None or row.orphan_us is not None):
                over[row.id] = reason
                continue
            marked.append((row.id, reason))
            log.append(Entry("broken", row.id, row.version + 1, None, reason))
            tx.update(
                "jobs", "id", ("next_us", "held_us", "broken_us", "broken_reason"),
                [(row.id, None, row.held_us if row.next_us is None else row.next_us, tx.now, clean(reason))],
                also="version = version + 1",
            )  # fmt: skip
        write_down(tx, log)
        return marked, self._give_up(tx, over)

    def _give_up(self, tx: Transaction, over: dict[str, str]) -> list[RunRecord]:
        """End what has waited for too long of jobs that are `over`, by the reason why they cannot be loaded."""
        waiting = tx.among("live", "job_id", over, "*", f"owner IS NULL{self._dialect.skip}") if over else []
        before = tx.now - GIVEN_UP * 1e6
        records = []
        for job_id in sorted({row.job_id for row in waiting if row.due_us is not None and row.due_us <= before}):
            rows = [row for row in waiting if row.job_id == job_id]
            records += cancel_waiting(tx, rows, "", None, ("JobBroken", f"Its job could not be run: {over[job_id]}"))
        return records

    def _long_seen(self, tx: Transaction) -> list[Any]:
        """Return, locked, the jobs that this process has seen due and unclaimed for long enough."""
        if tx.scalar(f"SELECT n FROM {self._p}meta WHERE k = 'paused'"):
            # Nobody may claim them: that says nothing about who could.
            self._seen = {}
            return []
        now, values = tx.now, self._values(tx.now)
        due: dict[str, int] = {}
        for row in tx.rows(self._due(), **values):
            due[row.id] = min(row.due_us, due.get(row.id, row.due_us))
        before, self._seen = self._seen, {}
        for job_id, first in due.items():
            fire, since = before.get(job_id, (first, now))
            self._seen[job_id] = (first, since if fire == first else now)
        long = [job_id for job_id, (_, since) in self._seen.items() if now - since >= QUARANTINE * 1e6]
        if not long:
            return []
        jobs = f"{self._p}jobs"
        waiting = f"SELECT 1 FROM {self._p}live WHERE job_id = {jobs}.id AND owner IS NULL AND due_us <= :before"
        still = f"{_UNMARKED} AND {self._bad(jobs)} AND (next_us <= :before OR EXISTS ({waiting}))"
        return tx.among("jobs", "id", long, JOB_COLUMNS, f"{still}{self._dialect.skip}", **values)
