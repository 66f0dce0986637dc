"""Runs that wait in this process: retries, fires in a queue, and backfills, of stores that no other process shares."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field

from apscheduler.executors.base import BaseExecutor

from ..model.events import RunEnded
from ..model.runs import Run
from .clock import Clock
from .executors import ForeignExecutor

_LATER = 1.0
"""Seconds by which a run is put off that cannot start yet, unless it is told of a free place before."""


@dataclass(eq=False, slots=True)
class Waiting:
    """A run that waits for its time or its place, and where it is to run."""

    run: Run
    jobstore: str | None
    executor: BaseExecutor | ForeignExecutor
    generation: int
    """Which start of the scheduler it belongs to."""
    due: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class WaitingRuns:
    """Begins runs when they are due and there is a place for them. They hold no instance of their job until then."""

    def __init__(self, begin: Callable[[Waiting], bool], give_up: Callable[[Waiting, str], None]) -> None:
        """Take what begins a run (False where it cannot start now), and what ends one that never starts."""
        self._begin = begin
        self._give_up = give_up
        self._entries: dict[str, dict[str, Waiting]] = {}
        """By job and run, as there may be very many, and what concerns one job is not to look at the others."""
        self._lanes: dict[str, tuple[deque[Waiting], Clock]] = {}
        """What follows the fire that is under way in each lane, by its id."""

    def __bool__(self) -> bool:
        """Whether any run waits."""
        return bool(self._entries)

    def add(self, entry: Waiting, seconds: float, clock: Clock) -> None:
        """Begin the run in so many seconds."""
        self._enter(entry)
        self._begin_later(entry, seconds, clock)

    def _enter(self, entry: Waiting) -> None:
        self._entries.setdefault(entry.run.job_id, {})[entry.run.run_id] = entry

    def _leave(self, entry: Waiting) -> None:
        others = self._entries[entry.run.job_id]
        del others[entry.run.run_id]
        if not others:
            del self._entries[entry.run.job_id]

    def _all(self, job_id: str | None = None) -> list[Waiting]:
        if job_id is not None:
            return list(self._entries.get(job_id, {}).values())
        # Copies: it may change meanwhile.
        return [entry for entries in list(self._entries.values()) for entry in list(entries.values())]

    def _begin_later(self, entry: Waiting, seconds: float, clock: Clock) -> None:
        entry.task = Context().run(asyncio.get_running_loop().create_task, self._wait(entry, seconds, clock))

    def add_lane(self, entries: list[Waiting], clock: Clock) -> None:
        """Begin the runs one after the other, each when the one before it has ended for good."""
        lane = deque(entries)
        for entry in entries:
            self._enter(entry)
        self._advance(lane, clock)

    def hear(self, event: RunEnded) -> None:
        """Take note of the end of a run, which may be the beginning of the next one of its lane."""
        if event.record.final and event.record.fire_id in self._lanes:
            self._advance(*self._lanes.pop(event.record.fire_id))

    def _advance(self, lane: deque[Waiting], clock: Clock) -> None:
        while lane:
            entry = lane.popleft()
            if entry.run.run_id in self._entries.get(entry.run.job_id, ()):  # and not cancelled meanwhile
                self._lanes[entry.run.fire_id] = (lane, clock)
                self._begin_later(entry, 0.0, clock)
                return

    def runs(self, job_id: str | None = None) -> list[Run]:
        """Return the runs that wait, of one job, in the order in which they came, or of all; safe from any thread."""
        return [entry.run for entry in self._all(job_id)]

    def offer(self, job_id: str) -> None:
        """Tell those that only wait for a place that one of their job is free."""
        for entry in self._all(job_id):
            if entry.due:
                entry.wake.set()

    def cancel(self, run_id: str, why: str) -> bool:
        """Give up this run, if it waits here; tell whether it does."""
        return self._drop([entry for entry in self._all() if entry.run.run_id == run_id], why)

    def drop(
        self, why: str, job_id: str | None = None, *, jobstore: str | None = None, generation: int | None = None
    ) -> None:
        """Give up the runs that wait: all, or those of one job, of one job store, or up to one generation."""
        chosen = (entry for entry in self._all(job_id) if jobstore in (None, entry.jobstore))
        self._drop([entry for entry in chosen if generation is None or entry.generation <= generation], why)

    def _drop(self, entries: list[Waiting], why: str) -> bool:
        for entry in entries:
            self._leave(entry)
            if entry.task is not None and not entry.task.get_loop().is_closed():
                entry.task.cancel()
            self._give_up(entry, why)
        return bool(entries)

    async def _wait(self, entry: Waiting, seconds: float, clock: Clock) -> None:
        if seconds > 0:
            await clock.wait(entry.wake, seconds)
        entry.due = True
        while not self._begin(entry):
            entry.wake.clear()
            await clock.wait(entry.wake, _LATER)
        self._leave(entry)
