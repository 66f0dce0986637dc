"""The REST API's views of the run history."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from quart import Response

from ..errors import JobNotFound, RunNotFound
from ..model.fields import Schema, listing, record
from ..model.runs import DETAIL, RUN, RunPage, to_wire
from .jobs import by_whole_id

if TYPE_CHECKING:
    from ..extension import APScheduler


async def get_runs(front: APScheduler, **asked: Any) -> dict[str, Any]:
    """Answer GET /runs."""
    return _shown(await front.aio.runs(**asked))


async def get_job_runs(front: APScheduler, job_id: str, **asked: Any) -> dict[str, Any]:
    """Answer GET /jobs/<id>/runs, also for a job that is gone and has left records."""
    page = await front.aio.runs(job_id, **asked)
    if not page.items and await front.aio.get_job(job_id) is None:
        anything = await front.aio.runs(job_id, limit=1)
        if not anything.items:
            return await by_whole_id(front, f"{job_id}/runs", JobNotFound(job_id))
    return _shown(page)


async def get_run(front: APScheduler, run_id: str) -> dict[str, Any]:
    """Answer GET /runs/<run_id>, with the ids of all runs of the same fire."""
    record = await front.aio.run(run_id)
    if record is None:
        raise RunNotFound(run_id)
    histories = front.scheduler.histories
    attempts = await front.scheduler.call(partial(histories.attempts, record), blocking=histories.blocking)
    return to_wire(record, detail=True) | {"attempts": [attempt.run_id for attempt in attempts]}


async def cancel_run(front: APScheduler, run_id: str) -> Response:
    """Answer POST /runs/<run_id>/cancel: it takes effect within a poll."""
    await front.aio.cancel_run(run_id)
    return Response(status=202)


def _shown(page: RunPage) -> dict[str, Any]:
    return {"items": [to_wire(record) for record in page.items], "next": page.next}


PAGE: Schema = record({"items": listing(record(RUN)), "next": {"type": ["string", "null"]}})
"""The JSON Schema of a page of runs; `next` is the cursor of the page that follows."""
RUN_DETAIL: Schema = record({**RUN, **DETAIL, "attempts": listing({"type": "string"})})
"""The JSON Schema of what `get_run` answers with."""
