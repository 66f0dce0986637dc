"""What the tests share: virtual time, and schedulers in it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from quart import Quart

from quart_sched import APScheduler, Scheduler
from quart_sched.testing import VirtualClock, VirtualEventLoop, virtual_time

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

# How long an example takes depends on the machine and on what else it does.
settings.register_profile("unhurried", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# A shell that runs the suite in the background has it ignore Ctrl-C, and every process that the tests start
# would inherit that (POSIX, execve).
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


async def settle() -> None:
    """Let everything on the loop that can go on go on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Wait, in real time, for what another thread or process does; return the condition's value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.to_thread(time.sleep, 0.005)
    return value


@pytest.fixture
async def virtual_loop() -> AsyncIterator[VirtualEventLoop]:
    """The test's own loop, made a virtual one."""
    with VirtualEventLoop.adopt(asyncio.get_running_loop()) as loop:
        yield loop


@pytest.fixture
async def clock(virtual_loop: VirtualEventLoop) -> AsyncIterator[VirtualClock]:
    """Virtual time, from START on."""
    async with virtual_time(start=START) as clock:
        yield clock


@pytest.fixture
def app() -> Quart:
    return Quart("test_app")


@pytest.fixture
def scheduler(clock: VirtualClock) -> APScheduler:
    """A scheduler in virtual time, in UTC, not bound to an app yet."""
    scheduler = APScheduler(Scheduler(timezone="UTC"))
    clock.join(scheduler)
    return scheduler


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
