"""The rows of the endpoints that show, change and run jobs."""

from __future__ import annotations

from ..errors import (
    DeclaredJob,
    Draining,
    DuplicateJob,
    FunctionNotAllowed,
    IdempotencyKeyReused,
    InvalidDefinition,
    JobChangedMeanwhile,
    JobNotFound,
    NotStored,
    OverlapForbidden,
    StoreUnavailable,
)
from ..model import backfill, idempotency, overrides
from ..model.fields import Schema, listing, number, or_null, record, ref
from . import examples, jobs
from .operations import DONE, Answer, Body, Operation

_LONGEST_WAIT = 300
_TAG = {"ETag": "What the job is as it is shown, but for its next fire; for If-Match."}
_REPLAYED = {"Idempotent-Replayed": "true, where the run is that of an earlier request with the same key."}

_JOB = Answer("The job", ref("Job"), examples.JOB, headers=_TAG)
_STARTED: Schema = record({"run_id": {"type": "string"}, "job_id": {"type": "string"}})
_FAILED: Schema = record({"error_message": {"type": "string"}, "run_id": {"type": "string"}})

JOBS: tuple[Operation, ...] = (
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
        description="All of them: those that wait for the start come first, then by time of the next fire, paused ones "
        "last. With `limit` or `cursor` a page of them, by id.",
        query=jobs.QUERY,
        lenient=True,
        answers={
            200: Answer("The jobs", {"anyOf": [listing(ref("Job")), ref("JobPage")]}, [examples.JOB]),
        },
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
        headers={"If-Match": jobs.IF_MATCH},
        body=Body(schema=ref("JobChanges"), examples=examples.CHANGES),
        answers={200: _JOB},
        raises=(JobNotFound, JobChangedMeanwhile, FunctionNotAllowed, StoreUnavailable),
    ),
    Operation(
        endpoint="delete_job",
        method="DELETE",
        rule="/jobs/<path:job_id>",
        right="admin",
        view=jobs.delete_job,
        summary="Remove a job",
        description="A run under way goes on.",
        headers={"If-Match": jobs.IF_MATCH},
        answers=DONE,
        raises=(JobNotFound, JobChangedMeanwhile, DeclaredJob, StoreUnavailable),
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
        "the right admin. With an Idempotency-Key what is sent again within 24 hours runs nothing again, and the "
        "answer, which then has the header Idempotent-Replayed, is that of the first run.",
        query={
            "wait": number(0, _LONGEST_WAIT, text=True, expected=f"seconds from 0 to {_LONGEST_WAIT}").about(
                "Seconds to wait for the end of the run.", default=30
            )
        },
        lenient=True,
        headers={"Idempotency-Key": idempotency.KEY.about("Made up by the client, a new one for each new request.")},
        body=Body(
            schema=or_null(record(overrides.FIELDS, optional=overrides.FIELDS)),
            examples=examples.RUNS,
            parse=overrides.Overrides.from_wire,
            required=False,
        ),
        answers={
            200: Answer("The job, after a run that succeeded", ref("Job"), examples.JOB, headers=_REPLAYED),
            202: Answer(
                "The run is still under way, or what became of it is not on record any more",
                _STARTED,
                examples.STARTED,
                headers=_REPLAYED,
            ),
            500: Answer("The run failed", _FAILED, examples.RUN_FAILED, headers=_REPLAYED),
        },
        raises=(JobNotFound, NotStored, OverlapForbidden, IdempotencyKeyReused, Draining, StoreUnavailable),
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
        raises=(JobNotFound, NotStored, Draining, StoreUnavailable),
    ),
)
"""Jobs."""
