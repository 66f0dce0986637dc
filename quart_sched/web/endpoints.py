"""The REST API's endpoints, a row each: routes, rights, parsing and the description are all made of these.

A new endpoint is a new row.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from quart import Response

from ..errors import (
    AlreadyRunning,
    DeclaredJob,
    Draining,
    DuplicateJob,
    FunctionNotAllowed,
    IdempotencyKeyReused,
    InvalidDefinition,
    JobNotFound,
    NotRunning,
    OverlapForbidden,
    RunNotFound,
    RunOver,
    StoreUnavailable,
)
from ..model import backfill, idempotency, overrides
from ..model.fields import Field, Schema, flag, number, or_null, record, ref
from ..model.forecast import COUNT, HOURS, LIMIT
from ..model.runs import QUERY
from . import examples, forecast, jobs, openapi, runs, scheduler
from .operations import Answer, Body, Operation

if TYPE_CHECKING:
    from ..extension import APScheduler

_LONGEST_WAIT = 300


def _known(fields: Mapping[str, Field], body: dict[str, Any]) -> dict[str, Any]:
    """Parse what has a field, and leave the rest aside, as Flask-APScheduler does."""
    return {key: field(key, body[key]) for key, field in fields.items() if key in body}


def _options(fields: Mapping[str, Field], **example: Any) -> Body:
    """Return an optional body of these fields."""
    schema = record(fields, optional=fields) | {"additionalProperties": True}
    return Body(schema=or_null(schema), examples={"options": example}, parse=partial(_known, fields), required=False)


async def _get_openapi(front: APScheduler) -> Response:
    """Answer GET /openapi.json."""
    return Response(await openapi.document(front, OPERATIONS), mimetype="application/json")


_JOB = Answer("The job", ref("Job"), examples.JOB)
_DONE = {204: Answer("Done")}
_STARTED: Schema = record({"run_id": {"type": "string"}, "job_id": {"type": "string"}})
_FAILED: Schema = record({"error_message": {"type": "string"}, "run_id": {"type": "string"}})
_JOB_RUNS = {key: field for key, field in QUERY.items() if key != "job_id"}

OPERATIONS: tuple[Operation, ...] = (
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
        answers=_DONE,
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
        answers=_DONE,
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
        answers=_DONE,
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
        answers=_DONE,
        raises=(NotRunning,),
    ),
    Operation(
        endpoint="add_job",
        method="POST",
        rule="/jobs",
        right="admin",
        view=jobs.add_job,
        summary="Add a job",
        body=Body(schema=ref("NewJob"), examples=examples.NEW_JOBS),
        answers={200: _JOB},
        raises=(FunctionNotAllowed, DuplicateJob, StoreUnavailable),
    ),
    Operation(
        endpoint="get_jobs",
        method="GET",
        rule="/jobs",
        right="read",
        view=jobs.get_jobs,
        summary="List the jobs",
        description="Those that wait for the start come first, then by time of the next fire, paused ones last.",
        answers={200: Answer("The jobs", {"type": "array", "items": ref("Job")}, [examples.JOB])},
        raises=(StoreUnavailable,),
    ),
    Operation(
        endpoint="get_job",
        method="GET",
        rule="/jobs/<path:job_id>",
        right="read",
        view=jobs.get_job,
        summary="Show a job",
        answers={200: _JOB},
        raises=(JobNotFound, StoreUnavailable),
    ),
    Operation(
        endpoint="update_job",
        method="PATCH",
        rule="/jobs/<path:job_id>",
        right="admin",
        view=jobs.update_job,
        summary="Change a job",
        description="All that is given is changed or, where something is wrong, nothing. An equal trigger leaves the "
        "next fire as it is.",
        body=Body(schema=ref("JobChanges"), examples=examples.CHANGES),
        answers={200: _JOB},
        raises=(JobNotFound, FunctionNotAllowed, StoreUnavailable),
    ),
    Operation(
        endpoint="delete_job",
        method="DELETE",
        rule="/jobs/<path:job_id>",
        right="admin",
        view=jobs.delete_job,
        summary="Remove a job",
        description="A run under way goes on.",
        answers=_DONE,
        raises=(JobNotFound, DeclaredJob, StoreUnavailable),
    ),
    Operation(
        endpoint="pause_job",
        method="POST",
        rule="/jobs/<path:job_id>/pause",
        right="operate",
        view=jobs.pause_job,
        summary="Keep a job from firing until it is resumed",
        answers={200: _JOB},
        raises=(JobNotFound, InvalidDefinition, StoreUnavailable),
    ),
    Operation(
        endpoint="resume_job",
        method="POST",
        rule="/jobs/<path:job_id>/resume",
        right="operate",
        view=jobs.resume_job,
        summary="Take a job's schedule up again",
        description="A job whose schedule is over is removed, and shown once more with the state ended.",
        answers={200: _JOB},
        raises=(JobNotFound, InvalidDefinition, StoreUnavailable),
    ),
    Operation(
        endpoint="run_job",
        method="POST",
        rule="/jobs/<path:job_id>/run",
        right="operate",
        view=jobs.run_job,
        summary="Run a job once beside its schedule",
        description="Also a paused one. Arguments in the body take the place of the job's own for this run, and need "
        "the right admin. With an Idempotency-Key what is sent again within 24 hours runs nothing again.",
        query={
            "wait": number(0, _LONGEST_WAIT, text=True, expected=f"seconds from 0 to {_LONGEST_WAIT}").about(
                "Seconds to wait for the end of the run.", default=30
            )
        },
        headers={"Idempotency-Key": idempotency.KEY.about("Made up by the client, a new one for each new request.")},
        body=Body(
            schema=or_null(record(overrides.FIELDS, optional=overrides.FIELDS)),
            examples=examples.RUNS,
            parse=overrides.Overrides.from_wire,
            required=False,
        ),
        answers={
            200: Answer("The job, after a run that succeeded", ref("Job"), examples.JOB),
            202: Answer("The run is still under way", _STARTED, examples.STARTED),
            500: Answer("The run failed", _FAILED, examples.RUN_FAILED),
        },
        raises=(JobNotFound, OverlapForbidden, IdempotencyKeyReused, Draining, StoreUnavailable),
    ),
    Operation(
        endpoint="backfill_job",
        method="POST",
        rule="/jobs/<path:job_id>/backfill",
        right="operate",
        view=jobs.backfill_job,
        summary="Run past fires of a job",
        description=f"From `start` on and before `end`, each with the time that it was due at; {backfill.MOST_FIRES:,} "
        "at most.",
        body=Body(
            schema=record(backfill.FIELDS, optional=backfill.FIELDS.keys() - {"start"}), examples=examples.BACKFILLS
        ),
        answers={
            200: Answer("The fires that would run, for a dry run", ref("Backfill"), examples.BACKFILL_SHOWN),
            202: Answer("The runs that have begun or wait", ref("Backfill"), examples.BACKFILL),
        },
        raises=(JobNotFound, Draining, StoreUnavailable),
    ),
    Operation(
        endpoint="get_next_fires",
        method="GET",
        rule="/jobs/<path:job_id>/next",
        right="read",
        view=forecast.get_next_fires,
        summary="Show a job's next fires",
        description="Without jitter, but for the first one; and with what clock changes do to them.",
        query={"count": COUNT},
        answers={200: Answer("The fires", ref("NextFires"), examples.NEXT_FIRES)},
        raises=(JobNotFound, StoreUnavailable),
    ),
    Operation(
        endpoint="get_forecast",
        method="GET",
        rule="/forecast",
        right="read",
        view=forecast.get_forecast,
        summary="Show the next fires of all jobs",
        description="In order of time. Those of paused and of broken jobs are left out.",
        query={"hours": HOURS, "limit": LIMIT},
        answers={200: Answer("The fires", ref("Forecast"), examples.FORECAST)},
        raises=(StoreUnavailable,),
    ),
    Operation(
        endpoint="get_runs",
        method="GET",
        rule="/runs",
        right="read",
        view=runs.get_runs,
        summary="List runs",
        description="Newest first.",
        query=QUERY,
        answers={200: Answer("A page of runs", ref("Runs"), examples.PAGE)},
        raises=(StoreUnavailable,),
    ),
    Operation(
        endpoint="get_job_runs",
        method="GET",
        rule="/jobs/<path:job_id>/runs",
        right="read",
        view=runs.get_job_runs,
        summary="List a job's runs",
        description="Newest first. Also of a job that is gone.",
        query=_JOB_RUNS,
        answers={200: Answer("A page of runs", ref("Runs"), examples.PAGE)},
        raises=(JobNotFound, StoreUnavailable),
    ),
    Operation(
        endpoint="get_run",
        method="GET",
        rule="/runs/<run_id>",
        right="read",
        view=runs.get_run,
        summary="Show a run",
        description="With its result, its traceback and what it logged.",
        query={},
        answers={200: Answer("The run", ref("Run"), examples.RUN_DETAIL)},
        raises=(RunNotFound, StoreUnavailable),
    ),
    Operation(
        endpoint="cancel_run",
        method="POST",
        rule="/runs/<run_id>/cancel",
        right="operate",
        view=runs.cancel_run,
        summary="Ask a run to stop",
        description="It takes effect within SCHEDULER_POLL_INTERVAL, in whichever process the run is.",
        query={},
        answers={202: Answer("The run has been asked to stop")},
        raises=(RunNotFound, RunOver, StoreUnavailable),
    ),
)
"""All endpoints of the API."""
