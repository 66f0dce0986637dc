"""The REST API in a Quart app: its routes, and what stands around each view."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from quart import Quart, Response
from werkzeug.routing import PathConverter

from ..errors import AuthenticationRequired
from . import requests, security
from .answers import as_error, as_json
from .around import ANSWERED, already_there, status_and_message
from .endpoints import offered
from .operations import Operation, View

if TYPE_CHECKING:
    from ..config import Settings
    from ..extension import APScheduler

log = logging.getLogger("quart_sched")


class AnyPath(PathConverter):
    """Werkzeug's path, in which there may be line feeds too, as in the id of a job."""

    regex = "(?s:[^/].*?)"
    part_isolating = False


_ANY_PATH = "quart_sched_path"


def present(app: Quart, settings: Settings) -> set[str]:
    """Return those of the endpoints that `app` has already. Raises ConfigError where one's name is taken."""
    prefix = settings.endpoint_prefix
    endpoints = [prefix + operation.endpoint for operation in offered(settings)]
    return already_there(app, endpoints, module=__name__, prefix=prefix, what="the API")


def register(app: Quart, front: APScheduler) -> None:
    """Add the routes that the settings ask for to `app`, unless it has them."""
    there = present(app, front.settings)
    app.url_map.converters[_ANY_PATH] = AnyPath
    for operation in offered(front.settings):
        if (endpoint := front.endpoint_prefix + operation.endpoint) not in there:
            # Slashes are not merged: what is asked of the job "/a" must not be redirected to the job "a".
            path = front.api_prefix + operation.rule.replace("<path:", f"<{_ANY_PATH}:") or "/"
            view, methods = _guarded(front, operation), [operation.method]
            app.add_url_rule(path, endpoint, view, methods=methods, merge_slashes=False)


def warn_if_open(front: APScheduler) -> None:
    """Say so if anybody who can reach the app can steer the scheduler."""
    app = front.app
    enabled = "API" if front.api_enabled else "dashboard" if front.settings.dashboard_enabled else None
    if enabled and front.auth is None and app is not None and not (app.debug or app.testing):
        log.warning(
            "The scheduler's %s is enabled without authentication: set SCHEDULER_AUTH, or keep it from strangers",
            enabled,
        )


def _guarded(front: APScheduler, operation: Operation) -> View:
    """Check the caller, parse the request, and answer errors as JSON."""

    async def guarded(**path: Any) -> Response:
        try:
            await security.check_caller(front, operation.right)
            answer = await operation.view(front, **path, **await requests.arguments(operation))
            return answer if isinstance(answer, Response) else as_json(front, answer)
        except ANSWERED as error:
            response = as_error(front, *status_and_message(error))
            if isinstance(error, AuthenticationRequired) and (header := security.challenge_of(front.auth)):
                response.headers["WWW-Authenticate"] = header
            return response

    guarded.__name__ = operation.endpoint
    return guarded
