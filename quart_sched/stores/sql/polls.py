"""Polls: one light query, asked again and again, that tells whether there is something to do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from .database import Database
from .events import SqlEvents
from .rounds import Rounds
from .transaction import Transaction
from .workers import Session


@dataclass(frozen=True, slots=True)
class Poll:
    """How the store stands: when something is due, in microseconds, and the counter of comings and goings."""

    next_us: int | None
    due_us: int | None
    paused: bool
    members: int
    cancels: int = 0
    """How many of the asking process's runs are to stop."""
    listening: bool = False
    """Whether somebody wants to know what happens."""
    following: bool = False
    """Whether somebody wants to see the log of a run while it is written."""

    @property
    def earliest(self) -> int | None:
        """When there is something to claim, in microseconds."""
        return min((us for us in (self.next_us, self.due_us) if us is not None), default=None)


class Polls:
    """Asks one store. Safe from any thread; raises DatabaseFailure."""

    def __init__(self, database: Database, rounds: Rounds, events: SqlEvents) -> None:
        self._database = database
        self._dialect = database.dialect
        self._p = database.prefix
        self._rounds = rounds
        self._events = events

    def poll(self, me: Session | None = None) -> Poll:
        """Look whether there is something to do, for `me` too, with one light query."""
        return self._database.transact(lambda tx: self._poll(tx, me), write=False)

    def _poll(self, tx: Transaction, me: Session | None) -> Poll:
        where, values = self._rounds.loadable("id")
        also, _ = self._rounds.loadable("job_id")
        meta = f"SELECT n FROM {self._p}meta WHERE k ="
        begin = time.time_ns() // 1000
        row = tx.first(
            f"SELECT {self._dialect.now} AS now, "
            f"({self._rounds.earliest(where)}) AS next_us, "
            f"(SELECT MIN(due_us) FROM {self._p}live WHERE owner IS NULL{also}) AS due_us, "
            f"({meta} 'paused') AS paused, ({meta} 'members') AS members, "
            f"(SELECT COUNT(cancel_us) FROM {self._p}live WHERE owner = :me) AS cancels, "
            f"({meta} 'listening') AS listening, ({self._events.latest_follower}) AS following",
            me=None if me is None else me.id,
            **values,
        )
        end = time.time_ns() // 1000
        clock = self._database.clock
        if row.now is not None and clock.real:
            early, late = (timedelta(microseconds=int(row.now) - at) for at in (end, begin))
            clock.agree(early, late)
        now = tx.take_time(row.now)
        return Poll(
            row.next_us, row.due_us, bool(row.paused), row.members, row.cancels,
            (row.listening or 0) > now, (row.following or 0) > now,
        )  # fmt: skip
