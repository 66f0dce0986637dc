"""The REST API's views of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from apscheduler.job import Job
from quart import Response
from werkzeug.http import parse_etags

from ..errors import InvalidDefinition, JobChangedMeanwhile, JobNotFound, RunNotFound, SchedulerError
from ..model import pages
from ..model.backfill import BackfillRequest
from ..model.fields import Field, Schema, listing, record, ref, wrong
from ..model.jobs import JobChanges, JobDefinition, ScheduledJob, from_wire, to_wire
from ..model.overrides import Overrides
from ..model.texts import is_unicode
from . import security
from .answers import as_array, as_bytes, as_json, as_listing

if TYPE_CHECKING:
    from ..engine.handles import RunHandle
    from ..extension import APScheduler

_WAIT = 30.0


async def add_job(front: APScheduler, body: dict[str, Any]) -> Response:
    """Answer POST /jobs."""
    given = from_wire(body)
    func = given.get("func")
    if not isinstance(func, str):
        raise InvalidDefinition("func", f"is {func!r}; expected 'module:name'")
    given["func"] = security.allowed_function(front, func)
    if isinstance(given.get("id"), str) and (given["id"].startswith("/") or not is_unicode(given["id"])):
        raise InvalidDefinition(
            "id", f"is {given['id']!r}; expected text that a URL and a store can hold, and no slash at its beginning"
        )
    return _as_job(front, await front.aio.add(JobDefinition.parse(given)))


async def get_jobs(front: APScheduler, limit: int | None = None, cursor: str | None = None) -> Response:
    """Answer GET /jobs: with all jobs, or with a page of them where `limit` or `cursor` asks for one."""
    if limit is None and cursor is None:
        return await as_array(front, (_text(front, job) for job in await front.aio.get_jobs()))
    # In the order of their ids, which stays as it is while jobs fire.
    page = await front.aio.job_page(sort="id", limit=limit or pages.LIMIT.schema["default"], after=cursor)
    following = pages.pack(page.items[-1][0].id) if page.next is not None else None
    return await as_listing(front, {"next": following}, (_text(front, job) for _, job in page.items))


def _id_of(cursor: Any) -> str:
    """Return the id that a page ended with. Raises InvalidDefinition."""
    return pages.unpack(cursor) or wrong("cursor", cursor, "the `next` of a page of jobs")


QUERY: Mapping[str, Field] = {
    "limit": pages.LIMIT,
    "cursor": pages.cursor(_id_of),
}
"""What asks for a page of jobs."""


async def get_job(front: APScheduler, job_id: str) -> Response:
    """Answer GET /jobs/<id>."""
    return _as_job(front, await find(front, job_id))


async def update_job(
    front: APScheduler, job_id: str, body: dict[str, Any], if_match: Container[str] | None = None
) -> Response:
    """Answer PATCH /jobs/<id>."""
    job = await find(front, job_id)
    if if_match is not None and front.aio.tag(job) not in if_match:
        # Looked at before the body, in which what is read-only may be as it was then.
        raise JobChangedMeanwhile(job_id)
    changes = JobChanges.from_wire(body, shown(front, job), lambda ref: security.allowed_function(front, ref))
    return _as_job(front, await front.aio.modify(job_id, changes, seen=if_match))


async def delete_job(front: APScheduler, job_id: str, if_match: Container[str] | None = None) -> Response:
    """Answer DELETE /jobs/<id>."""
    await front.aio.remove_job(job_id, seen=if_match)
    return Response(status=204)


def _tags(_: str, value: Any) -> Container[str] | None:
    """Return the entity tags of a header (RFC 9110, section 13.1.1); None where any will do."""
    tags = parse_etags(value)
    return None if tags.star_tag else tags


IF_MATCH = Field(_tags, {"type": "string", "examples": ["*"]}).about(
    "The ETag of the job as it was seen: nothing is done where it is another one by now."
)


async def pause_job(front: APScheduler, job_id: str) -> Response:
    """Answer POST /jobs/<id>/pause."""
    return _as_job(front, await front.aio.pause_job(job_id))


async def resume_job(front: APScheduler, job_id: str) -> Response | dict[str, Any]:
    """Answer POST /jobs/<id>/resume."""
    before = shown(front, await find(front, job_id))
    resumed = await front.aio.resume_job(job_id)
    # Its schedule may be over, so that there is nothing to resume: then the job is gone, and this is how it was.
    return before | {"state": "ended"} if resumed is None else _as_job(front, resumed)


async def run_job(
    front: APScheduler, job_id: str, body: Overrides, wait: float = _WAIT, idempotency_key: str | None = None
) -> Response:
    """Answer POST /jobs/<id>/run."""
    if body:
        security.check_right("admin")
    before = shown(front, await find(front, job_id))
    handle = await front.aio.run_with(job_id, body, idempotency_key=idempotency_key, cause="api")
    return await _after_run(front, handle, before, wait)


async def _after_run(front: APScheduler, handle: RunHandle, before: dict[str, Any], wait: float) -> Response:
    """Answer when the run is over, or when it has been waited for long enough."""
    response = await _outcome(front, handle, before, wait)
    if handle.repeated:
        response.headers["Idempotent-Replayed"] = "true"
    return response


async def _outcome(front: APScheduler, handle: RunHandle, before: dict[str, Any], wait: float) -> Response:
    job_id = handle.job_id
    try:
        record = await asyncio.wait_for(handle.wait(), wait)
    except (TimeoutError, RunNotFound):
        # A key is remembered for longer than a full history keeps its run: how that ended nobody knows any more.
        return as_json(front, {"run_id": handle.run_id, "job_id": job_id}, 202)
    if record.outcome != "succeeded":
        reason = record.error_message or record.error_type or record.outcome
        error = {"error_message": f"Job {job_id} {record.outcome}: {reason}", "run_id": record.run_id}
        return as_json(front, error, 500)
    after = await front.aio.get_job(job_id)
    return as_json(front, before if after is None else shown(front, after))


async def backfill_job(front: APScheduler, job_id: str, body: dict[str, Any]) -> Response:
    """Answer POST /jobs/<id>/backfill."""
    scheduler = front.scheduler
    asked = BackfillRequest.parse(body, timezone=scheduler.timezone, now=scheduler.clock.now())
    found = await front.aio.fill(job_id, asked)
    return as_json(front, found.to_wire(), 200 if found.dry_run else 202)


async def find(front: APScheduler, job_id: str) -> Job:
    """Return the job. Raises JobNotFound."""
    job = await front.aio.get_job(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


async def by_whole_id(front: APScheduler, job_id: str, error: SchedulerError) -> Response:
    """Answer with the job that has this id, as an id may itself end like a path; where there is none, raise `error`."""
    job = await front.aio.get_job(job_id)
    if job is None:
        raise error
    return _as_job(front, job)


def shown(front: APScheduler, job: Job) -> dict[str, Any]:
    """Return the job as the API shows it."""
    return to_wire(job, broken=front.scheduler.catalogue.broken_reason(job), jobstore=store_of(front, job))


def store_of(front: APScheduler, job: Job) -> str | None:
    """Return the alias of the job's store, or of the one that it is meant for while it waits for the start."""
    waiting = front.scheduler.catalogue.declarations.get(job.id) if job.pending else None
    alias: str | None = job._jobstore_alias if waiting is None else waiting.definition.jobstore
    return alias


