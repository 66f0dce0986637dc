"""The ledger: who changed what, and how it stood at a moment, by the databases and by what this process remembers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger

from ..model.actor import current_actor
from ..model.changes import Action, Change, ChangePage, ChangeQuery, Place, Placed
from ..model.instants import micros
from .clock import Clock

if TYPE_CHECKING:
    from ..model.circumstances import Circumstances
    from .scheduler import Scheduler

MOST = 10_000
"""Changes that a process remembers."""


class _Entry(NamedTuple):
    """A change, with which nothing is done until somebody reads it."""

    number: int
    at: datetime
    actor: str | None
    action: Action
    job_id: str | None
    detail: str | None
    trigger: BaseTrigger | None

    @property
    def change(self) -> Change:
        return Change(self.at, self.actor, self.action, self.job_id, None, self.detail)


class ChangeLog:
    """The last changes of what no database keeps: jobs of the other stores, and this process's scheduler as a whole.

    It may be written and read from any thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: deque[_Entry] = deque(maxlen=MOST)
        self._numbers = count(1)

    def clear(self) -> None:
        """Forget them all: they are another app's."""
        self._entries.clear()

    def note(
        self,
        action: Action,
        job_id: str | None = None,
        *,
        detail: str | None = None,
        trigger: BaseTrigger | None = None,
        elsewhere: bool = False,
    ) -> None:
        """Write down what was done by whom; with `elsewhere`, in another process by somebody who is not known.

        `trigger` is the job's from then on.
        """
        actor = None if elsewhere else current_actor.get()
        self._entries.append(_Entry(next(self._numbers), self._clock.now(), actor, action, job_id, detail, trigger))

    def note_update(self, job: Job, before: datetime | None, detail: str | None) -> None:
        """Write down that a job was modified, paused or resumed, or several of it; `before` was its next fire."""
        paused, was_paused = job.next_run_time is None, before is None
        if detail or paused == was_paused:
            self.note("modify", job.id, detail=detail or "next_run_time", trigger=job.trigger)
        if paused != was_paused:
            self.note("pause" if paused else "resume", job.id)

    def note_new(self, job: Job, action: Action) -> None:
        """Write down that a job is there from now on, which may be paused."""
        self.note(action, job.id, trigger=job.trigger)
        if job.next_run_time is None:
            self.note("pause", job.id)

    def page(self, query: ChangeQuery, *, of_jobs_alone: bool) -> list[Placed]:
        """Return the changes that are asked for."""
        return [
            (place, entry.change)
            for entry in list(self._entries)
            for place in [Place(micros(entry.at), "", entry.number)]
            if query.job_id in (None, entry.job_id)
            and not (of_jobs_alone and entry.job_id is None)
            and (query.before is None or place < query.before)
        ]

    def knows(self, job_id: str) -> bool:
        """Tell whether anything was noted about this job."""
        return any(entry.job_id == job_id for entry in list(self._entries))

    def last_trigger(self, job_id: str) -> BaseTrigger | None:
        """Return the trigger that the job had last; None where nobody knows."""
        known = (entry.trigger for entry in reversed(list(self._entries)) if entry.job_id == job_id)
        return next((trigger for trigger in known if trigger is not None), None)

    def circumstances(self, job: Job | None, job_id: str, at: datetime) -> Circumstances:
        """Tell how it stood with a job at a moment, as far as this process can know."""
        from ..model.circumstances import circumstances, down_at

        entries = list(self._entries)
        own = [entry for entry in entries if entry.job_id == job_id]
        triggers = [entry for entry in own if entry.trigger is not None]
        trigger = next((entry.trigger for entry in reversed(triggers) if entry.at <= at), None)
        if trigger is None:
            # Before the first that is known it was the same, for all that this process can tell.
            trigger = triggers[0].trigger if triggers else getattr(job, "trigger", None)
        of_job, of_scheduler = [entry.change for entry in own], [e.change for e in entries if e.job_id is None]
        down = down_at(at, _sessions(of_scheduler))
        if len(entries) == MOST and at < entries[0].at:
            down = None  # Whatever was then is forgotten.
        return circumstances(at, of_job, of_scheduler, trigger=trigger, down=down)


def _sessions(changes: list[Change]) -> Iterator[tuple[datetime, datetime | None]]:
    """Return from when to when the scheduler ran."""
    begin: datetime | None = None
    for change in changes:
        if change.action == "start" and begin is None:
            begin = change.at
        elif change.action == "stop" and begin is not None:
            yield begin, change.at
            begin = None
    if begin is not None:
        yield begin, None


class Ledger:
    """Reads the changes of all stores. Its methods may do I/O."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def page(self, query: ChangeQuery) -> ChangePage:
        """Return a page of changes, newest first. Raises StoreUnavailable."""
        slots = self._scheduler.catalogue.slots
        found = self._scheduler.changes.page(query, of_jobs_alone=bool(slots.shared))
        for slot in slots.opened_shared():
            found += slot.do(lambda store: store.audit.page(query))
        return query.select(found)

    def last_trigger(self, job_id: str) -> BaseTrigger | None:
        """Return the trigger that a job had last which is gone; None where nobody knows. Raises StoreUnavailable."""
        for slot in self._scheduler.catalogue.slots.opened_shared():
            trigger: BaseTrigger | None = slot.do(lambda store: store.audit.last_trigger(job_id))
            if trigger is not None:
                return trigger
        return self._scheduler.changes.last_trigger(job_id)

    def circumstances(self, job: Job | None, job_id: str, at: datetime) -> Circumstances | None:
        """Tell how it stood with a job at an aware moment; None for one that nobody has ever heard of.

        Raises StoreUnavailable.
        """
        log = self._scheduler.changes
        horizon = self._scheduler.clock.now() - timedelta(days=self._scheduler.settings.history_days)
        for slot in self._scheduler.catalogue.slots.opened_shared():
            if job is not None and not job.pending and job._jobstore_alias != slot.alias:
                continue
            found = slot.do(lambda store: store.audit.circumstances(job_id, at, horizon))
            if found is not None:
                here, sessions = found
                alone = slot.session is not None and sessions == {slot.session.id}
                return self._seen_from_here(here, log.circumstances(job, job_id, at)) if alone else here
        return log.circumstances(job, job_id, at) if job is not None or log.knows(job_id) else None

    def _seen_from_here(self, here: Circumstances, own: Circumstances) -> Circumstances:
        """Add what the only process that might have fired knows of itself."""
        return replace(here, down=here.down or own.down, scheduler_pause=here.scheduler_pause or own.scheduler_pause)
