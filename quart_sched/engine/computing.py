"""Computing: what takes its time is done beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .threads import DaemonPool

if TYPE_CHECKING:
    from .scheduler import Scheduler

T = TypeVar("T")


class Computing:
    """Computes one thing after the other."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._lock = threading.Lock()

    async def compute(self, op: Callable[[], T]) -> T:
        """Run `op`, which takes its time and uses no store, beside the loop and after others like it."""

        def alone() -> T:
            # Several at once would keep the loop's own thread waiting for each of them in turn.
            with self._lock:
                return op()

        threads = DaemonPool("quart-sched-forecast")
        future = threads.submit(alone)
        threads.stop()
        return await asyncio.wrap_future(future)

    async def read(self, op: Callable[[], T]) -> T:
        """Run `op`, which reads many records, beside the loop: where it does no I/O it may still take its time."""
        if self._scheduler.histories.blocking:
            return await self._scheduler.read_history(op)
        return await self.compute(op)
