"""Backfills: past fires of a job, run beside its schedule and as its instances allow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from apscheduler.job import Job

from ..model.runs import LONGEST_PAGE, STATES, RunQuery, micros

if TYPE_CHECKING:
    from .scheduler import Scheduler

Entered = list[tuple[datetime, str | None]]
"""The fires that a backfill runs, each with its run_id; None in a dry run."""


async def backfill(
    scheduler: Scheduler, job_id: str, fires: Sequence[datetime], *, concurrency: int, rerun: bool, dry_run: bool
) -> Entered:
    """Run past fires of the job, in order, so many at once; return those that need a run, with their run_ids.

    That is those of which none waits or is under way and, unless `rerun`, none has succeeded. Raises JobNotFound,
    InvalidDefinition, Draining or StoreUnavailable.
    """
    slot, job = await scheduler.runnable(job_id)
    if slot is not None and slot.shared:
        enter = partial(
            slot.store.backfill, job_id, fires, concurrency=concurrency, rerun=rerun, dry_run=dry_run
        )  # fmt: skip
        entered: Entered = await scheduler.call(lambda: slot.do(lambda _: enter()))
        return entered
    wanted = await _untaken(scheduler, job, fires, rerun=rerun)
    if dry_run:
        return [(fire, None) for fire in wanted]
    return list(zip(wanted, scheduler.runner.backfill(job, wanted, concurrency), strict=True))


async def _untaken(scheduler: Scheduler, job: Job, fires: Sequence[datetime], *, rerun: bool) -> list[datetime]:
    """Return the fires that are to be run."""
    if not fires:
        return []
    jitter = timedelta(seconds=getattr(job.trigger, "jitter", None) or 0)
    over = STATES if rerun else (*STATES, "succeeded")
    taken: list[int] = []
    histories = scheduler.histories
    query = {"since": fires[0] - jitter, "until": fires[-1] + jitter + timedelta(microseconds=1)}
    cursor = None
    while True:
        given = {**query, "job_id": job.id, "limit": LONGEST_PAGE, "cursor": cursor}
        read = partial(histories.page, RunQuery.parse(given, timezone=scheduler.timezone))
        page = await scheduler.call(read, blocking=histories.blocking)
        taken += [micros(record.scheduled_at) for record in page.items if record.outcome in over]
        if (cursor := page.next) is None:
            break
    taken.sort()
    width = jitter // timedelta(microseconds=1)

    def is_free(fire: datetime) -> bool:
        place = bisect_left(taken, micros(fire) - width)
        return place == len(taken) or taken[place] > micros(fire) + width

    return [fire for fire in fires if is_free(fire)]
