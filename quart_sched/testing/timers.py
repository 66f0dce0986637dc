"""Timers of virtual time: who waits for which moment, in microseconds since the clock began."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from ..engine.clock import LONGEST_TIMER

_FOREVER = 1e10
"""Seconds that nobody waits."""
_LOOKS_AGAIN = round(LONGEST_TIMER * 1e6)


@dataclass(order=True, slots=True)
class Timer:
    """Who waits for a moment, since `begin`; in the order in which they came."""

    us: int
    number: int
    begin: int = field(compare=False)
    wake: Callable[[], None] = field(compare=False)
    in_thread: bool = field(default=False, compare=False)
    over: bool = field(default=False, compare=False)


class Timers:
    """All timers of a clock. Usable from any thread."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._numbers = count()
        self._lock = threading.Lock()

    def enter(self, now: int, seconds: float, wake: Callable[[], None], *, in_thread: bool = False) -> Timer:
        """Call `wake` in so many seconds, unless the timer is `over` by then."""
        us = now + max(1, round(min(seconds, _FOREVER) * 1e6))
        timer = Timer(us, next(self._numbers), now, wake, in_thread)
        with self._lock:
            heapq.heappush(self._heap, timer)
        return timer

    def next(self) -> int | None:
        """Return the earliest moment for which somebody waits."""
        with self._lock:
            while self._heap and self._heap[0].over:
                heapq.heappop(self._heap)
            return self._heap[0].us if self._heap else None

    def due(self, now: int) -> list[Timer]:
        """Take out those whose moment has come, in order."""
        due = []
        with self._lock:
            while self._heap and self._heap[0].us <= now:
                due.append(heapq.heappop(self._heap))
        return due

    def sleep(self, now: int, distance: int) -> None:
        """Let the machine have been suspended for so many microseconds, in which no timer ran.

        Who waits looks at the time once in LONGEST_TIMER, as Clock.wait does; threads wait as long as before.
        """
        with self._lock:
            for timer in self._heap:
                if not timer.in_thread:
                    look = timer.begin + ((now - timer.begin) // _LOOKS_AGAIN + 1) * _LOOKS_AGAIN
                    timer.us = min(timer.us, max(timer.us - distance, look))
            heapq.heapify(self._heap)

    def clear(self) -> Iterator[Timer]:
        """Take out all that are not over, in order."""
        with self._lock:
            timers, self._heap = sorted(self._heap), []
        return (timer for timer in timers if not timer.over)
