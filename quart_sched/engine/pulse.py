"""The pulse: keeps a process's heartbeat going while a job holds up its event loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("quart_sched")

LONGEST_BLOCK = 300.0
"""Seconds of a blocked loop after which the process is left to be declared dead."""


class Pulse:
    """Beats from a thread of its own, in real time, where the loop has not done so for one and a half intervals.

    A job that computes for a minute on the loop must not cost the process its lease, and have its runs given to others.
    """

    def __init__(self, beat: Callable[[], None], interval: float) -> None:
        """Call `beat`, which may block and raise, about every `interval` seconds of a loop that is held up."""
        self._beat = beat
        self._interval = interval
        self._touched = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quart-sched-pulse", daemon=True)
        self._thread.start()

    def touch(self) -> None:
        """Take note that the loop has beaten itself."""
        self._touched = time.monotonic()

    def stop(self) -> None:
        """Beat no more."""
        self._stopped.set()

    def _run(self) -> None:
        failed = False
        while not self._stopped.wait(self._interval):
            silent = time.monotonic() - self._touched
            if not 1.5 * self._interval <= silent <= LONGEST_BLOCK:
                failed = False
                continue
            try:
                self._beat()
                failed = False
            except Exception as error:
                # The database may be away, or the process declared dead: the loop will learn of it by itself.
                if not failed:
                    log.warning("No heartbeat for %.0f s: %s", silent, error)
                failed = True
