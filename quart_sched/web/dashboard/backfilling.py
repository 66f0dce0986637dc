"""The form of a backfill: which past fires of a job are to run after all. First it shows them, then it runs them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import Any

from quart import Response, request

from ...errors import InvalidDefinition
from ...model.backfill import FIELDS, Backfill, BackfillRequest
from ..jobs import find
from .visit import Flash, Visit

_TICK = timedelta(microseconds=1)


async def backfill(visit: Visit) -> Response:
    """Ask for a span, show the fires in it, and run those once that is confirmed."""
    job = await find(visit.front, request.args.get("id", ""))
    values: Mapping[str, str] = request.args
    problems: dict[str, str] = {}
    asked: BackfillRequest | None = None
    found: Backfill | None = None
    if visit.posted:
        values = await request.form
        confirmed = values.get("confirmed") == "1"
        try:
            asked = _read(visit, values, dry_run=not confirmed)
            found = await visit.front.aio.fill(job.id, asked)
        except InvalidDefinition as error:
            known = error.field in FIELDS
            problems[error.field if known else "form"] = error.problem if known else str(error)
        else:
            if confirmed:
                return _begun(visit, found)
    context: dict[str, Any] = {
        "job": job,
        "values": {"start": "", "end": "", "concurrency": "1"} | dict(values),
        "problems": problems,
        "asked": asked,
        "found": found,
        "zone": visit.front.scheduler.timezone,
    }
    return await visit.page("backfill.html", 400 if problems else 200, **context)


def _read(visit: Visit, values: Mapping[str, str], *, dry_run: bool) -> BackfillRequest:
    given = {key: text for key in ("start", "end", "concurrency") if (text := values.get(key, "").strip())}
    scheduler = visit.front.scheduler
    return BackfillRequest.parse(
        {**given, "rerun": values.get("rerun") == "1", "dry_run": dry_run},
        timezone=scheduler.timezone,
        now=scheduler.clock.now(),
    )


def _begun(visit: Visit, found: Backfill) -> Response:
    """Go where the runs are seen."""
    if not found.items:
        return visit.redirect(visit.url("job", id=found.job_id), Flash("flash.nothing_to_backfill", {}))
    (first, _), (last, _) = found.items[0], found.items[-1]
    runs = visit.url(
        "runs",
        job_id=found.job_id,
        since=first.astimezone(UTC).isoformat(),
        until=(last.astimezone(UTC) + _TICK).isoformat(),
    )
    return visit.redirect(runs, Flash("flash.backfilled", {"id": found.job_id, "count": len(found.items)}))
