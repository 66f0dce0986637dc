"""Lists of the jobs of all stores, paged, so that ten thousand of them can be looked through."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from apscheduler.job import Job

from ..model.listing import JobEntry, JobPage, JobQuery, count_states
from ..model.runs import RunQuery
from .answers import Away, answers
from .history import Histories

if TYPE_CHECKING:
    from ..stores.slot import Slot
    from .scheduler import Scheduler

_MOST_RUNNING = 10_000


def running_jobs(histories: Histories) -> set[str]:
    """Return the ids of the jobs that are running now, as far as the histories know."""
    page = histories.page(RunQuery(outcome="running", limit=_MOST_RUNNING))
    return {record.job_id for record in page.items}


def overdue_jobs(scheduler: Scheduler) -> set[str]:
    """Return the ids of the jobs of which an alarm says that they are overdue."""
    return {alarm.job_id for alarm in scheduler.watch.overdue}


def job_page(scheduler: Scheduler, histories: Histories, query: JobQuery, running: Collection[str]) -> JobPage:
    """Return a page of the jobs that are asked for. Call it where the stores may be used.

    Where the histories leave out what is away, so does this.
    """
    now, overdue = scheduler.clock.now(), overdue_jobs(scheduler)
    entries = [entry.judged(now, overdue) for entry in _entries(scheduler, histories.away)]
    outcomes = histories.last_outcomes([entry.id for entry in entries]) if query.needs_outcomes else {}
    chosen = query.select(entries, running, outcomes)
    shown = chosen[query.offset : query.offset + query.limit]
    found = _jobs(scheduler, shown, histories.away)
    return JobPage(
        tuple((entry, found[entry.id]) for entry in shown if entry.id in found),
        len(chosen),
        query.offset,
        count_states(entries, running),
        tuple(sorted({tag for entry in entries for tag in entry.tags})),
    )


def _entries(scheduler: Scheduler, away: Away | None) -> Iterator[JobEntry]:
    catalogue = scheduler.catalogue
    for entries in answers(catalogue.slots, lambda alias: _stored(catalogue.ready_slot(alias)), away):
        # Those that wait for the start come from the declarations, whether or not the store has them too.
        yield from (entry for entry in entries if entry.id not in catalogue.declarations)
    for declared in catalogue.declarations.of(None):
        yield JobEntry.of(declared.job, declared.definition.jobstore)


def _stored(slot: Slot) -> list[JobEntry]:
    if slot.shared:
        found: list[JobEntry] = slot.do(lambda store: store.index.entries())
        return found
    jobs: list[Job] = slot.do(lambda store: store.get_all_jobs())
    return [JobEntry.of(job, slot.alias, slot.broken_reason(job)) for job in jobs]


def _jobs(scheduler: Scheduler, entries: list[JobEntry], away: Away | None) -> dict[str, Job]:
    """Return the jobs of some entries; one may have been removed meanwhile."""
    aliases = {entry.jobstore for entry in entries}

    def of_store(alias: str) -> dict[str, Job]:
        slot = scheduler.catalogue.slots.get(alias)
        mine = [entry.id for entry in entries if entry.jobstore == alias]
        found: dict[str, Job] = {}
        if slot is not None and slot.shared:
            found = slot.do(lambda store: store.index.jobs(mine))
        rest = ((job_id, scheduler.catalogue.get(job_id, alias)) for job_id in mine if job_id not in found)
        return found | {job_id: job for job_id, job in rest if job is not None}

    return {job_id: job for found in answers(aliases, of_store, away) for job_id, job in found.items()}
