"""The API's own description, an OpenAPI 3.1 document that is made of what its requests are parsed by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from quart import request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from .. import errors
from ..auth import HTTPBasicAuth, HTTPBearerAuth
from ..model.backfill import BACKFILL
from ..model.explanation import EXPLANATION
from ..model.fields import Field, Schema, record, zone_names
from ..model.job_schema import SCHEMAS
from . import events, explain, forecast, health, jobs, runs, scheduler
from .operations import Answer, Operation
from .security import challenge_of

if TYPE_CHECKING:
    from ..extension import APScheduler

_made: WeakKeyDictionary[APScheduler, tuple[Any, str]] = WeakKeyDictionary()
"""The text of each document, after what it depends on."""


async def document(front: APScheduler, operations: Iterable[Operation]) -> str:
    """Return the document as JSON text; it is made once for each place at which the app is mounted."""
    operations = tuple(operations)
    root = request.root_path.rstrip("/")
    about = (
        [operation.endpoint for operation in operations],
        root,
        front.api_prefix,
        front.auth,
        front.settings.pretty_json,
    )

    def make() -> str:
        made = describe(operations, prefix=front.api_prefix, root=root, auth=front.auth)
        return json.dumps(made, indent=2 if front.settings.pretty_json else None)

    made = _made.get(front)
    if made is None or made[0] != about:
        # In a thread: it reads the files of the time zones.
        made = _made[front] = (about, await asyncio.to_thread(make))
    return made[1]


def describe(operations: Iterable[Operation], *, prefix: str, root: str = "", auth: Any = None) -> dict[str, Any]:
    """Return the document. `prefix` is the API's place in the app, and `root` where the app itself is mounted."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = paths.setdefault(prefix + operation.path or "/", {})
        path[operation.method.lower()] = _operation(operation, auth is not None)
    components: dict[str, Any] = {"schemas": {**SCHEMAS, "TimeZoneName": zone_names(), **_ANSWERED}}
    security: dict[str, Any] = {}
    if auth is not None:
        components["securitySchemes"] = {"login": _scheme(auth)}
        security["security"] = [{"login": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "quart_sched",
            "version": version("quart-sched"),
            "description": "Shows and steers the scheduled jobs of a Quart application.",
        },
        "servers": [{"url": root or "/"}],
        **security,
        "paths": paths,
        "components": components,
    }


_ANSWERED: Mapping[str, Schema] = {
    "Scheduler": scheduler.INFO,
    "Backfill": BACKFILL,
    "NextFires": forecast.NEXT_FIRES,
    "Forecast": forecast.FORECAST,
    "JobPage": jobs.PAGE,
    "Explanation": EXPLANATION,
    "Changes": explain.CHANGES,
    "Event": events.EVENT,
    "Health": health.HEALTH,
    "Runs": runs.PAGE,
    "Run": runs.RUN_DETAIL,
    "Error": record({"error_message": {"type": "string"}}),
}


def _operation(operation: Operation, authenticated: bool) -> dict[str, Any]:
    secured = authenticated and operation.right is not None
    described: dict[str, Any] = {"operationId": operation.endpoint, "summary": operation.summary}
    right = f"Needs the right {operation.right}." if secured else ""
    if text := " ".join(filter(None, (operation.description, right))):
        described["description"] = text
    if authenticated and not secured:
        described["security"] = [{}, {"login": []}]  # It tells more to those who may read.
    described["tags"] = [operation.rule.split("/")[1] if operation.rule.count("/") > 1 else "scheduler"]
    places = (("path", operation.path_parameters), ("query", operation.query), ("header", operation.headers))
    parameters = [
        _parameter(name, where, field, needed=where == "path" or name in operation.needed)
        for where, some in places
        for name, field in (some or {}).items()
    ]
    if parameters:
        described["parameters"] = parameters
    if body := operation.body:
        examples = {name: {"value": value} for name, value in body.examples.items()}
        described["requestBody"] = {
            "required": body.required,
            "content": {"application/json": {"schema": body.schema, "examples": examples}},
        }
    answers = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    described["responses"] = dict(sorted((_errors(operation, secured) | answers).items()))
    return described


