"""The overview: how the jobs stand, what went wrong lately, charts, processes and the time line."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from apscheduler.schedulers.base import STATE_PAUSED, STATE_RUNNING
from quart import Response, request

from ...errors import InvalidDefinition, StoreUnavailable
from ...model.listing import JobPage
from ...model.runs import RunRecord
from ...model.stretches import Stretch
from .timeline import SPANS, Window, lanes
from .visit import Visit

TROUBLES = ("failed", "timed_out", "lost", "missed")
"""Outcomes that somebody should look at."""
_MOST_TROUBLES = 10
"""Jobs that are named."""
_SEARCHED = 200
"""Runs of each of those outcomes that are looked at."""
_LANES = 12
_BUCKETS = 48


async def show(visit: Visit) -> Response:
    """Answer with the page, or with one of the parts that it refreshes."""
    span = request.args.get("span", "24h")
    if span not in SPANS:
        raise InvalidDefinition("span", f"is {span!r}; expected one of {', '.join(SPANS)}")
    window = Window.around(visit.front.scheduler.clock.now(), span)
    part = visit.part
    context: dict[str, Any] = {"span": span, "spans": list(SPANS), "window": window}
    context["lane_offset"], context["lane_search"] = _lane_arguments()
    if part == "now":
        jobs, troubles = await asyncio.gather(visit.front.aio.job_page(limit=1), _troubles(visit, window))
        context |= await _now(visit, jobs.states, troubles)
        return await visit.fragment("overview_now.html", **context)
    if part == "charts":
        context |= await _charts(visit, window)
        return await visit.fragment("overview_charts.html", **context)
    if part == "timeline":
        context |= await _timeline(visit, window, await _troubles(visit, window), context)
        return await visit.fragment("overview_timeline.html", **context)
    parts = await asyncio.gather(_charts(visit, window), _now_and_timeline(visit, window, context))
    for found in parts:
        context |= found
    return await visit.page("overview.html", **context)


def _lane_arguments() -> tuple[int, str]:
    offset = request.args.get("lanes", "0")
    if not offset.isascii() or not offset.isdecimal() or len(offset) > 9:
        raise InvalidDefinition("lanes", f"is {offset!r}; expected a whole number")
    return int(offset), request.args.get("search", "").strip()


async def _now_and_timeline(visit: Visit, window: Window, context: dict[str, Any]) -> dict[str, Any]:
    troubles = await _troubles(visit, window)
    timeline = await _timeline(visit, window, troubles, context)
    return timeline | await _now(visit, timeline["lane_page"].states, troubles)


async def _now(visit: Visit, states: Mapping[str, int], troubles: list[Trouble]) -> dict[str, Any]:
    """Return how things stand at this moment."""
    front = visit.front
    running = await front.aio.runs(outcome="running", limit=20)
    slots = front.scheduler.catalogue.slots
    state = {STATE_RUNNING: "running", STATE_PAUSED: "paused"}.get(front.state, "stopped")
    return {
        "states": states,
        "troubles": troubles,
        "running": running.items,
        "scheduler_state": state,
        "looks_on": front.scheduler.looks_on,
        "shared": bool(slots.shared),
        "workers": await _workers(visit) if slots.shared else [],
        "own_worker": front.scheduler.runner.worker,
        "own_runs": len(front.scheduler.runner.under_way.runs()),
        "degraded": {alias: slot.trouble for alias, slot in slots.items() if slot.trouble},
    }


async def _workers(visit: Visit) -> Any:
    try:
        return await visit.front.aio.workers()
    except StoreUnavailable:
        return []  # the page says elsewhere that the store is away


@dataclass(frozen=True, slots=True)
class Trouble:
    """The last run of a job that went wrong, of `count` in the window."""

    run: RunRecord
    count: int


async def _troubles(visit: Visit, window: Window) -> list[Trouble]:
    """Return what went wrong in the window, latest first; a job that fails every minute must not hide the others."""
    pages = await asyncio.gather(
        *(visit.front.aio.runs(outcome=outcome, since=window.since, limit=_SEARCHED) for outcome in TROUBLES)
    )
    by_job: dict[str, list[RunRecord]] = defaultdict(list)
    for page in pages:
        for record in page.items:
            by_job[record.job_id].append(record)
    found = [Trouble(max(runs, key=lambda run: run.scheduled_at), len(runs)) for runs in by_job.values()]
    return sorted(found, key=lambda trouble: trouble.run.scheduled_at, reverse=True)[:_MOST_TROUBLES]


async def _charts(visit: Visit, window: Window) -> dict[str, Any]:
    return {"charts": chart(window, await visit.front.aio.statistics(window.since, window.now, _BUCKETS))}


def chart(window: Window, stretches: list[Stretch]) -> dict[str, Any]:
    """Return the rows of the chart of success and durations, and what they come to together."""
    by_bucket: dict[int, list[Stretch]] = defaultdict(list)
    for stretch in stretches:
        by_bucket[stretch.bucket].append(stretch)
    width = (window.now - window.since) / _BUCKETS
    rows = []
    for bucket in range(_BUCKETS):
        rows.append({"at": window.since + bucket * width, **_summed(by_bucket[bucket])})
    return {"rows": rows, "total": _summed(stretches), "width": width.total_seconds()}


def _summed(stretches: list[Stretch]) -> dict[str, Any]:
    counts = dict.fromkeys(("succeeded", *TROUBLES, "cancelled", "skipped", "coalesced"), 0)
    timed, seconds, longest = 0, 0.0, 0.0
    for stretch in stretches:
        counts[stretch.outcome] = counts.get(stretch.outcome, 0) + stretch.runs
        timed, seconds, longest = timed + stretch.timed, seconds + stretch.seconds, max(longest, stretch.longest)
    good, bad = counts["succeeded"], sum(counts[outcome] for outcome in TROUBLES)
    return {
        "counts": counts,
        "good": good,
        "bad": bad,
        "other": sum(counts.values()) - good - bad,
        "rate": good / (good + bad) if good + bad else None,
        "mean": seconds / timed if timed else None,
        "longest": longest if timed else None,
    }


async def _timeline(visit: Visit, window: Window, troubles: list[Trouble], context: dict[str, Any]) -> dict[str, Any]:
    """Return a page of lanes; the jobs with trouble come first, then those that run, then by their next fire."""
    aio = visit.front.aio
    under_way = (await aio.runs(outcome="running", limit=500)).items
    first = dict.fromkeys(run.job_id for run in (*(trouble.run for trouble in troubles), *under_way))
    page: JobPage = await aio.job_page(
        search=context["lane_search"], first=tuple(first), limit=_LANES, offset=context["lane_offset"]
    )
    ids = [entry.id for entry, _ in page.items]
    hours = max((window.until - window.now) / timedelta(hours=1), 0.01)
    stretches, coming = await asyncio.gather(
        aio.statistics(window.since, window.now + timedelta(microseconds=1), window.buckets, ids),
        aio.outlook([job for _, job in page.items], hours),
    )
    return {"lanes": lanes(window, page, stretches, coming, under_way), "lane_page": page, "lane_count": _LANES}
