"""The rows of the endpoints that show what is to happen, what happened, and how the process is."""

from __future__ import annotations

from ..errors import JobNotFound, RunNotFound, RunOver, StoreUnavailable
from ..model import changes
from ..model.explanation import AT
from ..model.fields import ref
from ..model.forecast import COUNT, HOURS, LIMIT
from ..model.runs import QUERY
from . import events, examples, explain, forecast, health, runs
from .operations import Answer, Operation

_JOB_RUNS = {key: field for key, field in QUERY.items() if key != "job_id"}
_EXPOSED = ("text/plain", "application/openmetrics-text")

WATCH: tuple[Operation, ...] = (
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
        endpoint="explain_fire",
        method="GET",
        rule="/jobs/<path:job_id>/explain",
        right="read",
        view=explain.explain_fire,
        summary="Say what happened to a fire of a job, and why",
        description="Or what is to happen to it. Also of a job that is gone. A moment of whole seconds stands for the "
        "fire within that second. Keys that do not apply are null.",
        query={"at": AT},
        needed=("at",),
        answers={200: Answer("What happened", ref("Explanation"), examples.EXPLANATION)},
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
    Operation(
        endpoint="get_audit",
        method="GET",
        rule="/audit",
        right="read",
        view=explain.get_audit,
        summary="List who changed what",
        description="Newest first: changes of jobs, and of the scheduler as a whole.",
        query=changes.QUERY,
        answers={200: Answer("A page of changes", ref("Changes"), examples.CHANGES_MADE)},
        raises=(StoreUnavailable,),
    ),
    Operation(
        endpoint="get_events",
        method="GET",
        rule="/events",
        right="read",
        view=events.get_events,
        summary="Follow what happens",
        description=f"As server-sent events, with JSON for data; the schema is that of one event. A stream ends "
        f"itself after {events.LIFETIME:g} seconds, and goes on where the client comes back with Last-Event-ID, as "
        "browsers do.",
        query=events.QUERY,
        headers=events.HEADERS,
        answers={
            200: Answer("Events as they happen", ref("Event"), examples.EVENT, media_types=("text/event-stream",)),
        },
    ),
)
"""Fires to come, runs, and changes."""

HEALTH: tuple[Operation, ...] = (
    Operation(
        endpoint="get_health_live",
        method="GET",
        rule="/health/live",
        right=None,
        view=health.get_live,
        summary="Tell whether the process is alive",
        description="503 where only a restart helps.",
        answers={
            200: Answer("It is alive", ref("Health"), examples.HEALTHY),
            503: Answer("It hangs", ref("Health"), examples.STUCK),
        },
    ),
    Operation(
        endpoint="get_health_ready",
        method="GET",
        rule="/health/ready",
        right=None,
        view=health.get_ready,
        summary="Tell whether the scheduler does its work here",
        description="Also where something does not work as it should: then the status is degraded.",
        answers={
            200: Answer("It does", ref("Health"), examples.DEGRADED),
            503: Answer("It does not", ref("Health"), examples.NOT_RUNNING),
        },
    ),
)
"""What is there with SCHEDULER_HEALTH_ENABLED, also where the API is off."""

METRICS: tuple[Operation, ...] = (
    Operation(
        endpoint="get_metrics",
        method="GET",
        rule="/metrics",
        right="read",
        view=health.get_metrics,
        summary="Show the metrics",
        description="In Prometheus' text format, or as OpenMetrics where the client accepts that.",
        answers={200: Answer("The metrics", {"type": "string"}, examples.METRICS, media_types=_EXPOSED)},
    ),
)
"""What is there with SCHEDULER_METRICS_ENABLED, also where the API is off."""
