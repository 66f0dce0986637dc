"""The one source of time. Everything that waits or dates asks a Clock, so that tests can put their own in its place."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

# Unlike CLOCK_MONOTONIC it goes on while the machine is suspended, when leases run out all the same.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


class Clock:
    """Real time. A test's clock overrides all that is here, and is not `real`."""

    real = True
    offset = timedelta(0)
    """What a shared database's clock is ahead of this machine's."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.now(UTC) + self.offset

    def monotonic(self) -> float:
        """Return seconds that never jump, for measuring durations and deadlines."""
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)

    def agree(self, earliest: timedelta, latest: timedelta) -> None:
        """Take note that a shared database's clock is ahead by something from `earliest` to `latest`.

        The offset moves no further than it must, so that a time that was right does not waver.
        """
        self.offset = min(max(self.offset, earliest), latest)

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
