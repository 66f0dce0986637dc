"""The REST API's views of the run history. They return JSON."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from quart import Response, request

from ..errors import InvalidDefinition, JobNotFound, RunNotFound
from ..model.runs import RunPage, to_wire

if TYPE_CHECKING:
    from ..extension import APScheduler

_FILTERS = ("outcome", "since", "until", "limit", "cursor")


async def get_runs(front: APScheduler) -> dict[str, Any]:
    """Answer GET /runs."""
    return _shown(await front.aio.runs(**parameters("job_id", *_FILTERS)))


async def get_job_runs(front: APScheduler, job_id: str) -> dict[str, Any]:
    """Answer GET /jobs/<id>/runs, also for a job that is gone and has left records."""
    page = await front.aio.runs(job_id, **parameters(*_FILTERS))
    if not page.items and await front.aio.get_job(job_id) is None:
        anything = await front.aio.runs(job_id, limit=1)
        if not anything.items:
            raise JobNotFound(job_id)
    return _shown(page)


async def get_run(front: APScheduler, run_id: str) -> dict[str, Any]:
    """Answer GET /runs/<run_id>, with the ids of all runs of the same fire."""
    parameters()
    record = await front.aio.run(run_id)
    if record is None:
        raise RunNotFound(run_id)
    histories = front.scheduler.histories
    attempts = await front.scheduler.call(partial(histories.attempts, record), blocking=histories.blocking)
    return to_wire(record, detail=True) | {"attempts": [attempt.run_id for attempt in attempts]}


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


def _shown(page: RunPage) -> dict[str, Any]:
    return {"items": [to_wire(record) for record in page.items], "next": page.next}
