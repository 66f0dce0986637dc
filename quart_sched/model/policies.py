"""Policies: what a job asks for beyond APScheduler's options, parsed and shown as JSON."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ..errors import InvalidDefinition
from .arguments import bounded_repr
from .functions import JobFunction, describe, runs_on_loop

Overlap = Literal["skip", "queue", "replace"]
"""What becomes of a fire that finds as many instances of its job under way as may be: it is left out, it waits, or it
takes the place of the oldest of them, which is cancelled."""
OnCrash = Literal["lost", "rerun"]
"""What becomes of a run whose process died: it is recorded as lost, or starts again in another process."""

LONGEST = 366 * 86_400.0
"""Seconds of the longest timeout or delay: a year."""
_MOST_ATTEMPTS = 1_000
_LONGEST_QUEUE = 10_000
_TEXT_LIMIT = 2_000
_TAG_LIMIT = 64
_MOST_TAGS = 32


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and when, a run that failed or timed out is tried again.

    `attempts` counts all of them, the first included. The second one starts `delay` seconds after the first has ended,
    each later one after `backoff` times the delay before it, at most `max_delay` seconds; up to `jitter` seconds are
    added at random. Raises InvalidDefinition for other values than finite ones from 0 (`backoff`: 1) on, and for
    `attempts` other than 2 to 1,000.
    """

    attempts: int
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 3600.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        attempts = self.attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or not 2 <= attempts <= _MOST_ATTEMPTS:
            raise InvalidDefinition(
                "retry.attempts",
                f"is {bounded_repr(attempts)}; expected a whole number from 2 to {_MOST_ATTEMPTS:,}, the first attempt "
                "included",
            )
        for key, least in (("delay", 0.0), ("backoff", 1.0), ("max_delay", 0.0), ("jitter", 0.0)):
            object.__setattr__(self, key, _number(f"retry.{key}", getattr(self, key), least))

    def seconds_after(self, attempt: int) -> float:
        """Return the seconds from the end of that attempt, counted from 1, to the next one."""
        try:
            seconds = self.delay * float(self.backoff) ** (attempt - 1)
        except OverflowError:
            seconds = self.max_delay
        return min(seconds, self.max_delay) + random.uniform(0, self.jitter)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON that `parse_retry` takes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Policy:
    """What a job asks for beyond APScheduler's options; each field is a key of the job's definition and JSON.

    `timeout` is in seconds, None for no limit. A job that has not succeeded `overdue_after` seconds after one of its
    fires is overdue; None leaves it to SCHEDULER_OVERDUE_GRACE. `run_on_start` runs the job once beside its schedule
    when a scheduler starts; with a store that processes share, only when it is the first of them. At most `max_queue`
    fires wait where `overlap` is "queue". `description` and `tags` are for those who look at the job.
    """

    run_on_start: bool = False
    overlap: Overlap = "skip"
    max_queue: int = 1
    on_crash: OnCrash = "lost"
    timeout: float | None = None
    retry: Retry | None = None
    overdue_after: float | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {key: _to_json(getattr(self, key)) for key in PARSERS}

    def given(self) -> dict[str, Any]:
        """Return as JSON what differs from the default."""
        return {key: _to_json(value) for key in PARSERS if (value := getattr(self, key)) != getattr(DEFAULT, key)}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Policy:
        """Return the policy of some JSON or Python values, by key. Raises InvalidDefinition."""
        return cls(**{key: PARSERS[key](key, value) for key, value in values.items()})


def policy_of(job: Any) -> Policy:
    """Return the policy of a job, also of one of APScheduler's own class, which has none."""
    policy: Policy = getattr(job, "policy", DEFAULT)
    return policy


def check_policy(policy: Policy, func: JobFunction) -> None:
    """Raise InvalidDefinition where the policy asks what cannot be done with this function."""
    if policy.overlap == "replace" and not runs_on_loop(func):
        raise InvalidDefinition(
            "overlap",
            f"is 'replace', but {describe(func)} is no coroutine function, which alone can be stopped from outside; "
            "expected 'skip' or 'queue'",
        )


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part values by key into those of a policy and the others."""
    return (
        {key: value for key, value in values.items() if key in PARSERS},
        {key: value for key, value in values.items() if key not in PARSERS},
    )


def with_changes(policy: Policy, values: Mapping[str, Any]) -> Policy:
    """Return `policy` with some parsed values in the place of its own."""
    return replace(policy, **values) if values else policy


def _to_json(value: Any) -> Any:
    if isinstance(value, Retry):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value


def _number(key: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= LONGEST:
        raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected a number from {least:g} to {LONGEST:,.0f}")
    return value


def _on_crash(key: str, value: Any) -> OnCrash:
    if value not in ("lost", "rerun"):
        raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected 'lost' or 'rerun'")
    return value  # type: ignore[no-any-return]  # `in` does not narrow Any


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected true or false")
    return value


def _overlap(key: str, value: Any) -> Overlap:
    if value not in ("skip", "queue", "replace"):
        raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected 'skip', 'queue' or 'replace'")
    return value  # type: ignore[no-any-return]


def _max_queue(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LONGEST_QUEUE:
        raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected a whole number from 1 to {_LONGEST_QUEUE:,}")
    return value


def _timeout(key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST:
        raise InvalidDefinition(
            key, f"is {bounded_repr(value)}; expected seconds above 0, at most {LONGEST:,.0f}, or null for no limit"
        )
    return value


def _overdue_after(key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= LONGEST:
        raise InvalidDefinition(
            key,
            f"is {bounded_repr(value)}; expected seconds from 1 to {LONGEST:,.0f}, or null for SCHEDULER_OVERDUE_GRACE",
        )
    return value


def parse_retry(key: str, value: Any) -> Retry | None:
    """Return a Retry, or what its keys in a mapping say. Raises InvalidDefinition."""
    if value is None or isinstance(value, Retry):
        return value
    known = [field.name for field in fields(Retry)]
    if not isinstance(value, Mapping):
        raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected an object with the keys {', '.join(known)}")
    if unknown := sorted(str(name) for name in value if name not in known):
        raise InvalidDefinition(f"{key}.{unknown[0]}", f"is not known; expected {', '.join(known)}")
    if "attempts" not in value:
        raise InvalidDefinition(f"{key}.attempts", "is missing; expected how often the job may start for one fire")
    return Retry(**value)


def _description(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _TEXT_LIMIT:
        raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected a text of at most {_TEXT_LIMIT:,} characters")
    return value


def _tags(key: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset) or len(value) > _MOST_TAGS:
        raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected a list of at most {_MOST_TAGS} texts")
    for tag in value:
        if not isinstance(tag, str) or not tag.strip() or len(tag) > _TAG_LIMIT:
            raise InvalidDefinition(key, f"has {bounded_repr(tag)}; expected texts of 1 to {_TAG_LIMIT} characters")
    # A set has another order in each process.
    ordered = sorted(value) if isinstance(value, set | frozenset) else value
    return tuple(dict.fromkeys(ordered))


PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "run_on_start": _flag,
    "overlap": _overlap,
    "max_queue": _max_queue,
    "on_crash": _on_crash,
    "timeout": _timeout,
    "retry": parse_retry,
    "overdue_after": _overdue_after,
    "description": _description,
    "tags": _tags,
}
"""By key of the job's definition, what turns a value into that of the policy."""
DEFAULT = Policy()
DESCRIPTIVE = ("overdue_after", "description", "tags")
"""Keys that change nothing about how the job runs."""
