"""Job definitions: what a job is, parsed at the edge from Python, `JOBS` or JSON, and shown as JSON."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import convert_to_datetime, get_callable_name

from ..errors import InvalidDefinition
from . import arguments
from .descriptions import describe
from .fields import Field, fire_time, flag, listing, nullable, or_null, ref, text, whole, wrong
from .functions import JobFunction, check_call, reference, resolve, runs_on_loop
from .policies import DEFAULT, PARSERS, Policy, check_policy, split, with_changes
from .trigger_parser import parse_trigger
from .triggers import TRIGGER_FIELDS, TriggerSpec, spec_of


class _Unset(Enum):
    UNSET = "unset"

    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final = _Unset.UNSET
"""Marks an option that was not given, as None is a value of its own."""
Unset = Literal[_Unset.UNSET]


class ScheduledJob(Job):
    """A job with what a store that several processes share knows of it, and APScheduler's own class does not.

    Jobs out of APScheduler's own stores are no ScheduledJobs: read these attributes with `getattr` and a default.
    """

    __slots__ = (
        "broken",
        "declared",
        "incarnation",
        "last_fire",
        "modified",
        "overridden",
        "paused_by",
        "policy",
        "source",
        "text",
        "version",
    )

    broken: str | None
    """Why no process can run the job; None for a job in order."""
    declared: bool
    """Whether the code declares the job in a store that is shared, so that it cannot be removed for good."""
    incarnation: str
    """Tells the job from an earlier one of the same id."""
    last_fire: datetime | None
    """The last fire that was claimed, or given up."""
    modified: bool
    """Whether a declared job was changed by hand since."""
    overridden: str | None
    """The arguments that one run has in the place of the job's own, as `Overrides.dump` gives them."""
    paused_by: str | None
    """Who paused the job; None where nobody did."""
    policy: Policy
    source: Literal["added", "declared"]
    text: Any
    """What the API keeps of the job as text until `_modify`; None: nothing."""
    version: int
    """Moves with each change to the job, not with its fires; 0 in a store that is not shared."""

    def __new__(cls, *args: Any, **options: Any) -> ScheduledJob:
        """Make the job with the defaults of what APScheduler's class does not know."""
        job: ScheduledJob = super().__new__(cls)
        job.broken, job.last_fire, job.paused_by, job.overridden = None, None, None, None
        job.incarnation, job.source, job.version = "", "added", 0
        job.declared, job.modified, job.policy, job.text = False, False, DEFAULT, None
        return job

    def _modify(self, **changes: Any) -> None:
        """Change all of it, or nothing. The values are parsed: APScheduler's method would check each of them again."""
        of_policy, values = split(changes)
        values["policy"] = with_changes(values.get("policy", self.policy), of_policy)
        if not _MODIFIABLE.issuperset(values):
            raise AttributeError(f"A job has no {', '.join(values.keys() - _MODIFIABLE)} that could be changed")
        if "func" in values:
            values["func_ref"] = reference(values["func"])
            if values.get("name") is None and not hasattr(self, "name"):
                values["name"] = get_callable_name(values["func"])
        if values.get("next_run_time") is not None:
            zone = self._scheduler.timezone
            values["next_run_time"] = convert_to_datetime(values["next_run_time"], zone, "next_run_time")
        for key, value in values.items():
            setattr(self, key, value)
        self.text = None


