"""The REST API: Flask-APScheduler's thirteen endpoints, and those on runs, on fires to come, and on changes."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import textwrap
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable
from typing import TYPE_CHECKING, Any, cast

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.schedulers.base import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED
from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException

from ..errors import (
    AuthenticationRequired,
    BadRequest,
    ConfigError,
    InvalidDefinition,
    JobNotFound,
    SchedulerError,
    StoreUnavailable,
)
from ..model.arguments import bounded_repr
from ..model.backfill import BackfillRequest
from ..model.jobs import JobChanges, JobDefinition, from_wire, to_wire
from ..model.overrides import Overrides
from ..model.triggers import zone_name
from . import events, explain, forecast, health, runs, security

if TYPE_CHECKING:
    from ..engine.handles import RunHandle
    from ..extension import APScheduler

log = logging.getLogger("quart_sched")

View = Callable[..., Awaitable[Response | dict[str, Any]]]
"""Answers with a response, or with what is to be its JSON."""

_STATES = {STATE_STOPPED: "stopped", STATE_RUNNING: "running", STATE_PAUSED: "paused"}
_DEFAULT_WAIT, _LONGEST_WAIT = 30.0, 300.0
_SLICE = 0.002
"""Seconds that a long list may hold the loop before others get their turn."""


def register(app: Quart, front: APScheduler) -> None:
    """Add the routes that the settings ask for to `app`, unless it has them.

    Raises ConfigError where an endpoint's name is taken.
    """
    prefix, settings = front.endpoint_prefix, front.settings
    routes: list[tuple[str, str, str, View]] = [*_ROUTES] if front.api_enabled else []
    routes += health.HEALTH if settings.health_enabled else ()
    routes += health.METRICS if settings.metrics_enabled else ()
    taken = app.view_functions.keys() & {prefix + endpoint for endpoint, *_ in routes}
    if foreign := sorted(name for name in taken if app.view_functions[name].__module__ != __name__):
        raise ConfigError(
            f"SCHEDULER_ENDPOINT_PREFIX is {prefix!r}; expected one that keeps the API apart from the app's own "
            f"endpoint {foreign[0]!r}"
        )
    for endpoint, method, rule, view in routes:
        if prefix + endpoint not in taken:
            # Slashes are not merged: what is asked of the job "/a" must not be redirected to the job "a".
            guarded, path = _guarded(front, endpoint, view), front.api_prefix + rule or "/"
            app.add_url_rule(path, prefix + endpoint, guarded, methods=[method], merge_slashes=False)


def warn_if_open(front: APScheduler) -> None:
    """Say so if anybody who can reach the app can steer the scheduler."""
    app = front.app
    enabled = "API" if front.api_enabled else "dashboard" if front.settings.dashboard_enabled else None
    if enabled and front.auth is None and app is not None and not (app.debug or app.testing):
        log.warning(
            "The scheduler's %s is enabled without authentication: set SCHEDULER_AUTH, or keep it from strangers",
            enabled,
        )


def _guarded(front: APScheduler, endpoint: str, view: View) -> View:
    """Check the caller, and answer errors as JSON."""

    async def guarded(**arguments: Any) -> Response:
        try:
            await security.check_caller(front, endpoint)
            answer = await view(front, **arguments)
            return answer if isinstance(answer, Response) else _json(front, answer)
        except SchedulerError as error:
            if error.status >= 500:
                log.warning("%s %s: %s", request.method, request.path, error)
            response = _error(front, error.status, str(error))
            if isinstance(error, AuthenticationRequired) and (header := front.auth.get_authenticate_header()):
                response.headers["WWW-Authenticate"] = header
            return response
        except (JobLookupError, ConflictingIdError) as error:
            # Straight out of a store that others use too, and somebody was faster.
            return _error(front, 404 if isinstance(error, JobLookupError) else 409, str(error.args[0]))
        except HTTPException as error:
            return _error(front, error.code or 500, error.description or error.name)

    guarded.__name__ = endpoint
    return guarded


# Views


async def _get_scheduler_info(front: APScheduler) -> Response:
    scheduler = front.scheduler
    slots = scheduler.catalogue.slots
    shared = any(slot.shared for slot in slots.values())
    workers = await _workers(front) if shared else []
    troubles = {alias: slot.trouble for alias, slot in slots.items()}
    return _json(
        front,
        {
            "current_host": front.host_name,
            "allowed_hosts": front.allowed_hosts,
            "running": front.running,
            "state": _STATES[front.state],
            "scope": "cluster" if shared else "process",
            "worker": scheduler.runner.worker,
            "timezone": zone_name(scheduler.timezone),
            "running_jobs": {run.run_id: run.job_id for run in scheduler.runner.running()},
            "jobstores": {
                alias: {"available": trouble is None, "error": trouble} for alias, trouble in troubles.items()
            },
            "degraded": health.degraded(front),
            "workers": workers,
        },
    )


async def _workers(front: APScheduler) -> list[dict[str, Any]] | None:
    """Return the processes that share a store; None where it cannot be asked."""
    try:
        return [
            {
                "worker": worker.worker,
                "started_at": worker.started_at.isoformat(),
                "heartbeat_at": worker.seen_at.isoformat(),
                "running_jobs": worker.running,
            }
            for worker in await front.aio.workers()
        ]
    except StoreUnavailable:
        return None


async def _pause_scheduler(front: APScheduler) -> Response:
    await front.aio.pause()
    return Response(status=204)


async def _resume_scheduler(front: APScheduler) -> Response:
    await front.aio.resume()
    return Response(status=204)


async def _start_scheduler(front: APScheduler) -> Response:
    await front.aio.start(paused=_option(await _body(optional=True), "paused", False))
    return Response(status=204)


async def _shutdown_scheduler(front: APScheduler) -> Response:
    wait = _option(await _body(optional=True), "wait", True)
    ending = asyncio.create_task(front.aio.shutdown(wait=wait))
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        # The client has left, and half a shutdown is none: late jobs would run on, and no start could follow.
        await asyncio.wait([ending])
        raise
    return Response(status=204)


async def _add_job(front: APScheduler) -> Response:
    body = from_wire(await _body())
    func = body.get("func")
    if not isinstance(func, str):
        raise InvalidDefinition("func", f"is {func!r}; expected 'module:name'")
    body["func"] = security.allowed_function(front, func)
    if isinstance(body.get("id"), str) and not _is_unicode(body["id"]):
        raise InvalidDefinition("id", f"is {body['id']!r}; expected text that a URL and a store can hold")
    return _job(front, await front.aio.add(JobDefinition.parse(body)))


async def _get_jobs(front: APScheduler) -> Response:
    if request.args.keys() & {"limit", "cursor"}:
        return await _get_job_page(front)
    pretty = front.settings.pretty_json
    text = await _array((_shown(front, job) for job in await front.aio.get_jobs()), pretty)
    return Response(text, mimetype="application/json")


async def _get_job_page(front: APScheduler) -> Response:
    """Answer with some jobs in the order of their ids, which stays as it is while jobs fire."""
    given = runs.parameters("limit", "cursor")
    page = await front.aio.job_page(sort="id", limit=given.get("limit", 50), after=_id_of(given.get("cursor")))
    last = page.items[-1][0].id if page.next is not None else None
    shown = (_shown(front, job) for _, job in page.items)
    return await _listing(front, {"next": None if last is None else _cursor_of(last)}, shown)


def _cursor_of(job_id: str) -> str:
    return base64.urlsafe_b64encode(job_id.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def _id_of(cursor: str | None) -> str | None:
    """Return the id that a page ended with. Raises InvalidDefinition."""
    if cursor is None:
        return None
    try:
        job_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("utf-8", "surrogatepass")
    except ValueError:
        job_id = ""
    if not job_id or _cursor_of(job_id) != cursor:
        raise InvalidDefinition("cursor", f"is {bounded_repr(cursor)}; expected the `next` of a page of jobs")
    return job_id


async def _get_job(front: APScheduler, job_id: str) -> Response:
    return _job(front, await _find(front, job_id))


async def _update_job(front: APScheduler, job_id: str) -> Response:
    body = await _body()
    job = await _find(front, job_id)
    changes = JobChanges.from_wire(body, _shown(front, job), lambda ref: security.allowed_function(front, ref))
    return _job(front, await front.aio.modify(job_id, changes, seen=_if_match()))


async def _delete_job(front: APScheduler, job_id: str) -> Response:
    await front.aio.remove_job(job_id, seen=_if_match())
    return Response(status=204)


async def _pause_job(front: APScheduler, job_id: str) -> Response:
    return _job(front, await front.aio.pause_job(job_id))


async def _resume_job(front: APScheduler, job_id: str) -> Response:
    before = _shown(front, await _find(front, job_id))
    resumed = await front.aio.resume_job(job_id)
    if resumed is None:
        # Its schedule is over, so that there is nothing to resume: the job is gone, and this is how it was.
        return _json(front, before | {"state": "ended"})
    return _job(front, resumed)


async def _run_job(front: APScheduler, job_id: str) -> Response:
    wait = _wait_of(request.args.get("wait"))
    overrides = Overrides.from_wire(await _body(optional=True))
    if overrides:
        security.check_right("admin")
    before = _shown(front, await _find(front, job_id))
    key = request.headers.get("Idempotency-Key")
    handle = await front.aio.run_with(job_id, overrides, idempotency_key=key, cause="api")
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
    except TimeoutError:
        return _json(front, {"run_id": handle.run_id, "job_id": job_id}, 202)
    if record.outcome != "succeeded":
        reason = record.error_message or record.error_type or record.outcome
        return _json(front, {"error_message": f"Job {job_id} {record.outcome}: {reason}", "run_id": record.run_id}, 500)
    after = await front.aio.get_job(job_id)
    return _json(front, before if after is None else _shown(front, after))


async def _backfill(front: APScheduler, job_id: str) -> Response:
    scheduler = front.scheduler
    asked = BackfillRequest.parse(await _body(), timezone=scheduler.timezone, now=scheduler.clock.now())
    found = await front.aio.fill(job_id, asked)
    return _json(front, found.to_wire(), 200 if found.dry_run else 202)


async def _get_job_runs(front: APScheduler, job_id: str) -> Response | dict[str, Any]:
    try:
        return await runs.get_job_runs(front, job_id)
    except JobNotFound as error:
        return await _by_whole_id(front, f"{job_id}/runs", error)


async def _get_next_fires(front: APScheduler, job_id: str) -> Response:
    try:
        return await _listing(front, *await forecast.get_next_fires(front, job_id))
    except JobNotFound as error:
        return await _by_whole_id(front, f"{job_id}/next", error)


async def _explain_fire(front: APScheduler, job_id: str) -> Response | dict[str, Any]:
    try:
        return await explain.explain_fire(front, job_id)
    except (JobNotFound, InvalidDefinition) as error:
        return await _by_whole_id(front, f"{job_id}/explain", error)


async def _by_whole_id(front: APScheduler, job_id: str, error: SchedulerError) -> Response:
    """Answer with the job that has this id, as an id may itself end like a path; where there is none, raise `error`."""
    job = await front.aio.get_job(job_id)
    if job is None:
        raise error
    return _job(front, job)


async def _get_forecast(front: APScheduler) -> Response:
    return await _listing(front, *await forecast.get_forecast(front))


_ROUTES: tuple[tuple[str, str, str, View], ...] = (
    ("get_scheduler_info", "GET", "", _get_scheduler_info),
    ("pause_scheduler", "POST", "/pause", _pause_scheduler),
    ("resume_scheduler", "POST", "/resume", _resume_scheduler),
    ("start_scheduler", "POST", "/start", _start_scheduler),
    ("shutdown_scheduler", "POST", "/shutdown", _shutdown_scheduler),
    ("add_job", "POST", "/jobs", _add_job),
    ("get_jobs", "GET", "/jobs", _get_jobs),
    ("get_job", "GET", "/jobs/<path:job_id>", _get_job),
    ("update_job", "PATCH", "/jobs/<path:job_id>", _update_job),
    ("delete_job", "DELETE", "/jobs/<path:job_id>", _delete_job),
    ("pause_job", "POST", "/jobs/<path:job_id>/pause", _pause_job),
    ("resume_job", "POST", "/jobs/<path:job_id>/resume", _resume_job),
    ("run_job", "POST", "/jobs/<path:job_id>/run", _run_job),
    ("backfill_job", "POST", "/jobs/<path:job_id>/backfill", _backfill),
    ("get_next_fires", "GET", "/jobs/<path:job_id>/next", _get_next_fires),
    ("explain_fire", "GET", "/jobs/<path:job_id>/explain", _explain_fire),
    ("get_audit", "GET", "/audit", explain.get_audit),
    ("get_forecast", "GET", "/forecast", _get_forecast),
    ("get_runs", "GET", "/runs", runs.get_runs),
    ("get_job_runs", "GET", "/jobs/<path:job_id>/runs", _get_job_runs),
    ("get_run", "GET", "/runs/<run_id>", runs.get_run),
    ("cancel_run", "POST", "/runs/<run_id>/cancel", runs.cancel_run),
    ("get_events", "GET", "/events", events.get_events),
)


# What goes in


async def _body(*, optional: bool = False) -> dict[str, Any]:
    """Return the body, a JSON object whatever its content type says. Raises BadRequest."""
    raw = cast(bytes, await request.get_data(as_text=False))
    if optional and not raw.strip():
        return {}
    try:
        body = json.loads(raw.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is no JSON: {error}") from None
    if optional and body is None:
        return {}
    if not isinstance(body, dict):
        raise BadRequest(f"The body is a JSON {type(body).__name__}; expected an object")
    return body


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {name!r} stands there twice")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _option(body: dict[str, Any], key: str, default: bool) -> bool:
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise InvalidDefinition(key, f"is {value!r}; expected true or false")
    return value


def _wait_of(text: str | None) -> float:
    try:
        wait = _DEFAULT_WAIT if text is None else float(text)
    except ValueError:
        wait = -1.0
    if not 0 <= wait <= _LONGEST_WAIT:
        raise InvalidDefinition("wait", f"is {text!r}; expected seconds from 0 to {_LONGEST_WAIT:g}")
    return wait


def _if_match() -> Container[str] | None:
    """Return the entity tags of the header If-Match (RFC 9110, section 13.1.1); None where any will do."""
    return request.if_match if "If-Match" in request.headers and not request.if_match.star_tag else None


async def _find(front: APScheduler, job_id: str) -> Job:
    job = await front.aio.get_job(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


# What comes out


def _shown(front: APScheduler, job: Job) -> dict[str, Any]:
    return to_wire(job, broken=front.scheduler.catalogue.broken_reason(job))


def _job(front: APScheduler, job: Job) -> Response:
    response = _json(front, _shown(front, job))
    response.set_etag(front.aio.tag(job))
    return response


def _error(front: APScheduler, status: int, message: str) -> Response:
    return _json(front, {"error_message": message}, status)


def _json(front: APScheduler, data: Any, status: int = 200) -> Response:
    return Response(_dump(data, front.settings.pretty_json), status, mimetype="application/json")


async def _listing(front: APScheduler, head: dict[str, Any], items: Iterable[dict[str, Any]]) -> Response:
    """Answer with an object that has `items` as its last key, however many they are."""
    pretty = front.settings.pretty_json
    empty = _dump(head | {"items": []}, pretty)
    before, _, after = empty.rpartition("[]")
    return Response(before + await _array(items, pretty, depth=1) + after, mimetype="application/json")


async def _array(items: Iterable[dict[str, Any]], pretty: bool, *, depth: int = 0) -> str:
    """Return a JSON array, as it stands `depth` levels deep; a long one is written in slices."""
    parts = []
    margin = "  " * depth
    slice_end = time.perf_counter() + _SLICE
    for item in items:
        text = _dump(item, pretty)
        parts.append(textwrap.indent(text, margin + "  ") if pretty else text)
        if time.perf_counter() > slice_end:
            await asyncio.sleep(0)
            slice_end = time.perf_counter() + _SLICE
    return "[\n" + ",\n".join(parts) + f"\n{margin}]" if pretty and parts else "[" + ", ".join(parts) + "]"


def _dump(data: Any, pretty: bool) -> str:
    """Return the JSON text, its keys in our order, which the app's own JSON provider would sort."""
    text = json.dumps(data, ensure_ascii=False, indent=2 if pretty else None)
    # Half of a surrogate pair, which a client may have sent, can go over the wire as its escape alone.
    return text if _is_unicode(text) else json.dumps(data, indent=2 if pretty else None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
