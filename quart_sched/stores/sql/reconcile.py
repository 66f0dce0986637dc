"""Reconciling what the code declares with what is stored, from many processes at once and of two versions of the code.

Declarations are compared as they were written, by two hashes. Of the versions that live processes run, the one that
came last is in force: only its processes change or prune jobs, while any process may add what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ...errors import InvalidDefinition
from ...model import state
from ...model.ids import new_id
from ...model.instants import micros, moment
from ...model.jobs import ScheduledJob
from ...model.planning import take_up_behind
from .changes import NEW_JOB, Changes, Entry, entries_of_new, new_row
from .loader import JOB_COLUMNS, policy_in
from .rows import LIVE_COLUMNS, live_row
from .transaction import Transaction
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

    What is `over` is among the others too: its trigger has no fire left. `invalid` ones come with the reason. `version`
    is the hash of all that this process declares.
    """

    version: str
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
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
    changes: Changes, me: Session, declared: Sequence[Declaration], prune: Prune, since: Mapping[str, int]
) -> Reconciled:
    """Bring the declarations of this process into the store, alone among all processes while it lasts.

    `since` tells when this process announced a version of the code for the first time. Raises SessionLost.
    """
    tx = changes.tx
    tx.first(f"SELECT n FROM {tx.prefix}meta WHERE k = 'reconcile'{tx.dialect.lock}")
    version = declarations_hash(declared)
    in_force, living = _announce(tx, me, declared, version, since.get(version, tx.now))
    decision = decide(changes, declared, prune, in_force=in_force, living=living)
    _write(changes, decision)
    return decision.result


def decide(
    changes: Changes, declared: Sequence[Declaration], prune: Prune, *, in_force: bool, living: Container[str]
) -> Decision:
    """Compare what is declared with what is stored; nothing is written.

    `in_force` tells whether this process's code is the one that changes and prunes; what is in `living` is not pruned.
    """
    comparison = _Comparison(changes, declared, in_force=in_force)
    comparison.compare()
    if in_force and prune != "keep":
        comparison.prune(living, remove=prune == "remove")
    return comparison.decision


def run_on_start(tx: Transaction, me: Session, lease: int, start_runs: dict[str, str]) -> None:
    """Let the jobs that want it run once, if no other process has been at work within `lease` microseconds.

    To be called after `reconcile`, in the same transaction: of processes that start together the first one does it.
    What is in `start_runs`, the runs by job, may have been entered already; what is new is added to them.
    """
    p = tx.prefix
    entered: set[str] = set()
    if start_runs:
        # In this order, as a run that ends moves from the one to the other.
        for table in ("live", "runs"):
            entered |= {row.run_id for row in tx.among(table, "run_id", start_runs.values(), "run_id")}
    others = f"SELECT id FROM {p}workers WHERE id <> :me AND gone_us IS NULL AND decl IS NOT NULL AND seen_us > :fresh"
    if tx.first(others, me=me.id, fresh=tx.now - lease) is not None:
        return
    query = (
        f"SELECT id, incarnation, version, func, definition FROM {p}jobs WHERE definition LIKE :wish "
        "AND paused_us IS NULL AND orphan_us IS NULL AND broken_us IS NULL AND ended_us IS NULL"
    )
    rows = []
    for row in tx.rows(query, wish='%"run_on_start":true%'):
        policy = policy_in(row.definition)
        if policy is None or not policy.run_on_start:
            continue  # It is damaged, or the words stand in an argument.
        run_id = start_runs.setdefault(row.id, new_id())
        if run_id not in entered:
            on_crash = policy.on_crash
            rows.append(
                live_row(row, run_id, sched_us=tx.now, cause="start", on_crash=on_crash, state="queued", due_us=tx.now)
            )
    tx.insert("live", LIVE_COLUMNS, rows)


