"""Workers: the sessions of the processes that share the store, their heartbeats, and the runs that the dead ones leave.

Death is a heartbeat that stands still over a whole lease of the watcher's own clock, in several successful looks: no
two clocks are compared, and a database that was away kills nobody.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...errors import SchedulerError
from ...model.ids import new_id
from ...model.instants import moment
from ...model.runs import RunRecord
from .lanes import advance
from .rows import LEAVING, OUTPUT_COLUMNS, RUN_COLUMNS, output_rows, run_row
from .transaction import Transaction

CRASH_LIMIT = 3
"""Attempts after which a run that takes its process down with it each time is given up as lost."""
_LOOKS = 3


class SessionLost(SchedulerError):
    """The others have declared this process dead. Its runs are no longer its own."""

    status = 503


@dataclass(slots=True)
class Session:
    """This process, as the others know it."""

    decl: str | None = None
    id: str = field(default_factory=new_id)
    host: str = field(default_factory=lambda: socket.gethostname()[:150])
    pid: int = field(default_factory=os.getpid)

    @property
    def worker(self) -> str:
        """host:pid"""
        return f"{self.host}:{self.pid}"


@dataclass(frozen=True, slots=True)
class Worker:
    """A live process, as `worker` (host:pid), with its runs: run_id to job_id. `age` is that of its last heartbeat."""

    id: str
    worker: str
    started_at: datetime
    seen_at: datetime
    age: float
    running: dict[str, str]
    decl: str | None = None
    """The version of the code whose jobs it runs; None where it takes part without."""


class Watch:
    """One process's view of the others' heartbeats."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float, int]] = {}
        self._looked = float("-inf")

    def overdue(self, beats: dict[str, int], now: float, lease: float) -> list[tuple[str, int]]:
        """Return who has been still for `lease` seconds; `now` is of a clock that never jumps."""
        if now - self._looked > 2 * lease / 3:
            # This process has not been looking, nor perhaps could the others show themselves: they get a whole lease.
            self._seen.clear()
        self._looked = now
        late = []
        seen = {}
        for worker, beat in beats.items():
            before = self._seen.get(worker)
            since, looks = (before[1], before[2] + 1) if before is not None and before[0] == beat else (now, 0)
            seen[worker] = (beat, since, looks)
            if looks >= _LOOKS and now - since >= lease:
                late.append((worker, beat))
        self._seen = seen
        return late


def register(tx: Transaction, me: Session) -> None:
    """Take part."""
    columns = ("id", "host", "pid", "started_us", "seen_us", "decl")
    tx.insert("workers", columns, [(me.id, me.host, me.pid, tx.now, tx.now, me.decl)])
    _changed(tx)


def beat(tx: Transaction, me: Session) -> None:
    """Show that this process lives. Raises SessionLost."""
    statement = f"UPDATE {tx.prefix}workers SET beat = beat + 1, seen_us = :now WHERE id = :me AND gone_us IS NULL"
    if not tx.execute(statement, now=tx.now, me=me.id):
        raise SessionLost(f"This process was declared dead as {me.id}")


def beats(tx: Transaction, me: Session) -> dict[str, int]:
    """Return the heartbeats of the others."""
    rows = tx.rows(f"SELECT id, beat FROM {tx.prefix}workers WHERE gone_us IS NULL")
    return {row.id: row.beat for row in rows if row.id != me.id}


def living(tx: Transaction) -> list[Worker]:
    """Return the sessions that have not ended, oldest first."""
    running: dict[str, dict[str, str]] = {}
    query = f"SELECT owner, run_id, job_id FROM {tx.prefix}live WHERE owner IS NOT NULL ORDER BY run_id"
    for row in tx.rows(query):
        running.setdefault(row.owner, {})[row.run_id] = row.job_id
    return [
        Worker(
            row.id,
            f"{row.host}:{row.pid}",
            moment(row.started_us),
            moment(row.seen_us),
            max(0.0, (tx.now - row.seen_us) / 1e6),
            running.get(row.id, {}),
            row.decl,
        )
        for row in tx.rows(f"SELECT * FROM {tx.prefix}workers WHERE gone_us IS NULL ORDER BY started_us, id")
    ]


