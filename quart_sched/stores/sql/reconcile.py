"""Reconciling what the code declares with what is stored, from many processes at once and of two versions of the code.

Declarations are compared as they were written, by two hashes. Of the versions that live processes run, the one that
came last is in force: only its processes change or prune jobs, while any process may add what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection

from ...errors import InvalidDefinition
from ...model import state
from ...model.ids import new_id
from ...model.instants import micros, moment
from ...model.jobs import ScheduledJob
from ...model.planning import take_up_behind
from .changes import NEW_JOB, Changes, Entry, entries_of_new, new_row
from .dialects import Dialect
from .loader import JOB_COLUMNS, policy_in
from .rows import LIVE_COLUMNS, live_row
from .statements import text
from .workers import Session, SessionLost

Prune = Literal["pause", "remove", "keep"]
_PRUNED = "the code does not declare it any more"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A declared job: the hashes of what was written, and how it is made as of now (raises InvalidDefinition).

    `sets_next` tells whether its next fire, or its pause, was written too.
    """

    id: str
    trigger_hash: str
    options_hash: str
    make: Callable[[], ScheduledJob]
    sets_next: bool = False


@dataclass(slots=True)
class Reconciled:
    """The ids of what was changed. `refused` jobs have an id that was given to a job added at run time.

    `invalid` ones come with the reason. `version` is the hash of all that this process declares.
    """

    version: str
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    invalid: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Decision:
    """What reconciling comes to: what to tell of it, and the rows to write."""

    result: Reconciled
    made: dict[str, ScheduledJob] = field(default_factory=dict)
    """The jobs that are added, changed or restored, as they are then."""
    before: dict[str, Any] = field(default_factory=dict)
    """The rows that are changed or restored, as they are now."""
    replaced: list[str] = field(default_factory=list)
    new: list[tuple[Any, ...]] = field(default_factory=list)
    updates: list[tuple[Any, ...]] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    orphans: list[tuple[Any, ...]] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)


def declarations_hash(declarations: Sequence[Declaration]) -> str:
    """Return the hash that stands for one version of the code."""
    parts = sorted((entry.id, entry.trigger_hash, entry.options_hash) for entry in declarations)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def reconcile(
    conn: Connection, dialect: Dialect, changes: Changes, me: Session, declared: Sequence[Declaration],
    now: int, prune: Prune, since: Mapping[str, int],
) -> Reconciled:  # fmt: skip
    """Bring the declarations of this process into the store, alone among all processes while it lasts.

    `since` tells when this process announced a version of the code for the first time. Raises SessionLost.
    """
    conn.execute(text(f"SELECT n FROM {dialect.prefix}meta WHERE k = 'reconcile'{dialect.lock}"))
    version = declarations_hash(declared)
    in_force, living = _announce(conn, dialect, me, declared, version, since.get(version, now))
    decision = decide(conn, dialect, changes, declared, now, prune, in_force=in_force, living=living)
    _write(conn, dialect, changes, decision)
    return decision.result


def decide(
    conn: Connection, dialect: Dialect, changes: Changes, declared: Sequence[Declaration], now: int, prune: Prune, *,
    in_force: bool, living: Container[str],
) -> Decision:  # fmt: skip
    """Compare what is declared with what is stored; nothing is written.

    `in_force` tells whether this process's code is the one that changes and prunes; what is in `living` is not pruned.
    """
    decision = Decision(Reconciled(declarations_hash(declared)))
    result = decision.result
    by_id = {entry.id: entry for entry in declared}
    stored = _stored(conn, dialect, by_id)
    touched = set()
    for job_id, entry in by_id.items():
        row = stored.get(job_id)
        if row is not None and row.source != "declared":
            if row.ended_us is None:
                result.refused.append(job_id)
                continue
            decision.replaced.append(job_id)
        if row is None or row.source != "declared":
            _decide_new(entry, now, decision)
        elif row.orphan_us is not None or (in_force and not _same(row, entry)):
            touched.add(job_id)
    _decide_changes(conn, dialect, changes, touched, by_id, in_force, now, decision)
    if in_force and prune != "keep":
        gone = [row for row in stored.values() if row.source == "declared" and row.id not in living]
        # What is over is never removed: should it be declared again, it must not run again.
        again = prune == "remove"
        pruned = {row.id for row in gone if row.orphan_us is None or (again and row.ended_us is None)}
        _decide_prune(conn, dialect, changes, pruned, now, prune, decision)
    return decision