def _announce(
    tx: Transaction, me: Session, declared: Sequence[Declaration], mine: str, since: int
) -> tuple[bool, set[str]]:
    """Say what this process declares; return whether that is in force, and what all living processes declare."""
    p = tx.prefix
    holders = tx.rows(f"SELECT id, decl FROM {p}workers WHERE gone_us IS NULL")
    if me.id not in {row.id for row in holders}:
        raise SessionLost(f"This process was declared dead as {me.id}")
    others = {row.decl for row in holders if row.id != me.id and row.decl is not None}
    if me.decl != mine:
        tx.execute(f"UPDATE {p}workers SET decl = :decl WHERE id = :id", decl=mine, id=me.id)
        if mine not in others:
            # New code, or old code that comes back when no process of it was left: from now on it is in force.
            tx.execute(f"DELETE FROM {p}decls WHERE hash = :hash", hash=mine)
            body = json.dumps(sorted(entry.id for entry in declared))
            tx.insert("decls", ("hash", "since_us", "body"), [(mine, since, body)])
    rows = tx.among("decls", "hash", others | {mine}, "hash, since_us, body")
    latest = max(rows, key=lambda row: (row.since_us, row.hash))
    return latest.hash == mine, {job_id for row in rows for job_id in json.loads(row.body)}


