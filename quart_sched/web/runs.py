"""The REST API's views of the run history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Response

from ..errors import JobNotFound, RunNotFound
from ..model.fields import Schema, listing, record
from ..model.runs import DETAIL, RUN, to_wire
from .jobs import by_whole_id

if TYPE_CHECKING:
    from ..extension import APScheduler


async def get_runs(front: APScheduler, job_id: str | None = None, **query: Any) -> dict[str, Any]:
    """Answer GET /runs; `query` is that of `aio.runs`."""
    found = await front.aio.runs(job_id, **query)
    return {"items": [to_wire(record) for record in found.items], "next": found.next}


async def get_job_runs(front: APScheduler, job_id: str, **asked: Any) -> Response | dict[str, Any]:
    """Answer GET /jobs/<id>/runs, also for a job that is gone and has left records."""
    try:
        return await page_of_job(front, job_id, **asked)
    except JobNotFound as error:
        return await by_whole_id(front, f"{job_id}/runs", error)


async def page_of_job(front: APScheduler, job_id: str, **query: Any) -> dict[str, Any]:
    """Return a page of a job's runs as JSON. Raises JobNotFound where there is neither the job nor a record of it."""
    found = await get_runs(front, job_id, **query)
    if not found["items"] and await front.aio.get_job(job_id) is None:
        anything = await front.aio.runs(job_id, limit=1)
        if not anything.items:
            raise JobNotFound(job_id)
    return found


async def get_run(front: APScheduler, run_id: str) -> dict[str, Any]:
    """Answer GET /runs/<run_id>, with what it put out and the ids of all runs of its fire."""
    record = await front.aio.run(run_id)
    if record is None:
        raise RunNotFound(run_id)
    attempts = await front.aio.attempts(record)
    return to_wire(record, detail=True) | {"attempts": [attempt.run_id for attempt in attempts]}


async def cancel_run(front: APScheduler, run_id: str) -> Response:
    """Answer POST /runs/<run_id>/cancel: it takes effect within a poll."""
    await front.aio.cancel_run(run_id)
    return Response(status=202)


PAGE: Schema = record({"items": listing(record(RUN)), "next": {"type": ["string", "null"]}})
"""The JSON Schema of a page of runs; `next` is the cursor of the page that follows."""
RUN_DETAIL: Schema = record({**RUN, **DETAIL, "attempts": listing({"type": "string"})})
"""The JSON Schema of what `get_run` answers with."""
