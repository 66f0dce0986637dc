"""The REST API's views of the fires to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from quart import Response

from ..errors import JobNotFound
from ..model.fields import Schema, listing, record, ref
from ..model.forecast import FIRE
from ..model.jobs import JobState
from .answers import as_bytes, as_listing
from .jobs import by_whole_id

if TYPE_CHECKING:
    from ..extension import APScheduler


async def get_next_fires(front: APScheduler, job_id: str, **asked: Any) -> Response:
    """Answer GET /jobs/<id>/next?count=10 with `job_id`, `state`, `paused`, `reason` and `items`.

    What they mean says `scheduler.aio.next_fires`. An item is `{"at": ..., "clock_change": null}`, or has there
    `direction` (forward, back), `at` (the first moment of the new time), `wall` (the time that is skipped or comes
    twice), `effect` (moved, left_out, both, once; null where that is not known) and `description`.
    """
    try:
        found = await front.aio.next_fires(job_id, **asked)
    except JobNotFound as error:
        return await by_whole_id(front, f"{job_id}/next", error)
    return await as_listing(front, found.head(), (as_bytes(front, fire.to_wire()) for fire in found.items))


async def get_forecast(front: APScheduler, **asked: Any) -> Response:
    """Answer GET /forecast?hours=24&limit=1000 with `until`, `truncated`, `paused` and `items`.

    Each item has its `job_id` first.
    """
    found = await front.aio.forecast(**asked)
    head = {"until": found.until.isoformat(), "truncated": found.truncated, "paused": found.paused}
    return await as_listing(
        front, head, (as_bytes(front, {"job_id": fire.job_id} | fire.to_wire()) for fire in found.items)
    )


NEXT_FIRES: Schema = record(
    {
        "job_id": {"type": "string"},
        "state": {"enum": [*get_args(JobState)]},
        "paused": {"type": "boolean", "description": "Whether the job or the scheduler has to be resumed first."},
        "reason": {"type": ["string", "null"], "description": "Why there are none, or why they break off."},
        "items": listing(record(FIRE)),
    }
)
"""The JSON Schema of what `get_next_fires` answers with."""
FORECAST: Schema = record(
    {
        "until": ref("Moment"),
        "truncated": {"type": "boolean", "description": "Whether there are more fires before `until`."},
        "paused": {"type": "boolean", "description": "Whether the scheduler has to be resumed first."},
        "items": listing(record({"job_id": {"type": "string"}, **FIRE})),
    }
)
"""The JSON Schema of what `get_forecast` answers with."""
