"""The REST API's endpoints, a row each: routes, rights, parsing and the description are all made of these.

A new endpoint is a new row.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from quart import Response

from ..errors import AlreadyRunning, Draining, NotRunning, StoreUnavailable
from ..model.fields import Field, flag, or_null, record, ref
from . import examples, openapi, scheduler
from .job_endpoints import JOBS
from .operations import DONE, Answer, Body, Operation
from .watch_endpoints import HEALTH, METRICS, WATCH

if TYPE_CHECKING:
    from ..config import Settings
    from ..extension import APScheduler


def _known(fields: Mapping[str, Field], body: dict[str, Any]) -> dict[str, Any]:
    """Parse what has a field, and leave the rest aside, as Flask-APScheduler does."""
    return {key: field(key, body[key]) for key, field in fields.items() if key in body}


def _options(fields: Mapping[str, Field], **example: Any) -> Body:
    """Return an optional body of these fields."""
    schema = record(fields, optional=fields) | {"additionalProperties": True}
    return Body(schema=or_null(schema), examples={"options": example}, parse=partial(_known, fields), required=False)


async def _get_openapi(front: APScheduler) -> Response:
    """Answer GET /openapi.json."""
    return Response(await openapi.document(front, offered(front.settings)), mimetype="application/json")


def offered(settings: Settings) -> tuple[Operation, ...]:
    """Return those that an app's settings ask for."""
    of_api = API if settings.api_enabled else ()
    of_health = HEALTH if settings.health_enabled else ()
    return (*of_api, *of_health, *(METRICS if settings.metrics_enabled else ()))


API: tuple[Operation, ...] = (
    Operation(
        endpoint="get_openapi",
        method="GET",
        rule="/openapi.json",
        right="read",
        view=_get_openapi,
        summary="Describe this API",
        query={},
        answers={200: Answer("This document", {"type": "object", "required": ["openapi", "info", "paths"]})},
    ),
    Operation(
        endpoint="get_scheduler_info",
        method="GET",
        rule="",
        right="read",
        view=scheduler.get_scheduler_info,
        summary="Show the scheduler",
        answers={200: Answer("The scheduler", ref("Scheduler"), examples.INFO)},
    ),
    Operation(
        endpoint="pause_scheduler",
        method="POST",
        rule="/pause",
        right="operate",
        view=scheduler.pause_scheduler,
        summary="Stop firing until it is resumed",
        description="In all processes that share a job store.",
        answers=DONE,
        raises=(NotRunning, StoreUnavailable),
    ),
    Operation(
        endpoint="resume_scheduler",
        method="POST",
        rule="/resume",
        right="operate",
        view=scheduler.resume_scheduler,
        summary="Fire again",
        description="In all processes that share a job store.",
        answers=DONE,
        raises=(NotRunning, StoreUnavailable),
    ),
    Operation(
        endpoint="start_scheduler",
        method="POST",
        rule="/start",
        right="operate",
        view=scheduler.start_scheduler,
        summary="Start the scheduler of the process that answers",
        body=_options({"paused": flag().about("Fire nothing until it is resumed.", default=False)}, paused=True),
        answers=DONE,
        raises=(AlreadyRunning, Draining),
    ),
    Operation(
        endpoint="shutdown_scheduler",
        method="POST",
        rule="/shutdown",
        right="operate",
        view=scheduler.shutdown_scheduler,
        summary="Stop the scheduler of the process that answers",
        description="Jobs that run get SCHEDULER_SHUTDOWN_TIMEOUT seconds, and are cancelled then.",
        body=_options({"wait": flag().about("Wait for running jobs, or leave them alone.", default=True)}, wait=True),
        answers=DONE,
        raises=(NotRunning,),
    ),
    *JOBS,
    *WATCH,
)
"""What is there with SCHEDULER_API_ENABLED."""
OPERATIONS: tuple[Operation, ...] = (*API, *HEALTH, *METRICS)
"""All endpoints."""