def _stored(conn: Connection, dialect: Dialect, declared: Iterable[str]) -> dict[str, Any]:
    """Return the rows of all declared jobs, and those that have the id of one that is declared now."""
    columns = "id, source, trig_hash, decl_hash, orphan_us, ended_us"
    query = f"SELECT {columns} FROM {dialect.prefix}jobs WHERE source = 'declared'"
    stored = {row.id: row for row in conn.execute(text(query))}
    strangers = set(declared) - stored.keys()
    if strangers:
        query = f"SELECT {columns} FROM {dialect.joined('jobs', 'id', 'ids')} 1 = 1"
        stored |= {row.id: row for row in conn.execute(text(query), {"ids": dialect.pack(sorted(strangers))})}
    return stored


def run_on_start(
    conn: Connection, dialect: Dialect, me: Session, now: int, lease: int, start_runs: dict[str, str]
) -> None:
    """Let the jobs that want it run once, if no other process has been at work within `lease` microseconds.

    To be called after `reconcile`, in the same transaction: of processes that start together the first one does it.
    What is in `start_runs`, the runs by job, may have been entered already; what is new is added to them.
    """
    p = dialect.prefix
    entered: set[str] = set()
    if start_runs:
        # In this order, as a run that ends moves from the one to the other.
        for table in ("live", "runs"):
            query = f"SELECT run_id FROM {dialect.joined(table, 'run_id', 'ids')} 1 = 1"
            ids = dialect.pack(sorted(start_runs.values()))
            entered |= {row.run_id for row in conn.execute(text(query), {"ids": ids})}
    others = f"SELECT id FROM {p}workers WHERE id <> :me AND gone_us IS NULL AND decl IS NOT NULL AND seen_us > :fresh"
    if conn.execute(text(others), {"me": me.id, "fresh": now - lease}).first() is not None:
        return
    query = (
        f"SELECT id, incarnation, version, func, definition FROM {p}jobs WHERE definition LIKE :wish "
        "AND paused_us IS NULL AND orphan_us IS NULL AND broken_us IS NULL AND ended_us IS NULL"
    )
    rows = []
    for row in conn.execute(text(query), {"wish": '%"run_on_start":true%'}).all():
        policy = policy_in(row.definition)
        if policy is None or not policy.run_on_start:
            continue  # It is damaged, or the words stand in an argument.
        run_id = start_runs.setdefault(row.id, new_id())
        if run_id not in entered:
            on_crash = policy.on_crash
            rows.append(
                live_row(row, run_id, sched_us=now, cause="start", on_crash=on_crash, state="queued", due_us=now)
            )
    dialect.insert(conn, "live", LIVE_COLUMNS, rows)


def _same(row: Any, entry: Declaration) -> bool:
    return (row.trig_hash, row.decl_hash) == (entry.trigger_hash, entry.options_hash)


def _announce(
    conn: Connection, dialect: Dialect, me: Session, declared: Sequence[Declaration], mine: str, since: int
) -> tuple[bool, set[str]]:
    """Say what this process declares; return whether that is in force, and what all living processes declare."""
    p = dialect.prefix
    holders = conn.execute(text(f"SELECT id, decl FROM {p}workers WHERE gone_us IS NULL")).all()
    if me.id not in {row.id for row in holders}:
        raise SessionLost(f"This process was declared dead as {me.id}")
    others = {row.decl for row in holders if row.id != me.id and row.decl is not None}
    if me.decl != mine:
        conn.execute(text(f"UPDATE {p}workers SET decl = :decl WHERE id = :id"), {"decl": mine, "id": me.id})
        if mine not in others:
            # New code, or old code that comes back when no process of it was left: from now on it is in force.
            conn.execute(text(f"DELETE FROM {p}decls WHERE hash = :hash"), {"hash": mine})
            body = json.dumps(sorted(entry.id for entry in declared))
            dialect.insert(conn, "decls", ("hash", "since_us", "body"), [(mine, since, body)])
    query = f"SELECT hash, since_us, body FROM {dialect.joined('decls', 'hash', 'ids')} 1 = 1"
    rows = conn.execute(text(query), {"ids": dialect.pack(sorted(others | {mine}))}).all()
    latest = max(rows, key=lambda row: (row.since_us, row.hash))
    return latest.hash == mine, {job_id for row in rows for job_id in json.loads(row.body)}


def _decide_new(entry: Declaration, now: int, decision: Decision) -> None:
    try:
        job = entry.make()
        values = new_row(job, now, "declared", entry.trigger_hash, entry.options_hash)
    except InvalidDefinition as error:
        decision.result.invalid[entry.id] = str(error)
        return
    decision.made[entry.id] = job
    decision.new.append(values)
    decision.result.added.append(entry.id)
    decision.log += entries_of_new(values)


