"""One job: its definition, its next fires, how long it takes, and its runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from apscheduler.job import Job
from quart import Response, request

from ...engine.listing import overdue_jobs
from ...errors import InvalidDefinition, JobNotFound
from ...model.explanation import Explanation
from ...model.jobs import state_of
from ...model.listing import JobEntry
from ...model.policies import policy_of
from ...model.runs import OUTCOMES, STATES, RunPage
from ...model.triggers import spec_of
from ...model.zones import zone_of
from ..jobs import store_of
from . import words
from .visit import Visit

_RUNS, _CHANGES = 15, 20
_DURATIONS = 200
_PARTS = ("head", "coming", "durations", "runs")
"""What an open page fetches anew, also when the job is gone meanwhile."""
_NOT_RUN = ("cancelled", "missed", "coalesced", "skipped", "job_paused", "scheduler_paused", "process_down", "broken")
"""Verdicts on fires that may be run after all."""
_UNSUCCESSFUL = ("failed", "timed_out", "cancelled", "lost")


async def show(visit: Visit) -> Response:
    """Answer with the page, or with one of the parts that it refreshes."""
    job_id = request.args.get("id", "")
    aio = visit.aio
    job, (runs, problem) = await asyncio.gather(aio.get_job(job_id), _runs(visit, job_id))
    if job is None:
        return await _gone(visit, job_id, runs, problem)
    past = await _past(visit, job_id, zone_of(job.trigger) or visit.front.scheduler.timezone)
    catalogue = visit.front.scheduler.catalogue
    broken = catalogue.broken_reason(job)
    try:
        coming, durations, under_way = await asyncio.gather(
            aio.next_fires(job_id, 10),
            aio.latest_runs([job_id], _DURATIONS),
            aio.runs(job_id, outcome="running", limit=50),
        )
    except JobNotFound:  # since a moment ago, as when its last fire has come
        return await _gone(visit, job_id, runs, problem)
    context: dict[str, Any] = {
        "job": job,
        "state": _state(visit, job, broken),
        "broken": broken,
        "policy": policy_of(job),
        "trigger": spec_of(job.trigger).to_dict(),
        "zone": zone_of(job.trigger) or visit.front.scheduler.timezone,
        "coming": coming,
        "latest": durations[job_id],
        "under_way": under_way.items,
        "runs": runs,
        "problem": problem,
        "pending": state_of(job) == "pending",
        "store": store_of(visit.front, job),
        "all_outcomes": (*OUTCOMES, *STATES),
        "outcome": request.args.get("outcome", ""),
        "runs_cursor": request.args.get("cursor"),
        "alarm": next((one for one in visit.front.scheduler.watch.overdue if one.job_id == job_id), None),
        "overdue_grace": visit.front.scheduler.settings.overdue_grace,
        **past,
    }
    if visit.part in _PARTS:
        return await visit.fragment(f"job_{visit.part}.html", **context)
    wrong = problem is not None or past["wrong_time"] is not None
    return await visit.page("job.html", 400 if wrong else 200, **context)


def _state(visit: Visit, job: Job, broken: str | None) -> str:
    scheduler = visit.front.scheduler
    return JobEntry.of(job, "", broken).judged(scheduler.clock.now(), overdue_jobs(scheduler)).state


async def _runs(visit: Visit, job_id: str) -> tuple[RunPage, InvalidDefinition | None]:
    """Return the page of runs that is asked for; where the question makes no sense the first, and what was wrong."""
    given = {key: request.args.get(key) or None for key in ("outcome", "cursor")}
    try:
        return await visit.aio.runs(job_id, limit=_RUNS, **given), None
    except InvalidDefinition as error:
        return await visit.aio.runs(job_id, limit=_RUNS), error


async def _gone(visit: Visit, job_id: str, runs: RunPage, problem: InvalidDefinition | None) -> Response:
    """Answer for a job that is not there (any more): with the runs that it left, or a part that says so."""
    asked = visit.part in _PARTS or request.args.get("cursor") is not None or request.args.get("outcome") is not None
    if not runs.items and not asked:
        raise JobNotFound(job_id)
    context: dict[str, Any] = {
        "job_id": job_id,
        "job": None,
        **await _past(visit, job_id, visit.front.scheduler.timezone),
        "runs": runs,
        "zone": visit.front.scheduler.timezone,
        "problem": problem,
        "all_outcomes": (*OUTCOMES, *STATES),
        "outcome": request.args.get("outcome", ""),
        "runs_cursor": request.args.get("cursor"),
    }
    if visit.part in _PARTS:
        context |= {
            "coming": {"state": None, "reason": None, "items": ()},
            "latest": (await visit.aio.latest_runs([job_id], _DURATIONS))[job_id],
        }
        part = "gone_head" if visit.part == "head" else visit.part
        return await visit.fragment(f"job_{part}.html", **context)
    return await visit.page("job_gone.html", 404, **context)


async def _past(visit: Visit, job_id: str, zone: tzinfo) -> dict[str, Any]:
    """Return the answer to what is asked about the past, and who changed the job lately."""
    at = request.args.get("at", "").strip()
    if not at and "at" in request.args:
        at = await _last_fire(visit, job_id)
    changes = await visit.aio.changes(job_id, limit=_CHANGES)
    context: dict[str, Any] = {"at": at, "changes": changes.items, "explained": None, "wrong_time": None}
    if at:
        try:
            found = await visit.aio.explain(job_id, at)
        except InvalidDefinition as error:
            return context | {"wrong_time": error}
        last = await visit.aio.run(found.run_ids[-1]) if found.run_ids else None
        context |= {"explained": found, "explanation": words.explain(found, zone, last, visit.language)}
        context["past_fires"] = _not_run(found)
    return context


async def _last_fire(visit: Visit, job_id: str) -> str:
    """Return the time of the last fire that should have been, "" where nobody knows of one."""
    now = await visit.aio.explain(job_id, visit.front.scheduler.clock.now())
    return now.previous.isoformat() if now.previous is not None else ""


def _not_run(found: Explanation) -> tuple[datetime, datetime] | None:
    """Return the span of the fires that did not run, or did not succeed, and may be made up for."""
    unsuccessful = found.verdict == "ran" and found.outcome in _UNSUCCESSFUL
    if found.verdict not in _NOT_RUN and not unsuccessful:
        return None
    last = (found.last or found.at).astimezone(UTC)
    return found.first or found.at, last + timedelta(milliseconds=1)