def _parameter(name: str, where: str, field: Field, *, needed: bool) -> dict[str, Any]:
    schema = {key: value for key, value in field.schema.items() if key != "description"}
    described = {"description": field.schema["description"]} if "description" in field.schema else {}
    return {"name": name, "in": where, "required": needed, **described, "schema": schema}


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        described["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in answer.headers.items()
        }
    if answer.schema is not None:
        example = {} if answer.example is None else {"example": answer.example}
        described["content"] = {kind: {"schema": answer.schema, **example} for kind in answer.media_types}
    return described


# Errors

_SAMPLES: tuple[errors.SchedulerError, ...] = (
    errors.InvalidDefinition("seconds", "is 'three'; expected a number of at least 0"),
    errors.BadRequest("The body is a JSON list; expected an object"),
    errors.AuthenticationRequired("Access Denied"),
    errors.Forbidden("This needs the right 'admin', which the credentials do not carry"),
    errors.AlreadyRunning(),
    errors.NotRunning(),
    errors.JobNotFound("tick"),
    errors.DuplicateJob("tick"),
    errors.DeclaredJob("tick"),
    errors.NotStored("tick"),
    errors.JobChangedMeanwhile("tick"),
    errors.FunctionNotAllowed("'os:system' may not be scheduled over REST"),
    errors.OverlapForbidden("tick", ["019cb17b-7a00-7a3c-9c1e-5b1d2f0a4e11"]),
    errors.IdempotencyKeyReused(),
    errors.RunNotFound("019cb17b-7a00-7a3c-9c1e-5b1d2f0a4e11"),
    errors.RunOver("019cb17b-7a00-7a3c-9c1e-5b1d2f0a4e11", "succeeded"),
    errors.StoreUnavailable("default", ConnectionRefusedError("connection refused")),
    errors.Draining("The process is shutting down and takes no new runs"),
)
_MESSAGES = {type(sample): str(sample) for sample in _SAMPLES}
_OF_BODIES: tuple[type[HTTPException], ...] = (RequestTimeout, RequestEntityTooLarge)


def _errors(operation: Operation, secured: bool) -> dict[str, dict[str, Any]]:
    """Return what the operation may be answered with besides its own answers, by status."""
    kinds: list[type[errors.SchedulerError]] = [*operation.errors]
    if secured:
        kinds.append(errors.AuthenticationRequired)
    if secured or operation.method != "GET":
        kinds.append(errors.Forbidden)
    found: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        _note(found, kind.status, kind.__name__, (kind.__doc__ or "").partition("\n")[0], _MESSAGES[kind])
    for http in _OF_BODIES if operation.body else ():
        _note(found, http.code or 500, http.__name__, http().description or "", http().description or "")
    if secured:
        challenge = {"description": "How to log in", "schema": {"type": "string"}}
        found["401"]["headers"] = {"WWW-Authenticate": challenge}
    return found


def _note(found: dict[str, dict[str, Any]], status: int, name: str, meaning: str, message: str) -> None:
    new = {"description": "", "content": {"application/json": {"schema": _ERROR, "examples": {}}}}
    answer = found.setdefault(str(status), new)
    answer["description"] = " ".join(filter(None, (answer["description"], meaning)))
    answer["content"]["application/json"]["examples"][name] = {"value": {"error_message": message}}


_ERROR: Schema = {"$ref": "#/components/schemas/Error"}


def _scheme(auth: Any) -> dict[str, Any]:
    if isinstance(auth, HTTPBasicAuth | HTTPBearerAuth):
        return {"type": "http", "scheme": "basic" if isinstance(auth, HTTPBasicAuth) else "bearer"}
    # One of the app's own: its challenge names the scheme, and where it has none nobody knows more than this.
    name = challenge_of(auth).partition(" ")[0]
    if name:
        return {"type": "http", "scheme": name.lower()}
    return {"type": "apiKey", "in": "header", "name": "Authorization", "description": "As the application defines it."}
