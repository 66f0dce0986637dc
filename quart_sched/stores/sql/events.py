"""The events: what each process tells the others' watchers, one row for each batch, for as long as anybody listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...model.ids import new_id
from .database import Database
from .transaction import Transaction

KEPT = 600.0
"""Seconds after which events are deleted: twice as long as a stream can be resumed."""
FOLLOWED = 60.0
"""Seconds for which a run's log is followed, unless that is renewed."""
_PAGE = 200
_FOLLOW = "follow:"


@dataclass(frozen=True, slots=True)
class Listening:
    """That somebody listens: since when without a break, in microseconds as is `now_us`.

    `epoch` names this table of events, `followed` are the runs whose logs are wanted, with when that was asked last.
    """

    now_us: int
    since_us: int
    epoch: str
    followed: dict[str, int]


class SqlEvents:
    """The table of events, and the facts in `meta` that say whether to write to it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._p = database.prefix
        # Ids are compared byte by byte, and the semicolon follows the colon.
        self._followers = f"FROM {self._p}meta WHERE k > '{_FOLLOW}' AND k < 'follow;'"
        self.latest_follower = f"SELECT MAX(n) {self._followers}"
        """A query of the time until which any log is followed, for the poll."""

    # What is wanted

    def listen(self, seconds: float, follow: Mapping[str, bool]) -> Listening:
        """Want to know what happens, for so long, and the logs of some runs: True asks for one from its first line.

        The other processes know within their poll.
        """

        def renew(tx: Transaction) -> Listening:
            now = tx.now
            # MySQL assigns from left to right, and the condition is about what was. The row's lock is held until the
            # end, so that no two processes add the same follower.
            statement = (
                f"UPDATE {self._p}meta SET at_us = CASE WHEN n < :now OR at_us IS NULL THEN :now ELSE at_us END, "
                "n = :until, v = COALESCE(v, :epoch) WHERE k = 'listening'"
            )
            tx.execute(statement, now=now, until=now + int(seconds * 1e6), epoch=new_id())
            tx.execute(f"DELETE {self._followers} AND n < :now", now=now)
            for run_id, afresh in follow.items():
                self._follow(tx, run_id, afresh=afresh)
            row = tx.first(f"SELECT at_us, v FROM {self._p}meta WHERE k = 'listening'")
            if row.at_us == now or any(follow.values()):
                tx.notify()
            return Listening(now, row.at_us, row.v, self._followed(tx))

        return self._database.transact(renew)

    def _follow(self, tx: Transaction, run_id: str, *, afresh: bool) -> None:
        key, until = _FOLLOW + run_id, tx.now + int(FOLLOWED * 1e6)
        asked = ", at_us = :now" if afresh else ""
        renewal = f"UPDATE {self._p}meta SET n = :until{asked} WHERE k = :k"
        if not tx.execute(renewal, k=key, until=until, now=tx.now):
            tx.insert("meta", ("k", "n", "at_us"), [(key, until, tx.now)])

    def is_listened_to(self) -> bool:
        """Tell whether anybody wants to know what happens."""

        def look(tx: Transaction) -> bool:
            until = tx.scalar(f"SELECT n FROM {self._p}meta WHERE k = 'listening'")
            return bool((until or 0) > tx.now)

        return self._database.transact(look, write=False)

    def followed(self) -> dict[str, int]:
        """Return the runs whose logs are wanted, with when that was asked last, in microseconds."""
        return self._database.transact(self._followed, write=False)

    def _followed(self, tx: Transaction) -> dict[str, int]:
        rows = tx.rows(f"SELECT k, at_us {self._followers} AND n > :now", now=tx.now)
        return {row.k.removeprefix(_FOLLOW): row.at_us for row in rows}

    # What happened

    def tell(self, data: str) -> None:
        """Write down what happened in this process."""

        def write(tx: Transaction) -> None:
            tx.insert("events", ("at_us", "kind", "data"), [(tx.now, "news", data)])

        self._database.transact(write)

    def recent(self, since_us: int, limit: int) -> tuple[int, list[Any]]:
        """Return the greatest number that was in use before, and the rows since a time, at most `limit` of the latest.

        Each has `id`, `at_us` and `data`; they come in the order of their numbers.
        """

        def read(tx: Transaction) -> tuple[int, list[Any]]:
            newest = tx.scalar(f"SELECT MAX(id) FROM {self._p}events")
            query = f"SELECT id, at_us, data FROM {self._p}events WHERE at_us >= :since ORDER BY id DESC LIMIT :limit"
            return newest or 0, list(reversed(tx.rows(query, since=since_us, limit=limit)))

        return self._database.transact(read, write=False)

    def after(self, number: int, missing: list[int]) -> list[Any]:
        """Return rows with greater numbers, and those out of the `missing` ones that have been committed since."""
        late = f" OR id IN ({', '.join(map(str, missing))})" if missing else ""
        return self._database.query(
            f"SELECT id, at_us, data FROM {self._p}events WHERE id > :number{late} ORDER BY id LIMIT :limit",
            number=number,
            limit=_PAGE,
        )
