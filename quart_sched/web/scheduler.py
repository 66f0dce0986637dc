"""The REST API's views of the scheduler as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from apscheduler.schedulers.base import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED
from quart import Response

from ..errors import StoreUnavailable
from ..model.fields import Schema, listing, or_null, record, ref
from ..model.zones import zone_name
from . import health

if TYPE_CHECKING:
    from ..extension import APScheduler

STATES = {STATE_STOPPED: "stopped", STATE_RUNNING: "running", STATE_PAUSED: "paused"}
_TEXT: Schema = {"type": "string"}
_RUNNING: Schema = {"type": "object", "additionalProperties": _TEXT, "description": "Job ids by run id."}


async def get_scheduler_info(front: APScheduler) -> dict[str, Any]:
    """Answer GET on the API's prefix."""
    scheduler = front.scheduler
    slots = scheduler.catalogue.slots
    workers = await _workers(front) if slots.shared else []
    troubles = {alias: slot.trouble for alias, slot in slots.items()}
    return {
        "current_host": front.host_name,
        "allowed_hosts": front.allowed_hosts,
        "running": front.running,
        "state": STATES[front.state],
        "scope": "cluster" if slots.shared else "process",
        "worker": scheduler.runner.worker,
        "timezone": zone_name(scheduler.timezone),
        "running_jobs": {run.run_id: run.job_id for run in scheduler.runner.under_way.runs()},
        "jobstores": {alias: {"available": trouble is None, "error": trouble} for alias, trouble in troubles.items()},
        "degraded": health.degraded(front),
        "workers": workers,
    }


async def _workers(front: APScheduler) -> list[dict[str, Any]] | None:
    """Return the processes that share a store; None where it cannot be asked."""
    try:
        return [
            {
                "worker": worker.worker,
                "started_at": worker.started_at.isoformat(),
                "heartbeat_at": worker.seen_at.isoformat(),
                "running_jobs": worker.running,
            }
            for worker in await front.aio.workers()
        ]
    except StoreUnavailable:
        return None


INFO: Schema = record(
    {
        "current_host": _TEXT,
        "allowed_hosts": listing(_TEXT),
        "running": {"type": "boolean"},
        "state": {"enum": [*STATES.values()]},
        "scope": {"enum": ["process", "cluster"], "description": "Who shares the jobs."},
        "worker": _TEXT | {"description": "The process that answers, as host:pid."},
        "timezone": _TEXT,
        "running_jobs": _RUNNING,
        "jobstores": {
            "type": "object",
            "additionalProperties": record({"available": {"type": "boolean"}, "error": {"type": ["string", "null"]}}),
        },
        "degraded": listing(_TEXT) | {"description": "What does not work."},
        "workers": or_null(
            listing(
                record(
                    {
                        "worker": _TEXT,
                        "started_at": ref("Moment"),
                        "heartbeat_at": ref("Moment"),
                        "running_jobs": _RUNNING,
                    }
                )
            )
        ),
    }
)
"""The JSON Schema of what `get_scheduler_info` answers with."""


async def pause_scheduler(front: APScheduler) -> Response:
    """Answer POST /pause."""
    await front.aio.pause()
    return Response(status=204)


async def resume_scheduler(front: APScheduler) -> Response:
    """Answer POST /resume."""
    await front.aio.resume()
    return Response(status=204)


async def start_scheduler(front: APScheduler, body: Mapping[str, Any]) -> Response:
    """Answer POST /start."""
    await front.aio.start(paused=body.get("paused", False))
    return Response(status=204)


async def shutdown_scheduler(front: APScheduler, body: Mapping[str, Any]) -> Response:
    """Answer POST /shutdown."""
    # It is carried through where the client leaves.
    await front.aio.shutdown(wait=body.get("wait", True))
    return Response(status=204)
