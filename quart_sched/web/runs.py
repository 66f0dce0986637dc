"""The REST API's views of the run history. They return JSON."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from quart import Response, request

from ..errors import InvalidDefinition, JobNotFound, RunNotFound
from ..model.runs import to_wire

if TYPE_CHECKING:
    from ..extension import APScheduler

_FILTERS = ("outcome", "since", "until", "limit", "cursor")


async def get_runs(front: APScheduler) -> dict[str, Any]:
    """Answer GET /runs."""
    return await page(front, **parameters("job_id", *_FILTERS))


async def get_job_runs(front: APScheduler, job_id: str) -> dict[str, Any]:
    """Answer GET /jobs/<id>/runs, also for a job that is gone and has left records."""
    return await page_of_job(front, job_id, **parameters(*_FILTERS))


async def get_run(front: APScheduler, run_id: str) -> dict[str, Any]:
    """Answer GET /runs/<run_id>, with the ids of all runs of the same fire."""
    parameters()
    return await detail(front, run_id)


async def cancel_run(front: APScheduler, run_id: str) -> Response:
    """Answer POST /runs/<run_id>/cancel: it takes effect within a poll."""
    parameters()
    await front.aio.cancel_run(run_id)
    return Response(status=202)


def parameters(*names: str) -> dict[str, str]:
    """Return the query's parameters, each of which must be among `names`. Raises InvalidDefinition."""
    given: dict[str, str] = {}
    for name, value in request.args.items(multi=True):
        if name not in names:
            raise InvalidDefinition(name, f"is {value!r}, but not known here; expected {', '.join(names) or 'none'}")
        if name in given:
            raise InvalidDefinition(name, f"is {given[name]!r} and {value!r}; expected one value")
        # The plus of an offset from UTC arrives as a space where nobody has encoded it.
        given[name] = (
            re.sub(r"(:\d\d(?:\.\d+)?) (?=\d\d:?\d\d$)", r"\1+", value) if name in ("since", "until", "at") else value
        )
    return given


async def page(front: APScheduler, job_id: str | None = None, **query: Any) -> dict[str, Any]:
    """Return a page of runs as JSON; `query` is that of `aio.runs`."""
    found = await front.aio.runs(job_id, **query)
    return {"items": [to_wire(record) for record in found.items], "next": found.next}


async def page_of_job(front: APScheduler, job_id: str, **query: Any) -> dict[str, Any]:
    """Return a page of a job's runs as JSON. Raises JobNotFound where there is neither the job nor a record of it."""
    found = await page(front, job_id, **query)
    if not found["items"] and await front.aio.get_job(job_id) is None:
        anything = await front.aio.runs(job_id, limit=1)
        if not anything.items:
            raise JobNotFound(job_id)
    return found


async def detail(front: APScheduler, run_id: str) -> dict[str, Any]:
    """Return a run as JSON, with what it put out and the ids of all runs of its fire. Raises RunNotFound."""
    record = await front.aio.run(run_id)
    if record is None:
        raise RunNotFound(run_id)
    histories = front.scheduler.histories
    attempts = await front.scheduler.call(partial(histories.attempts, record), blocking=histories.blocking)
    return to_wire(record, detail=True) | {"attempts": [attempt.run_id for attempt in attempts]}
