"""The one source of time. Everything that waits or dates asks a Clock, so that tests can put their own in its place."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class Clock:
    """Real time. A test's clock overrides all three."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never jump, for measuring durations and deadlines."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> None:
        """Return as soon as `event` is set, or after `timeout` seconds (None: no limit)."""
        if timeout is None:
            await event.wait()
            return
        # A timer that sets the event is several times cheaper than asyncio.wait_for, and this is the pump's own wait.
        timer = asyncio.get_running_loop().call_later(timeout, event.set)
        try:
            await event.wait()
        finally:
            timer.cancel()
