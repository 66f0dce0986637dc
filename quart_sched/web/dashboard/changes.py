"""The list of changes: who did what to the jobs and to the scheduler, and when."""

from __future__ import annotations

from quart import Response, request

from ...errors import InvalidDefinition
from .visit import Visit


async def show(visit: Visit) -> Response:
    """Answer with a page of the changes, of all jobs or of one."""
    job_id, cursor = (request.args.get(key) or None for key in ("job_id", "cursor"))
    problem = None
    try:
        page = await visit.aio.changes(job_id, cursor=cursor)
    except InvalidDefinition as error:
        problem = error
        page = await visit.aio.changes()
    context = {"page": page, "filters": {"job_id": job_id}, "problem": problem}
    return await visit.page("changes.html", 200 if problem is None else 400, **context)
