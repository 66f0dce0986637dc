"""A job as JSON text, for a store that several processes share: what one of them writes, any of them can load."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, tzinfo
from functools import partial
from typing import Any

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger

from ..errors import InvalidDefinition
from . import arguments
from .arguments import bounded_repr
from .changes import changed_keys
from .functions import JobFunction, main_module_name, resolve
from .instants import EPOCH
from .jobs import DEFAULTED, UNSET, JobDefinition, ScheduledJob
from .policies import DEFAULT, PARSERS, Policy, policy_of
from .texts import is_unicode
from .trigger_parser import parse_trigger
from .triggers import TRIGGER_FIELDS, Combined, Custom, TriggerSpec, spec_of
from .unrestorable import Unrestorable
from .zones import zone_name

MAX_ID = 191
"""Characters of the longest id, bounded by what MySQL's indexes hold."""
MAX_REF = 512
"""Characters of the longest reference to a function."""
MAX_DEFINITION = 3_000_000
"""Characters of the longest definition, bounded by the 16 MB of MySQL's packets, in which each may become four."""

_MAIN = ("__main__", "__mp_main__")  # the main script, and what multiprocessing's children call it
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "func": str,
    "args": list,
    "kwargs": dict,
    "trigger": dict,
    "executor": str,
    "misfire_grace_time": (int, type(None)),
    "coalesce": bool,
    "max_instances": int,
    "on_crash": str,
}
"""The keys of the JSON text, and what stands under them; besides there is what differs from the default policy."""


# Functions


def function_ref(func: JobFunction) -> str:
    """Return the ``"module:qualname"`` under which other processes find `func`; nothing is imported for it.

    A function of the main script is called by the name under which the script can be imported. Raises
    InvalidDefinition, saying why and what to do, where there is no such name: for lambdas, partials, functions inside
    of functions, callable objects, methods of instances, and names that lead to something else.
    """
    owner = getattr(func, "__self__", None)
    module, path = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if inspect.isclass(owner):
        module, path = owner.__module__, f"{owner.__qualname__}.{func.__name__}"
    if isinstance(func, partial):
        problem: str | None = "a partial has no name, but its arguments can go into the job's args and kwargs"
    elif owner is not None and not (inspect.isclass(owner) or inspect.ismodule(owner)):
        problem = "it is bound to an object that exists here alone"
    elif not isinstance(module, str) or not isinstance(path, str):
        problem = "it is an object, not a function with a name"
    elif "<lambda>" in path or "<locals>" in path:
        problem = "a lambda has no name" if "<lambda>" in path else "it is made inside of a function"
    else:
        name = _main_name() if module in _MAIN else module
        ref = f"{name}:{path}"
        if name is None:
            problem = "the program that it belongs to cannot be imported by name"
        elif len(ref) > MAX_REF:
            problem = f"its name is longer than {MAX_REF} characters"
        else:
            problem = _astray(func, module, path)
        if problem is None:
            return ref
    raise InvalidDefinition(
        "func",
        f"{bounded_repr(func, 100)} cannot be loaded by other processes: {problem}; "
        "use a function at the top of a module, or the memory store",
    )


def _main_name() -> str | None:
    name = main_module_name()
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return None if name is None or (spec is None and "." in name) else name  # "my.jobs.py" is no module "my.jobs"


def _astray(func: JobFunction, module_name: str, path: str) -> str | None:
    """Return what is wrong with the name of `func`; None where it leads back to it."""
    module = sys.modules.get(module_name)
    if module is None:
        return f"no module {module_name!r} is loaded"
    if getattr(getattr(module, "__spec__", None), "_initializing", False):
        # Decorators run before the name is there; and importing would wait for the thread that waits for us.
        return None
    try:
        found = resolve(f"{module_name}:{path}")
    except InvalidDefinition:
        # As long as the main script runs, the name may still come.
        return None if module_name in _MAIN else f"{module_name!r} has no {path!r}"
    return None if found is func or found == func else f"{path!r} in {module_name!r} is another object by now"


# Jobs


def check(job: Job) -> None:
    """Raise InvalidDefinition where `dump` could not hold the job, whose options may still be open."""
    _described(job)


def dump(job: Job) -> str:
    """Return everything about the job but its id and next fire as JSON text, in ASCII; equal jobs give equal texts.

    Raises InvalidDefinition naming the place of what cannot be held, or would not come back as it was.
    """
    return dump_and_ref(job)[0]


