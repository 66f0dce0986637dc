"""The dashboard's routes: each checks the caller, and answers errors with a page."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException

from ...errors import AuthenticationRequired, ConfigError, Forbidden, SchedulerError, StoreUnavailable
from .. import events, requests, security
from ..security import Right
from . import actions, backfilling, changes, editing, job, jobs, login, overview, runs
from .visit import Flash, Visit

if TYPE_CHECKING:
    from ...extension import APScheduler

log = logging.getLogger("quart_sched")

View = Callable[[Visit], Awaitable[Response]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""What the pages may load and where they may send forms: everything from this host, and nothing inline."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


async def live(visit: Visit) -> Response:
    """Answer with the stream of events, which the pages hear of changes by; there without the API as well."""
    return await events.get_events(visit.front, **requests.parameters(events.QUERY, events.HEADERS))


# Ids stand in the query: one may hold any character, and browsers would resolve ".." in a path.
_ROUTES: tuple[tuple[str, tuple[str, ...], str, View], ...] = (
    ("overview", ("GET",), "/", overview.show),
    ("jobs", ("GET",), "/jobs", jobs.show),
    ("bulk", ("POST",), "/jobs/bulk", actions.bulk),
    ("job", ("GET",), "/job", job.show),
    ("pause", ("POST",), "/job/pause", actions.pause),
    ("resume", ("POST",), "/job/resume", actions.resume),
    ("start", ("POST",), "/job/start", actions.start),
    ("start_with", ("GET", "POST"), "/job/start-with", editing.start_with),
    ("edit", ("GET", "POST"), "/job/edit", editing.edit),
    ("backfill", ("GET", "POST"), "/job/backfill", backfilling.backfill),
    ("remove", ("POST",), "/job/remove", actions.remove),
    ("add", ("GET", "POST"), "/add", editing.add),
    ("preview", ("GET",), "/preview", editing.preview),
    ("runs", ("GET",), "/runs", runs.show_all),
    ("run", ("GET",), "/run", runs.show),
    ("changes", ("GET",), "/changes", changes.show),
    ("events", ("GET",), "/events", live),
    ("cancel", ("POST",), "/run/cancel", actions.cancel),
    ("again", ("POST",), "/run/again", actions.again),
    ("scheduler", ("POST",), "/scheduler", actions.switch),
)
RIGHTS: Mapping[str, Right] = {
    "overview": "read",
    "jobs": "read",
    "job": "read",
    "runs": "read",
    "run": "read",
    "changes": "read",
    "events": "read",
    "scheduler": "operate",
    "bulk": "operate",
    "pause": "operate",
    "resume": "operate",
    "start": "operate",
    "start_with": "admin",
    "backfill": "operate",
    "cancel": "operate",
    "again": "operate",
    "add": "admin",
    "edit": "admin",
    "preview": "admin",
    "remove": "admin",
}
"""The right that each of them asks for."""
_SUBJECTS = {"pause": "job", "resume": "job", "start": "job", "remove": "job", "cancel": "run", "again": "run"}
"""The page of what an action is for, to go back to where it was refused."""
_OPEN: tuple[tuple[str, tuple[str, ...], str, View], ...] = (
    ("login", ("GET", "POST"), "/login", login.log_in),
    ("logout", ("POST",), "/logout", login.log_out),
    ("preferences", ("POST",), "/preferences", login.prefer),
    ("static", ("GET",), "/static/<path:filename>", login.static),
)
"""What somebody needs who has not logged in yet."""


def register(app: Quart, front: APScheduler) -> None:
    """Add the dashboard's routes to `app`, unless it has them. Raises ConfigError where an endpoint's name is taken."""
    prefix = f"{front.endpoint_prefix}dashboard_"
    taken = app.view_functions.keys() & {prefix + name for name, *_ in (*_ROUTES, *_OPEN)}
    if foreign := sorted(name for name in taken if app.view_functions[name].__module__ != __name__):
        raise ConfigError(
            f"SCHEDULER_ENDPOINT_PREFIX is {front.endpoint_prefix!r}; expected one that keeps the dashboard apart from "
            f"the app's own endpoint {foreign[0]!r}"
        )
    for routes, guarded in ((_ROUTES, True), (_OPEN, False)):
        for name, methods, rule, view in routes:
            if prefix + name not in taken:
                view_function = _guarded(front, name, view, guarded)
                app.add_url_rule(f"{front.api_prefix}/ui{rule}", prefix + name, view_function, methods=[*methods])


def _guarded(front: APScheduler, name: str, view: View, guarded: bool) -> Callable[..., Awaitable[Response]]:
    """Check the caller, answer errors with a page, and say what the browser may do with the answer."""

    async def answer(**arguments: Any) -> Response:
        visit = Visit(front, frozenset())
        try:
            if guarded:
                visit.rights = await security.check_caller(front, RIGHTS[name], actor="dashboard")
            else:
                security.check_origin(front)
            response = await view(visit, **arguments)
        except AuthenticationRequired as error:
            response = await login.challenge(visit, error)
        except SchedulerError as error:
            if error.status >= 500:
                log.warning("%s %s: %s", request.method, request.path, error)
            response = await _failure(visit, name, error.status, str(error))
        except (JobLookupError, ConflictingIdError) as error:
            # Straight out of a store that others use too, and somebody was faster.
            status = 404 if isinstance(error, JobLookupError) else 409
            response = await _failure(visit, name, status, str(error.args[0]))
        except HTTPException as error:
            response = await _failure(visit, name, error.code or 500, error.description or error.name)
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    answer.__name__ = name
    return answer


async def _failure(visit: Visit, name: str, status: int, message: str) -> Response:
    """Answer with a page that says what was wrong; to a script with the message alone, which changes nothing else."""
    if visit.partial and status == StoreUnavailable.status and not visit.posted:
        # The alarms tell it, and for as long as it is so.
        return Response("", status, headers={"HX-Reswap": "none"})
    if visit.partial:
        visit.flash = Flash("flash.failed", {"message": visit.wrong(message)[0]}, failed=True)
        response = await visit.fragment("flash.html", status)
        response.headers["HX-Reswap"] = "none"
        return response
    title = "error.missing" if status == 404 else "error.forbidden" if status == Forbidden.status else "error.failed"
    back = None
    if status == 409 and name in _SUBJECTS:
        back = visit.url(_SUBJECTS[name], id=(await request.form).get("id"))
    # A long form is not to be filled in once more because the store is away for a moment.
    kept = await request.form if status == StoreUnavailable.status and visit.posted and visit.rights else None
    return await visit.page("error.html", status, title=title, message=message, status=status, back=back, kept=kept)
