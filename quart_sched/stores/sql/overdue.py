"""Overdue jobs of a shared store: one process at a time looks for them, and all see what it found.

The row `overdue` of `meta` says whose turn it is and until when; each job that is overdue has a row of its own there.
That row also sees to it that users' hooks are called by one process, once, and by another where that one died.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError

from ...model.instants import micros, moment
from ...model.overdue import REMEMBERED, UNEXPECTED, Overdue, allowance
from ...model.policies import DEFAULT
from .database import Database
from .loader import policy_in
from .rows import LEAVING
from .transaction import Transaction
from .workers import Session

_TURN = "overdue"
_SECOND = 1_000_000
_TELLING = 60 * _SECOND
"""Microseconds after which another process tells the hooks, if the one that was to has not said that it has or does."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is overdue, by job id, and of that the jobs whose hooks the asking process has to call."""

    overdue: dict[str, Overdue]
    to_tell: list[str]


class OverdueBooks:
    """The overdue jobs of one store. Safe from any thread; raises DatabaseFailure."""

    def __init__(self, database: Database, alias: str) -> None:
        self._database = database
        self._dialect = database.dialect
        self._p = database.prefix
        self._alias = alias

    def look(
        self, me: Session, grace: float, term: float, told: Collection[str], telling: Collection[str] = ()
    ) -> Findings:
        """Return what is overdue; find it out, if no other process has done so within `term` seconds.

        `told` are jobs whose hooks this process has called since, `telling` those that it is still calling.
        """
        if told or telling:
            self._database.transact(lambda tx: self._note(tx, told, telling))
        turn, now, marks = self._database.transact(self._read, write=False)
        until = now + int(term * _SECOND)
        # A turn that lies too far ahead is that of a clock that has been put back since.
        free = turn is None or turn <= now or turn > until
        if not free or not self._database.transact(lambda tx: self._take_turn(tx, me, turn, until)):
            return Findings(self._shown(marks), [])
        found = self._database.transact(lambda tx: self._find(tx, now, grace), write=False)
        if not found and not marks:
            return Findings({}, [])
        return self._database.transact(lambda tx: self._write(tx, me, found, now))

    def known(self) -> list[Overdue]:
        """Return what the processes have found to be overdue, for the longest first; none while all is paused."""
        query = (
            f"SELECT v FROM {self._p}meta WHERE k LIKE '{_TURN}:%' "
            f"AND NOT EXISTS (SELECT 1 FROM {self._p}meta WHERE k = 'paused' AND n <> 0)"
        )
        return sorted(self._shown(self._database.query(query)).values(), key=lambda one: one.since)

    def _read(self, tx: Transaction) -> tuple[int | None, int, list[Any]]:
        """Return until when somebody's turn is (None: it is the first), the time, and the rows of overdue jobs."""
        facts = f"SELECT {self._dialect.now} AS now, (SELECT n FROM {self._p}meta WHERE k = '{_TURN}') AS turn"
        row = tx.first(facts)
        return row.turn, tx.take_time(row.now), self._marks(tx)

    def _marks(self, tx: Transaction) -> list[Any]:
        return tx.rows(f"SELECT k, n, v, at_us FROM {self._p}meta WHERE k LIKE '{_TURN}:%'")

    def _take_turn(self, tx: Transaction, me: Session, seen: int | None, until: int) -> bool:
        if seen is None:
            try:
                tx.insert("meta", ("k", "n", "v"), [(_TURN, until, me.id)])
            except IntegrityError:
                return False
            return True
        statement = f"UPDATE {self._p}meta SET n = :until, v = :me WHERE k = '{_TURN}' AND n = :seen"
        return bool(tx.execute(statement, until=until, me=me.id, seen=seen))

    def _write(self, tx: Transaction, me: Session, found: dict[str, Overdue], now: int) -> Findings:
        """Bring the rows up to date; return them, and the jobs whose hooks this process has to call."""
        turn = tx.scalar(f"SELECT v FROM {self._p}meta WHERE k = '{_TURN}'{tx.dialect.lock}")
        rows = self._marks(tx)
        if turn != me.id:
            return Findings(self._shown(rows), [])  # The search took so long that another process has begun one.
        marks = {json.loads(row.v)["job_id"]: row for row in rows}
        shown: dict[str, Overdue] = {}
        to_tell: list[str] = []
        for job_id, overdue in found.items():
            mark = marks.pop(job_id, None)
            same = mark is not None and json.loads(mark.v)["last"] == _micros(overdue.last_success)
            if same and (mark.n or mark.at_us > now - _TELLING):
                shown |= self._shown([mark])
                continue
            shown[job_id] = overdue
            to_tell.append(job_id)
            if mark is not None:
                tx.delete("meta", "k", [mark.k])
            tx.insert("meta", ("k", "n", "v", "at_us"), [(_key(job_id), 0, _dump(overdue), now)])
        if marks:
            tx.delete("meta", "k", [mark.k for mark in marks.values()])
        return Findings(shown, to_tell)

    def _note(self, tx: Transaction, told: Collection[str], telling: Collection[str]) -> None:
        tx.update("meta", "k", ("n",), [(_key(job_id), 1) for job_id in sorted(told)])
        tx.update("meta", "k", ("at_us",), [(_key(job_id), tx.now) for job_id in sorted(telling)])

    def _shown(self, rows: Iterable[Any]) -> dict[str, Overdue]:
        shown = {}
        for row in rows:
            mark = json.loads(row.v)
            last = None if mark["last"] is None else moment(mark["last"])
            expected, since = moment(mark["expected"]), moment(mark["since"])
            shown[mark["job_id"]] = Overdue(mark["job_id"], expected, since, last, self._alias)
        return shown

    # The search

    def _find(self, tx: Transaction, now: int, grace: float) -> dict[str, Overdue]:
        """Return what is overdue."""
        p = self._p
        # What may not have succeeded since its last fire: it runs, or has failed. The rest is a matter of how long.
        # One step in the index for each job: left to themselves, databases look at every run there is.
        query = (
            "SELECT id, definition, ended_us, CASE WHEN broken_us IS NULL THEN next_us ELSE held_us END AS due_us "
            f"FROM {p}jobs WHERE paused_us IS NULL AND orphan_us IS NULL "
            "AND (next_us <= :soon OR (broken_us IS NOT NULL AND held_us <= :soon) OR (last_us IS NOT NULL AND "
            f"COALESCE((SELECT outcome FROM {p}runs AS r WHERE r.job_id = {p}jobs.id AND r.sched_us >= {p}jobs.last_us "
            "ORDER BY r.sched_us DESC, r.run_id DESC LIMIT 1), '') "
            "<> 'succeeded'))"
        )
        found = (self._judge(tx, row, now, grace) for row in tx.rows(query, soon=now - _SECOND))
        return {overdue.job_id: overdue for overdue in found if overdue is not None}

    def _judge(self, tx: Transaction, job: Any, now: int, grace: float) -> Overdue | None:
        policy = policy_in(job.definition, ("overdue_after", "timeout")) or DEFAULT
        success = self._last_success(tx, job.id)
        usual = None
        if success is not None and success.started_us is not None:
            usual = (success.ended_us - success.started_us) / _SECOND
        expected = self._expected(tx, job, None if success is None else success.sched_us)
        if expected is None:
            return None
        since = expected + allowance(policy, grace, usual) // timedelta(microseconds=1)
        if since > now or (job.ended_us is not None and since + REMEMBERED // timedelta(microseconds=1) <= now):
            return None
        last = None if success is None else moment(success.ended_us)
        return Overdue(job.id, moment(expected), moment(since), last, self._alias)

    def _last_success(self, tx: Transaction, job_id: str) -> Any:
        query = (
            f"SELECT sched_us, started_us, ended_us FROM {self._p}runs WHERE job_id = :id "
            # The index that begins with the outcome would lead through all jobs' runs.
            "AND COALESCE(outcome, '') = 'succeeded' ORDER BY sched_us DESC, run_id DESC LIMIT 1"
        )
        return tx.first(query, id=job_id)

    def _expected(self, tx: Transaction, job: Any, after: int | None) -> int | None:
        """Return the first fire, later than that of the last success, that was to succeed; None where there is none."""
        added = f"SELECT MAX(at_us) FROM {self._p}changes WHERE job_id = :id AND action IN ('add', 'import')"
        begun = tx.scalar(added, id=job.id) or 0  # The fires before were those of another job of that id.
        values = {"id": job.id, "after": max(begun - 1, -1 if after is None else after)}
        causes = ", ".join(f"'{cause}'" for cause in UNEXPECTED)
        by_schedule = f"job_id = :id AND sched_us > :after AND cause NOT IN ({causes})"
        ended = (
            f"SELECT sched_us, first_us FROM {self._p}runs WHERE {by_schedule} "
            "AND outcome NOT IN ('skipped', 'coalesced') ORDER BY sched_us LIMIT 1"
        )
        fires = [job.due_us] if job.due_us is not None else []
        if (row := tx.first(ended, **values)) is not None:
            fires.append(row.sched_us if row.first_us is None else max(row.first_us, values["after"] + 1))
        live = f"SELECT MIN(sched_us) FROM {self._p}live WHERE {by_schedule} AND state <> '{LEAVING}'"
        if (us := tx.scalar(live, **values)) is not None:
            fires.append(us)
        return min(fires, default=None)


def _micros(at: Any) -> int | None:
    return None if at is None else micros(at)


def _key(job_id: str) -> str:
    # A job's id may be longer than a key.
    return f"{_TURN}:{hashlib.sha256(job_id.encode()).hexdigest()[:40]}"


def _dump(overdue: Overdue) -> str:
    return json.dumps(
        {
            "job_id": overdue.job_id,
            "expected": micros(overdue.expected_at),
            "since": micros(overdue.since),
            "last": _micros(overdue.last_success),
        }
    )
