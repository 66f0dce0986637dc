"""Backfills: past fires of a job, run beside its schedule and as its instances allow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from apscheduler.job import Job

from ..model import pages
from ..model.backfill import Backfill, BackfillRequest, remaining
from ..model.events import RunWaits
from ..model.runs import BESIDE, STATES, Run, RunQuery, standing
from ..model.schedules import jitter_of

if TYPE_CHECKING:
    from ..stores.slot import Slot
    from .scheduler import Scheduler

_Entered = list[tuple[datetime, str | None]]
"""The fires that a backfill runs, each with its run_id; None in a dry run."""


async def backfill(scheduler: Scheduler, job_id: str, request: BackfillRequest) -> Backfill:
    """Run past fires of the job, in order, so many at once; return those that need a run, with their run_ids.

    That is those of which none waits or is under way and, unless `rerun`, none has succeeded; fires that the schedule
    has yet to come to are left to it. Raises JobNotFound, InvalidDefinition, Draining or StoreUnavailable.
    """
    slot, job = await scheduler.by_hand.runnable(job_id)
    fires = await scheduler.computing.compute(partial(request.fires, job.trigger))
    entered = await _enter(scheduler, slot, job, fires, request)
    return Backfill(job_id, tuple(entered), len(fires) - len(entered), request.dry_run)


async def _enter(
    scheduler: Scheduler, slot: Slot | None, job: Job, fires: Sequence[datetime], request: BackfillRequest
) -> _Entered:
    # More would only stand in each other's way.
    lanes, rerun, dry_run = min(request.concurrency, job.max_instances), request.rerun, request.dry_run
    if slot is not None and slot.shared:
        enter = partial(slot.store.backfill, job.id, fires, concurrency=lanes, rerun=rerun, dry_run=dry_run)
        entered: _Entered = await scheduler.call(lambda: slot.do(lambda _: enter()))
        for run in [Run(job, fire, "backfill", run_id=run_id) for fire, run_id in entered if run_id is not None]:
            scheduler.stream.emit(RunWaits(standing(run, "queued", ""), slot.alias))
        scheduler.wakeup()
        return entered
    taken = await _taken(scheduler, job, fires, rerun=rerun)
    upcoming = getattr(job, "next_run_time", None)
    wanted = remaining(fires, taken, jitter=jitter_of(job.trigger), upcoming=upcoming)
    if dry_run:
        return [(fire, None) for fire in wanted]
    return list(zip(wanted, scheduler.runner.backfill(job, wanted, lanes), strict=True))


async def _taken(scheduler: Scheduler, job: Job, fires: Sequence[datetime], *, rerun: bool) -> list[datetime]:
    """Return when the fires were due that are not to be run again."""
    if not fires:
        return []
    jitter = jitter_of(job.trigger)
    over = STATES if rerun else (*STATES, "succeeded")
    taken: list[datetime] = []
    # In UTC, as a moment less on the wall may be an hour less, or more, where clocks change.
    first, last = fires[0].astimezone(UTC), fires[-1].astimezone(UTC)
    span = {"since": first - jitter, "until": last + jitter + timedelta(microseconds=1)}
    cursor = None
    while True:
        given = {**span, "job_id": job.id, "limit": pages.LONGEST, "cursor": cursor}
        query = RunQuery.parse(given, timezone=scheduler.timezone)
        page = await scheduler.read_history(partial(scheduler.histories.page, query))
        taken += [record.scheduled_at for record in page.items if record.outcome in over and record.cause not in BESIDE]
        if (cursor := page.next) is None:
            return taken
