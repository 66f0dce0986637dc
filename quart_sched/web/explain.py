"""The REST API's views of what happened to a fire, and of who changed what. They return JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidDefinition
from .runs import parameters

if TYPE_CHECKING:
    from ..extension import APScheduler


async def explain_fire(front: APScheduler, job_id: str) -> dict[str, Any]:
    """Answer GET /jobs/<id>/explain?at=..., also for a job that is gone and has left records or changes."""
    given = parameters("at")
    if "at" not in given:
        raise InvalidDefinition("at", "is missing; expected an ISO 8601 date and time")
    return (await front.aio.explain(job_id, given["at"])).to_wire()


async def get_audit(front: APScheduler) -> dict[str, Any]:
    """Answer GET /audit?job_id=&limit=&cursor= with `items`, newest first, and the cursor of the `next` ones."""
    page = await front.aio.changes(**parameters("job_id", "limit", "cursor"))
    return {"items": [change.to_wire() for change in page.items], "next": page.next}
