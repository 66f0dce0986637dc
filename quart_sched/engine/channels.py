"""The channels from the outboxes to the feeds: within one process, or through a table of a shared store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..model.ids import new_id
from ..model.instants import micros
from ..model.news import News, decode, encode
from ..stores.slot import Slot
from .feed import RESUMABLE, Feed

if TYPE_CHECKING:
    from .scheduler import Scheduler

T = TypeVar("T")

_RENEWAL = 20.0
"""Seconds after which it is said again that somebody listens."""
_ROWS = 1000
"""Rows that are read to begin with, at most."""


class OwnChannel:
    """Within this process."""

    interval = 0.25
    """Seconds from one exchange to the next."""

    def __init__(self, feed: Feed, now: Callable[[], int]) -> None:
        self._feed = feed
        self._now = now
        self._followed: dict[str, int] = {}
        self._asked = 0
        feed.begin(new_id(), now(), high=0)

    async def tell(self, news: list[News]) -> None:
        """Pass on what happened here."""
        self._feed.add(self._feed.high + 1, self._now(), tuple(news))

    async def look(self, follow: Mapping[str, bool]) -> Mapping[str, int]:
        """Bring what there is to the feed; return the runs whose logs are wanted, with a number for each asking.

        `follow` are those that streams here want, True for one whose first lines are wanted.
        """
        self._feed.complete(self._now())
        self._asked += 1
        self._followed = {
            run_id: self._asked if afresh else self._followed.get(run_id, self._asked)
            for run_id, afresh in follow.items()
        }
        return self._followed

    async def is_wanted(self) -> bool:
        """Tell whether anybody wants to know what happens here."""
        return True

    def rest(self) -> None:
        """Take note that nobody looks for a while."""


class TableChannel:
    """Through the table of events of a shared store."""

    interval = 0.5

    def __init__(self, feed: Feed, scheduler: Scheduler, slot: Slot) -> None:
        self.slot = slot
        self._feed = feed
        self._scheduler = scheduler
        self._ready = False
        self._epoch = ""
        self._since_us = 0
        self._whole_us = 0
        """When every process knew that somebody listens, and told what happens in it."""
        self._offset_us = 0
        self._renew_at = float("-inf")
        self._followed: Mapping[str, int] = {}

    def _now(self) -> int:
        return micros(self._scheduler.clock.now()) + self._offset_us

    async def _do(self, op: Callable[[Any], T]) -> T:
        """Return `op` of the store's table of events, in the threads for verbs."""

        def run() -> T:
            self.slot.open(self._scheduler)
            return self.slot.do(lambda store: op(store.events))

        return await self._scheduler.call(run, blocking=True)

    async def tell(self, news: list[News]) -> None:
        """Write it to the table."""
        await self._do(lambda events: events.tell(encode(news)))

    async def is_wanted(self) -> bool:
        """Ask the store."""
        return await self._do(lambda events: events.is_listened_to())

    async def look(self, follow: Mapping[str, bool]) -> Mapping[str, int]:
        """Read what is new in the table, and say now and then that somebody here listens."""
        clock = self._scheduler.clock
        if clock.monotonic() >= self._renew_at or any(follow.values()) or not follow.keys() <= self._followed.keys():
            await self._renew(follow)
        if not self._ready:
            await self._begin()
        now = self._now()
        rows = await self._do(partial(_read, number=self._feed.high, missing=sorted(self._feed.gaps)))
        for number, at_us, news in rows:
            self._feed.add(number, at_us, news)
        self._feed.complete(now)
        if self._whole_us and now >= self._whole_us:
            # Only now it is certain that all processes tell what happens.
            self._whole_us = 0
            for stream in self._feed.streams:
                stream.restart()
        return self._followed

    async def _renew(self, follow: Mapping[str, bool]) -> None:
        clock = self._scheduler.clock
        begin = clock.monotonic()
        # For longer than a stream can be resumed: any may have begun at the end of the interval.
        seconds = RESUMABLE + 3 * _RENEWAL
        listening = await self._do(lambda events: events.listen(seconds, follow))
        self._renew_at = begin + _RENEWAL
        self._offset_us = listening.now_us - micros(clock.now())
        self._followed = listening.followed
        if (listening.epoch, listening.since_us) != (self._epoch, self._since_us):
            self._epoch, self._since_us = listening.epoch, listening.since_us
            self._ready = False

    async def _begin(self) -> None:
        """Read what there is of the last minutes."""
        # Each process knows within its poll, and writes within an interval of this.
        known_us = self._since_us + int((2 * self._scheduler.settings.poll_interval + 2 * self.interval) * 1e6)
        now = self._now()
        self._whole_us = known_us if now < known_us else 0
        since = now - int((RESUMABLE + 2 * _RENEWAL) * 1e6)
        newest, rows = await self._do(partial(_read_recent, since_us=since))
        first = rows[0][0] if rows else newest + 1
        self._feed.begin(
            self._epoch, now, high=first - 1, floor=first - 1 if len(rows) == _ROWS else 0, since_us=known_us
        )
        for number, at_us, news in rows:
            self._feed.add(number, at_us, news)
        for stream in self._feed.streams:
            # One that is under way: the table was away, or nobody was known to listen, for so long.
            stream.restart()
        self._ready = True

    def rest(self) -> None:
        """Begin with the table anew the next time."""
        self._ready, self._renew_at = False, float("-inf")


_Rows = list[tuple[int, int, tuple[News, ...]]]


def _read(events: Any, *, number: int, missing: list[int]) -> _Rows:
    return [(row.id, row.at_us, decode(row.data)) for row in events.after(number, missing)]


def _read_recent(events: Any, *, since_us: int) -> tuple[int, _Rows]:
    newest, rows = events.recent(since_us, _ROWS)
    return newest, [(row.id, row.at_us, decode(row.data)) for row in rows]
