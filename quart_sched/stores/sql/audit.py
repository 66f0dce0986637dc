"""The list of changes in the database, and what it tells of how it stood at a moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from apscheduler.triggers.base import BaseTrigger

from ...errors import InvalidDefinition
from ...model import state
from ...model.changes import Change, ChangeQuery, Place, Placed
from ...model.circumstances import Circumstances, Hold, circumstances, down_at
from ...model.instants import micros, moment
from .database import Database
from .rows import clean
from .transaction import Transaction

_COLUMNS = "at_us, actor, action, job_id, version, detail"
_MOST = 100
"""Changes before a moment, and after it, that are looked at; those that leave all as it is are not counted."""


class Audit:
    """Reads the changes of one store, whose alias is the name of the list. Safe from any thread.

    Raises DatabaseFailure.
    """

    def __init__(self, database: Database, alias: str, lease: float) -> None:
        """Take a session that was seen within the `lease`, in seconds, to last."""
        self._database = database
        self._p = database.prefix
        self._alias = alias
        self._lease = int(lease * 1e6)

    def page(self, query: ChangeQuery) -> list[Placed]:
        """Return the changes that are asked for, newest first, one more than the query's limit."""
        where: list[str] = []
        values: dict[str, Any] = {"limit": query.limit + 1}
        if query.job_id is not None:
            where.append("job_id = :job_id")
            values["job_id"] = clean(query.job_id, state.MAX_ID)
        if (place := query.before) is not None:
            where.append("at_us <= :before_us")
            values["before_us"] = place.at_us
            if place.source == self._alias:
                where.append("(at_us < :before_us OR id < :before)")
                values["before"] = place.number
            elif place.source < self._alias:
                where.append("at_us < :before_us")
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        statement = f"SELECT id, {_COLUMNS} FROM {self._p}changes{condition} ORDER BY at_us DESC, id DESC LIMIT :limit"
        rows = self._database.query(statement, **values)
        return [(Place(row.at_us, self._alias, row.id), _change(row)) for row in rows]

    def last_trigger(self, job_id: str) -> BaseTrigger | None:
        """Return the trigger that a job had last, which may be gone; None where nobody knows."""
        return self._database.transact(lambda tx: self._trigger(tx, job_id), write=False)

    def circumstances(
        self, job_id: str, at: datetime, horizon: datetime
    ) -> tuple[Circumstances, frozenset[str]] | None:
        """Tell how it stood with a job at a moment, and which sessions lasted then; None for one never heard of.

        What is older than the `horizon` may have been deleted.
        """
        return self._database.transact(
            lambda tx: self._circumstances(tx, job_id, micros(at), micros(horizon)), write=False
        )

    def _circumstances(
        self, tx: Transaction, job_id: str, at: int, horizon: int
    ) -> tuple[Circumstances, frozenset[str]] | None:
        known = clean(job_id, state.MAX_ID)
        row = tx.first(f"SELECT * FROM {self._p}jobs WHERE id = :id", id=known)
        of_job = self._around(tx, "job_id = :id AND action <> 'modify'", at, id=known)
        if row is None and not of_job:
            return None
        of_scheduler = self._around(tx, "job_id IS NULL", at)
        lasted, down = self._sessions(tx, at, horizon)
        found = circumstances(
            moment(at), of_job, of_scheduler, trigger=self._trigger_at(tx, job_id, at, row), down=down
        )
        return self._completed(tx, found, at, row), lasted

    def _around(self, tx: Transaction, condition: str, at: int, **values: Any) -> list[Change]:
        query = f"SELECT {_COLUMNS} FROM {self._p}changes WHERE {condition} AND at_us"
        values |= {"at": at, "most": _MOST}
        before = tx.rows(f"{query} <= :at ORDER BY id DESC LIMIT :most", **values)
        after = tx.rows(f"{query} > :at ORDER BY id LIMIT :most", **values)
        return [_change(row) for row in (*reversed(before), *after)]

    def _trigger_at(self, tx: Transaction, job_id: str, at: int, row: Any) -> BaseTrigger | None:
        found = self._trigger(tx, job_id, " AND at_us <= :at", at=at)
        if found is None and row is not None and self._trigger(tx, job_id) is None:
            return _loaded(row.definition)  # It has not changed since, or there would be a newer one.
        return found

    def _trigger(self, tx: Transaction, job_id: str, also: str = "", /, **values: Any) -> BaseTrigger | None:
        query = (
            f"SELECT definition FROM {self._p}changes WHERE job_id = :id AND definition IS NOT NULL{also} "
            "ORDER BY id DESC LIMIT 1"
        )
        definition = tx.scalar(query, id=clean(job_id, state.MAX_ID), **values)
        return None if definition is None else _loaded(definition)

    def _completed(self, tx: Transaction, found: Circumstances, at: int, row: Any) -> Circumstances:
        """Add the holds whose beginning is older than the changes that are kept."""
        pause = tx.first(f"SELECT n, v, at_us FROM {self._p}meta WHERE k = 'paused'")
        holds = {"scheduler_pause": _still(at, pause.at_us if pause.n else None, pause.v)}
        if row is not None:
            holds["job_pause"] = _still(at, row.paused_us, row.paused_by)
            holds["pruned"] = _still(at, row.orphan_us if row.next_us is None else None, None)
            holds["broken"] = _still(at, row.broken_us, None, row.broken_reason)
        missing: dict[str, Any] = {
            name: hold for name, hold in holds.items() if hold is not None and getattr(found, name) is None
        }
        return replace(found, **missing)

    def _sessions(self, tx: Transaction, at: int, horizon: int) -> tuple[frozenset[str], Hold | None]:
        query = f"SELECT id, started_us, seen_us, gone_us, gone_why FROM {self._p}workers WHERE decl IS NOT NULL"
        spans = {row.id: (row.started_us, _end(row, tx.now, self._lease)) for row in tx.rows(query)}
        lasted = {id for id, (start, end) in spans.items() if start <= at and (end is None or end > at)}
        if at < horizon and not any(start <= at for start, _ in spans.values()):
            return frozenset(), None
        moments = ((moment(start), None if end is None else moment(end)) for start, end in spans.values())
        return frozenset(lasted), down_at(moment(at), moments)


def _end(row: Any, now: int, lease: int) -> int | None:
    """Return when a session was there for the last time; None where it lasts."""
    if row.gone_us is None:
        return None if row.seen_us > now - lease else int(row.seen_us)
    return int(row.gone_us if row.gone_why == "left" else row.seen_us)


def _still(at: int, since: int | None, by: str | None, reason: str | None = None) -> Hold | None:
    return None if since is None or since > at else Hold(moment(since), None, by, reason)


def _loaded(definition: str) -> BaseTrigger | None:
    try:
        return state.trigger_of(definition)
    except InvalidDefinition:
        return None  # of newer code


def _change(row: Any) -> Change:
    return Change(moment(row.at_us), row.actor, row.action, row.job_id, row.version, row.detail)
