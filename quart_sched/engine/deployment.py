"""Deployment: what the code declares is brought into the stores that processes share, each with code of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from apscheduler import events as aps
from apscheduler.job import Job

from ..errors import InvalidDefinition
from ..model import state
from ..model.events import JobChanged
from ..model.jobs import UNSET
from ..stores.slot import Slot
from .declarations import Declared, check_place
from .placing import NO_FIRE_LEFT, made

if TYPE_CHECKING:
    from ..stores.sql.preview import Preview
    from ..stores.sql.reconcile import Declaration
    from ..stores.sql.workers import Session
    from .scheduler import Scheduler

log = logging.getLogger("quart_sched")


def join(scheduler: Scheduler, slot: Slot) -> Session:
    """Open a shared store and take part in it as a process of its own. Raises StoreUnavailable."""
    with slot.lock:
        slot.open(scheduler)
        if slot.session is None:
            slot.session = slot.do(lambda store: store.join())
        return slot.session


def reconcile(scheduler: Scheduler, slot: Slot, *, start_runs: dict[str, str] | None = None) -> None:
    """Bring what the code declares into a shared store, as one among all its processes.

    Where `start_runs` are given, the scheduler starts and the jobs run that want that. Raises StoreUnavailable.
    """
    with slot.lock:
        me = join(scheduler, slot)
        entries = scheduler.catalogue.declarations.all(slot.alias)
        declared, invalid = _declared(scheduler, entries)
        done = slot.do(lambda store: store.reconcile(me, declared, scheduler.settings.prune, start_runs=start_runs))
    for job_id in done.refused:
        log.error(
            'Job "%s" is declared, but its id is that of a job that was added at run time: remove that one first',
            job_id,
        )
    for job_id, reason in (invalid | done.invalid).items():
        log.error('Job "%s" cannot be scheduled: %s', job_id, reason)
    for job_id in done.over:
        log.warning(NO_FIRE_LEFT, job_id)
    removed = scheduler.settings.prune == "remove"
    for code, ids in (
        (aps.EVENT_JOB_ADDED, done.added),
        (aps.EVENT_JOB_MODIFIED, [*done.changed, *done.restored]),
        (aps.EVENT_JOB_REMOVED if removed else aps.EVENT_JOB_MODIFIED, done.pruned),
    ):
        for job_id in ids:
            scheduler.stream.emit(JobChanged(code, job_id, slot.alias))
    if done.pruned:
        log.warning("No longer declared (SCHEDULER_PRUNE is %r): %s", scheduler.settings.prune, ", ".join(done.pruned))
    for entry in entries:
        scheduler.catalogue.declarations.applied(entry)


def settle(scheduler: Scheduler, slot: Slot) -> None:
    """Bring the declared jobs that still wait into a shared store, if there are any. Raises StoreUnavailable."""
    declarations = scheduler.catalogue.declarations
    if declarations.of(slot.alias):
        with slot.lock:
            # Whoever had the lock may have brought them in.
            if declarations.of(slot.alias):
                reconcile(scheduler, slot)


def preview(scheduler: Scheduler, slot: Slot) -> Preview:
    """Return what `reconcile` would come to in this process's hands; nothing is written. Raises StoreUnavailable.

    The store need not be open.
    """
    declared, invalid = _declared(scheduler, scheduler.catalogue.declarations.all(slot.alias))
    found: Preview = slot.do(lambda store: store.preview(scheduler, slot.alias, declared, scheduler.settings.prune))
    found.result.invalid |= invalid
    return found


def look_on(scheduler: Scheduler, slot: Slot) -> None:
    """Take what is stored for the jobs of a shared store, and bring nothing in. Raises StoreUnavailable.

    Declared jobs that are not in there go on waiting for the start.
    """
    slot.open(scheduler)
    if not (waiting := scheduler.catalogue.declarations.of(slot.alias)):
        return
    missing = set(preview(scheduler, slot).result.added)
    for entry in waiting:
        if entry.definition.id not in missing:
            scheduler.catalogue.declarations.applied(entry)


def _declared(scheduler: Scheduler, entries: Iterable[Declared]) -> tuple[list[Declaration], dict[str, str]]:
    """Return the declarations as a shared store compares them, and why others cannot be stored."""
    from ..stores.sql.reconcile import Declaration

    zone, defaults = scheduler.timezone, scheduler._job_defaults
    declared, invalid = [], {}
    for entry in entries:
        definition = entry.definition
        try:
            if entry.hashes is None:
                entry.hashes = (state.trigger_hash(definition, zone), state.options_hash(definition, defaults))
        except InvalidDefinition as error:
            invalid[definition.id] = str(error)
        else:
            sets_next = definition.next_run_time is not UNSET
            make = partial(_made, scheduler, entry)
            declared.append(Declaration(definition.id, *entry.hashes, make, sets_next))
    return declared, invalid


def _made(scheduler: Scheduler, entry: Declared) -> Job:
    """Return the declared job, resolved as of now. Raises InvalidDefinition."""
    check_place(entry.definition, scheduler.runner.executors, scheduler.catalogue.slots)
    return made(scheduler, entry.definition)
