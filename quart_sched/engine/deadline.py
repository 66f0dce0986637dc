"""Deadlines: what a run's `timeout` does to the task that it is in."""

from __future__ import annotations

import asyncio
from contextvars import Context
from types import TracebackType
from typing import Self

from ..errors import RunTimedOut
from ..model.runs import Run
from .clock import Clock


class Deadline:
    """Cancels the task within its block `seconds` after `start`, and turns that into RunTimedOut at the block's end.

    On the loop only. It goes by the scheduler's clock, which asyncio's own timeouts do not know.
    """

    def __init__(self, clock: Clock, seconds: float, run: Run) -> None:
        self._clock = clock
        self._seconds = seconds
        self._run = run
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._expired = self._stopped = False
        self._cancelling = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        return self

    def start(self) -> None:
        """Let the time run."""
        if self._timer is None and not self._stopped:
            self._timer = Context().run(asyncio.get_running_loop().create_task, self._wait())

    def stop(self) -> None:
        """Let no more time run: what is under way has met the deadline, unless it has expired."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    async def _wait(self) -> None:
        await self._clock.wait(asyncio.Event(), self._seconds)
        if not self._stopped and self._task is not None:
            self._expired = self._run.cancelled = True
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if not self._expired or self._task is None:
            return
        # A cancellation that came from elsewhere besides, from the drain, goes on.
        foreign = self._task.uncancel() > self._cancelling
        if not (foreign and kind is asyncio.CancelledError):
            raise RunTimedOut(f"it ran for more than its timeout of {self._seconds:g} s") from error