def reap(tx: Transaction, worker: str, beat: int, me: Session) -> list[RunRecord] | None:
    """Declare a worker dead whose heartbeat still stands at `beat`; return the records of its lost runs.

    None where it is not, or was declared dead before, or is being so by another process.
    """
    query = (
        f"SELECT host, pid FROM {tx.prefix}workers WHERE id = :id AND beat = :beat AND gone_us IS NULL{tx.dialect.skip}"
    )
    row = tx.first(query, id=worker, beat=beat)
    return None if row is None else _bury(tx, worker, f"{row.host}:{row.pid}", "lost", me)


def sign_off(tx: Transaction, me: Session) -> list[RunRecord]:
    """End the session. What this process has still not ended by now is treated as after a crash."""
    query = f"SELECT id FROM {tx.prefix}workers WHERE id = :id AND gone_us IS NULL{tx.dialect.lock}"
    return [] if tx.first(query, id=me.id) is None else _bury(tx, me.id, me.worker, "left", me)


def _bury(tx: Transaction, owner: str, worker: str, why: str, me: Session) -> list[RunRecord]:
    rows = tx.rows(f"SELECT * FROM {tx.prefix}live WHERE owner = :owner ORDER BY run_id{tx.dialect.lock}", owner=owner)
    records, run_rows, reruns = [], [], []
    known = _jobs_there(tx, {row.job_id for row in rows if row.on_crash == "rerun"})
    for row in rows:
        if row.state == LEAVING:
            continue  # It is on record.
        again = row.on_crash == "rerun" and row.crashes + 1 < CRASH_LIMIT and row.incarnation in known
        again = again and row.cancel_us is None
        if again:
            reruns.append(row.run_id)
        record = _lost(row, worker, final=not again, now=tx.now)
        records.append(record)
        run_rows.append(run_row(record, me.id, row.version, row.func))
    tx.insert("runs", RUN_COLUMNS, run_rows)
    tx.insert("run_output", OUTPUT_COLUMNS, output_rows(records))
    if gone := {row.run_id for row in rows} - {*reruns}:
        tx.delete("live", "run_id", gone)
    ended = {record.run_id for record in records if record.final}
    advance(tx, {row.lane for row in rows if row.lane and row.run_id in ended})
    rerun = (
        f"UPDATE {tx.prefix}live SET run_id = :new, batch_id = :new, owner = NULL, state = 'queued', due_us = :now, "
        "claimed_us = NULL, cause = 'rerun', attempt = attempt + 1, crashes = crashes + 1 WHERE run_id = :old"
    )
    for run_id in reruns:
        tx.execute(rerun, new=new_id(), old=run_id, now=tx.now)
    end = f"UPDATE {tx.prefix}workers SET gone_us = :now, gone_why = :why WHERE id = :id"
    tx.execute(end, now=tx.now, why=why, id=owner)
    _changed(tx)
    return records


def _jobs_there(tx: Transaction, ids: set[str]) -> set[str]:
    """Return the incarnations of those of the jobs that still exist."""
    return {row.incarnation for row in tx.among("jobs", "id", ids, "incarnation")} if ids else set()


def _lost(row: Any, worker: str, *, final: bool, now: int) -> RunRecord:
    return RunRecord(
        row.run_id,
        row.fire_id,
        row.job_id,
        moment(row.sched_us),
        "lost",
        row.cause,
        worker,
        row.attempt,
        None if row.claimed_us is None else moment(row.claimed_us),
        moment(now),
        "ProcessDied",
        f"The process {worker} stopped before the run ended",
        final=final,
        overrides=row.overrides,
    )


def _changed(tx: Transaction) -> None:
    tx.execute(f"UPDATE {tx.prefix}meta SET n = n + 1 WHERE k = 'members'")
    tx.notify()
