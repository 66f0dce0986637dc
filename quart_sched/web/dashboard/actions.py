"""What the buttons do. Each action ends with a redirect; for a script, with the row or the message that changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from apscheduler.jobstores.base import JobLookupError
from quart import Response, request

from ...errors import DeclaredJob, InvalidDefinition, JobNotFound, RunNotFound, SchedulerError
from ...model.overrides import Overrides
from .. import security
from . import jobs
from .visit import Flash, Visit, unbroken

BULK = ("pause", "resume", "run", "remove")
_MOST = 500
"""Jobs that one action takes."""


async def pause(visit: Visit) -> Response:
    """Pause a job."""
    job_id = await _field("id")
    await visit.front.aio.pause_job(job_id)
    return await _done(visit, job_id, Flash("flash.paused", {"id": job_id}))


async def resume(visit: Visit) -> Response:
    """Take up the schedule of a job again."""
    job_id = await _field("id")
    resumed = await visit.front.aio.resume_job(job_id)
    if resumed is None:
        told = Flash("flash.ended", {"id": job_id})
        if visit.partial:
            visit.flash = told
            return await jobs.row(visit, job_id)
        return visit.redirect(visit.url("jobs"), told)
    return await _done(visit, job_id, Flash("flash.resumed", {"id": job_id}))


async def start(visit: Visit) -> Response:
    """Run a job now, and show the run."""
    job_id = await _field("id")
    run = await visit.front.aio.run_job(job_id)
    told = Flash("flash.started", {"id": job_id})
    if visit.partial:
        visit.flash = told
        return await jobs.row(visit, job_id)
    return visit.redirect(visit.url("run", id=run.run_id), told)


async def remove(visit: Visit) -> Response:
    """Remove a job, once that has been confirmed."""
    job_id = await _field("id")
    if (await request.form).get("confirmed") != "1":
        job = await visit.front.aio.get_job(job_id)
        if job is None:
            raise JobNotFound(job_id)
        if getattr(job, "declared", False):
            raise DeclaredJob(job_id)
        return await visit.page("confirm.html", action="remove", ids=[job_id], kept=[], single=True)
    await visit.front.aio.remove_job(job_id)
    return visit.redirect(visit.url("jobs"), Flash("flash.removed", {"id": job_id}))


async def bulk(visit: Visit) -> Response:
    """Do the same to several jobs, once that has been confirmed; tell how many it worked for, in the list as it was."""
    form = await request.form
    filters = {key: form.get(key, "") for key in jobs.FILTERS}
    back = visit.url("jobs", **filters)
    action, ids = form.get("action", ""), list(dict.fromkeys(map(unbroken, form.getlist("id"))))
    if action not in BULK:
        raise InvalidDefinition("action", f"is {action!r}; expected one of {', '.join(BULK)}")
    if action == "remove":
        security.check_right("admin")
    if not ids:
        return visit.redirect(back, Flash("flash.none_chosen", {}, failed=True))
    if len(ids) > _MOST:
        raise InvalidDefinition("id", f"is given {len(ids)} times; expected at most {_MOST} jobs at once")
    if form.get("confirmed") != "1":
        kept = await _declared(visit, ids) if action == "remove" else []
        chosen = [job_id for job_id in ids if job_id not in kept]
        if not chosen:
            failure = visit.wrong(str(DeclaredJob(kept[0])))[0]
            return visit.redirect(back, Flash("flash.failed", {"message": failure}, failed=True))
        return await visit.page("confirm.html", action=action, ids=chosen, kept=kept, filters=filters, single=False)
    aio = visit.front.aio
    verbs: dict[str, Callable[[str], Awaitable[Any]]] = {
        "pause": aio.pause_job,
        "resume": aio.resume_job,
        "run": aio.run_job,
        "remove": aio.remove_job,
    }
    failures: list[str] = []
    for job_id in ids:
        try:
            await verbs[action](job_id)
        except (SchedulerError, JobLookupError) as error:
            failure = str(error) if isinstance(error, SchedulerError) else f"Job {job_id} not found"
            failures.append(visit.wrong(failure)[0])
    done = len(ids) - len(failures)
    told = Flash(f"flash.bulk_{action}", {"count": done})
    if failures:
        shown = "; ".join(failures[:3]) + ("; …" if len(failures) > 3 else "")
        told = Flash("flash.bulk_failed", {"count": done, "failed": len(failures), "message": shown}, failed=True)
    return visit.redirect(back, told)


async def _declared(visit: Visit, ids: list[str]) -> list[str]:
    """Return those of the jobs that cannot be removed, because the code declares them."""
    page = await visit.front.aio.job_page(ids=tuple(ids), limit=len(ids))
    return [entry.id for entry, job in page.items if getattr(job, "declared", False)]


async def cancel(visit: Visit) -> Response:
    """Ask a run to stop."""
    run_id = await _field("id")
    await visit.front.aio.cancel_run(run_id)
    return visit.redirect(visit.url("run", id=run_id), Flash("flash.cancelled", {}))


async def again(visit: Visit) -> Response:
    """Run the job of a run once more, with the arguments that the run had in the place of the job's own."""
    run_id = await _field("id")
    record = await visit.front.aio.run(run_id)
    if record is None:
        raise RunNotFound(run_id)
    overrides = Overrides.load(record.overrides)
    if overrides:
        security.check_right("admin")
    run = await visit.front.aio.run_with(record.job_id, overrides)
    return visit.redirect(visit.url("run", id=run.run_id), Flash("flash.started", {"id": record.job_id}))


async def switch(visit: Visit) -> Response:
    """Pause or resume the scheduler as a whole."""
    action = await _field("action")
    if action not in ("pause", "resume"):
        raise InvalidDefinition("action", f"is {action!r}; expected pause or resume")
    if action == "pause":
        await visit.front.aio.pause()
    elif not visit.front.scheduler.looks_on:  # else the page was of a time when all was paused
        await visit.front.aio.resume()
    return visit.redirect(visit.url("overview"), Flash(f"flash.scheduler_{action}", {}))


async def _field(name: str) -> str:
    value = unbroken((await request.form).get(name, ""))
    if not value:
        raise InvalidDefinition(name, "is missing")
    return value


async def _done(visit: Visit, job_id: str, told: Flash) -> Response:
    if visit.partial:
        visit.flash = told
        return await jobs.row(visit, job_id)
    return visit.redirect(visit.url("job", id=job_id), told)
