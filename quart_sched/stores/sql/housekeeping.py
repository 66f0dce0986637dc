"""Housekeeping: one process at a time deletes what nothing needs any more."""

from __future__ import annotations

from datetime import datetime

from ...model.instants import micros
from .database import Database
from .events import KEPT
from .idempotency import forget_old
from .transaction import Transaction
from .workers import Session

_DAY = 86_400 * 1_000_000


class Housekeeping:
    """Clears up in one store. Safe from any thread; raises DatabaseFailure."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._p = database.prefix

    def take_turn(self, me: Session, term: float) -> bool:
        """Become the one process that clears up, for `term` seconds; tell whether this one is."""

        def take(tx: Transaction) -> bool:
            # A turn that lies too far ahead is that of a clock that has been put back since.
            free = "(n < :now OR n > :until OR v = :me)"
            statement = f"UPDATE {self._p}meta SET n = :until, v = :me WHERE k = 'janitor' AND {free}"
            return bool(tx.execute(statement, until=tx.now + int(term * 1e6), me=me.id, now=tx.now))

        return self._database.transact(take)

    def clear_up(self, before: datetime) -> None:
        """Delete what nothing needs any more: jobs whose schedule is over, and bookkeeping from before `before`."""
        p = self._p
        statements = (
            # Those whose last fire has not led to a success stay for a day, in which an alarm tells of them.
            f"DELETE FROM {p}jobs WHERE ended_us IS NOT NULL AND source = 'added' "
            f"AND NOT EXISTS (SELECT 1 FROM {p}live WHERE {p}live.job_id = {p}jobs.id) "
            f"AND (ended_us < :yesterday OR EXISTS (SELECT 1 FROM {p}runs WHERE {p}runs.job_id = {p}jobs.id "
            f"AND {p}runs.sched_us >= {p}jobs.last_us AND COALESCE({p}runs.outcome, '') = 'succeeded'))",
            f"DELETE FROM {p}workers WHERE gone_us < :before",
            # The newest stays, as some databases would give its number again.
            f"DELETE FROM {p}events WHERE at_us < :long_ago "
            f"AND id < (SELECT id FROM (SELECT MAX(id) AS id FROM {p}events) AS newest)",
            f"DELETE FROM {p}decls WHERE since_us < :before "
            f"AND hash NOT IN (SELECT decl FROM {p}workers WHERE gone_us IS NULL AND decl IS NOT NULL)",
            # Imports stay known, so that one that is repeated brings nothing back that was removed since.
            f"DELETE FROM {p}changes WHERE at_us < :before AND action <> 'import' "
            f"AND NOT EXISTS (SELECT 1 FROM {p}jobs WHERE {p}jobs.id = {p}changes.job_id "
            f"AND {p}jobs.version = {p}changes.version)",
        )
        self._database.transact(forget_old)
        for statement in statements:
            self._delete(statement, micros(before))

    def _delete(self, statement: str, before: int) -> None:
        def delete(tx: Transaction) -> None:
            tx.execute(statement, before=before, yesterday=tx.now - _DAY, long_ago=tx.now - int(KEPT * 1e6))

        self._database.transact(delete)
