"""Runs: the list of all, and one with its traceback and log."""

from __future__ import annotations

import json
from typing import Any

from quart import Response, request

from ...errors import InvalidDefinition, RunNotFound
from ...model.runs import OUTCOMES, STATES
from ...model.zones import zone_of
from .visit import Visit

_FILTERS = ("job_id", "outcome", "since", "until", "cursor")
_PAGE = 50


async def show_all(visit: Visit) -> Response:
    """Answer with a page of the runs that are asked for."""
    given = {key: request.args.get(key, "").strip() for key in _FILTERS}
    problem = None
    try:
        page = await visit.front.aio.runs(**{key: value or None for key, value in given.items()}, limit=_PAGE)
    except InvalidDefinition as error:
        problem = error
        page = await visit.front.aio.runs(limit=_PAGE)
    context: dict[str, Any] = {
        "page": page,
        "filters": given,
        "problem": problem,
        "all_outcomes": (*OUTCOMES, *STATES),
        "zone": visit.front.scheduler.timezone,
    }
    if visit.part in ("rows", "list"):
        return await visit.fragment(f"runs_{visit.part}.html", **context)
    return await visit.page("runs.html", 200 if problem is None else 400, **context)


async def show(visit: Visit) -> Response:
    """Answer with the page of one run, or with the part of it that changes while it runs."""
    run_id = request.args.get("id", "")
    aio = visit.front.aio
    record = await aio.run(run_id)
    if record is None:
        raise RunNotFound(run_id)
    job = await aio.get_job(record.job_id)
    context: dict[str, Any] = {
        "run": record,
        "job": job,
        "overrides": {} if record.overrides is None else json.loads(record.overrides),
        "attempts": await aio.attempts(record),
        "zone": (job and zone_of(job.trigger)) or visit.front.scheduler.timezone,
        "live": record.outcome in STATES,
    }
    if visit.part == "facts":
        return await visit.fragment("run_facts.html", **context)
    return await visit.page("run.html", **context)