def dump_and_ref(job: Job) -> tuple[str, str]:
    """Return what `dump` does, and the reference to the job's function as `function_ref` does. Raises what they do."""
    state = _described(job)
    for key in ("executor", *DEFAULTED):
        state[key] = getattr(job, key)
    policy = policy_of(job)
    state |= policy.given() | {"on_crash": policy.on_crash}
    text = json.dumps(state, separators=(",", ":"))
    if len(text) > MAX_DEFINITION:
        expected = f"at most {MAX_DEFINITION:,}, with the place of large data among the arguments instead of the data"
        raise InvalidDefinition("job", f"comes to {len(text):,} characters of JSON; expected {expected}")
    return text, state["func"]


def load(job_id: str, text: str, scheduler: Any) -> ScheduledJob:
    """Return the job that `dump` wrote, but for its next fire; its arguments are not held against its function again.

    Raises InvalidDefinition with the reason: no such function, a trigger, tag or key of newer code, or broken JSON.
    """
    state = _parse(text)
    func = resolve(state["func"])
    trigger = _built(state)
    policy = Policy.parse({key: state[key] for key in PARSERS if key in state})
    job = _assembled(job_id, state, scheduler, func, trigger, arguments.decode)
    job.policy = policy
    return job


def trigger_of(text: str) -> BaseTrigger:
    """Return the trigger of the job that `dump` wrote, whose function need not be there. Raises InvalidDefinition."""
    return _built(_parse(text))


def differences(before: str, after: str) -> str | None:
    """Return the keys in which two jobs that `dump` wrote differ, for a person; None where they do not."""
    try:
        return changed_keys(_parse(before), _parse(after))
    except InvalidDefinition:
        return None


def _built(state: Mapping[str, Any]) -> BaseTrigger:
    # What was written leaves nothing open that zone and time would have to fill.
    return parse_trigger(state["trigger"], where="trigger.").build(UTC, EPOCH)


def sketch(job_id: str, text: str, scheduler: Any, reason: str) -> ScheduledJob:
    """Return what can be shown of a job that `load` refuses for this `reason`; its trigger never fires."""
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        state = None
    stored = state if isinstance(state, dict) else {}
    known = {key: stored[key] for key in _TYPES if isinstance(stored.get(key, UNSET), _TYPES[key])}
    blank: dict[str, Any] = {"name": job_id, "func": None, "args": [], "kwargs": {}, "executor": "default"}
    blank |= {"misfire_grace_time": 1, "coalesce": True, "max_instances": 1}
    trigger = None
    with suppress(InvalidDefinition):
        trigger = _built(known) if "trigger" in known else None
    stand_in = Unrestorable(reason, trigger)
    job = _assembled(job_id, blank | known, scheduler, known.get("func"), stand_in, _decode_or_leave)
    for key in PARSERS:
        with suppress(InvalidDefinition):
            job.policy = job.policy._replace(**{key: PARSERS[key](key, stored.get(key, getattr(DEFAULT, key)))})
    return job


def _assembled(
    job_id: str, state: Mapping[str, Any], scheduler: Any, func: Any, trigger: BaseTrigger, decode: Callable[..., Any]
) -> ScheduledJob:
    job = ScheduledJob.__new__(ScheduledJob)
    job.id, job.name = job_id, state["name"]
    job.func, job.func_ref = func, state["func"]
    job.args = tuple(decode(value, where=f"args[{index}]") for index, value in enumerate(state["args"]))
    job.kwargs = {key: decode(value, where=f"kwargs.{key}") for key, value in state["kwargs"].items()}
    job.trigger = trigger
    job.executor = state["executor"]
    job.misfire_grace_time, job.coalesce = state["misfire_grace_time"], state["coalesce"]
    job.max_instances = state["max_instances"]
    job.next_run_time = None
    job._scheduler, job._jobstore_alias = scheduler, None
    return job


def _decode_or_leave(value: Any, *, where: str) -> Any:
    try:
        return arguments.decode(value, where=where)
    except InvalidDefinition:
        return value


