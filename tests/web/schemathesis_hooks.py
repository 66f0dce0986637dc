"""What a run of Schemathesis has to know of this API, loaded by its command line: see test_schemathesis.py."""

from __future__ import annotations

import json
import os
import re
from itertools import count
from typing import Any

import requests
import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from quart_sched.web.endpoints import OPERATIONS

_KNOWN = {
    "func": ("[^:]+:[^:]+", "app:tick"),
    "executor": (r"[\s\S]+", "default"),
    "jobstore": (r"[\s\S]+", "default"),
}
_numbers = count()
_REASONS = [
    re.compile(reason)
    for reason in (
        # What there is, and how it stands
        r"may not be scheduled over REST",  # functions
        r"^(executor|jobstore): is .*; expected one of",
        r"^cursor: is .*; expected the `next` of a page of (runs|jobs|changes)",
        r"^Job .* has been changed meanwhile",
        r"^The Idempotency-Key was used for another request",
        r"^id: is .*, but the job is",
        r"^[a-z_]+: is .*; it is read-only, and ",
        # Sums and comparisons
        r"makes an interval of .*; expected one between",
        r"end_date: is .*, before start_date",
        r"no cron expression: (Error validating|The minimum value in a range must not be higher)",
        r"^start: is .*; expected a time before the end",
        r"^end: is .*; expected a time that is not in the future",
        r"^end: leaves more than 1,000 fires",
        r"^at: is .*; expected a time within 50 years from now",
        # What the calendar lacks, or has after the year 9999
        r"never fires: there is no day-of-month",
        r"^trigger: (gives no next fire|has no fire left)",
        r"is .*, out of range in ",
        # How deep a recursive schema may go
        r"is nested more than",
        # The order of a range within an expression
        r"expression: has .* as its (second|minute|hour|day-of-month|month|day-of-week)",
    )
]
"""Messages of 400, 412 and 422 for what JSON Schema cannot say."""


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Let most jobs have a function, an executor and a store that exist, and those that are added a new id.

    Schemathesis learns the ids of the jobs that are there, and sends them again.
    """
    if isinstance(body, dict) and context.operation.path.startswith("/scheduler/jobs"):
        for key, (form, known) in _KNOWN.items():
            if isinstance(body.get(key), str) and re.fullmatch(form, body[key]):
                body[key] = known
        if context.operation.path == "/scheduler/jobs" and body.get("id") == "running":
            body["id"] = f"new-{next(_numbers)}"
    return body


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Let most runs be one that is under way."""
    run_id = (path_parameters or {}).get("run_id")
    if isinstance(run_id, str) and re.fullmatch("[^/]+", run_id) and len(run_id) > 1:
        answer = requests.get(f"{os.environ['API_URL']}/scheduler", auth=("user", "secret"), timeout=30).json()
        path_parameters["run_id"] = next(iter(answer["running_jobs"]))
    return path_parameters


@schemathesis.check
def schema_valid_is_accepted(ctx: Any, response: Any, case: Any) -> bool | None:
    """Schemathesis' positive_data_acceptance, but for what JSON Schema cannot say."""
    if response.status_code in (400, 412, 422):
        message = json.loads(response.content)["error_message"]
        if any(reason.search(message) for reason in _REASONS):
            return None
    return positive_data_acceptance(ctx, response, case)


@schemathesis.check
def a_500_is_a_job_that_failed(ctx: Any, response: Any, case: Any) -> bool | None:
    """In the place of not_a_server_error for `run`, which answers so as Flask-APScheduler does."""
    if response.status_code >= 500:
        assert response.status_code == 500, response.status_code
        answer = json.loads(response.content)
        assert re.match("Job .* (failed|timed_out|cancelled)", answer["error_message"], re.DOTALL), answer
        assert answer["run_id"], answer
    return None


_LENIENT = {operation.endpoint: operation for operation in OPERATIONS if operation.lenient}


@schemathesis.check
def what_is_wrong_is_refused(ctx: Any, response: Any, case: Any) -> bool | None:
    """In the place of negative_data_rejection where a query that has none of the parameters is left aside.

    Schemathesis tolerates that by itself, but not where it has left out the credentials too, which it then adds.
    """
    operation = _LENIENT.get(case.operation.definition.raw["operationId"])
    if operation is None:
        return None
    given = {*(case.query or {})} & {*(operation.query or {})} | {*(case.headers or {})} & {*(operation.headers or {})}
    if not given and not {"body", "path"} & _made_wrong(case):
        return None
    return negative_data_rejection(ctx, response, case)


def _made_wrong(case: Any) -> set[str]:
    """The parts of the request that Schemathesis has made other than they are described."""
    if case.meta is None:
        return set()
    if mutations := getattr(case.meta.phase.data, "mutations", None):
        return {mutation.parameter_location.value for mutation in mutations}
    return {location.value for location, component in case.meta.components.items() if component.mode.is_negative}
