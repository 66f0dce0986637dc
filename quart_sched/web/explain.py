"""The REST API's views of what happened to a fire, and of who changed what."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from quart import Response

from ..errors import InvalidDefinition, JobNotFound
from ..model.changes import CHANGE
from ..model.fields import Schema, listing, record
from .jobs import by_whole_id

if TYPE_CHECKING:
    from ..extension import APScheduler


async def explain_fire(front: APScheduler, job_id: str, at: datetime | None = None) -> Response | dict[str, Any]:
    """Answer GET /jobs/<id>/explain?at=..., also for a job that is gone and has left records or changes."""
    try:
        if at is None:
            raise InvalidDefinition("at", "is missing; expected an ISO 8601 date and time")
        return (await front.aio.explain(job_id, at)).to_wire()
    except (JobNotFound, InvalidDefinition) as error:
        return await by_whole_id(front, f"{job_id}/explain", error)


async def get_audit(front: APScheduler, **asked: Any) -> dict[str, Any]:
    """Answer GET /audit?job_id=&limit=&cursor= with `items`, newest first, and the cursor of the `next` ones."""
    page = await front.aio.changes(**asked)
    return {"items": [change.to_wire() for change in page.items], "next": page.next}


CHANGES: Schema = record({"items": listing(CHANGE), "next": {"type": ["string", "null"]}})
"""The JSON Schema of a page of changes; `next` is the cursor of the page that follows."""
