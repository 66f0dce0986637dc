"""Polls: one light query, asked again and again, that tells whether there is something to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .database import Database
from .events import SqlEvents
from .rounds import Rounds
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

    def __init__(
        self,
        database: Database,
        rounds: Rounds,
        events: SqlEvents,
        clock: Any,
        time: Callable[[int | None], int],
    ) -> None:
        """`time` turns the database's time, None where it has none, into the one that counts."""
        self._database = database
        self._dialect = database.dialect
        self._p = database.prefix
        self._rounds = rounds
        self._events = events
        self._clock = clock
        self._time = time

    def poll(self, me: Session | None = None) -> Poll:
        """Look whether there is something to do, for `me` too, with one light query."""
        where, values = self._rounds.loadable("id")
        also, _ = self._rounds.loadable("job_id")
        meta = f"SELECT n FROM {self._p}meta WHERE k ="
        begin = time.time_ns() // 1000
        [row] = self._database.query(
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
        if row.now is not None and self._clock.real:
            early, late = (timedelta(microseconds=int(row.now) - at) for at in (end, begin))
            self._clock.agree(early, late)
        now = self._time(row.now)
        return Poll(
            row.next_us, row.due_us, bool(row.paused), row.members, row.cancels,
            (row.listening or 0) > now, (row.following or 0) > now,
        )  # fmt: skip