class _Kept(NamedTuple):
    """A job's JSON in UTF-8; what it depends on beside the job itself; and from where to where its next fire stands."""

    text: bytes
    what: tuple[Any, ...]
    fire: datetime | None
    begin: int
    end: int


def _text(front: APScheduler, job: Job) -> bytes:
    """Return the job's JSON in UTF-8: kept with the job until that changes, while fires only move its next fire on."""
    if job.pending or not isinstance(job, ScheduledJob):
        return as_bytes(front, shown(front, job))
    broken = front.scheduler.catalogue.broken_reason(job)
    fire = job.next_run_time
    what = (fire is None, broken, job._jobstore_alias, front.settings.pretty_json)
    kept: _Kept | None = job.text
    if kept is None or kept.what != what:
        text, value = as_bytes(front, to_wire(job, broken=broken)), _moment(fire)
        # Behind it there are texts, within which the quotes are escaped, and keys of ours.
        begin = text.rfind(_FIRE) + len(_FIRE)
    elif kept.fire is fire:
        # The same object: in the hour that comes twice other times are equal to it too.
        return kept.text
    else:
        value, begin = _moment(fire), kept.begin
        text = kept.text[:begin] + value + kept.text[kept.end :]
    job.text = _Kept(text, what, fire, begin, begin + len(value))
    return text


_FIRE = b'"next_run_time": '


def _moment(fire: datetime | None) -> bytes:
    return b"null" if fire is None else f'"{fire.isoformat()}"'.encode()


def _as_job(front: APScheduler, job: Job) -> Response:
    response = as_json(front, shown(front, job))
    response.set_etag(front.aio.tag(job))
    return response


PAGE: Schema = record({"next": {"type": ["string", "null"]}, "items": listing(ref("Job"))})
"""The JSON Schema of a page of jobs; `next` is the cursor of the page that follows."""
