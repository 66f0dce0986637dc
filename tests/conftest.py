"""What the tests share: a clock that stands still until it is moved, and schedulers on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from quart import Quart

from quart_sched import APScheduler, Scheduler
from quart_sched.engine.clock import Clock

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class ManualClock(Clock):
    """Time that moves when a test says so."""

    real = False

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._origin = start
        self._waiting: list[tuple[datetime, asyncio.Event]] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._origin).total_seconds()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> None:
        if timeout is None:
            await event.wait()
            return
        if timeout <= 0:
            event.set()
            await asyncio.sleep(0)
            return
        # Less than the clock can show is a step of it, or time would stand still.
        entry = (self._now + max(timedelta(seconds=timeout), timedelta(microseconds=1)), event)
        self._waiting.append(entry)
        try:
            await event.wait()
        finally:
            self._waiting.remove(entry)

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


async def settle() -> None:
    """Let everything on the loop that can go on go on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Wait, in real time, for what another thread or process does; return the condition's value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
    return value


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def app() -> Quart:
    return Quart("test_app")


@pytest.fixture
def scheduler(clock: ManualClock) -> APScheduler:
    """A scheduler on the manual clock, in UTC, not bound to an app yet."""
    return APScheduler(Scheduler(clock=clock, timezone="UTC"))


@pytest.fixture
def serve() -> Callable[..., Any]:
    """Bind a scheduler to an app, start it, and serve: `async with serve(scheduler, app) as client`."""

    @asynccontextmanager
    async def serving(scheduler: APScheduler, app: Quart, *, start: bool = True, **config: Any) -> AsyncIterator[Any]:
        app.config.update({"SCHEDULER_TIMEZONE": "UTC"} | config)
        scheduler.init_app(app)
        if start:
            scheduler.start()
        async with app.test_app() as test_app:
            yield test_app.test_client()

    return serving
