"""One job: its definition, its next fires, how long it takes, and its runs."""

from __future__ import annotations

import asyncio
from typing import Any

from apscheduler.job import Job
from quart import Response, request

from ...engine.listing import overdue_jobs
from ...errors import InvalidDefinition, JobNotFound
from ...model.changes import ChangePage
from ...model.explanation import Explanation
from ...model.jobs import state_of
from ...model.listing import JobEntry
from ...model.policies import policy_of
from ...model.runs import OUTCOMES, STATES, RunPage
from ...model.triggers import spec_of
from .shown import zone_of
from .visit import Visit

_RUNS, _CHANGES = 15, 20
_DURATIONS = 200


async def show(visit: Visit) -> Response:
    """Answer with the page, or with one of the parts that it refreshes."""
    job_id = request.args.get("id", "")
    aio = visit.front.aio
    job, (runs, problem) = await asyncio.gather(aio.get_job(job_id), _runs(visit, job_id))
    if job is None:
        return await _gone(visit, job_id, runs, problem)
    (explained, wrong_time), changes = await _past(visit, job_id)
    catalogue = visit.front.scheduler.catalogue
    broken = catalogue.broken_reason(job)
    coming, durations, under_way = await asyncio.gather(
        aio.next_fires(job_id, 10), aio.latest_runs([job_id], _DURATIONS), aio.runs(job_id, outcome="running", limit=50)
    )
    context: dict[str, Any] = {
        "job": job,
        "state": _state(visit, job, broken),
        "broken": broken,
        "policy": policy_of(job),
        "trigger": spec_of(job.trigger).to_dict(),
        "zone": zone_of(job, visit.front.scheduler.timezone),
        "coming": coming,
        "latest": durations[job_id],
        "under_way": under_way.items,
        "runs": runs,
        "problem": problem,
        "pending": state_of(job) == "pending",
        "all_outcomes": (*OUTCOMES, *STATES),
        "outcome": request.args.get("outcome", ""),
        "explained": explained,
        "wrong_time": wrong_time,
        "at": request.args.get("at", ""),
        "changes": changes.items,
    }
    if visit.part in ("head", "coming", "durations", "runs"):
        return await visit.fragment(f"job_{visit.part}.html", **context)
    wrong = problem is not None or wrong_time is not None
    return await visit.page("job.html", 400 if wrong else 200, **context)


def _state(visit: Visit, job: Job, broken: str | None) -> str:
    scheduler = visit.front.scheduler
    return JobEntry.of(job, "", broken).judged(scheduler.clock.now(), overdue_jobs(scheduler)).state


async def _runs(visit: Visit, job_id: str) -> tuple[RunPage, InvalidDefinition | None]:
    """Return the page of runs that is asked for; where the question makes no sense the first, and what was wrong."""
    given = {key: request.args.get(key) or None for key in ("outcome", "cursor")}
    try:
        return await visit.front.aio.runs(job_id, limit=_RUNS, **given), None
    except InvalidDefinition as error:
        return await visit.front.aio.runs(job_id, limit=_RUNS), error


async def _gone(visit: Visit, job_id: str, runs: RunPage, problem: InvalidDefinition | None) -> Response:
    """Answer for a job that is not there (any more): with the runs that it left, if there are any."""
    if not runs.items and request.args.get("cursor") is None and request.args.get("outcome") is None:
        raise JobNotFound(job_id)
    if visit.part is not None and visit.part != "runs":
        return Response("", 204)
    (explained, wrong_time), changes = await _past(visit, job_id)
    context: dict[str, Any] = {
        "job_id": job_id,
        "job": None,
        "explained": explained,
        "wrong_time": wrong_time,
        "at": request.args.get("at", ""),
        "changes": changes.items,
        "runs": runs,
        "zone": visit.front.scheduler.timezone,
        "problem": problem,
        "all_outcomes": (*OUTCOMES, *STATES),
        "outcome": request.args.get("outcome", ""),
    }
    if visit.part == "runs":
        return await visit.fragment("job_runs.html", **context)
    return await visit.page("job_gone.html", 404, **context)


async def _past(visit: Visit, job_id: str) -> tuple[tuple[Explanation | None, InvalidDefinition | None], ChangePage]:
    """Return the answer to what is asked, and who changed the job lately."""
    return await asyncio.gather(_explained(visit, job_id), visit.front.aio.changes(job_id, limit=_CHANGES))


async def _explained(visit: Visit, job_id: str) -> tuple[Explanation | None, InvalidDefinition | None]:
    """Return why the job did or did not run at the time that is asked for, or what is wrong with the question."""
    at = request.args.get("at", "").strip()
    if not at:
        return None, None
    try:
        return await visit.front.aio.explain(job_id, at), None
    except InvalidDefinition as error:
        return None, error
