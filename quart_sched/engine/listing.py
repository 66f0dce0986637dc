"""Lists of the jobs of all stores, paged, so that ten thousand of them can be looked through."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from apscheduler.job import Job

from ..model.listing import JobEntry, JobPage, JobQuery, count_states
from ..model.runs import RunQuery

if TYPE_CHECKING:
    from ..stores.slot import Slot
    from .scheduler import Scheduler

_MOST_RUNNING = 10_000


def running_jobs(scheduler: Scheduler) -> set[str]:
    """Return the ids of the jobs that are running now, as far as the histories know."""
    page = scheduler.histories.page(RunQuery(outcome="running", limit=_MOST_RUNNING))
    return {record.job_id for record in page.items}


def overdue_jobs(scheduler: Scheduler) -> set[str]:
    """Return the ids of the jobs of which an alarm says that they are overdue."""
    return {alarm.job_id for alarm in scheduler.watch.overdue}


def job_page(scheduler: Scheduler, query: JobQuery, running: Collection[str]) -> JobPage:
    """Return a page of the jobs that are asked for. Call it where the stores may be used."""
    now, overdue = scheduler.clock.now(), overdue_jobs(scheduler)
    entries = [entry.judged(now, overdue) for entry in _entries(scheduler)]
    histories = scheduler.histories
    outcomes = histories.last_outcomes([entry.id for entry in entries]) if query.needs_outcomes else {}
    chosen = query.select(entries, running, outcomes)
    shown = chosen[query.offset : query.offset + query.limit]
    found = _jobs(scheduler, shown)
    return JobPage(
        tuple((entry, found[entry.id]) for entry in shown if entry.id in found),
        len(chosen),
        query.offset,
        count_states(entries, running),
        tuple(sorted({tag for entry in entries for tag in entry.tags})),
    )


def _entries(scheduler: Scheduler) -> Iterator[JobEntry]:
    catalogue = scheduler.catalogue
    for slot in catalogue.ready_slots():
        # Those that wait for the start come from the declarations, whether or not the store has them too.
        yield from (entry for entry in _stored(slot) if entry.id not in catalogue.declarations)
    for declared in catalogue.declarations.of(None):
        yield JobEntry.of(declared.job, declared.definition.jobstore)


def _stored(slot: Slot) -> list[JobEntry]:
    if slot.shared:
        found: list[JobEntry] = slot.do(lambda store: store.index.entries())
        return found
    jobs: list[Job] = slot.do(lambda store: store.get_all_jobs())
    return [JobEntry.of(job, slot.alias, slot.broken_reason(job)) for job in jobs]


def _jobs(scheduler: Scheduler, entries: list[JobEntry]) -> dict[str, Job]:
    """Return the jobs of some entries; one may have been removed meanwhile."""
    found: dict[str, Job] = {}
    for alias, slot in scheduler.catalogue.slots.items():
        ids = [entry.id for entry in entries if entry.jobstore == alias]
        if slot.shared and ids:
            found |= slot.do(lambda store, ids=ids: store.index.jobs(ids))  # type: ignore[misc]
    for entry in entries:
        if entry.id not in found:
            job = scheduler.catalogue.get(entry.id, entry.jobstore)
            if job is not None:
                found[entry.id] = job
    return found
