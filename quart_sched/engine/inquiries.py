"""Inquiries: what is known of a job around a moment is gathered, for an explanation of its fire."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from apscheduler.job import Job

from ..errors import JobNotFound
from ..model import explanation, inquiry, pages
from ..model.circumstances import Circumstances
from ..model.explanation import Explanation
from ..model.inquiry import Evidence
from ..model.runs import RunQuery, RunRecord
from ..model.unrestorable import as_stored
from ..model.zones import zone_of

if TYPE_CHECKING:
    from .scheduler import Scheduler

_AHEAD = 20
"""Records behind a moment that are looked at, to find the one that covers it, and the run that stood for it."""


async def explain(scheduler: Scheduler, job_id: str, at: datetime | str) -> Explanation:
    """Carry out `scheduler.aio.explain`."""
    asked = explanation.parse_at(at, scheduler.clock.now())
    job = await scheduler.call(partial(scheduler.catalogue.get, job_id))
    trigger = None if job is None else as_stored(job.trigger)
    if trigger is None:
        trigger = await scheduler.call(partial(scheduler.ledger.last_trigger, job_id))
    zone = zone_of(trigger) or scheduler.timezone
    candidates = explanation.moments(asked, zone)
    if not candidates:
        # Raises where there is no such job.
        await _evidence(scheduler, job_id, job, asked.replace(tzinfo=zone))
        return await scheduler.computing.compute(partial(inquiry.explain_gap, job_id, asked, zone, trigger))
    answers = []
    for moment in candidates:
        evidence = await _evidence(scheduler, job_id, job, moment)
        answers.append(await scheduler.computing.compute(partial(inquiry.explain, evidence)))
    return next((answer for answer in answers if answer.verdict != "not_a_fire"), answers[0])


async def _evidence(scheduler: Scheduler, job_id: str, job: Job | None, at: datetime) -> Evidence:
    """Return what is known of a job around a moment. Raises JobNotFound."""
    histories, now = scheduler.histories, scheduler.clock.now()
    moment = min(at.astimezone(UTC), now.astimezone(UTC))
    here = await scheduler.call(partial(scheduler.ledger.circumstances, job, job_id, moment))
    trigger = job.trigger if job is not None and moment < at else here.trigger if here is not None else None
    begin, end = explanation.window(at, trigger)
    query = RunQuery(job_id, since=begin, until=end, limit=pages.LONGEST)

    def read() -> tuple[list[RunRecord], list[RunRecord]]:
        return list(histories.page(query).items), histories.fires_from(job_id, begin, _AHEAD)

    records, ahead = await scheduler.computing.read(read)
    if here is None and not ahead and not await _has_run(scheduler, job_id):
        raise JobNotFound(job_id)
    broken = None if job is None else scheduler.catalogue.broken_reason(job)
    return Evidence(job_id, at, now, job, here or Circumstances(), records, ahead, broken)


async def _has_run(scheduler: Scheduler, job_id: str) -> bool:
    query = RunQuery.parse({"job_id": job_id, "limit": 1}, timezone=scheduler.timezone)
    page = await scheduler.read_history(partial(scheduler.histories.page, query))
    return bool(page.items)
