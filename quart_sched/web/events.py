"""Live events over REST, as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from quart import Response, request

from ..engine.live import Live
from ..model.fields import Field, Schema, record, text
from ..model.news import SHAPES

if TYPE_CHECKING:
    from ..engine.clock import Clock
    from ..extension import APScheduler

LIFETIME = 9.0
"""Seconds after which a stream ends itself, for the browser to come again.

Hypercorn does not shut its lifespan down while one is open, and some proxies cut off what takes longer.
"""
_RETRY = 500
_RETRY_AT_SHUTDOWN = 2000
"""Milliseconds after which a browser is to come again."""


QUERY: Mapping[str, Field] = {
    "job_id": text(expected="the id of a job").about("What concerns this job alone."),
    "run_id": text(expected="the id of a run").about("What concerns this run alone, with what it logs."),
}
HEADERS: Mapping[str, Field] = {
    "Last-Event-ID": text(0).about("Where a stream that has ended is to go on; browsers send it by themselves.")
}
EVENT: Schema = {
    "anyOf": [
        record(
            {
                "event": {"const": kind},
                "id": {"type": "string", "description": "Where the stream is, for Last-Event-ID."},
                "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": shape},
            }
        )
        for kind, shape in SHAPES.items()
    ]
}
"""The JSON Schema of one event, by the names of its fields."""


async def get_events(front: APScheduler, last_event_id: str | None = None, **asked: str) -> Response:
    """Answer GET /events."""
    scheduler = front.scheduler
    body = b"" if request.method == "HEAD" else _tell(scheduler.live, scheduler.clock, last_event_id, asked)
    response = Response(body, mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep it back
    response.timeout = None
    return response


async def _tell(live: Live, clock: Clock, last_id: str | None, given: dict[str, str]) -> AsyncIterator[str]:
    end = clock.monotonic() + LIFETIME
    # Opened here, where it is certain that what is below `finally` will be done.
    stream = live.open(last_id, **given)
    try:
        yield f"retry: {_RETRY_AT_SHUTDOWN if stream.closed else _RETRY}\n\n"
        while True:
            while items := stream.take():
                yield "".join(_shown(*item) for item in items)
            left = end - clock.monotonic()
            if stream.closed or left <= 0:
                break
            await clock.wait(stream.changed, left)
        if (place := stream.last_id) is not None:
            # An id alone is no event, but where the browser goes on by.
            yield f"id: {place}\n\n"
    finally:
        live.leave(stream)


def _shown(kind: str, data: dict[str, Any], place: str) -> str:
    # JSON in ASCII has no line break that could end the field.
    return f"event: {kind}\nid: {place}\ndata: {json.dumps(data)}\n\n"
