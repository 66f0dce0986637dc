"""Slices: how long anything of ours may hold the event loop before others get their turn."""

from __future__ import annotations

import asyncio
import time

SLICE = 0.002
"""Seconds."""


class Slices:
    """The slices of one piece of work, the first of which begins with it."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = time.perf_counter() + SLICE

    async def give_way(self) -> None:
        """Leave the loop free for once where the slice is over. To be called between any two steps of the work."""
        if time.perf_counter() > self._end:
            await asyncio.sleep(0)
            self._end = time.perf_counter() + SLICE
