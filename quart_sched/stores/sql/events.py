"""The events: what each process tells the others' watchers, one row for each batch, for as long as anybody listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from ...model.ids import new_id
from .database import Database
from .statements import text

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

    def __init__(self, database: Database, now: Callable[[Connection], int]) -> None:
        self._database = database
        self._dialect = database.dialect
        self._p = database.prefix
        self._now = now
        # Ids are compared byte by byte, and the semicolon follows the colon.
        self._followers = f"FROM {self._p}meta WHERE k > '{_FOLLOW}' AND k < 'follow;'"
        self.latest_follower = f"SELECT MAX(n) {self._followers}"
        """A query of the time until which any log is followed, for the poll."""

    # What is wanted

    def listen(self, seconds: float, follow: Mapping[str, bool]) -> Listening:
        """Want to know what happens, for so long, and the logs of some runs: True asks for one from its first line.

        The other processes know within their poll.
        """

        def renew(conn: Connection) -> Listening:
            now = self._now(conn)
            # MySQL assigns from left to right, and the condition is about what was. The row's lock is held until the
            # end, so that no two processes add the same follower.
            statement = (
                f"UPDATE {self._p}meta SET at_us = CASE WHEN n < :now OR at_us IS NULL THEN :now ELSE at_us END, "
                "n = :until, v = COALESCE(v, :epoch) WHERE k = 'listening'"
            )
            values = {"now": now, "until": now + int(seconds * 1e6), "epoch": new_id()}
            conn.execute(text(statement), values)
            conn.execute(text(f"DELETE {self._followers} AND n < :now"), {"now": now})
            for run_id, afresh in follow.items():
                self._follow(conn, run_id, now, afresh=afresh)
            row = conn.execute(text(f"SELECT at_us, v FROM {self._p}meta WHERE k = 'listening'")).one()
            if row.at_us == now or any(follow.values()):
                self._dialect.notify(conn)
            return Listening(now, row.at_us, row.v, self._followed(conn, now))

        return self._database.transact(renew)

    def _follow(self, conn: Connection, run_id: str, now: int, *, afresh: bool) -> None:
        values = {"k": _FOLLOW + run_id, "now": now, "until": now + int(FOLLOWED * 1e6)}
        asked = ", at_us = :now" if afresh else ""
        renewal = text(f"UPDATE {self._p}meta SET n = :until{asked} WHERE k = :k")
        if not conn.execute(renewal, values if afresh else {"k": values["k"], "until": values["until"]}).rowcount:
            conn.execute(text(f"INSERT INTO {self._p}meta (k, n, at_us) VALUES (:k, :until, :now)"), values)

    def is_listened_to(self) -> bool:
        """Tell whether anybody wants to know what happens."""

        def look(conn: Connection) -> bool:
            until = conn.scalar(text(f"SELECT n FROM {self._p}meta WHERE k = 'listening'"))
            return bool((until or 0) > self._now(conn))

        return self._database.transact(look, write=False)

    def followed(self) -> dict[str, int]:
        """Return the runs whose logs are wanted, with when that was asked last, in microseconds."""
        return self._database.transact(lambda conn: self._followed(conn, self._now(conn)), write=False)

    def _followed(self, conn: Connection, now: int) -> dict[str, int]:
        rows = conn.execute(text(f"SELECT k, at_us {self._followers} AND n > :now"), {"now": now})
        return {row.k.removeprefix(_FOLLOW): row.at_us for row in rows}

    # What happened

    def tell(self, data: str) -> None:
        """Write down what happened in this process."""

        def write(conn: Connection) -> None:
            self._dialect.insert(conn, "events", ("at_us", "kind", "data"), [(self._now(conn), "news", data)])

        self._database.transact(write)

    def recent(self, since_us: int, limit: int) -> tuple[int, list[Any]]:
        """Return the greatest number that was in use before, and the rows since a time, at most `limit` of the latest.

        Each has `id`, `at_us` and `data`; they come in the order of their numbers.
        """

        def read(conn: Connection) -> tuple[int, list[Any]]:
            newest = conn.scalar(text(f"SELECT MAX(id) FROM {self._p}events"))
            query = f"SELECT id, at_us, data FROM {self._p}events WHERE at_us >= :since ORDER BY id DESC LIMIT :limit"
            rows = conn.execute(text(query), {"since": since_us, "limit": limit}).all()
            return newest or 0, list(reversed(rows))

        return self._database.transact(read, write=False)

    def after(self, number: int, missing: list[int]) -> list[Any]:
        """Return rows with greater numbers, and those out of the `missing` ones that have been committed since."""
        late = f" OR id IN ({', '.join(map(str, missing))})" if missing else ""
        return self._database.query(
            f"SELECT id, at_us, data FROM {self._p}events WHERE id > :number{late} ORDER BY id LIMIT :limit",
            number=number,
            limit=_PAGE,
        )
