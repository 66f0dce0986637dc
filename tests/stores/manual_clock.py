"""The clock of the processes that share an SQL store."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from quart_sched.engine.clock import Clock
from tests.conftest import START, settle


class ManualClock(Clock):
    """Time that moves when a test says so, for processes some of which are killed, cut off or without an event loop.

    Virtual time would wait for what those have under way.
    """

    real = False

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._origin = start
        self._waiting: list[tuple[datetime, asyncio.Event]] = []
        self._waited_for: list[asyncio.Event] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._origin).total_seconds()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            event.set()
            await asyncio.sleep(0)
            return
        entries = [] if timeout is None else [(self._now + timedelta(seconds=timeout), event)]
        self._waiting += entries
        self._waited_for.append(event)
        try:
            await event.wait()
        finally:
            self._waited_for.remove(event)
            for entry in entries:
                self._waiting.remove(entry)

    def is_waited_for(self, event: asyncio.Event) -> bool:
        """Tell whether somebody goes on only when this event comes, or in time."""
        return event in self._waited_for and not event.is_set()

    def jump(self, seconds: float) -> None:
        """Move the time without telling anybody, as a process that was stopped would see it."""
        self._now += timedelta(seconds=seconds)

    async def advance(self, seconds: float) -> None:
        """Move the time on, waking whoever waits at the moment that he waits for."""
        target = self._now + timedelta(seconds=seconds)
        await settle()
        while due := [entry for entry in self._waiting if entry[0] <= target and not entry[1].is_set()]:
            moment, event = min(due, key=lambda entry: entry[0])
            self._now = max(self._now, moment)
            event.set()
            await settle()
        self._now = target
        await settle()
