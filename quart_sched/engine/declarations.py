"""Declarations: jobs as their authors wrote them, kept until the scheduler starts, and over a change of app."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger

from ..errors import ConfigError, DuplicateJob, InvalidDefinition
from ..model.functions import JobFunction, check_call, describe, reference, runs_on_loop
from ..model.jobs import DEFAULTED, UNSET, JobChanges, JobDefinition, ScheduledJob
from ..model.policies import DESCRIPTIVE, Policy, check_policy, split, with_changes
from ..stores.slot import Slot
from .executors import ForeignExecutor

if TYPE_CHECKING:
    from .scheduler import Scheduler

Origin = Literal["task", "unbound", "config", "app"]
"""Who declared a job: the decorator, code before there was an app, the configuration, or code for the bound app."""


@dataclass
class Declared:
    """A job that waits for the start. An `inherited` one was declared for an app before this one."""

    definition: JobDefinition
    job: Job
    origin: Origin
    inherited: bool = False
    hashes: tuple[str, str] | None = None
    """Of the trigger and of all else, as a shared store compares them."""


class Declarations:
    """The jobs that wait for the start, and those that outlive their app."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._declared: dict[str, Declared] = {}
        self._kept: dict[str, JobDefinition] = {}
        self._applied: dict[str, Declared] = {}
        self.registered: dict[str, JobFunction] = {}
        """The functions that the code and the configuration have made jobs of, by reference."""

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._declared

    def __len__(self) -> int:
        return len(self._declared)

    def get(self, job_id: str, alias: str | None = None) -> Declared | None:
        """Return the job that waits under this id, if it is meant for this store."""
        entry = self._declared.get(job_id)
        return entry if entry is not None and alias in (None, entry.definition.jobstore) else None

    def of(self, alias: str | None) -> list[Declared]:
        """Return the jobs that wait for this store, or for any."""
        return [entry for entry in list(self._declared.values()) if alias in (None, entry.definition.jobstore)]

    def all(self, alias: str) -> list[Declared]:
        """Return what the code declares for this store, be it in there already or not."""
        entries = {**self._applied, **self._declared}
        return [entry for entry in entries.values() if entry.definition.jobstore == alias]

    def drop(self, job_id: str) -> None:
        """Forget the job, which was removed."""
        self._declared.pop(job_id, None)

    def applied(self, entry: Declared) -> None:
        """Take note that the job is in its store now."""
        self._declared.pop(entry.definition.id, None)
        self._applied[entry.definition.id] = entry

    def restore(self, alias: str) -> None:
        """Let the jobs of a store that was closed wait for it again, as they would in a new process."""
        for job_id, entry in list(self._applied.items()):
            if entry.definition.jobstore == alias and job_id not in self._declared:
                self._declared[job_id] = Declared(entry.definition, self.pending(entry.definition), entry.origin)

    def check(
        self,
        jobs: Iterable[JobDefinition],
        *,
        executors: Mapping[str, Any],
        stores: Mapping[str, Slot],
        rebind: bool,
    ) -> None:
        """Raise ConfigError, DuplicateJob or InvalidDefinition where the configured `jobs` and the declared ones,
        the executors and the stores do not go together."""
        waiting = self._kept
        if not rebind:
            waiting = {entry.definition.id: entry.definition for entry in self._waiting("task", "unbound", "app")}
        for definition in jobs:
            if definition.id in waiting and not definition.replace_existing:
                raise DuplicateJob(definition.id, f"declared as {describe(waiting[definition.id].func)}")
        for definition in (*jobs, *waiting.values()):
            try:
                self.check_place(definition, executors, stores)
            except InvalidDefinition as error:
                raise ConfigError(f"Job {definition.id}: {error}") from error

    def check_place(self, definition: JobDefinition, executors: Mapping[str, Any], stores: Mapping[str, Slot]) -> None:
        """Raise InvalidDefinition where the store or executor is none, or cannot take this job."""
        check_place(definition, executors, stores)
        if (slot := stores[definition.jobstore]).blocking:
            slot.check(self.pending(definition))

    def begin(self, *, rebind: bool) -> None:
        """Make room for a configuration; with `rebind`, for one of another app."""
        if rebind:
            self.registered = {ref: d.func for d in self._kept.values() if (ref := reference(d.func)) is not None}
            self._applied.clear()
            self._declared = {
                definition.id: Declared(definition, self.pending(definition), "task", inherited=True)
                for definition in self._kept.values()
            }
        for entry in self._waiting("config"):
            self.drop(entry.definition.id)
        self._applied = {job_id: entry for job_id, entry in self._applied.items() if entry.origin != "config"}

    def declare(self, definition: JobDefinition, origin: Origin) -> Job:
        """Keep the job for the start; its trigger is tried out now. Raises DuplicateJob or InvalidDefinition."""
        existing = self._declared.get(definition.id) or self._applied.get(definition.id)
        if existing is not None and not (existing.inherited or definition.replace_existing):
            raise DuplicateJob(definition.id, f"declared as {describe(existing.definition.func)}")
        job = self.pending(definition)
        self._declared[definition.id] = Declared(definition, job, origin)
        return job

    def remember(self, definition: JobDefinition, origin: Origin, *, started: bool) -> None:
        """Keep the definition for the next app too, if it is the code's own, and its function for the API."""
        if origin == "task" or (origin == "unbound" and not started):
            self._kept[definition.id] = definition
        if origin != "app" and (ref := reference(definition.func)) is not None:
            self.registered[ref] = definition.func

    def modify(self, entry: Declared, changes: JobChanges) -> None:
        """Change a job that waits. Raises InvalidDefinition, and then nothing has changed."""
        of_policy, options = split(changes.fields)
        policy = with_changes(entry.definition.policy, of_policy)
        definition = replace(entry.definition, **options, policy=policy)
        if changes.trigger is not None:
            definition = replace(definition, trigger=changes.trigger)
        check_policy(definition.policy, definition.func)
        runs_on_loop(definition.func)
        check_call(definition.func, definition.args, definition.kwargs)
        fresh = self.pending(definition)
        for key in (*Job.__slots__, "policy"):
            if hasattr(fresh, key) and key != "__weakref__":
                setattr(entry.job, key, getattr(fresh, key))
            elif key == "next_run_time" and hasattr(entry.job, key):
                del entry.job.next_run_time
        entry.definition = definition
        entry.hashes = None

    def pending(self, definition: JobDefinition, resolved: Mapping[str, Any] | None = None) -> Job:
        """Make the job object, still without a store; its trigger is tried out now, so that mistakes show here.

        `resolved` are its trigger and the options that may be left open; without it these stay open.
        """
        if resolved is None:
            keys = (*DEFAULTED, "next_run_time")
            given = {key: value for key in keys if (value := getattr(definition, key)) is not UNSET}
            resolved = given | {"trigger": self.trigger(definition)}
        return ScheduledJob(
            self._scheduler,
            id=definition.id,
            name=definition.name,
            func=definition.func,
            args=definition.args,
            kwargs=definition.kwargs,
            executor=definition.executor,
            policy=definition.policy,
            **resolved,
        )

    def trigger(self, definition: JobDefinition) -> BaseTrigger:
        """Build the definition's trigger as of now. Raises InvalidDefinition."""
        with mistakes_told():
            return definition.trigger.build(self._scheduler.timezone, self._scheduler.clock.now())

    def _waiting(self, *origins: Origin) -> list[Declared]:
        return [entry for entry in list(self._declared.values()) if entry.origin in origins]


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Turn what is raised where a job is made into InvalidDefinition."""
    try:
        yield
    except InvalidDefinition:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidDefinition("job", str(error)) from error


def check_place(definition: JobDefinition, executors: Mapping[str, Any], stores: Mapping[str, Slot]) -> None:
    """Raise InvalidDefinition where the definition's store or executor is none, or not one for its function."""
    if definition.jobstore not in stores:
        raise InvalidDefinition("jobstore", f"is {definition.jobstore!r}; expected one of {listed(stores)}")
    check_executor(definition.executor, definition.func, executors, definition.policy)


def check_executor(alias: str, func: JobFunction, executors: Mapping[str, Any], policy: Policy) -> None:
    """Raise InvalidDefinition where there is no such executor, or not for a job with this function and policy."""
    if alias not in executors:
        raise InvalidDefinition("executor", f"is {alias!r}; expected one of {listed(executors)}")
    executor = executors[alias]
    if not (isinstance(executor, ForeignExecutor) and executor.in_processes):
        return
    if runs_on_loop(func):
        raise InvalidDefinition(
            "executor", f"{alias!r} is a process pool, which cannot run the coroutine {describe(func)}"
        )
    for key, value in policy.given().items():
        if key not in DESCRIPTIVE:
            raise InvalidDefinition(
                key, f"is {value!r}, which does not apply to a process pool; leave it out with executor {alias!r}"
            )


def listed(aliases: Iterable[str]) -> str:
    """Return the aliases as they stand in a message."""
    return ", ".join(map(repr, sorted(aliases)))
