"""The configuration, read once from `app.config` into a frozen object."""

from __future__ import annotations

import difflib
import ipaddress
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import MISSING, dataclass, field, fields
from datetime import tzinfo
from typing import Any, Literal

from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.util import astimezone
from tzlocal import get_localzone

from .errors import ConfigError, InvalidDefinition
from .model.arguments import bounded_repr
from .model.fields import choice, flag, nullable, number, whole, wrong
from .model.jobs import JobDefinition, positive_int

log = logging.getLogger("quart_sched")

_JobDefaults = dict[str, Any]


def _setting(key: str, parse: Callable[[str, Any], Any], default: Any = MISSING, **more: Any) -> Any:
    """Declare a setting: the key in `app.config`, how its value is parsed, and its default."""
    return field(default=default, **more, metadata={"key": key, "parse": parse})


_LONGEST = 10**9
"""Seconds, some thirty years: what timers and floats can hold."""
_MOST_LOG_BYTES = 4_000_000
"""With all else that a run puts out, that is less than a database takes in one statement."""
_LONGEST_HISTORY = 100_000
"""Days that can be counted back from any date of ours."""

_flag = flag(expected="True or False")
_seconds = number(0, _LONGEST, expected=f"seconds, a number of at least 0 and at most {_LONGEST}")
_interval = number(0, _LONGEST, above=True, expected=f"seconds, a number above 0 and at most {_LONGEST}")
_grace = nullable(_interval, expected=f"seconds, a number above 0 and at most {_LONGEST}, or None to watch no job")
_days = number(0, _LONGEST_HISTORY, above=True, expected=f"days, a number above 0 and at most {_LONGEST_HISTORY}")
_records = whole(0, 10**9, expected=f"records, a whole number of at least 0 and at most {10**9}")
_bytes = whole(0, _MOST_LOG_BYTES, expected=f"bytes, a whole number from 0 to {_MOST_LOG_BYTES:,}")
_prune = choice("pause", "remove", "keep", expected="one of 'pause', 'remove', 'keep'")


def _level(key: str, value: Any) -> int:
    level = logging.getLevelNamesMapping().get(value.upper()) if isinstance(value, str) else value
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level <= 10**9:
        wrong(key, value, 'a logging level such as "DEBUG", or its number')
    return level