_MODIFIABLE = frozenset((*Job.__slots__, "policy")) - {"_scheduler", "_jobstore_alias", "__weakref__", "func_ref"}


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """A job as its author wrote it: zone, start date and job defaults are still open.

    `misfire_grace_time` is in seconds, None means however late. `next_run_time` None adds the job paused.
    """

    id: str
    func: JobFunction
    trigger: TriggerSpec
    name: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    misfire_grace_time: int | Unset | None = UNSET
    coalesce: bool | Unset = UNSET
    max_instances: int | Unset = UNSET
    next_run_time: datetime | Unset | None = UNSET
    policy: Policy = DEFAULT
    executor: str = "default"
    jobstore: str = "default"
    replace_existing: bool = False

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, named_after: Literal["id", "func"] = "id") -> JobDefinition:
        """Parse what Flask-APScheduler's `add_job` and `JOBS` take; nothing of it is changed.

        A job without a name is named after its id or its function, as `named_after` says.
        Raises InvalidDefinition naming the key, what was wrong and what was expected.
        """
        fields, trigger = _split(data, FIELDS)
        if "func" not in fields:
            raise InvalidDefinition("func", "is missing; expected a callable or 'module:name'")
        if "id" not in fields:
            raise InvalidDefinition("id", "is missing; expected a non-empty string")
        policy, options = split(_parse_fields(fields))
        if not options.get("name") and named_after == "id":
            options["name"] = options["id"]
        options["policy"] = Policy(**policy) if policy else DEFAULT
        definition = cls(trigger=trigger or parse_trigger({"trigger": "date"}), **options)
        check_policy(definition.policy, definition.func)
        runs_on_loop(definition.func)
        check_call(definition.func, definition.args, definition.kwargs)
        return definition


@dataclass(frozen=True, slots=True)
class JobChanges:
    """Validated changes to a job: only what was given. Whether arguments fit the function shows on the job itself."""

    trigger: TriggerSpec | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, job_id: str, data: Mapping[str, Any]) -> JobChanges:
        """Parse the changes to `job_id`; an `id` among them must be its own. Raises InvalidDefinition."""
        if data.get("id", job_id) != job_id:
            raise InvalidDefinition("id", f"is {data['id']!r}, but the job is {job_id!r} and an id cannot be changed")
        fields, trigger = _split({k: v for k, v in data.items() if k != "id"}, _CHANGEABLE)
        if "func" in fields and not isinstance(fields["func"], str) and not callable(fields["func"]):
            raise InvalidDefinition("func", f"is {fields['func']!r}; expected a callable or 'module:name'")
        return cls(trigger, _parse_fields(fields))

    @classmethod
    def from_wire(
        cls, body: Mapping[str, Any], shown: Mapping[str, Any], find: Callable[[str], JobFunction]
    ) -> JobChanges:
        """Parse a PATCH of the job that is shown as `shown`: what was sent back as it was shown changes nothing.

        `find` returns the function that a changed `func` names, or raises. Raises InvalidDefinition.
        """
        for key in (*READ_ONLY, "jobstore"):
            if key in body and body[key] != shown.get(key):
                raise InvalidDefinition(key, f"is {body[key]!r}; it is read-only, and {shown.get(key)!r}")
        # A trigger of the user's own is shown as a text, which stands for itself.
        same_trigger = shown["trigger"] not in TRIGGER_FIELDS and body.get("trigger") == shown["trigger"]
        kept = {"id", "trigger"} - ({"trigger"} if same_trigger else set())
        fields = {*_OPTIONS, "func", "jobstore", *READ_ONLY}
        changed = {
            key: value
            for key, value in body.items()
            if key in kept or not (key in fields | {"trigger"} and _equal(value, shown.get(key, UNSET)))
        }
        changed = from_wire(changed)
        if changed.get("trigger") is None and "run_date" in changed:
            raise InvalidDefinition("run_date", "is a field of a trigger, but no 'trigger' is given")
        if "func" in changed:
            if not isinstance(changed["func"], str):
                raise InvalidDefinition("func", f"is {changed['func']!r}; expected 'module:name'")
            changed["func"] = find(changed["func"])
        return cls.parse(shown["id"], changed)


