"""Examples of what goes over the wire, for the API's description. The tests send them."""

from __future__ import annotations

from typing import Any

_RUN_ID = "019cb17b-7a00-7a3c-9c1e-5b1d2f0a4e11"

NEW_JOBS: dict[str, Any] = {
    "interval": {"id": "tick", "func": "app:tick", "trigger": "interval", "seconds": 3},
    "cron": {
        "id": "report",
        "func": "app:report",
        "args": ["weekly"],
        "trigger": "cron",
        "day_of_week": "mon-fri",
        "hour": 8,
        "timezone": "Europe/Berlin",
        "timeout": 60,
        "retry": {"attempts": 3, "delay": 10},
    },
    "crontab": {"id": "clean", "func": "app:tick", "trigger": "crontab", "expression": "*/5 9-17 * * mon-fri"},
    "date": {"id": "once", "func": "app:tick", "trigger": "date", "run_date": "2099-12-31T23:59:00+01:00"},
    "calendarinterval": {"id": "monthly", "func": "app:tick", "trigger": "calendarinterval", "months": 1, "hour": 6},
    "and": {
        "id": "both",
        "func": "app:tick",
        "trigger": "and",
        "triggers": [
            {"trigger": "cron", "hour": 8},
            {"trigger": "crontab", "expression": "0 * * * mon"},
        ],
    },
    "older form": {"id": "older", "func": "app:tick", "trigger": {"type": "interval", "minutes": 5}},
    "now": {"id": "now", "func": "app:tick"},
}
CHANGES: dict[str, Any] = {
    "another trigger": {"trigger": "crontab", "expression": "0 6 * * *"},
    "arguments and options": {"kwargs": {"since": {"$date": "2026-03-02"}}, "max_instances": 2, "tags": ["finance"]},
    "paused": {"next_run_time": None},
}
JOB: dict[str, Any] = {
    "id": "tick",
    "name": "tick",
    "func": "app:tick",
    "args": [],
    "kwargs": {},
    "trigger": "interval",
    "start_date": "2026-03-02T12:00:03+01:00",
    "seconds": 3,
    "timezone": "Europe/Berlin",
    "misfire_grace_time": 1,
    "max_instances": 1,
    "next_run_time": "2026-03-02T12:00:03+01:00",
    "coalesce": True,
    "run_on_start": False,
    "overlap": "skip",
    "max_queue": 1,
    "on_crash": "lost",
    "timeout": None,
    "retry": None,
    "overdue_after": None,
    "description": None,
    "tags": [],
    "executor": "default",
    "jobstore": "default",
    "trigger_description": "every 3 seconds",
    "state": "scheduled",
}
INFO: dict[str, Any] = {
    "current_host": "web1",
    "allowed_hosts": ["*"],
    "running": True,
    "state": "running",
    "scope": "process",
    "worker": "web1:4711",
    "timezone": "Europe/Berlin",
    "running_jobs": {_RUN_ID: "tick"},
    "jobstores": {"default": {"available": True, "error": None}},
    "degraded": [],
    "workers": [],
}
RUN: dict[str, Any] = {
    "run_id": _RUN_ID,
    "fire_id": _RUN_ID,
    "job_id": "tick",
    "scheduled_at": "2026-03-02T12:00:03+01:00",
    "started_at": "2026-03-02T11:00:03.001200+00:00",
    "finished_at": "2026-03-02T11:00:03.251200+00:00",
    "duration": 0.25,
    "outcome": "succeeded",
    "final": True,
    "attempt": 1,
    "cause": "schedule",
    "worker": "web1:4711",
    "error": None,
    "first_scheduled_at": None,
    "fires": 1,
}
RUN_DETAIL: dict[str, Any] = {
    **RUN,
    "result": "'done'",
    "traceback": None,
    "log": None,
    "overrides": None,
    "attempts": [_RUN_ID],
}
PAGE: dict[str, Any] = {"items": [RUN], "next": None}
STARTED: dict[str, Any] = {"run_id": _RUN_ID, "job_id": "tick"}
RUN_FAILED: dict[str, Any] = {"error_message": "Job tick failed: no connection", "run_id": _RUN_ID}
RUNS: dict[str, Any] = {
    "as it is": {},
    "other arguments": {"kwargs": {"since": {"$datetime": "2026-03-01T00:00:00+00:00"}}},
}
BACKFILLS: dict[str, Any] = {
    "look first": {"start": "2026-03-01T00:00:00+01:00", "end": "2026-03-01T00:00:06+01:00", "dry_run": True},
    "run": {"start": "2026-03-01T00:00:00+01:00", "end": "2026-03-01T00:00:06+01:00", "concurrency": 2},
}
_FIRES = ["2026-03-01T00:00:00+01:00", "2026-03-01T00:00:03+01:00"]
BACKFILL_SHOWN: dict[str, Any] = {
    "job_id": "tick",
    "dry_run": True,
    "left_out": 0,
    "items": [{"scheduled_at": fire, "run_id": None} for fire in _FIRES],
}
BACKFILL: dict[str, Any] = {
    "job_id": "tick",
    "dry_run": False,
    "left_out": 1,
    "items": [{"scheduled_at": _FIRES[1], "run_id": _RUN_ID}],
}
_FIRE: dict[str, Any] = {
    "at": "2026-03-29T03:30:00+02:00",
    "clock_change": {
        "direction": "forward",
        "at": "2026-03-29T03:00:00+02:00",
        "wall": "2026-03-29T02:30:00",
        "effect": "moved",
        "description": "The clocks go forward on 2026-03-29 from 02:00 to 03:00 (Europe/Berlin): 02:30 is skipped, and "
        "the job fires at 03:30 instead.",
    },
}
NEXT_FIRES: dict[str, Any] = {
    "job_id": "report",
    "state": "scheduled",
    "paused": False,
    "reason": None,
    "items": [{"at": "2026-03-28T02:30:00+01:00", "clock_change": None}, _FIRE],
}
FORECAST: dict[str, Any] = {
    "until": "2026-03-29T11:00:00+00:00",
    "truncated": False,
    "paused": False,
    "items": [{"job_id": "report", **_FIRE}],
}
EXPLANATION: dict[str, Any] = {
    "job_id": "tick",
    "at": "2026-03-02T12:00:03+01:00",
    "verdict": "ran",
    "description": "It ran and succeeded.",
    "outcome": "succeeded",
    "run_ids": [_RUN_ID],
    "late": 0.0012,
    "from": None,
    "to": None,
    "fires": None,
    "blocked_by": None,
    "into": None,
    "cause": None,
    "pause": None,
    "down": None,
    "clock_change": None,
    "previous": None,
    "next": None,
}
CHANGES_MADE: dict[str, Any] = {
    "items": [
        {
            "at": "2026-03-02T11:00:00+00:00",
            "actor": "alice",
            "action": "modify",
            "job_id": "tick",
            "version": 2,
            "detail": "trigger, seconds",
        }
    ],
    "next": None,
}
EVENT: dict[str, Any] = {
    "event": "job",
    "id": f"{_RUN_ID}.1772449203001200.41..._",
    "data": '{"action": "paused", "job_id": "tick"}',
}
HEALTHY: dict[str, Any] = {"status": "ok"}
STUCK: dict[str, Any] = {
    "status": "failing",
    "reasons": ['The pump of job store "default" has been at one step for 75 s'],
    "worker": "web1:4711",
}
DEGRADED: dict[str, Any] = {
    "status": "degraded",
    "reasons": ['Job store "default" is not available: connection refused'],
    "worker": "web1:4711",
}
NOT_RUNNING: dict[str, Any] = {
    "status": "failing",
    "reasons": ["The scheduler is not running"],
    "worker": "web1:4711",
}
METRICS = """# HELP quart_sched_runs_total Runs, and fires without one, by outcome
# TYPE quart_sched_runs_total counter
quart_sched_runs_total{job="tick",outcome="succeeded"} 42.0
"""
