"""The list of jobs: searched, filtered and sorted on the server, a page at a time."""

from __future__ import annotations

from typing import Any

from quart import Response, request

from ...errors import InvalidDefinition
from ...model.listing import JOB_STATES, SORTS, JobPage, JobQuery
from ...model.runs import OUTCOMES
from .visit import Visit

FILTERS = ("search", "state", "tag", "outcome", "sort", "descending")
"""What the list is narrowed and ordered by, as it stands in the address."""
_PAGE = 50
_BARS = 30


async def show(visit: Visit) -> Response:
    """Answer with the page, or with more of its rows."""
    if visit.partial and (job_id := request.args.get("one")):
        return await row(visit, job_id)
    given = {key: request.args.get(key, "") for key in (*FILTERS, "offset")}
    problem = None
    try:
        JobQuery.parse(given)
    except InvalidDefinition as error:
        problem, given = error, dict.fromkeys(given, "")
    page = await visit.aio.job_page(**given, limit=_PAGE)
    context: dict[str, Any] = {
        "page": page,
        "rows": await rows(visit, page),
        "filters": {key: given[key] for key in FILTERS},
        "problem": problem,
    }
    if visit.part == "rows":
        return await visit.fragment("jobs_rows.html", **context)
    if visit.part == "list":
        return await visit.fragment("jobs_list.html", **context, **_choices())
    return await visit.page("jobs.html", 200 if problem is None else 400, **context, **_choices())


def _choices() -> dict[str, Any]:
    return {"all_states": JOB_STATES, "all_outcomes": OUTCOMES, "all_sorts": SORTS}


async def rows(visit: Visit, page: JobPage) -> list[dict[str, Any]]:
    """Return what a row shows of each job of a page."""
    ids = [entry.id for entry, _ in page.items]
    latest = await visit.aio.latest_runs(ids, _BARS) if ids else {}
    running = {record.job_id for record in (await visit.aio.runs(outcome="running", limit=500)).items}
    return [
        {
            "entry": entry,
            "job": job,
            "state": entry.state,
            "running": entry.id in running,
            "runs": latest.get(entry.id, []),
        }
        for entry, job in page.items
    ]


async def row(visit: Visit, job_id: str) -> Response:
    """Answer with the row of one job as it is now: with nothing where it is gone."""
    page = await visit.front.aio.job_page(ids=(job_id,), limit=1)
    return await visit.fragment("jobs_row.html", rows=await rows(visit, page))
