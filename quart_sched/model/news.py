"""News: what those are told who watch a scheduler from outside, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args

from apscheduler import events as aps

from .events import JobChanged, SchedulerChanged, Switch
from .fields import Schema, record
from .runs import RUN

Kind = Literal["run", "job", "scheduler", "log", "reset"]
_KINDS = get_args(Kind)

_JOB_ACTIONS = {
    aps.EVENT_JOB_ADDED: "added",
    aps.EVENT_JOB_MODIFIED: "modified",
    aps.EVENT_JOB_REMOVED: "removed",
}
_SCHEDULER_ACTIONS = {
    aps.EVENT_SCHEDULER_STARTED: "started",
    aps.EVENT_SCHEDULER_PAUSED: "paused",
    aps.EVENT_SCHEDULER_RESUMED: "resumed",
    aps.EVENT_SCHEDULER_SHUTDOWN: "shutdown",
}


class News(NamedTuple):
    """One thing that happened. `reset` stands for any number of things that are not told one by one."""

    kind: Kind
    data: dict[str, Any]


RESET = News("reset", {})


def of_job(event: JobChanged) -> News:
    """Return the news of a change of a job."""
    return News("job", {"action": event.switched or _JOB_ACTIONS[event.code], "job_id": event.job_id})


def of_scheduler(event: SchedulerChanged, worker: str) -> News | None:
    """Return the news of a change of the scheduler in `worker` (host:pid); None where it concerns nobody else."""
    if event.code == aps.EVENT_ALL_JOBS_REMOVED:
        return RESET
    action = _SCHEDULER_ACTIONS.get(event.code)
    return None if action is None else News("scheduler", {"action": action, "worker": worker})


def of_log(run_id: str, job_id: str, start: int, lines: list[str]) -> News:
    """Return the news that a run has logged `lines`, before which there were `start` others."""
    return News("log", {"run_id": run_id, "job_id": job_id, "line": start, "lines": lines})


_TEXT: Schema = {"type": "string"}
SHAPES: Mapping[Kind, Schema] = {
    "run": record(RUN, description="A run as it is listed: it waits, has begun, or is over."),
    "job": record(
        {"action": {"enum": [*_JOB_ACTIONS.values(), *get_args(Switch)]}, "job_id": _TEXT},
        description="A job was changed.",
    ),
    "scheduler": record(
        {"action": {"enum": [*_SCHEDULER_ACTIONS.values()]}, "worker": _TEXT},
        description="The scheduler of a process was changed.",
    ),
    "log": record(
        {
            "run_id": _TEXT,
            "job_id": _TEXT,
            "line": {"type": "integer", "description": "How many lines there were before."},
            "text": _TEXT | {"description": "The lines, with a line break between each two."},
        },
        description="What the run that was asked for has logged.",
    ),
    "reset": record({}, description="What is shown is to be read anew."),
}
"""By kind, the JSON Schema of the data."""


def encode(news: Iterable[News]) -> str:
    """Return the JSON that `decode` reads."""
    return json.dumps([[item.kind, item.data] for item in news], separators=(",", ":"))


def decode(text: str) -> tuple[News, ...]:
    """Return what `encode` wrote; of what a later version may have written, that which this one knows."""
    return tuple(News(kind, data) for kind, data in json.loads(text) if kind in _KINDS)