def _decide_changes(
    conn: Connection, dialect: Dialect, changes: Changes, ids: set[str], by_id: dict[str, Declaration],
    in_force: bool, now: int, decision: Decision,
) -> None:  # fmt: skip
    """Decide on the declared jobs that were written anew, and on those that are declared again after a prune."""
    if not ids:
        return
    result = decision.result
    query = f"SELECT {JOB_COLUMNS} FROM {dialect.joined('jobs', 'id', 'ids')} 1 = 1{changes.lock}"
    for row in conn.execute(text(query), {"ids": dialect.pack(sorted(ids))}).all():
        entry = by_id[row.id]
        restored, changed = row.orphan_us is not None, in_force and not _same(row, entry)
        if not (restored or changed):
            continue
        try:
            job = entry.make() if changed else changes.load(row)
            definition, func = state.dump_and_ref(job) if changed else (row.definition, row.func)
        except InvalidDefinition as error:
            result.invalid[row.id] = str(error)
            continue
        decision.made[row.id] = job
        decision.before[row.id] = row
        new_schedule = changed and (row.trig_hash != entry.trigger_hash or entry.sets_next)
        next_us, held_us, ended_us = row.next_us, row.held_us, row.ended_us
        paused_us, paused_by = row.paused_us, row.paused_by
        if new_schedule:
            ended_us = None
            if job.next_run_time is None and paused_us is None:
                paused_us, paused_by = now, changes.actor
        if new_schedule or (ended_us is None and next_us is None):
            next_us = _next(job, job.next_run_time if changed else changes.first_fire(job), row.last_us)
            if next_us is None and paused_us is None:
                ended_us = now
        if paused_us is not None or row.broken_us is not None:
            held_us, next_us = next_us if next_us is not None else held_us, None
        hashes = (entry.trigger_hash, entry.options_hash) if changed else (row.trig_hash, row.decl_hash)
        modified = 0 if changed else row.modified
        decision.updates.append(
            (row.id, definition, func, next_us, held_us, ended_us, paused_us, paused_by, None, modified, *hashes)
        )
        (result.changed if changed else result.restored).append(row.id)
        detail = state.differences(row.definition, definition)
        decision.log.append(Entry("declare", row.id, row.version + 1, definition, detail))
        if row.paused_us is None and paused_us is not None:
            decision.log.append(Entry("pause", row.id, row.version + 1))


def _next(job: ScheduledJob, fire: datetime | None, last_us: int | None) -> int | None:
    """Return the first fire of a schedule that is taken up now, behind the last one that was consumed."""
    if fire is not None and last_us is not None and micros(fire) <= last_us:
        fire = take_up_behind(job.trigger, moment(last_us))
    return None if fire is None else micros(fire)


def _decide_prune(
    conn: Connection, dialect: Dialect, changes: Changes, ids: set[str], now: int, prune: Prune, decision: Decision
) -> None:
    if not ids:
        return
    columns = "id, version, next_us, held_us, ended_us"
    query = f"SELECT {columns} FROM {dialect.joined('jobs', 'id', 'ids')} 1 = 1{changes.lock}"
    rows = conn.execute(text(query), {"ids": dialect.pack(sorted(ids))}).all()
    removed: set[str] = {row.id for row in rows if row.ended_us is None} if prune == "remove" else set()
    decision.log += [
        Entry("remove" if row.id in removed else "prune", row.id, row.version + 1, None, _PRUNED) for row in rows
    ]
    decision.result.pruned = sorted(row.id for row in rows if row.ended_us is None)
    if prune == "remove":
        decision.discarded = decision.result.pruned
        rows = [row for row in rows if row.ended_us is not None]
    decision.orphans = [(row.id, None, row.held_us if row.next_us is None else row.next_us, now) for row in rows]


def _write(conn: Connection, dialect: Dialect, changes: Changes, decision: Decision) -> None:
    changes.discard(decision.replaced)
    dialect.insert(conn, "jobs", NEW_JOB, decision.new)
    columns = (
        "definition", "func", "next_us", "held_us", "ended_us", "paused_us", "paused_by", "orphan_us", "modified",
        "trig_hash", "decl_hash",
    )  # fmt: skip
    dialect.update(conn, "jobs", "id", columns, decision.updates, also="version = version + 1")
    changes.discard(decision.discarded)
    orphaned = ("next_us", "held_us", "orphan_us")
    dialect.update(conn, "jobs", "id", orphaned, decision.orphans, also="version = version + 1")
    if decision.log:
        changes.log(decision.log)