def check_id(job_id: str) -> None:
    """Raise InvalidDefinition where not every database could keep this id, and tell it from others."""
    problem = ""
    if len(job_id) > MAX_ID:
        problem = f"at most {MAX_ID} characters"
    elif "\0" in job_id or not is_unicode(job_id):
        problem = "text without NUL characters and halves of surrogate pairs"
    elif job_id != job_id.rstrip():
        problem = "no blanks at its end, which databases overlook"
    if problem:
        raise InvalidDefinition("id", f"is {bounded_repr(job_id)}; expected {problem}")


def _described(job: Job) -> dict[str, Any]:
    return {
        "name": job.name,
        "func": function_ref(job.func),
        "args": [lossless(value, f"args[{index}]") for index, value in enumerate(job.args)],
        "kwargs": {key: lossless(value, f"kwargs.{key}") for key, value in job.kwargs.items()},
        "trigger": _trigger(spec_of(job.trigger)),
    }


def lossless(value: Any, where: str) -> Any:
    """Return an argument as JSON that gives it back. Raises InvalidDefinition naming the place, `where`."""
    encoded = arguments.encode(value, where=where)
    if encoded is None or type(encoded) in (bool, int):
        return encoded  # JSON gives these back, and most jobs have no others.
    back = arguments.decode(json.loads(json.dumps(encoded)), where=where)
    if arguments.encode(back, where=where) != encoded:
        # A time that the clocks skip; a surrogate pair in two halves.
        raise InvalidDefinition(where, f"is {bounded_repr(value)}, and would come back as {bounded_repr(back)}")
    return encoded


def _trigger(spec: TriggerSpec) -> dict[str, Any]:
    """Return a live trigger as JSON that gives it back."""
    shown = _as_written(spec)
    # One that was made by hand may have a zone without a name, or an interval beyond ours.
    if parse_trigger(shown, where="trigger.").to_dict() != shown:
        raise InvalidDefinition("trigger", f"is {shown}, and would come back as another")
    return shown


def _as_written(spec: TriggerSpec, where: str = "trigger") -> dict[str, Any]:
    if isinstance(spec, Custom):
        raise InvalidDefinition(
            where,
            f"is {bounded_repr(spec.instance)}, a trigger class of your own, which other processes may not have; use "
            f"one of {', '.join(TRIGGER_FIELDS)}, or the memory store",
        )
    if isinstance(spec, Combined):
        for index, part in enumerate(spec.triggers):
            _as_written(part, f"{where}.triggers[{index}]")
    return spec.to_dict()


def _parse(text: str) -> dict[str, Any]:
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDefinition("job", f"is stored as {bounded_repr(text, 100)}, which is no JSON: {error}") from None
    if not isinstance(state, dict):
        raise InvalidDefinition("job", f"is stored as {bounded_repr(text, 100)}; expected a JSON object")
    for key, expected in _TYPES.items():
        if not isinstance(state.get(key, UNSET), expected):
            found = bounded_repr(state[key]) if key in state else "missing"
            raise InvalidDefinition(key, f"is {found} in the stored job")
    if unknown := state.keys() - _TYPES.keys() - PARSERS.keys():
        raise InvalidDefinition(
            min(unknown), "stands in the stored job and is not known here: newer code has written it"
        )
    return state


# Declarations


def trigger_hash(definition: JobDefinition, timezone: tzinfo) -> str:
    """Return a hash of the trigger as it was written, with the zone in which it is read.

    What was left out counts as left out, not as what it became. Raises InvalidDefinition for a class of the user's own.
    """
    return _hash([_as_written(definition.trigger), zone_name(timezone)])


def options_hash(definition: JobDefinition, defaults: Mapping[str, Any]) -> str:
    """Return a hash of all that was written but id, store and trigger; `defaults` are the scheduler's for its jobs.

    Raises InvalidDefinition where `dump` would.
    """
    written = {
        "func": function_ref(definition.func),
        "args": arguments.encode([*definition.args], where="args"),
        "kwargs": arguments.encode(definition.kwargs, where="kwargs"),
        "name": definition.name,
        "executor": definition.executor,
        "on_crash": definition.policy.on_crash,
    } | definition.policy.given()
    for key in DEFAULTED:
        given = getattr(definition, key)
        written[key] = defaults[key] if given is UNSET else given
    if definition.next_run_time is not UNSET:
        written["next_run_time"] = arguments.encode(definition.next_run_time, where="next_run_time")
    return _hash(written)


def _hash(written: Any) -> str:
    # Unlike in Python, true is not 1 in JSON. The order of keys may come from a set, which has another in each process.
    return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:32]
