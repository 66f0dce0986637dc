"""Stalls: who holds up the event loop, and for how long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

PERIOD = 0.05
"""Seconds between looks at the loop, and so the resolution: what holds it up for less often goes unnoticed, and what is
measured of a stall may be off by as much at either end."""


class StallWatch:
    """Looks from a thread whether the loop turns, and while it does not, at which task it is.

    It costs a call on the loop for each PERIOD, and nothing for each run. Code in C that keeps the interpreter to
    itself keeps the thread from looking too: such a stall is seen when it is over, with the task that is at it then.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, record: Callable[[asyncio.Task[Any] | None, float], None]
    ) -> None:
        """Call `record`, in the thread, with the task that held up `loop` (None: no task) and for how many seconds."""
        self._loop = loop
        self._record = record
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quart-sched-stalls", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD):
            answered = threading.Event()
            since = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(answered.set, context=Context())
            except RuntimeError:
                return  # The loop is closed.
            task: asyncio.Task[Any] | None = None
            late = False
            while not answered.wait(PERIOD) and not self._stopped.is_set():
                late, task = True, asyncio.current_task(self._loop)
                since = self._attribute(task, since)
            if late and not self._stopped.is_set():
                self._attribute(task, since)

    def _attribute(self, task: asyncio.Task[Any] | None, since: float) -> float:
        now = time.monotonic()
        self._record(task, now - since)
        return now
