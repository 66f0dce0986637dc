"""The REST API's views of jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from apscheduler.job import Job
from quart import Response

from ..errors import InvalidDefinition, JobNotFound
from ..model.backfill import BackfillRequest
from ..model.jobs import JobChanges, JobDefinition, from_wire, to_wire
from ..model.overrides import Overrides
from . import security
from .answers import as_array, as_json, is_unicode

if TYPE_CHECKING:
    from ..engine.handles import RunHandle
    from ..extension import APScheduler

_WAIT = 30.0


async def add_job(front: APScheduler, body: dict[str, Any]) -> dict[str, Any]:
    """Answer POST /jobs."""
    given = from_wire(body)
    func = given.get("func")
    if not isinstance(func, str):
        raise InvalidDefinition("func", f"is {func!r}; expected 'module:name'")
    given["func"] = security.allowed_function(front, func)
    if isinstance(given.get("id"), str) and not is_unicode(given["id"]):
        raise InvalidDefinition("id", f"is {given['id']!r}; expected text that a URL and a store can hold")
    return shown(front, await front.aio.add(JobDefinition.parse(given)))


async def get_jobs(front: APScheduler) -> Response:
    """Answer GET /jobs."""
    return await as_array(front, (shown(front, job) for job in await front.aio.get_jobs()))


async def get_job(front: APScheduler, job_id: str) -> dict[str, Any]:
    """Answer GET /jobs/<id>."""
    return shown(front, await find(front, job_id))


async def update_job(front: APScheduler, job_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Answer PATCH /jobs/<id>."""
    before = shown(front, await find(front, job_id))
    changes = JobChanges.from_wire(body, before, lambda ref: security.allowed_function(front, ref))
    return shown(front, await front.aio.modify(job_id, changes))


async def delete_job(front: APScheduler, job_id: str) -> Response:
    """Answer DELETE /jobs/<id>."""
    await front.aio.remove_job(job_id)
    return Response(status=204)


async def pause_job(front: APScheduler, job_id: str) -> dict[str, Any]:
    """Answer POST /jobs/<id>/pause."""
    return shown(front, await front.aio.pause_job(job_id))


async def resume_job(front: APScheduler, job_id: str) -> dict[str, Any]:
    """Answer POST /jobs/<id>/resume."""
    before = shown(front, await find(front, job_id))
    resumed = await front.aio.resume_job(job_id)
    # Its schedule may be over, so that there is nothing to resume: then the job is gone, and this is how it was.
    return before | {"state": "ended"} if resumed is None else shown(front, resumed)


async def run_job(
    front: APScheduler, job_id: str, body: Overrides, wait: float = _WAIT, idempotency_key: str | None = None
) -> Response:
    """Answer POST /jobs/<id>/run."""
    if body:
        security.check_right("admin")
    before = shown(front, await find(front, job_id))
    handle = await front.aio.run_with(job_id, body, idempotency_key=idempotency_key, cause="api")
    return await _after_run(front, handle, before, wait)


async def _after_run(front: APScheduler, handle: RunHandle, before: dict[str, Any], wait: float) -> Response:
    """Answer when the run is over, or when it has been waited for long enough."""
    job_id = handle.job_id
    try:
        record = await asyncio.wait_for(handle.wait(), wait)
    except TimeoutError:
        return as_json(front, {"run_id": handle.run_id, "job_id": job_id}, 202)
    if record.outcome != "succeeded":
        reason = record.error_message or record.error_type or record.outcome
        error = {"error_message": f"Job {job_id} {record.outcome}: {reason}", "run_id": record.run_id}
        return as_json(front, error, 500)
    after = await front.aio.get_job(job_id)
    return as_json(front, before if after is None else shown(front, after))


async def backfill_job(front: APScheduler, job_id: str, body: dict[str, Any]) -> Response:
    """Answer POST /jobs/<id>/backfill."""
    scheduler = front.scheduler
    asked = BackfillRequest.parse(body, timezone=scheduler.timezone, now=scheduler.clock.now())
    found = await front.aio.fill(job_id, asked)
    return as_json(front, found.to_wire(), 200 if found.dry_run else 202)


async def find(front: APScheduler, job_id: str) -> Job:
    """Return the job. Raises JobNotFound."""
    job = await front.aio.get_job(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


async def by_whole_id(front: APScheduler, job_id: str, error: JobNotFound) -> dict[str, Any]:
    """Answer with the job that has this id, as an id may itself end like a path; where there is none, raise `error`."""
    job = await front.aio.get_job(job_id)
    if job is None:
        raise error
    return shown(front, job)


def shown(front: APScheduler, job: Job) -> dict[str, Any]:
    """Return the job as the API shows it."""
    return to_wire(job, broken=front.scheduler.catalogue.broken_reason(job))
