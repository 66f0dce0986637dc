"""The writer: brings the history into a database, and keeps what cannot be written yet."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from ..model.events import Event, RunEnded
from ..model.runs import RunRecord
from .clock import Clock
from .history import Source
from .history_ring import HistoryRing, Keeps
from .threads import DaemonPool

log = logging.getLogger("quart_sched")

_BATCH = 200
"""Records that are written in one transaction."""
_LINGER = 0.1
"""Seconds that a record waits for company."""
_LONGEST_WAIT = 30.0
_PRUNE_INTERVAL = 3600.0
_CLOSING_WAIT = 0.1
"""Seconds between attempts: the most while the database is away, and when little time is left."""


class WritableHistory(Source, Protocol):
    """A history that takes records in."""

    def write(self, records: Sequence[RunRecord]) -> None:
        """Add the records, whichever are not there yet. Raises anything where that fails."""

    def prune(self, before: datetime) -> int:
        """Delete some of the records from before that time; return how many."""

    def close(self) -> None:
        """Free the connections."""


class HistoryWriter:
    """Brings records into a database, from a thread of its own.

    A reader of the event stream. While the database is away it keeps the newest `size` records and tries again.
    """

    def __init__(
        self,
        history: WritableHistory,
        *,
        size: int,
        days: float = 30.0,
        clock: Clock,
        keeps: Keeps,
        under_way: Callable[[], Iterable[RunRecord]] = tuple,
    ) -> None:
        """Write the runs of the stores that `keeps` admits; `under_way` returns those that have not ended.

        Records are deleted again that are older than `days`.
        """
        self.history = history
        self._days = days
        self._pruned_at = float("-inf")
        self._prune_before: datetime | None = None
        """Up to when records are being deleted; None where all that were too old are gone."""
        self._clock = clock
        self._keeps = keeps
        self.waiting = HistoryRing(size, under_way)
        """What is not there yet: a source of the history."""
        self._dropped = 0
        self._away = False
        self._thread = DaemonPool("quart-sched-store")
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closing = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunEnded) and self._keeps(event.jobstore):
            self._dropped += self.waiting.add(event.record)
            self._begin()

    @property
    def away(self) -> bool:
        """Whether the database could not be written to when that was last tried."""
        return self._away

    def __len__(self) -> int:
        """Return how many records are still to be written."""
        return len(self.waiting)

    async def close(self, timeout: float) -> None:
        """Write what waits, for at most `timeout` seconds; the log says what could not be written."""
        self._closing = True
        try:
            self._begin()
            self._wake.set()
            if self._task is not None:
                _, late = await asyncio.wait([self._task], timeout=timeout)
                for task in late:
                    task.cancel()
                    await asyncio.wait([task])
        finally:
            self._closing = False
            self._task = None
            self._thread.submit(self.history.close)
            self._thread.stop()
        if len(self) or self._dropped:
            log.error(
                "The run history could not be written: %d records are lost, and %d that had been dropped before",
                len(self),
                self._dropped,
            )

    def _begin(self) -> None:
        """Have a task that writes, unless there is one, or nothing to write, or no loop yet."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        busy = self._task is not None and not self._task.done() and self._task.get_loop() is loop
        if len(self) and not busy:
            self._task = loop.create_task(self._write(), context=Context())

    async def _write(self) -> None:
        failures = 0
        while len(self):
            if len(self) < _BATCH and not self._closing:
                await self._pause(_LINGER)
            batch = self.waiting.oldest(_BATCH)
            try:
                await asyncio.wrap_future(self._thread.submit(partial(self.history.write, batch)))
            except Exception as error:
                # Whatever it is, the records stay here, and the next attempt may go better.
                failures += 1
                self._note_failure(error)
                await self._pause(min(0.5 * 2.0 ** min(failures, 10), _LONGEST_WAIT) * random.uniform(0.5, 1))
            else:
                failures = 0
                # Those that had to make room meanwhile have been written all the same.
                self._dropped -= len(batch) - self.waiting.remove(batch)
                self._note_success()
                await self._prune()

    async def _prune(self) -> None:
        """Delete old records, once an hour, a batch at a time; go on later once there is something to write."""
        if self._clock.monotonic() - self._pruned_at >= _PRUNE_INTERVAL:
            self._pruned_at = self._clock.monotonic()
            self._prune_before = self._clock.now() - timedelta(days=self._days)
        try:
            while self._prune_before is not None and not self._closing:
                if not await asyncio.wrap_future(self._thread.submit(partial(self.history.prune, self._prune_before))):
                    self._prune_before = None
                if len(self):
                    # There is room for so many only, and deleting may take very long.
                    return
        except Exception as error:
            self._prune_before = None
            log.warning("Old records could not be deleted: %s", error)

    async def _pause(self, seconds: float) -> None:
        self._wake = asyncio.Event()
        await self._clock.wait(self._wake, min(seconds, _CLOSING_WAIT) if self._closing else seconds)

    def _note_failure(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            log.error(
                "%s. The newest %d records are kept in memory until they can be written", error, self.waiting.size
            )

    def _note_success(self) -> None:
        if self._away or (self._dropped and not len(self)):
            log.warning("The run history is being written again; %d records had to be dropped", self._dropped)
            self._away = False
            self._dropped = 0
