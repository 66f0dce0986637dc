"""Around the views: what the routes of the REST API and those of the dashboard have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from quart import Quart, request
from werkzeug.exceptions import HTTPException

from ..errors import TOLD, ConfigError, SchedulerError, answer_to

log = logging.getLogger("quart_sched")

ANSWERED = (*TOLD, HTTPException)
"""What goes wrong in a view and is answered; all else is a bug of ours."""


def status_and_message(error: Exception) -> tuple[int, str]:
    """Return what to answer one of these with; the log says where it was no mistake of the client's."""
    if isinstance(error, HTTPException):
        return error.code or 500, error.description or error.name
    status, message = answer_to(error)
    if isinstance(error, SchedulerError) and status >= 500:
        log.warning("%s %s: %s", request.method, request.path, message)
    return status, message


def already_there(app: Quart, endpoints: Iterable[str], *, module: str, prefix: str, what: str) -> set[str]:
    """Return those of the endpoints that `app` has already, with views of `module`.

    Raises ConfigError where one is the app's own.
    """
    taken = app.view_functions.keys() & set(endpoints)
    if foreign := sorted(name for name in taken if app.view_functions[name].__module__ != module):
        raise ConfigError(
            f"SCHEDULER_ENDPOINT_PREFIX is {prefix!r}; expected one that keeps {what} apart from the app's own "
            f"endpoint {foreign[0]!r}"
        )
    return taken
