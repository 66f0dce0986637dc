"""The list of changes: who did what to the jobs and to the scheduler, and when."""

from __future__ import annotations

from typing import Any

from quart import Response, abort, request

from ...errors import InvalidDefinition
from .visit import Visit


async def show(visit: Visit) -> Response:
    """Answer with a page of the changes, of all jobs or of one."""
    changes: Any = getattr(visit.front.aio, "changes", None)
    if changes is None:
        abort(404)
    given = {key: request.args.get(key, "").strip() or None for key in ("job_id", "cursor")}
    problem = None
    try:
        page = await changes(**given)
    except InvalidDefinition as error:
        problem = error
        page = await changes()
    return await visit.page("changes.html", 200 if problem is None else 400, page=page, filters=given, problem=problem)
