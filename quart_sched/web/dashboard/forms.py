"""Forms: what a job's form holds, read field by field, so that each mistake can be shown beside its field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from apscheduler.job import Job

from ...errors import InvalidDefinition
from ...model.jobs import JobChanges, ScheduledJob
from ...model.policies import DEFAULT, PARSERS, RETRY, policy_of
from ...model.trigger_parser import parse_trigger
from ...model.triggers import SPAN, TRIGGER_FIELDS, TriggerSpec, spec_of

KINDS = ("interval", "cron", "crontab", "calendarinterval", "date")
"""Triggers that have fields of their own in the form. Any other is written as JSON, or kept as it is."""
LAYOUT: Mapping[str, tuple[str, ...]] = {
    kind: tuple(sorted(TRIGGER_FIELDS[kind], key=lambda name: (name in ("timezone", "jitter"), name in SPAN)))
    for kind in KINDS
}
"""The fields of each kind, in the order in which a person thinks of them."""
_WORDS = ("expression", "start_date", "end_date", "run_date", "timezone")
"""Fields whose text is their value, as is all of cron's but the jitter; in others a number is looked for."""

OPTIONS = ("max_instances", "misfire_grace_time", "coalesce", "timeout", "overlap", "max_queue", "on_crash",
           "overdue_after", "run_on_start")  # fmt: skip
_TEXTS = ("overlap", "on_crash")
_FLAGS = ("coalesce", "run_on_start")
_DESCRIPTIVE = ("name", "description", "tags")

Given = Callable[[str], str]
"""Returns what stands in a field of the form, "" where it is not there."""


def read_trigger(given: Given) -> tuple[TriggerSpec | None, dict[str, str]]:
    """Return the trigger that a form describes, and by field what is wrong; None where it is to stay as it is."""
    kind = given("kind")
    if kind == "keep":
        return None, {}
    try:
        if kind == "json":
            return parse_trigger(_object(given("t.json"))), {}
        if kind not in KINDS:
            raise InvalidDefinition("kind", "is missing; expected a kind of trigger")
        texts = {name: given(f"t.{kind}.{name}").strip() for name in LAYOUT[kind]}
        values = {name: text if _is_text(kind, name) else _number(text) for name, text in texts.items() if text}
        return parse_trigger({"trigger": kind, **values}), {}
    except InvalidDefinition as error:
        return None, {_trigger_field(kind, error.field): error.problem}


def _is_text(kind: str, name: str) -> bool:
    return name in _WORDS or (kind == "cron" and name != "jitter")


def _trigger_field(kind: str, field: str) -> str:
    if kind == "json" or field == "kind":
        return "t.json" if kind == "json" else "kind"
    return f"t.{kind}.{field}" if field in LAYOUT[kind] else "kind"


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDefinition("t.json", f"is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidDefinition("t.json", 'is no JSON object; expected {"trigger": …} with the trigger\'s fields')
    return value


def _number(text: str) -> Any:
    if re.fullmatch(r"-?[0-9]{1,15}", text):
        return int(text)
    # As many digits as it takes to write any float that the forms show.
    return float(text) if re.fullmatch(r"-?(?=[.0-9])[0-9]{0,15}([.][0-9]{1,20})?(e-[0-9]{1,3})?", text) else text


def show_trigger(trigger: Any) -> dict[str, str]:
    """Return what the fields hold for a trigger."""
    spec = spec_of(trigger).to_dict()
    kind = spec["trigger"]
    if kind in KINDS:
        return {"kind": kind} | {
            f"t.{kind}.{name}": str(spec[name]).replace("T", " ", 1 if name.endswith("_date") else 0)
            for name in LAYOUT[kind]
            if spec.get(name) is not None
        }
    if kind in TRIGGER_FIELDS:
        return {"kind": "json", "t.json": json.dumps(spec, indent=2, ensure_ascii=False)}
    return {"kind": "keep"}


def read_options(
    given: Given, *, policies: bool, shown: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options that a form holds, parsed, and by field what is wrong; without `policies`, APScheduler's own.

    An empty field stands for the default, but for `misfire_grace_time` it means no limit. What comes back as it was
    `shown` is left out: nobody has touched it.
    """
    values: dict[str, Any] = {"name": given("name").strip() or None}
    for key in OPTIONS:
        text = given(f"o.{key}").strip()
        if key in _FLAGS:
            values[key] = text == "true"
        elif text:
            values[key] = text if key in _TEXTS else _number(text)
        elif key in ("timeout", "misfire_grace_time", "overdue_after"):
            values[key] = None
        else:
            values[key] = getattr(DEFAULT, key, 1)
    values["description"] = given("description").strip() or None
    values["tags"] = [tag.strip() for tag in given("tags").split(",") if tag.strip()]
    retry = {key: _number(text) for key in RETRY if (text := given(f"o.retry.{key}").strip())}
    values["retry"] = retry or None
    found: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for key, value in values.items():
        if (key in PARSERS and not policies) or (shown and _is_untouched(key, given, shown)):
            continue
        try:
            found |= JobChanges.parse("", {key: value}).fields
        except InvalidDefinition as error:
            problems[error.field if key in _DESCRIPTIVE else f"o.{error.field}"] = error.problem
    return found, problems


def _is_untouched(key: str, given: Given, shown: Mapping[str, str]) -> bool:
    if key == "description":
        return given(key) == re.sub("\r\n?", "\n", shown[key])
    names = [f"o.retry.{part}" for part in RETRY] if key == "retry" else [key if key in _DESCRIPTIVE else f"o.{key}"]
    # A field of one line loses its line breaks.
    return all(given(name) == re.sub("[\r\n]", "", shown[name]) for name in names)


def show_options(job: Job) -> dict[str, str]:
    """Return what the fields hold for the options of a job."""
    policy = policy_of(job)
    shown = {"name": str(job.name or ""), "description": policy.description or "", "tags": ", ".join(policy.tags)}
    for key in OPTIONS:
        holder = job if hasattr(job, key) else policy
        shown[f"o.{key}"] = _shown(getattr(holder, key, None))
    return shown | {f"o.retry.{key}": _shown(getattr(policy.retry, key, None)) for key in RETRY}


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def new_options(defaults: Mapping[str, Any]) -> dict[str, str]:
    """Return what the fields hold for a new job."""
    grace = defaults.get("misfire_grace_time")
    return {
        "o.max_instances": str(defaults.get("max_instances", 1)),
        "o.misfire_grace_time": "" if grace is None else str(grace),
        "o.coalesce": "true" if defaults.get("coalesce", True) else "false",
        "o.overlap": DEFAULT.overlap,
        "o.max_queue": str(DEFAULT.max_queue),
        "o.on_crash": DEFAULT.on_crash,
        "o.run_on_start": "false",
        "kind": "interval",
        "t.interval.minutes": "10",
    }


def has_policies(job: Job | None) -> bool:
    """Tell whether a job can have the options that APScheduler does not know."""
    return job is None or isinstance(job, ScheduledJob)
