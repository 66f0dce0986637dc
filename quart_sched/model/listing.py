"""Lists of jobs: what is searched, filtered and sorted of each job, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from apscheduler.job import Job

from ..errors import InvalidDefinition
from . import pages
from .arguments import bounded_repr
from .fields import whole
from .jobs import state_of
from .policies import policy_of
from .runs import OUTCOMES

OVERDUE = timedelta(seconds=30)
"""How late a fire is before its job counts as overdue: more than a pump that is merely busy takes."""
JOB_STATES = ("running", "overdue", "broken", "paused", "scheduled", "pending")
"""How a job can stand. It may be running besides anything else."""
SORTS = ("next", "name", "id", "state", "outcome")

_OFFSET = whole(0, 10**9, text=True)


@dataclass(frozen=True, slots=True)
class JobEntry:
    """What a list knows of a job without loading it."""

    id: str
    name: str
    func: str
    tags: tuple[str, ...]
    state: str
    next_run_time: datetime | None
    jobstore: str

    @classmethod
    def of(cls, job: Job, alias: str, broken: str | None = None) -> Self:
        """Return the entry of a job that is at hand; `broken` is why it cannot run."""
        next_run_time = None if job.pending else job.next_run_time
        tags = policy_of(job).tags
        return cls(job.id, str(job.name), job.func_ref or "", tags, state_of(job, broken), next_run_time, alias)

    def judged(self, now: datetime, overdue: Collection[str] = ()) -> JobEntry:
        """Return the entry as overdue where an alarm says so, or its next fire should have been a while ago."""
        if self.state != "scheduled" or self.next_run_time is None:
            return self
        return replace(self, state="overdue") if self.next_run_time < now - OVERDUE or self.id in overdue else self


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs in the order asked for; `total` is how many there are on all pages.

    `states` counts all jobs by state, whatever was asked for, and `tags` are those of all jobs.
    """

    items: tuple[tuple[JobEntry, Job], ...]
    total: int
    offset: int
    states: Mapping[str, int]
    tags: tuple[str, ...]

    @property
    def next(self) -> int | None:
        """The offset of the page behind this one; None where this is the last."""
        end = self.offset + len(self.items)
        return end if self.items and end < self.total else None


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs to list, and in what order. `search` is looked for in id, name, function and tags.

    The jobs with the ids `first` come before all others, in that order; with `ids` there are these alone, and
    with `after` those of greater ids.
    """

    search: str = ""
    state: str | None = None
    tag: str | None = None
    outcome: str | None = None
    sort: str = "next"
    descending: bool = False
    offset: int = 0
    limit: int = 50
    first: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    after: str | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Take the fields as Python's objects or as text; None and "" stand for what is not given.

        Raises InvalidDefinition naming the key, the value and what was expected.
        """
        given = {key: value for key, value in values.items() if value not in (None, "")}
        for key, allowed in (("state", JOB_STATES), ("outcome", (*OUTCOMES, "none")), ("sort", SORTS)):
            if key in given and given[key] not in allowed:
                raise InvalidDefinition(key, f"is {bounded_repr(given[key])}; expected one of {', '.join(allowed)}")
        descending = given.get("descending", False)
        return cls(
            str(given.get("search", "")).strip(),
            given.get("state"),
            given.get("tag"),
            given.get("outcome"),
            given.get("sort", "next"),
            descending in (True, "1", "true"),
            _OFFSET("offset", given.get("offset", 0)),
            pages.LIMIT("limit", given.get("limit", 50)),
            tuple(given.get("first", ())),
            None if "ids" not in given else tuple(given["ids"]),
            given.get("after"),
        )

    @property
    def needs_outcomes(self) -> bool:
        """Whether the last outcome of every job has to be known."""
        return self.outcome is not None or self.sort == "outcome"

    def select(
        self, entries: Iterable[JobEntry], running: Collection[str], outcomes: Mapping[str, str]
    ) -> list[JobEntry]:
        """Return all entries that are asked for, in order; they have been judged."""
        chosen = [entry for entry in entries if self.ids is None or entry.id in self.ids]
        if self.after is not None:
            chosen = [entry for entry in chosen if entry.id > self.after]
        if self.search:
            words = self.search.casefold().split()
            chosen = [entry for entry in chosen if _has(entry, words)]
        if self.state == "running":
            chosen = [entry for entry in chosen if entry.id in running]
        elif self.state is not None:
            chosen = [entry for entry in chosen if entry.state == self.state]
        if self.tag is not None:
            chosen = [entry for entry in chosen if self.tag in entry.tags]
        if self.outcome is not None:
            chosen = [entry for entry in chosen if outcomes.get(entry.id, "none") == self.outcome]
        chosen = self._sorted(chosen, outcomes)
        if not self.first:
            return chosen
        leading = {entry.id: entry for entry in chosen if entry.id in self.first}
        return [
            *(leading[job_id] for job_id in self.first if job_id in leading),
            *(entry for entry in chosen if entry.id not in leading),
        ]

    def _sorted(self, entries: list[JobEntry], outcomes: Mapping[str, str]) -> list[JobEntry]:
        entries.sort(key=lambda entry: entry.id)
        if self.sort == "next":
            # Those without a next fire come last, in either direction.
            waiting = [entry for entry in entries if entry.next_run_time is not None]
            waiting.sort(key=_next, reverse=self.descending)
            return waiting + [entry for entry in entries if entry.next_run_time is None]
        keys = {
            "id": lambda entry: entry.id,
            "name": lambda entry: entry.name.casefold(),
            "state": lambda entry: JOB_STATES.index(entry.state),
            "outcome": lambda entry: _WORST.get(outcomes.get(entry.id, "none"), len(_WORST)),
        }
        entries.sort(key=keys[self.sort], reverse=self.descending)
        return entries


_WORST = {
    outcome: rank
    for rank, outcome in enumerate(
        ("failed", "timed_out", "lost", "missed", "cancelled", "skipped", "coalesced", "succeeded")
    )
}


def count_states(entries: Iterable[JobEntry], running: Collection[str]) -> dict[str, int]:
    """Return how many jobs are in each state; those that run are counted there too."""
    found = Counter(entry.state for entry in entries)
    return {state: len(running) if state == "running" else found[state] for state in JOB_STATES}


def _has(entry: JobEntry, words: list[str]) -> bool:
    text = f"{entry.id}\n{entry.name}\n{entry.func}\n{' '.join(entry.tags)}".casefold()
    return all(word in text for word in words)


def _next(entry: JobEntry) -> float:
    return entry.next_run_time.timestamp() if entry.next_run_time is not None else 0.0
