"""The loader: turns rows into jobs, each version once, and remembers what this process cannot load."""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Iterable
from copy import deepcopy
from typing import Any

from apscheduler.job import Job

from ...errors import InvalidDefinition
from ...model import state
from ...model.functions import resolve
from ...model.jobs import ScheduledJob, copy_with
from ...model.policies import PARSERS, Policy
from ...model.unrestorable import Unrestorable
from .rows import moment_of

_CACHE_LIMIT = 100_000
JOB_COLUMNS = (
    "id, incarnation, next_us, func, definition, version, last_us, held_us, paused_us, paused_by, orphan_us, "
    "broken_us, broken_reason, ended_us, source, modified, trig_hash, decl_hash"
)
_HOLDERS = (list, dict, tuple)
"""Arguments that can be changed, or hold what can."""
CLAIM_COLUMNS = "id, incarnation, next_us, func, version, last_us"
"""What a claim needs to know of a job that is loaded already."""


def keys_of(definition: str) -> dict[str, Any]:
    """Return what a definition says without loading its job; one that is damaged says nothing."""
    try:
        found = json.loads(definition)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def policy_in(definition: str, keys: Collection[str] = PARSERS) -> Policy | None:
    """Return the policy in a definition, as far as its `keys` go; None where it is damaged, or of newer code."""
    given = keys_of(definition)
    try:
        return Policy.parse({key: given[key] for key in keys if key in given}) if given else None
    except InvalidDefinition:
        return None


def for_run(job: Job) -> Job:
    """Return the job as a run gets it, which may change the arguments of its own, and none that later runs get."""
    if any(isinstance(value, _HOLDERS) for value in (*job.args, *job.kwargs.values())):
        return copy_with(job, args=deepcopy(job.args), kwargs=deepcopy(job.kwargs))
    return job


class JobLoader:
    """Loads jobs for one process. Its answers hold until `forget_failures`."""

    def __init__(self, scheduler: Any, alias: str) -> None:
        self._scheduler = scheduler
        self._alias = alias
        self._cache: dict[str, ScheduledJob] = {}
        self._good: set[str] = set()
        self.bad_functions: dict[str, str] = {}
        """Functions that this process cannot load, and why."""
        self.bad_jobs: dict[str, str] = {}
        """Jobs that this process cannot load for another reason, and why."""

    def is_known(self, func: str) -> bool:
        """Tell whether loading this function has been tried, so that it costs no import."""
        return func in self._good or func in self.bad_functions

    def learn(self, functions: Iterable[str]) -> None:
        """Try to load functions, which may import modules and so take time: not within a transaction."""
        for func in functions:
            if not self.is_known(func):
                try:
                    resolve(func)
                except InvalidDefinition as error:
                    self.bad_functions[func] = str(error)
                else:
                    self._good.add(func)

    @property
    def has_failures(self) -> bool:
        """Whether there is anything that this process could not load."""
        return bool(self.bad_functions or self.bad_jobs)

    def forget_failures(self) -> None:
        """Try again what could not be loaded."""
        self.bad_functions.clear()
        self.bad_jobs.clear()

    def forget(self, job_ids: Iterable[str]) -> None:
        """Keep jobs no more that will not be claimed again."""
        for job_id in job_ids:
            self._cache.pop(job_id, None)

    def loaded(self, row: Any) -> ScheduledJob | None:
        """Return the job of a row of CLAIM_COLUMNS, if this version of it has been loaded."""
        job = self._cache.get(row.id)
        return job if job is not None and job.version == row.version and job.incarnation == row.incarnation else None

    def load(self, row: Any) -> ScheduledJob:
        """Return the job of a row: of JOB_COLUMNS, or of CLAIM_COLUMNS if it is loaded.

        Raises InvalidDefinition where this process cannot load it.
        """
        job = self.loaded(row)
        if job is None:
            job = state.load(row.id, row.definition, self._scheduler)
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[row.id] = job
            self._describe(job, row)
        else:
            # All that moves without the version.
            job.next_run_time = None if row.next_us is None else moment_of(job, row.next_us)
        return job

    def attempt(self, row: Any, usable: Container[str]) -> ScheduledJob | None:
        """Return the job, or None, noting why, where this process cannot load it or has no executor for it."""
        if row.func in self.bad_functions:
            return None
        try:
            job = self.load(row)
        except InvalidDefinition as error:
            self.bad_jobs[row.id] = str(error)
            return None
        if job.executor not in usable:
            self.bad_jobs[row.id] = f'there is no executor "{job.executor}"'
            return None
        return job

    def show(self, row: Any) -> ScheduledJob:
        """Return a job of its own for a reader or a change, also of a row that cannot be loaded: that is `broken`."""
        try:
            job = state.load(row.id, row.definition, self._scheduler)
        except InvalidDefinition as error:
            job = state.sketch(row.id, row.definition, self._scheduler, str(error))
            job.func_ref, job.broken = row.func, str(error)
        self._describe(job, row)
        if job.broken is None and row.id in self.bad_jobs:
            job.broken = self.bad_jobs[row.id]
        return job

    def _describe(self, job: ScheduledJob, row: Any) -> None:
        job.next_run_time = None if row.next_us is None else moment_of(job, row.next_us)
        job.last_fire = None if row.last_us is None else moment_of(job, row.last_us)
        job.version, job.incarnation, job.source = row.version, row.incarnation, row.source
        job.modified = bool(row.modified)
        job.declared = row.source == "declared" and row.orphan_us is None
        pruned = row.orphan_us is not None and row.next_us is None
        job.paused_by = row.paused_by if row.paused_us is not None else "prune" if pruned else None
        if row.broken_us is not None:
            job.broken = row.broken_reason
        elif not isinstance(job.trigger, Unrestorable):
            job.broken = None
        job._jobstore_alias = self._alias