class _Comparison:
    """What is declared beside what is stored; `decision` is what comes of it."""

    def __init__(self, changes: Changes, declared: Sequence[Declaration], *, in_force: bool) -> None:
        self.decision = Decision(Reconciled(declarations_hash(declared)))
        self._changes = changes
        self._tx = changes.tx
        self._declared = {entry.id: entry for entry in declared}
        self._in_force = in_force
        self._stored = self._read()

    def _read(self) -> dict[str, Any]:
        """Return the rows of all declared jobs, and those that have the id of one that is declared now."""
        columns = "id, source, trig_hash, decl_hash, orphan_us, ended_us"
        query = f"SELECT {columns} FROM {self._tx.prefix}jobs WHERE source = 'declared'"
        stored = {row.id: row for row in self._tx.rows(query)}
        strangers = self._declared.keys() - stored.keys()
        if strangers:
            stored |= {row.id: row for row in self._tx.among("jobs", "id", strangers, columns)}
        return stored

    def compare(self) -> None:
        """Decide on all that is declared."""
        touched = set()
        for job_id, entry in self._declared.items():
            row = self._stored.get(job_id)
            if row is not None and row.source != "declared":
                if row.ended_us is None:
                    self.decision.result.refused.append(job_id)
                    continue
                self.decision.replaced.append(job_id)
            if row is None or row.source != "declared":
                self._add(entry)
            elif row.orphan_us is not None or (self._in_force and not _same(row, entry)):
                touched.add(job_id)
        if touched:
            for row in self._tx.among("jobs", "id", touched, JOB_COLUMNS, f"1 = 1{self._changes.lock}"):
                self._change(row, self._declared[row.id])

    def prune(self, living: Container[str], *, remove: bool) -> None:
        """Decide on what is declared no more, by no process whose jobs are in `living`."""
        gone = [row for row in self._stored.values() if row.source == "declared" and row.id not in living]
        # What is over is never removed: should it be declared again, it must not run again.
        ids = {row.id for row in gone if row.orphan_us is None or (remove and row.ended_us is None)}
        if not ids:
            return
        columns = "id, version, next_us, held_us, ended_us"
        rows = self._tx.among("jobs", "id", ids, columns, f"1 = 1{self._changes.lock}")
        removed: set[str] = {row.id for row in rows if row.ended_us is None} if remove else set()
        decision, now = self.decision, self._tx.now
        decision.log += [
            Entry("remove" if row.id in removed else "prune", row.id, row.version + 1, None, _PRUNED) for row in rows
        ]
        decision.result.pruned = sorted(row.id for row in rows if row.ended_us is None)
        decision.discarded = sorted(removed)
        decision.orphans = [
            (row.id, None, row.held_us if row.next_us is None else row.next_us, now)
            for row in rows
            if row.id not in removed
        ]

    def _add(self, entry: Declaration) -> None:
        try:
            job = entry.make()
            over = job.next_run_time is None and not entry.sets_next
            values = new_row(job, self._tx.now, "declared", entry.trigger_hash, entry.options_hash, over=over)
        except InvalidDefinition as error:
            self.decision.result.invalid[entry.id] = str(error)
            return
        self.decision.made[entry.id] = job
        self.decision.new.append(values)
        self.decision.result.added.append(entry.id)
        if over:
            self.decision.result.over.append(entry.id)
        self.decision.log += entries_of_new(values)

    def _change(self, row: Any, entry: Declaration) -> None:
        """Decide on a declared job that was written anew, or is declared again after a prune."""
        changes, decision, now = self._changes, self.decision, self._tx.now
        restored, changed = row.orphan_us is not None, self._in_force and not _same(row, entry)
        if not (restored or changed):
            return
        try:
            job = entry.make() if changed else changes.load(row)
            definition, func = state.dump_and_ref(job) if changed else (row.definition, row.func)
        except InvalidDefinition as error:
            decision.result.invalid[row.id] = str(error)
            return
        decision.made[row.id] = job
        decision.before[row.id] = row
        new_schedule = changed and (row.trig_hash != entry.trigger_hash or entry.sets_next)
        next_us, held_us, ended_us = row.next_us, row.held_us, row.ended_us
        paused_us, paused_by = row.paused_us, row.paused_by
        if new_schedule:
            ended_us = None
            if entry.sets_next and job.next_run_time is None and paused_us is None:
                paused_us, paused_by = now, changes.actor
        if new_schedule or (ended_us is None and next_us is None):
            next_us = _next(job, job.next_run_time if changed else changes.first_fire(job), row.last_us)
            if next_us is None and paused_us is None:
                ended_us = now
                decision.result.over.append(row.id)
        if paused_us is not None or row.broken_us is not None:
            held_us, next_us = next_us if next_us is not None else held_us, None
        hashes = (entry.trigger_hash, entry.options_hash) if changed else (row.trig_hash, row.decl_hash)
        modified = 0 if changed else row.modified
        decision.updates.append(
            (row.id, definition, func, next_us, held_us, ended_us, paused_us, paused_by, None, modified, *hashes)
        )
        (decision.result.changed if changed else decision.result.restored).append(row.id)
        detail = state.differences(row.definition, definition)
        decision.log.append(Entry("declare", row.id, row.version + 1, definition, detail))
        if row.paused_us is None and paused_us is not None:
            decision.log.append(Entry("pause", row.id, row.version + 1))


def _same(row: Any, entry: Declaration) -> bool:
    return (row.trig_hash, row.decl_hash) == (entry.trigger_hash, entry.options_hash)


def _next(job: ScheduledJob, fire: datetime | None, last_us: int | None) -> int | None:
    """Return the first fire of a schedule that is taken up now, behind the last one that was consumed."""
    if fire is not None and last_us is not None and micros(fire) <= last_us:
        fire = take_up_behind(job.trigger, moment(last_us))
    return None if fire is None else micros(fire)


def _write(changes: Changes, decision: Decision) -> None:
    tx = changes.tx
    changes.discard(decision.replaced)
    tx.insert("jobs", NEW_JOB, decision.new)
    columns = (
        "definition", "func", "next_us", "held_us", "ended_us", "paused_us", "paused_by", "orphan_us", "modified",
        "trig_hash", "decl_hash",
    )  # fmt: skip
    tx.update("jobs", "id", columns, decision.updates, also="version = version + 1")
    changes.discard(decision.discarded)
    tx.update("jobs", "id", ("next_us", "held_us", "orphan_us"), decision.orphans, also="version = version + 1")
    changes.log(decision.log)
