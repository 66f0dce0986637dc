"""The REST API's views of the fires to come. They return the head of a JSON object, and its `items`, of which there may
be too many to write them at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .runs import parameters

if TYPE_CHECKING:
    from ..extension import APScheduler

Listing = tuple[dict[str, Any], Iterator[dict[str, Any]]]


async def get_next_fires(front: APScheduler, job_id: str) -> Listing:
    """Answer GET /jobs/<id>/next?count=10 with `job_id`, `state`, `paused`, `reason` and `items`.

    What they mean says `scheduler.aio.next_fires`. An item is `{"at": ..., "clock_change": null}`, or has there
    `direction` (forward, back), `at` (the first moment of the new time), `wall` (the time that is skipped or comes
    twice), `effect` (moved, left_out, both, once; null where that is not known) and `description`.
    """
    found = await front.aio.next_fires(job_id, **parameters("count"))
    return found.head(), (fire.to_wire() for fire in found.items)


async def get_forecast(front: APScheduler) -> Listing:
    """Answer GET /forecast?hours=24&limit=1000 with `until`, `truncated` and `items`, each with its `job_id` first."""
    found = await front.aio.forecast(**parameters("hours", "limit"))
    head = {"until": found.until.isoformat(), "truncated": found.truncated}
    return head, ({"job_id": fire.job_id} | fire.to_wire() for fire in found.items)