def from_wire(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON body, which may be what `to_wire` shows, ready for `parse`. Raises InvalidDefinition."""
    decoded = {key: value for key, value in body.items() if key not in READ_ONLY}
    for key, kind, expected in (("args", list, "a list"), ("kwargs", dict, "an object")):
        if decoded.get(key) is None:
            decoded.pop(key, None)
            continue
        value = arguments.decode(decoded[key], where=key)
        if not isinstance(decoded[key], kind) or not isinstance(value, kind):
            raise InvalidDefinition(key, f"is {decoded[key]!r}; expected {expected}")
        decoded[key] = value
    return decoded


READ_ONLY = ("trigger_description", "state", "broken", "source", "modified", "paused_by", "version")
"""Keys of a job's JSON that describe it and are not the client's to change."""


def to_wire(job: Job, *, broken: str | None = None, jobstore: str | None = None) -> dict[str, Any]:
    """Return `job` as the API shows it: Flask-APScheduler's keys in its order, then ours.

    `broken` is why it cannot run here, where the job does not say so itself; `jobstore` that which it is meant for,
    where it waits for the start.
    """
    broken = broken or getattr(job, "broken", None)
    shown: dict[str, Any] = {
        "id": job.id,
        "name": job.name,
        "func": job.func_ref,
        "args": [arguments.show(value) for value in job.args],
        "kwargs": {key: arguments.show(value) for key, value in job.kwargs.items()},
    }
    spec = spec_of(job.trigger)
    shown |= spec.to_dict()
    if not job.pending:
        shown["misfire_grace_time"] = job.misfire_grace_time
        shown["max_instances"] = job.max_instances
        shown["next_run_time"] = job.next_run_time.isoformat() if job.next_run_time else None
        shown["coalesce"] = job.coalesce
    if isinstance(job, ScheduledJob):
        shown |= job.policy.to_dict()
    shown["executor"] = job.executor
    shown["jobstore"] = job._jobstore_alias or jobstore
    shown["trigger_description"] = describe(job.trigger, spec)
    shown["state"] = state_of(job, broken)
    if broken:
        shown["broken"] = broken
    if getattr(job, "version", 0) > 0:
        shown |= {key: getattr(job, key) for key in ("source", "modified", "paused_by", "version")}
    return shown


def tag_of(job: Job, *, broken: str | None = None) -> str:
    """Return a text that stands for the job as `to_wire` shows it, its next fire left out: the job's entity tag."""
    shown = to_wire(job, broken=broken)
    shown.pop("next_run_time", None)
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:32]


def copy_with(job: Job, **attributes: Any) -> Job:
    """Return a job that is the same but for these attributes, for a run of its own: no store knows it."""
    copied: Job = object.__new__(type(job))
    for slot in {slot for kind in type(job).__mro__ for slot in getattr(kind, "__slots__", ())} - {"__weakref__"}:
        if hasattr(job, slot):
            setattr(copied, slot, getattr(job, slot))
    for name, value in attributes.items():
        setattr(copied, name, value)
    return copied


JobState = Literal["pending", "broken", "paused", "scheduled", "ended"]
"""How a job stands; it is shown as ended once, when a paused one is resumed whose schedule is over."""


def state_of(job: Job, broken: str | None = None) -> JobState:
    """Say in one word how the job stands."""
    if job.pending:
        return "pending"
    if broken or getattr(job, "broken", None):
        return "broken"
    return "paused" if job.next_run_time is None else "scheduled"


def _equal(sent: Any, shown: Any) -> bool:
    """Compare as JSON does, to which true is not 1, and the order of keys means nothing."""
    return bool(sent == shown) and json.dumps(sent, sort_keys=True) == json.dumps(shown, sort_keys=True)


