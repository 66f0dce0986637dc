"""The JSON Schemas of jobs: as they are sent, and as they are shown. They are made of the fields that parse them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from .arguments import ARGUMENT
from .fields import Schema, or_null, record, ref
from .jobs import FIELDS, READ_ONLY, JobState
from .policies import PARSERS
from .trigger_fields import SCHEMAS as TRIGGER_SCHEMAS
from .trigger_fields import SHOWN as SHOWN_TRIGGER
from .trigger_fields import trigger_schema
from .triggers import TRIGGER_FIELDS

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_OF_STATE: Mapping[str, Schema] = {
    "trigger_description": _TEXT | {"description": "The trigger in words."},
    "state": {"enum": [*get_args(JobState)]},
    "broken": _TEXT | {"description": "Why no process can run the job; it is there with a broken job alone."},
    "source": {"enum": ["added", "declared"]},
    "modified": {"type": "boolean", "description": "Whether a declared job was changed by hand since."},
    "paused_by": _TEXT_OR_NULL | {"description": "Who paused the job."},
    "version": {"type": "integer", "description": "Moves with each change to the job, not with its fires."},
}
assert {*_OF_STATE} == {*READ_ONLY}


_WITHOUT = {True: "Once, now.", False: "The trigger stays as it is."}
_DATE: Schema = trigger_schema("date")["properties"]


def _without_default(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "default"}


def _body(own: Mapping[str, Schema], required: tuple[str, ...], *, adds: bool) -> Schema:
    """Return the schema of a job's body, in one form for each kind of trigger."""
    none = {"trigger": {"type": "null"}, **own}
    by_date = {**none, "run_date": _DATE["run_date"], "timezone": _DATE["timezone"]}
    older = {"trigger": ref("OlderTrigger"), **own}
    unneeded = own.keys() - {*required} | {"timezone"}
    forms = [
        *(trigger_schema(kind, own, required=required) | {"title": kind} for kind in TRIGGER_FIELDS),
        record(older, optional=unneeded, title="older form", description="The trigger as an object of its own."),
        record(none, optional=unneeded | {"trigger"}, title="without a trigger", description=_WITHOUT[adds]),
    ]
    if adds:
        forms.append(record(by_date, optional=unneeded | {"trigger"}, title="run_date alone", description="Once."))
    return {"oneOf": forms}


_SENT = {key: each.schema for key, each in FIELDS.items()}
_IGNORED: Schema = {"description": "As it is shown; it is left aside."}
_UNCHANGED = "It cannot be changed: what is sent has to be as it is shown."

_NEW_ID: Schema = _SENT["id"] | {"pattern": "^[^/]"}
NEW_JOB = _body({**_SENT, "id": _NEW_ID, **dict.fromkeys(READ_ONLY, _IGNORED)}, ("id", "func"), adds=True)
"""The body that adds a job."""
JOB_CHANGES = _body(
    {
        **{key: _without_default(schema) for key, schema in _SENT.items() if key != "replace_existing"},
        "id": _SENT["id"] | {"description": _UNCHANGED},
        "jobstore": _SENT["jobstore"] | {"description": _UNCHANGED},
        **{key: schema | {"description": _UNCHANGED} for key, schema in _OF_STATE.items()},
    },
    (),
    adds=False,
)
"""The body that changes a job: of what is left out nothing changes, and what is sent back as shown changes nothing."""

_MAYBE = {*SHOWN_TRIGGER, *PARSERS, "misfire_grace_time", "max_instances", "next_run_time", "coalesce"}
JOB = record(
    {
        "id": _TEXT,
        "name": _TEXT,
        "func": _TEXT_OR_NULL | {"description": "The function, as module:name; null where it has no such name."},
        "args": {"type": "array", "description": 'As Argument, or {"$repr": ...} for an object that JSON cannot hold.'},
        "kwargs": {"type": "object", "description": "By name, as in args."},
        "trigger": _TEXT | {"description": f"{', '.join(TRIGGER_FIELDS)}; or a description of one of your own."},
        **SHOWN_TRIGGER,
        "misfire_grace_time": or_null({"type": "integer"}),
        "max_instances": {"type": "integer"},
        "next_run_time": or_null(ref("Moment")),
        "coalesce": {"type": "boolean"},
        **{key: _without_default(each.schema) for key, each in PARSERS.items()},
        "executor": _TEXT,
        "jobstore": _TEXT,
        **_OF_STATE,
    },
    optional=_MAYBE | {"broken", "source", "modified", "paused_by", "version"},
    description="A job. Of the triggers' fields those of its kind are there; source, modified, paused_by and version "
    "are there where processes share the job store.",
)

SCHEMAS: Mapping[str, Schema] = {
    "Job": JOB,
    "NewJob": NEW_JOB,
    "JobChanges": JOB_CHANGES,
    "Argument": ARGUMENT,
    **TRIGGER_SCHEMAS,
}
"""By the name that they have among the document's components."""
