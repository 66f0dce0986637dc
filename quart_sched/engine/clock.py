"""The one source of time. Everything that waits or dates asks a Clock, so that tests can put their own in its place."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

# Unlike CLOCK_MONOTONIC it goes on while the machine is suspended, when leases run out all the same.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)
LONGEST_TIMER = 60.0
"""Seconds after which who waits looks at the time again: the event loop's timers stand still while the machine does."""


class Clock:
    """Real time, unless another clock answers in its place. A test's own class overrides all that is here."""

    offset = timedelta(0)
    """What a shared database's clock is ahead of this machine's."""
    _stand_in: Clock | None = None
    _lead = 0.0
    """Seconds by which stand-ins have been ahead of real time when they left."""

    @property
    def real(self) -> bool:
        """Whether this is real time, and not a test's."""
        return self._stand_in is None

    @property
    def current(self) -> Clock:
        """The clock that answers: this one, or the one in its place."""
        return self if self._stand_in is None else self._stand_in

    def replace(self, other: Clock | None) -> None:
        """Let `other` answer in this one's place, for all who hold this one; None ends that.

        Monotonic time does not go back over it. Who waits already is to be woken.
        """
        before = self.monotonic()
        self._stand_in = None
        self._lead += max(0.0, before - self.monotonic())
        self._stand_in = other

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        if self._stand_in is not None:
            return self._stand_in.now()
        return datetime.now(UTC) + self.offset if self.offset else datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never jump, for measuring durations and deadlines."""
        if self._stand_in is not None:
            return self._stand_in.monotonic()
        return (time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)) + self._lead

    def agree(self, earliest: timedelta, latest: timedelta) -> None:
        """Take note that a shared database's clock is ahead by something from `earliest` to `latest`.

        The offset moves no further than it must, so that a time that was right does not waver.
        """
        self.offset = min(max(self.offset, earliest), latest)

    async def wait(self, event: asyncio.Event, timeout: float | None) -> None:
        """Return as soon as `event` is set, or after `timeout` seconds (None: no limit).

        Time in which the machine was suspended counts, and is noticed within LONGEST_TIMER of its waking up.
        """
        if self._stand_in is not None:
            await self._stand_in.wait(event, timeout)
            return
        if timeout is None:
            await event.wait()
            return
        # A timer that sets the event is several times cheaper than asyncio.wait_for, and this is the pump's own wait.
        loop, deadline = asyncio.get_running_loop(), self.monotonic() + timeout
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            if (left := deadline - self.monotonic()) <= 0:
                event.set()
            else:
                timer = loop.call_later(min(left, LONGEST_TIMER), look)

        timer = (
            loop.call_later(timeout, event.set) if timeout <= LONGEST_TIMER else loop.call_later(LONGEST_TIMER, look)
        )
        try:
            await event.wait()
        finally:
            timer.cancel()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await self.wait(asyncio.Event(), seconds)

    def block(self, seconds: float) -> None:
        """Hold up the calling thread, a plain function's and not the loop's, for so many seconds."""
        if self._stand_in is not None:
            self._stand_in.block(seconds)
        else:
            time.sleep(seconds)