def _split(data: Mapping[str, Any], known: Mapping[str, Field]) -> tuple[dict[str, Any], TriggerSpec | None]:
    """Part job fields, which are among the `known` ones, from trigger fields."""
    rest = dict(data)
    trigger = rest.pop("trigger", None)
    if trigger is not None and isinstance(trigger, Mapping):
        # {"trigger": {"type": "cron", "hour": 3}}: the older form, which Flask-APScheduler still reads.
        legacy = dict(trigger)
        trigger = legacy.pop("type", "date")
        rest |= legacy
    fields = {key: rest.pop(key) for key in sorted(rest.keys() & known.keys(), key=_PLACES.__getitem__)}
    if trigger is None and not rest:
        return fields, None
    if isinstance(trigger, BaseTrigger):
        if rest:
            raise InvalidDefinition(min(rest), "cannot be given beside a trigger object, which has its own")
        return fields, spec_of(trigger)
    if unknown := rest.keys() - _OF_TRIGGERS:
        key = min(unknown)
        near = difflib.get_close_matches(key, [*known, *TRIGGER_FIELDS.get(str(trigger), ())], 1)
        raise InvalidDefinition(key, "is not known" + (f"; did you mean {near[0]!r}?" if near else ""))
    if trigger is None and "run_date" not in rest:
        raise InvalidDefinition(min(rest), "is a field of a trigger, but no 'trigger' is given")
    return fields, parse_trigger({"trigger": trigger or "date", **rest})


def _parse_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: FIELDS[key].parse(key, value) for key, value in fields.items()}


def _function(key: str, value: Any) -> JobFunction:
    if isinstance(value, str):
        return resolve(value)
    if not callable(value):
        wrong(key, value, "a callable or 'module:name'")
    return value  # type: ignore[no-any-return]  # callable() does not narrow Any


def positional(key: str, value: Any) -> tuple[Any, ...]:
    """Return `value` as positional arguments, none of them for None; raises InvalidDefinition."""
    if value is None:
        return ()
    if type(value) is tuple:
        return value
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        wrong(key, value, "a list of positional arguments")
    return tuple(value)


def keywords(key: str, value: Any) -> dict[str, Any]:
    """Return `value` as arguments by name, none of them for None; raises InvalidDefinition."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        wrong(key, value, "keyword arguments by name")
    return dict(value)


positive_int = whole(1, 10**9, expected="a whole number of at least 1")
_OPTIONS: dict[str, Field] = {
    "name": nullable(text()).about("For those who look at the job; left out, its id."),
    "args": Field(positional, or_null(listing(ref("Argument")))).about("What the function is called with, in order."),
    "kwargs": Field(keywords, or_null(arguments.BY_NAME)).about("What the function is called with, by name."),
    "misfire_grace_time": nullable(positive_int, expected="whole seconds of at least 1, or null for no limit").about(
        "Seconds by which a fire may be late and still run; null for however late."
    ),
    "coalesce": flag().about("Whether fires that have come to be due together run as one."),
    "max_instances": positive_int.about("Runs of the job that may be under way at once."),
    "next_run_time": nullable(fire_time).about("When the job fires next; null pauses it."),
    **PARSERS,
    "executor": text().about("The executor that runs the job.", examples=["default"]),
}
_FUNCTION = Field(_function, {"type": "string", "pattern": "^[^:]+:[^:]+$", "examples": ["app:tick"]}).about(
    "The function, as module:name. It must be one that may be scheduled over REST."
)
_ID = text().about("What the job is called by.", examples=["tick"])
FIELDS: dict[str, Field] = {
    "id": _ID,
    "func": _FUNCTION,
    **_OPTIONS,
    "jobstore": text().about("The job store that keeps the job.", examples=["default"]),
    "replace_existing": flag().about("Whether the job takes the place of one with its id.", default=False),
}
"""By key of a job's definition, besides those of its trigger."""
DEFAULTED = ("misfire_grace_time", "coalesce", "max_instances")
"""Keys of which a scheduler has defaults for its jobs."""
POSITIONAL = ("args", "kwargs", "id", "name", *DEFAULTED, "next_run_time", "jobstore", "executor")
"""What APScheduler's `add_job` and `scheduled_job` take without its name, behind the function and the trigger."""
_PLACES = {key: place for place, key in enumerate({**_OPTIONS, **FIELDS})}
"""The order in which fields are parsed."""
_CHANGEABLE = {**_OPTIONS, "func": _FUNCTION}
_OF_TRIGGERS = {name for names in TRIGGER_FIELDS.values() for name in names}
