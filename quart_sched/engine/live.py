"""Live: tells those who watch from outside what happens, as long as there is anybody.

What happens here goes into the outbox, from there through a channel to the feed, and from the feed to the streams.
Where the scheduler has a shared store the channel is a table, and what happens in every process comes out of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

from ..errors import Draining, SchedulerError
from ..model.events import Event
from ..model.instants import micros
from .channels import OwnChannel, TableChannel
from .feed import RESUMABLE, Feed, Stream
from .outbox import Outbox
from .slots import Slots

if TYPE_CHECKING:
    from .scheduler import Scheduler

log = logging.getLogger("quart_sched")

_LINGER = 5.0
"""Seconds for which a table is read on without a stream, as one that has just ended is about to come again."""
_LONGEST_BACKOFF = 5.0
_RUN_ID = re.compile(r"[0-9a-f-]{36}")


class Live:
    """One for each scheduler. It does nothing, and costs nothing, while nobody listens."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._outbox = Outbox(scheduler.runner)
        self._feed = Feed("")
        self._channel: OwnChannel | TableChannel = OwnChannel(self._feed, self._now)
        self._waiting: set[Stream] = set()
        """Streams that cannot begin before the channel has been looked at."""
        self._afresh: set[str] = set()
        """Runs whose logs are wanted from their first lines."""
        self._wanted: bool | None = False
        """Whether somebody wants to know what happens; None where the store is yet to be asked."""
        self._told = False
        """Whether the store's pump tells that."""
        self._left_at = float("-inf")
        self._ending = self._closing = False
        self._failures = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def _now(self) -> int:
        return micros(self._scheduler.clock.now())

    def bind(self, slots: Slots) -> None:
        """Use the first shared store among these, if there is one, from now on."""
        shared = slots.shared[0] if slots.shared else None
        current = self._channel.slot if isinstance(self._channel, TableChannel) else None
        if shared is not current:
            self._outbox.clear()
            self._told = False
            if shared is None:
                self._channel = OwnChannel(self._feed, self._now)
                self._hear_if(False)
            else:
                self._channel = TableChannel(self._feed, self._scheduler, shared)
                self._hear_if(None)

    # What happens

    def _hear_if(self, wanted: bool | None) -> None:
        """Take note whether somebody wants to know what happens, or may want to, and hear it only then."""
        before, self._wanted = self._wanted, wanted
        if before is False and wanted is not False:
            self._scheduler.stream.subscribe(self.hear)
        elif wanted is False and before is not False:
            self._scheduler.stream.unsubscribe(self.hear)

    def hear(self, event: Event) -> None:
        """Take in what happened here. A reader of the event stream."""
        if self._scheduler._eventloop is not None and not self._is_forgotten():
            self._outbox.hear(event)
            self._begin()

    def lose(self) -> None:
        """Let clients read everything again: it is not known what happened here."""
        if self._wanted is not False:
            self._outbox.lose()
            self._begin()

    def hear_store(self, alias: str, *, listening: bool, followed: Mapping[str, int]) -> None:
        """Take note of what the store with this alias says: whether somebody listens, and which logs are followed."""
        if not isinstance(self._channel, TableChannel) or self._channel.slot.alias != alias:
            return
        self._told = True
        if not listening and not self._feed.streams:
            self._outbox.clear()
        # One that has been opened here a moment ago may not have said so yet.
        self._hear_if(listening or bool(self._feed.streams))
        self._outbox.follow(followed)
        self._begin()

    def _is_forgotten(self) -> bool:
        """Tell whether nobody can come any more to ask what happened, where none but this process could tell."""
        if isinstance(self._channel, TableChannel) or self._feed.streams:
            return False
        if self._left_at >= self._scheduler.clock.monotonic() - RESUMABLE:
            return False
        self._hear_if(False)
        self._outbox.clear()
        self._channel = OwnChannel(self._feed, self._now)
        return True

    # Streams

    def open(self, last_id: str | None = None, *, job_id: str | None = None, run_id: str | None = None) -> Stream:
        """Return a stream of what happens from now on, or from where `last_id` says; to be given to `leave`.

        It is told of one job or one run alone where that is given. To be called on the loop.
        """
        scheduler = self._scheduler
        stream = Stream(self._feed, last_id, job_id, run_id, self._follow)
        if scheduler._eventloop is None or scheduler._eventloop.is_closed():
            with suppress(Draining):
                scheduler.attach(asyncio.get_running_loop())
        if self._ending:
            stream.close()
            return stream
        own = isinstance(self._channel, OwnChannel)
        if own and not self._is_forgotten():
            self._feed.complete(self._now())
        self._hear_if(True)
        self._feed.streams.add(stream)
        self._waiting.add(stream)
        if own:
            self._begin_streams()
        self._wake.set()
        self._begin()
        return stream

    def leave(self, stream: Stream) -> None:
        """Free what belongs to the stream."""
        self._waiting.discard(stream)
        if stream in self._feed.streams:
            self._feed.streams.remove(stream)
            self._left_at = self._scheduler.clock.monotonic()

    def _follow(self, run_id: str) -> None:
        if _RUN_ID.fullmatch(run_id):
            self._afresh.add(run_id)
            self._wake.set()

    def _begin_streams(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for stream in waiting:
            stream.begin()

    # Life cycle

    def allow(self) -> None:
        """Let streams be opened on a new loop."""
        self._ending = self._closing = False
        self._wake, self._task = asyncio.Event(), None

    def end(self) -> None:
        """Let all streams end, as the process is about to: an open one would keep its server from shutting down."""
        self._ending = True
        for stream in self._feed.streams:
            stream.close()

    async def close(self, timeout: float) -> None:
        """Tell what is left to be told within `timeout` seconds, and free everything."""
        self.end()
        self._closing = True
        if isinstance(self._channel, TableChannel) and (self._wanted is None or self._channel.slot.trouble):
            self._outbox.clear()
        self._wake.set()
        self._begin()
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=timeout)
            task.cancel()
            await asyncio.wait([task])
        self._channel.rest()
        self._outbox.clear()
        self._outbox.follow({})
        self._told = False
        self._hear_if(None if isinstance(self._channel, TableChannel) else self._wanted)

    # The exchange

    def _begin(self) -> None:
        """Have a task that brings everything where it belongs, unless there is one, or nothing to bring, or no loop."""
        loop = self._scheduler._eventloop
        busy = self._task is not None and not self._task.done()
        if not busy and loop is not None and not loop.is_closed() and self._is_busy():
            self._failures = 0
            self._task = Context().run(loop.create_task, self._run(), name="quart-sched-live")

    def _is_busy(self) -> bool:
        return (bool(self._outbox) and not self._is_about_to_hear()) or self._is_watched()

    def _is_about_to_hear(self) -> bool:
        """Tell whether it is not known yet if anybody listens, and the store's pump is going to say it."""
        if self._wanted is not None or not isinstance(self._channel, TableChannel):
            return False
        return self._channel.slot.alias in self._scheduler._clusters

    def _is_watched(self) -> bool:
        """Tell whether there are streams here, or there were a moment ago and the next one would have to begin anew."""
        if self._closing or self._feed.streams:
            return not self._closing
        moment = self._scheduler.clock.monotonic() - self._left_at
        return isinstance(self._channel, TableChannel) and moment < _LINGER

    async def _run(self) -> None:
        clock, delay = self._scheduler.clock, self._channel.interval
        while self._is_busy():
            if not self._waiting and not self._closing:
                # What happens meanwhile keeps company.
                await clock.wait(self._wake, delay)
            self._wake.clear()
            closing = self._closing
            try:
                await self._turn()
                self._failures, delay = 0, self._channel.interval
            except Exception as error:
                # The jobs do not depend on it, and the outbox makes good for it by a reset.
                self._failures += 1
                delay = min(self._channel.interval * 2.0 ** min(self._failures, 10), _LONGEST_BACKOFF)
                if self._failures == 1:
                    show = None if isinstance(error, SchedulerError) else error
                    log.warning("Live events are late, as they cannot be exchanged: %s", error, exc_info=show)
                if self._waiting and not closing:
                    await clock.sleep(delay)
            if closing:
                return
        self._channel.rest()
        if isinstance(self._channel, TableChannel) and not self._told:
            self._hear_if(None)

    async def _turn(self) -> None:
        channel = self._channel
        if self._outbox and self._wanted is None and not await channel.is_wanted():
            self._outbox.clear()
        unwritten = _none if self._closing else self._scheduler.is_unwritten
        if news := self._outbox.take(unwritten):
            try:
                await channel.tell(news)
            except BaseException:
                self._outbox.lose()
                raise
        if not self._is_watched():
            return
        afresh, self._afresh = self._afresh, set()
        runs = {stream.run_id for stream in self._feed.streams if stream.run_id and _RUN_ID.fullmatch(stream.run_id)}
        try:
            self._outbox.follow(await channel.look({run_id: run_id in afresh for run_id in runs}))
        except BaseException:
            self._afresh |= afresh
            raise
        self._begin_streams()


def _none(run_id: str) -> bool:
    return False
