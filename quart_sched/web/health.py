"""Health and metrics, for what watches over the process. They are there with the API off as well."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from apscheduler.schedulers.base import STATE_STOPPED
from quart import Response, request

from ..engine.pauses import ALL_PAUSED
from ..errors import SchedulerError
from ..model import overdue
from ..model.fields import Schema, listing, record
from . import security

if TYPE_CHECKING:
    from ..extension import APScheduler

log = logging.getLogger("quart_sched")

_STUCK = 60.0
"""Seconds for which a pump may be at one step, at least; else three times SCHEDULER_LEASE. A database that is away
makes steps fail within that time, and only one that hangs, as behind a broken network, does not."""
_JUDGED = 1.0
"""Seconds that the app may take to judge the credentials: probes do not wait long."""


async def get_live(front: APScheduler) -> Response:
    """Answer GET /health/live: 200 while the event loop and the pumps turn, 503 when only a restart helps.

    That the loop turns shows by there being an answer.
    """
    stuck = _stuck(front)
    return await _answer(front, "failing" if stuck else "ok", stuck)


async def get_ready(front: APScheduler) -> Response:
    """Answer GET /health/ready: 200 with ok or degraded, 503 where the scheduler does not do its work here.

    That it is paused is told among the reasons.
    """
    if failures := _failures(front):
        return await _answer(front, "failing", failures)
    reasons = degraded(front)
    return await _answer(front, "degraded" if reasons else "ok", reasons + _paused(front))


async def get_metrics(front: APScheduler) -> Response:
    """Answer GET /metrics."""
    assert front.metrics is not None
    text, content_type = await front.metrics.render(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


def degraded(front: APScheduler) -> list[str]:
    """Say what does not work as it should, though the process does what it can."""
    scheduler = front.scheduler
    troubles = scheduler.catalogue.slots.troubles
    reasons = [f'Job store "{alias}" is not available: {trouble}' for alias, trouble in troubles.items()]
    if scheduler.history_writer is not None and scheduler.history_writer.away:
        reasons.append(f"The run history is not written: {len(scheduler.history_writer)} records wait for its database")
    return reasons + overdue.told(scheduler.watch.overdue)


def _paused(front: APScheduler) -> list[str]:
    """Say that no job fires here because somebody wants it so: nothing is wrong with that."""
    if front.scheduler.looks_on:
        return ["This process was started paused, and fires no job"]
    return [ALL_PAUSED] if front.scheduler.all_paused else []


def _failures(front: APScheduler) -> list[str]:
    scheduler = front.scheduler
    if scheduler.state == STATE_STOPPED:
        # On a host that is not to start it, this is how it should be.
        return ["The scheduler is not running"] if front.is_allowed_host else []
    if scheduler.held or scheduler.runner.draining:
        return ["The process is shutting down"]
    return _stuck(front)


def _stuck(front: APScheduler) -> list[str]:
    scheduler = front.scheduler
    limit = max(_STUCK, 3 * scheduler.settings.lease)
    found = []
    for pump in scheduler.pumps:
        if pump.ended:
            found.append(f'The pump of job store "{pump.slot.alias}" has ended')
        elif (seconds := pump.progress.seconds) > limit:
            found.append(f'The pump of job store "{pump.slot.alias}" has been at one step for {seconds:.0f} s')
    return found


async def _answer(front: APScheduler, status: str, reasons: list[str]) -> Response:
    body: dict[str, Any] = {"status": status}
    if await _may_read(front):
        body |= {"reasons": reasons, "worker": front.scheduler.runner.worker}
    code = 503 if status == "failing" else 200
    response = Response(json.dumps(body, ensure_ascii=False), code, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


async def _may_read(front: APScheduler) -> bool:
    """Tell whether the caller may read: not where the app's own function fails, for a probe has to get its answer."""
    try:
        async with asyncio.timeout(_JUDGED):
            return "read" in await security.rights_of_caller(front)
    except SchedulerError:
        return False
    except Exception as error:
        log.warning("The credentials of a health check could not be judged: %r", error)
        return False


HEALTH: Schema = record(
    {
        "status": {"enum": ["ok", "degraded", "failing"]},
        "reasons": listing({"type": "string"}),
        "worker": {"type": "string", "description": "The process that answers, as host:pid."},
    },
    optional=("reasons", "worker"),
    description="Its reasons, and who answers, see those alone who may read.",
)
"""The JSON Schema of what `get_live` and `get_ready` answer with."""
