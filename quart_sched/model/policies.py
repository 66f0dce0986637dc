"""Policies: what a job asks for beyond APScheduler's options, parsed and shown as JSON."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

from ..errors import InvalidDefinition
from .arguments import bounded_repr
from .fields import Field, Schema, choice, flag, listing, nullable, number, or_null, record, text, whole, wrong
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


RETRY: dict[str, Field] = {
    "attempts": whole(
        2, _MOST_ATTEMPTS, expected=f"a whole number from 2 to {_MOST_ATTEMPTS:,}, the first attempt included"
    ).about("How often the job may start for one fire, the first time included."),
    "delay": number(0, LONGEST).about("Seconds from the end of the first attempt to the second.", default=1),
    "backoff": number(1, LONGEST).about("What each later delay is multiplied with.", default=2),
    "max_delay": number(0, LONGEST).about("Seconds of the longest delay.", default=3600),
    "jitter": number(0, LONGEST).about("Seconds, at most, that are added at random.", default=0),
}
"""By key of the JSON."""


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
        for key, each in RETRY.items():
            object.__setattr__(self, key, each(f"retry.{key}", getattr(self, key)))

    def seconds_after(self, attempt: int) -> float:
        """Return the seconds from the end of that attempt, counted from 1, to the next one."""
        try:
            seconds = self.delay * float(self.backoff) ** (attempt - 1)
        except OverflowError:
            seconds = self.max_delay
        return min(seconds, self.max_delay) + random.uniform(0, self.jitter)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON that `parse_retry` takes."""
        return {key: getattr(self, key) for key in RETRY}


class Policy(NamedTuple):
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
        return dict(_shown(self))

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
    if PARSERS.keys().isdisjoint(values):
        return {}, dict(values)
    return (
        {key: value for key, value in values.items() if key in PARSERS},
        {key: value for key, value in values.items() if key not in PARSERS},
    )


def with_changes(policy: Policy, values: Mapping[str, Any]) -> Policy:
    """Return `policy` with some parsed values in the place of its own."""
    return policy._replace(**values) if values else policy


@lru_cache(maxsize=256)
def _shown(policy: Policy) -> dict[str, Any]:
    """Return the policy as JSON, made once for the many jobs that share it."""
    return {key: _to_json(getattr(policy, key)) for key in PARSERS}


def _to_json(value: Any) -> Any:
    if isinstance(value, Retry):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value


def parse_retry(key: str, value: Any) -> Retry | None:
    """Return a Retry, or what its keys in a mapping say. Raises InvalidDefinition."""
    if value is None or isinstance(value, Retry):
        return value
    if not isinstance(value, Mapping):
        wrong(key, value, f"an object with the keys {', '.join(RETRY)}")
    if unknown := sorted(str(name) for name in value if name not in RETRY):
        raise InvalidDefinition(f"{key}.{unknown[0]}", f"is not known; expected {', '.join(RETRY)}")
    if "attempts" not in value:
        raise InvalidDefinition(f"{key}.attempts", "is missing; expected how often the job may start for one fire")
    return Retry(**value)


def _tags(key: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset) or len(value) > _MOST_TAGS:
        wrong(key, value, f"a list of at most {_MOST_TAGS} texts")
    for tag in value:
        if not isinstance(tag, str) or not tag.strip() or len(tag) > _TAG_LIMIT:
            raise InvalidDefinition(key, f"has {bounded_repr(tag)}; expected texts of 1 to {_TAG_LIMIT} characters")
    # A set has another order in each process.
    ordered = sorted(value) if isinstance(value, set | frozenset) else value
    return tuple(dict.fromkeys(ordered))


_TAG: Schema = {"type": "string", "maxLength": _TAG_LIMIT, "pattern": r"\S"}

PARSERS: dict[str, Field] = {
    "run_on_start": flag().about("Run once beside the schedule when a scheduler starts.", default=False),
    "overlap": choice(*get_args(Overlap)).about(
        "What becomes of a fire while as many instances run as may be.", default="skip"
    ),
    "max_queue": whole(1, _LONGEST_QUEUE, expected=f"a whole number from 1 to {_LONGEST_QUEUE:,}").about(
        "Fires that may wait where `overlap` is queue.", default=1
    ),
    "on_crash": choice(*get_args(OnCrash)).about("What becomes of a run whose process died.", default="lost"),
    "timeout": nullable(
        number(0, LONGEST, above=True),
        expected=f"seconds above 0, at most {LONGEST:,.0f}, or null for no limit",
    ).about("Seconds after which a run is ended.", default=None),
    "retry": Field(parse_retry, or_null(record(RETRY, optional=RETRY.keys() - {"attempts"}))).about(
        "How a run that failed or timed out is tried again.", default=None
    ),
    "overdue_after": nullable(
        number(1, LONGEST), expected=f"seconds from 1 to {LONGEST:,.0f}, or null for SCHEDULER_OVERDUE_GRACE"
    ).about(
        "Seconds after a fire within which the job is to have succeeded; null for SCHEDULER_OVERDUE_GRACE.",
        default=None,
    ),
    "description": nullable(text(0, _TEXT_LIMIT, expected=f"a text of at most {_TEXT_LIMIT:,} characters")).about(
        "For those who look at the job.", default=None
    ),
    "tags": Field(_tags, or_null(listing(_TAG, maxItems=_MOST_TAGS))).about("Words to find the job by.", default=[]),
}
"""By key of the job's definition and JSON."""
DEFAULT = Policy()
DESCRIPTIVE = ("overdue_after", "description", "tags")
"""Keys that change nothing about how the job runs."""
