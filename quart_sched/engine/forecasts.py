"""Forecasts: the fires to come of jobs as their stores have them, worked out beside the event loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger

from ..errors import InvalidDefinition, JobNotFound
from ..model import forecast
from ..model.forecast import Forecast, NextFires
from ..model.triggers import TriggerSpec

if TYPE_CHECKING:
    from .scheduler import Scheduler


async def next_fires(scheduler: Scheduler, job_id: str, count: int | str) -> NextFires:
    """Carry out `scheduler.aio.next_fires`."""
    number = forecast.COUNT("count", count)
    job = await scheduler.call(partial(scheduler.catalogue.get, job_id))
    if job is None:
        raise JobNotFound(job_id)
    broken = scheduler.catalogue.broken_reason(job)
    if job.pending:
        try:
            _, job = await scheduler.call(partial(scheduler.catalogue.runnable, job_id), blocking=True)
        except InvalidDefinition as error:
            broken = str(error)
    now, most = scheduler.clock.now(), scheduler.settings.max_catch_up
    ask = partial(forecast.next_fires, max_catch_up=most, broken=broken, all_paused=scheduler.all_paused)
    return await scheduler.computing.compute(partial(ask, job, now, number))


async def forecast_all(scheduler: Scheduler, hours: float | str, limit: int | str) -> Forecast:
    """Carry out `scheduler.aio.forecast`."""
    span, most = forecast.HOURS("hours", hours), forecast.LIMIT("limit", limit)
    jobs = await scheduler.call(scheduler.catalogue.all)
    if any(job.pending for job in jobs):
        jobs = await scheduler.call(lambda: list(_as_if_started(scheduler, jobs)), blocking=True)
    now, catch_up = scheduler.clock.now(), scheduler.settings.max_catch_up

    def compute() -> Forecast:
        sound = (job for job in jobs if not scheduler.catalogue.broken_reason(job))
        return forecast.forecast(sound, now, span, most, max_catch_up=catch_up)

    return replace(await scheduler.computing.compute(compute), paused=scheduler.all_paused)


async def outlook(scheduler: Scheduler, jobs: Iterable[Job], hours: float, limit: int) -> dict[str, Forecast]:
    """Return the fires of each of these jobs within so many `hours`, the first `limit`, by the job's id."""
    now, catch_up = scheduler.clock.now(), scheduler.settings.max_catch_up
    sound = [job for job in jobs if not job.pending and not scheduler.catalogue.broken_reason(job)]

    def compute() -> dict[str, Forecast]:
        return {job.id: forecast.forecast([job], now, hours, limit, max_catch_up=catch_up) for job in sound}

    return await scheduler.computing.compute(compute)


async def preview(scheduler: Scheduler, trigger: TriggerSpec, count: int) -> tuple[BaseTrigger, NextFires]:
    """Carry out `scheduler.aio.preview`."""
    now = scheduler.clock.now()
    built = trigger.build(scheduler.timezone, now)
    return built, await scheduler.computing.compute(partial(forecast.preview, built, now, count))


def _as_if_started(scheduler: Scheduler, jobs: Iterable[Job]) -> Iterator[Job]:
    """Return the jobs, those that wait for the start with their first fire; without those that cannot start."""
    for job in jobs:
        try:
            yield scheduler.catalogue.runnable(job.id)[1] if job.pending else job
        except (InvalidDefinition, JobNotFound):
            continue
