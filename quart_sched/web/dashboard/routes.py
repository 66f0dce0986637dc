"""The dashboard's routes: each checks the caller, and answers errors with a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quart import Quart, Response, request

from ...errors import AuthenticationRequired, Forbidden, StoreUnavailable
from .. import events, requests, security
from ..around import ANSWERED, already_there, status_and_message
from ..security import Right
from . import actions, backfilling, changes, editing, job, jobs, login, overview, runs
from .visit import Flash, Visit

if TYPE_CHECKING:
    from ...config import Settings
    from ...extension import APScheduler

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


@dataclass(frozen=True, slots=True)
class Route:
    """A page or an action. `right` is None where it is for those too who have not logged in yet.

    `subject` is the page of what an action is for, to go back to where it was refused.
    """

    name: str
    methods: tuple[str, ...]
    rule: str
    right: Right | None
    view: View
    subject: str | None = None


# Ids stand in the query: one may hold any character, and browsers would resolve ".." in a path.
ROUTES = (
    Route("overview", ("GET",), "/", "read", overview.show),
    Route("jobs", ("GET",), "/jobs", "read", jobs.show),
    Route("bulk", ("POST",), "/jobs/bulk", "operate", actions.bulk),
    Route("job", ("GET",), "/job", "read", job.show),
    Route("pause", ("POST",), "/job/pause", "operate", actions.pause, subject="job"),
    Route("resume", ("POST",), "/job/resume", "operate", actions.resume, subject="job"),
    Route("start", ("POST",), "/job/start", "operate", actions.start, subject="job"),
    Route("start_with", ("GET", "POST"), "/job/start-with", "admin", editing.start_with),
    Route("edit", ("GET", "POST"), "/job/edit", "admin", editing.edit),
    Route("backfill", ("GET", "POST"), "/job/backfill", "operate", backfilling.backfill),
    Route("remove", ("POST",), "/job/remove", "admin", actions.remove, subject="job"),
    Route("add", ("GET", "POST"), "/add", "admin", editing.add),
    Route("preview", ("GET",), "/preview", "admin", editing.preview),
    Route("runs", ("GET",), "/runs", "read", runs.show_all),
    Route("run", ("GET",), "/run", "read", runs.show),
    Route("changes", ("GET",), "/changes", "read", changes.show),
    Route("events", ("GET",), "/events", "read", live),
    Route("cancel", ("POST",), "/run/cancel", "operate", actions.cancel, subject="run"),
    Route("again", ("POST",), "/run/again", "operate", actions.again, subject="run"),
    Route("scheduler", ("POST",), "/scheduler", "operate", actions.switch),
    Route("login", ("GET", "POST"), "/login", None, login.log_in),
    Route("logout", ("POST",), "/logout", None, login.log_out),
    Route("preferences", ("POST",), "/preferences", None, login.prefer),
    Route("static", ("GET",), "/static/<path:filename>", None, login.static),
)


def present(app: Quart, settings: Settings) -> set[str]:
    """Return those of the endpoints that `app` has already. Raises ConfigError where one's name is taken."""
    prefix = settings.endpoint_prefix
    endpoints = [f"{prefix}dashboard_{route.name}" for route in ROUTES]
    return already_there(app, endpoints, module=__name__, prefix=prefix, what="the dashboard")


def register(app: Quart, front: APScheduler) -> None:
    """Add the dashboard's routes to `app`, unless it has them."""
    there = present(app, front.settings)
    for route in ROUTES:
        if (endpoint := f"{front.endpoint_prefix}dashboard_{route.name}") not in there:
            path, view, methods = f"{front.api_prefix}/ui{route.rule}", _guarded(front, route), [*route.methods]
            app.add_url_rule(path, endpoint, view, methods=methods)


def _guarded(front: APScheduler, route: Route) -> Callable[..., Awaitable[Response]]:
    """Check the caller, answer errors with a page, and say what the browser may do with the answer."""

    async def answer(**arguments: Any) -> Response:
        visit = Visit(front, frozenset())
        try:
            visit.rights = await security.check_caller(front, route.right, actor="dashboard")
            response = await route.view(visit, **arguments)
        except AuthenticationRequired as error:
            response = await login.challenge(visit, error)
        except ANSWERED as error:
            response = await _failure(visit, route, *status_and_message(error))
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    answer.__name__ = route.name
    return answer


async def _failure(visit: Visit, route: Route, status: int, message: str) -> Response:
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
    if status == 409 and route.subject is not None:
        back = visit.url(route.subject, id=(await request.form).get("id"))
    # A long form is not to be filled in once more because the store is away for a moment.
    kept = await request.form if status == StoreUnavailable.status and visit.posted and route.right else None
    return await visit.page("error.html", status, title=title, message=message, status=status, back=back, kept=kept)