def _prefix(key: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or (value and not value.startswith("/")) or re.search(r"[\s<>?#]", value):
        wrong(key, value, "a path that begins with '/', or ''")
    return value.rstrip("/")


def _endpoint_prefix(key: str, value: Any) -> str:
    if value is not None and not isinstance(value, str):
        wrong(key, value, "a str")
    return value or ""


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        wrong(key, value, "a list of str")
    names = tuple(value)
    if not all(isinstance(name, str) and name for name in names):
        wrong(key, value, "a list of str")
    return names


def _patterns(key: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    patterns = _names(key, value)
    for pattern in patterns:
        if pattern != "*" and pattern.count(":") != 1:
            wrong(key, value, 'a list of "module:name" patterns such as "app.jobs:*", or ["*"]')
    return patterns


def _hosts(key: str, value: Any) -> tuple[str, ...]:
    hosts = _names(key, value)
    for host in hosts:
        if "/" in host or ((":" in host or host.startswith("[")) and not _is_ipv6(host)):
            wrong(key, value, "a list of host names, without scheme and port")
    # An address of IPv6 stands in brackets wherever a request names it.
    return tuple(f"[{host.strip('[]')}]".lower() if ":" in host else host.lower() for host in hosts)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return False
    return True


def _auth(key: str, value: Any) -> Any:
    if value is not None and (isinstance(value, type) or not callable(getattr(value, "get_authorization", None))):
        wrong(key, value, "an HTTPAuth such as HTTPBasicAuth(), or None")
    return value


def _timezone(key: str, value: Any) -> tzinfo:
    if value is None:
        return get_localzone()
    try:
        zone = astimezone(value)
    except Exception:
        # zoneinfo raises a different error for each way in which a name can be wrong.
        zone = None
    if not isinstance(zone, tzinfo):
        wrong(key, value, 'a time zone such as "Europe/Berlin", or a tzinfo')
    return zone


def _discreet(value: Any) -> str:
    """Describe what stands in the place of stores, without the passwords that may be in it."""
    if isinstance(value, Mapping):
        return "a dict of " + (", ".join(map(bounded_repr, value)) or "nothing")
    return _PASSWORD.sub(r"\1***@", bounded_repr(value, 500)) if isinstance(value, str) else bounded_repr(value)


def _plugins(base: type, what: str) -> Callable[[str, Any], dict[str, Any]]:
    """Parse stores or executors by alias: an instance, or a dict with "type" or "class" and constructor options."""

    def parse(key: str, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not all(isinstance(alias, str) and alias for alias in value):
            raise ConfigError(f"{key} is {_discreet(value)}; expected a dict of alias to {what}")
        for alias, entry in value.items():
            named = isinstance(entry, Mapping) and ("type" in entry or "class" in entry)
            if not isinstance(entry, base) and not named:
                raise ConfigError(
                    f"{key}[{alias!r}] is {_discreet(entry)}; expected {what}: an instance, or a dict with "
                    '"type" or "class"'
                )
        # APScheduler pops keys out of these dicts; instances must stay the user's own.
        return {alias: entry if isinstance(entry, base) else deepcopy_options(entry) for alias, entry in value.items()}

    return parse


def _history(key: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(option, str) for option in value):
        raise ConfigError(f'{key} is {_discreet(value)}; expected None, or a dict with "type" and its options')
    if value.get("type") not in ("memory", "sqlalchemy"):
        wrong(f"{key}['type']", value.get("type"), "'memory' or 'sqlalchemy'")
    return deepcopy_options(value)


def deepcopy_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Copy nested dicts and lists, and keep what else is in them (engines, clients) as it is."""
    return {
        key: deepcopy_options(value)
        if isinstance(value, Mapping)
        else deepcopy(value)
        if isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value)
        else value
        for key, value in options.items()
    }


_PASSWORD = re.compile(r"(//[^\s:/@]*:)\S*@")
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _job_defaults(key: str, value: Any) -> _JobDefaults:
    defaults: _JobDefaults = {"misfire_grace_time": 1, "coalesce": True, "max_instances": 1}
    if value is None:
        return defaults
    if not isinstance(value, Mapping):
        wrong(key, value, "a dict of misfire_grace_time, coalesce, max_instances")
    for name, given in value.items():
        path = f"{key}[{name!r}]"
        if name not in defaults:
            wrong(key, value, f"only misfire_grace_time, coalesce and max_instances, but {name!r} is among them")
        # APScheduler takes strings here, as they come out of environment variables.
        if name == "coalesce":
            coalesce = _TRUTH.get(given.strip().lower()) if isinstance(given, str) else given
            if not isinstance(coalesce, bool):
                wrong(path, given, "True or False")
            defaults[name] = coalesce
        elif given is None and name == "misfire_grace_time":
            defaults[name] = None
        else:
            defaults[name] = positive_int(path, _number(given))
    return defaults


def _number(given: Any) -> Any:
    """Return the int that a str of digits stands for, and anything else as it is."""
    try:
        return int(given) if isinstance(given, str) and given.strip().isdecimal() else given
    except ValueError:
        return given  # more digits than Python reads


def _jobs(key: str, value: Any) -> tuple[JobDefinition, ...]:
    if value is None:
        return ()
    if isinstance(value, Mapping | str) or not isinstance(value, Sequence):
        wrong(key, value, "a list of dicts")
    definitions: dict[str, JobDefinition] = {}
    for index, entry in enumerate(value):
        if not isinstance(entry, Mapping):
            wrong(f"{key}[{index}]", entry, "a dict with id, func and trigger")
        trigger = entry.get("trigger")
        for name in (*entry, *(trigger if isinstance(trigger, Mapping) else ())):
            if not isinstance(name, str):
                raise ConfigError(f"{key}[{index}] has the key {bounded_repr(name)}; expected keys that are str")
        try:
            definition = JobDefinition.parse(entry)
        except InvalidDefinition as error:
            raise ConfigError(f"{key}[{index}] (id {entry.get('id')!r}): {error}") from error
        if definition.id in definitions:
            raise ConfigError(f"{key}[{index}]: id {definition.id!r} is used twice; each job needs its own id")
        definitions[definition.id] = definition
    return tuple(definitions.values())


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the application asked for, checked. Durations are in seconds."""

    api_enabled: bool = _setting("SCHEDULER_API_ENABLED", _flag, False)
    api_prefix: str = _setting("SCHEDULER_API_PREFIX", _prefix, "/scheduler")
    endpoint_prefix: str = _setting("SCHEDULER_ENDPOINT_PREFIX", _endpoint_prefix, "scheduler.")
    allowed_hosts: tuple[str, ...] = _setting("SCHEDULER_ALLOWED_HOSTS", _names, ("*",))
    auth: Any = _setting("SCHEDULER_AUTH", _auth, None)
    jobstores: Mapping[str, Any] = _setting(
        "SCHEDULER_JOBSTORES", _plugins(BaseJobStore, "job store"), None, repr=False
    )
    executors: Mapping[str, Any] = _setting("SCHEDULER_EXECUTORS", _plugins(BaseExecutor, "executor"), None)
    job_defaults: Mapping[str, Any] = _setting("SCHEDULER_JOB_DEFAULTS", _job_defaults, None)
    timezone: tzinfo = _setting("SCHEDULER_TIMEZONE", _timezone, None)
    jobs: tuple[JobDefinition, ...] = _setting("SCHEDULER_JOBS", _jobs, ())
    autostart: bool = _setting("SCHEDULER_AUTOSTART", _flag, False)
    shutdown_timeout: float = _setting("SCHEDULER_SHUTDOWN_TIMEOUT", _seconds, 5.0)
    max_threads: int = _setting("SCHEDULER_MAX_THREADS", positive_int, 20)
    max_runs: int = _setting("SCHEDULER_MAX_RUNS", positive_int, 1000)
    poll_interval: float = _setting("SCHEDULER_POLL_INTERVAL", _interval, 1.0)
    heartbeat: float = _setting("SCHEDULER_HEARTBEAT", _interval, 5.0)
    lease: float = _setting("SCHEDULER_LEASE", _interval, 20.0)
    max_catch_up: int = _setting("SCHEDULER_MAX_CATCH_UP", positive_int, 100)
    guard_workers: bool = _setting("SCHEDULER_GUARD_WORKERS", _flag, True)
    api_allowed_funcs: tuple[str, ...] | None = _setting("SCHEDULER_API_ALLOWED_FUNCS", _patterns, None)
    trusted_hosts: tuple[str, ...] = _setting("SCHEDULER_TRUSTED_HOSTS", _hosts, ())
    dashboard_enabled: bool = _setting("SCHEDULER_DASHBOARD_ENABLED", _flag, False)
    history_size: int = _setting("SCHEDULER_HISTORY_SIZE", _records, 10_000)
    history: Mapping[str, Any] | None = _setting("SCHEDULER_HISTORY", _history, None, repr=False)
    history_days: float = _setting("SCHEDULER_HISTORY_DAYS", _days, 30.0)
    log_bytes: int = _setting("SCHEDULER_LOG_BYTES", _bytes, 65_536)
    log_level: int = _setting("SCHEDULER_LOG_LEVEL", _level, logging.INFO)
    prune: Literal["pause", "remove", "keep"] = _setting("SCHEDULER_PRUNE", _prune, "pause")
    overdue_grace: float | None = _setting("SCHEDULER_OVERDUE_GRACE", _grace, 60.0)
    health_enabled: bool = _setting("SCHEDULER_HEALTH_ENABLED", _flag, True)
    metrics_enabled: bool = _setting("SCHEDULER_METRICS_ENABLED", _flag, False)
    traces_enabled: bool = _setting("SCHEDULER_TRACES_ENABLED", _flag, False)
    pretty_json: bool = _setting("JSONIFY_PRETTYPRINT_REGULAR", lambda _, value: bool(value), False)

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any], **defaults: Any) -> Settings:
        """Read the settings out of `app.config`, which stays as it is.

        `defaults` are by attribute name and stand under the configuration. Raises ConfigError naming the key, the
        value and what was expected; warns of each SCHEDULER_* key that nobody knows.
        """
        given = {_ALIASES.get(key, key): key for key in (*_ALIASES, *KNOWN_KEYS) if _is_given(config, key)}
        values = {}
        try:
            for item in fields(cls):
                key, parse = item.metadata["key"], item.metadata["parse"]
                if key in given:
                    values[item.name] = parse(given[key], config[given[key]])
                else:
                    values[item.name] = parse(key, defaults.get(item.name, item.default))
            # By quotient, as 3 * 0.1 is more than 0.3.
            if round(values["lease"] / values["heartbeat"], 6) < 3:
                expected = f"at least three times SCHEDULER_HEARTBEAT ({values['heartbeat']} s)"
                wrong("SCHEDULER_LEASE", values["lease"], expected)
        except InvalidDefinition as error:
            raise ConfigError(f"{error.field} {error.problem}") from None
        for key in config:
            if isinstance(key, str) and key.startswith("SCHEDULER_") and key not in KNOWN_KEYS and key not in _ALIASES:
                near = difflib.get_close_matches(key, sorted(KNOWN_KEYS), 1, cutoff=0.5)
                hint = f"; did you mean {near[0]}?" if near else ""
                log.warning("Configuration key %s is not known and has no effect%s", key, hint)
        return cls(**values)


# Older names come first, so that the newer one wins where both are given.
_ALIASES = {"SCHEDULER_VIEWS_ENABLED": "SCHEDULER_API_ENABLED", "JOBS": "SCHEDULER_JOBS"}
KNOWN_KEYS = frozenset(item.metadata["key"] for item in fields(Settings))


def _is_given(config: Mapping[str, Any], key: str) -> bool:
    # An empty SCHEDULER_JOBS stands back behind JOBS, as in Flask-APScheduler.
    return key in config and (key != "SCHEDULER_JOBS" or bool(config[key]))
