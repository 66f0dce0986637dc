"""The event stream, and the mailbox that brings what threads have to say to the loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from ..model.events import Event

if TYPE_CHECKING:
    from .clock import Clock

log = logging.getLogger("quart_sched")

_TOGETHER = 0.001
"""Seconds for which calls are gathered while many come: each wake-up of the loop takes the interpreter from threads."""


class Mailbox:
    """Brings calls from any thread to the loop, many with one wake-up, in the order in which they were posted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: deque[Callable[[], None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner: int | None = None
        self._awake = False

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver to `loop`, in whose thread this must be called."""
        # A loop that ended without a word has taken its wake-up along, and may have left calls behind.
        self._awake = False
        self._loop, self._owner = loop, threading.get_ident()
        if self._calls:
            loop.call_soon(self._deliver, context=Context())

    def close(self) -> None:
        """Deliver what is left, and from now on in the posting thread."""
        self._loop = None
        self._deliver()
        self._owner = None

    def is_here(self) -> bool:
        """Tell whether the caller is where calls are delivered, or there is no loop to bring them to."""
        return self._owner is None or self._owner == threading.get_ident()

    def post(self, call: Callable[[], None]) -> None:
        """Call `call` on the loop: at once when there already, or when there is no loop."""
        if self.is_here():
            call()
            return
        self._calls.append(call)
        if not self._awake and self._loop is not None:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self._deliver, context=Context())
            except RuntimeError:
                # The loop is closed: the process is ending, and nobody is left to tell.
                self._awake = False

    def _deliver(self) -> None:
        if len(self._calls) > 1 and self._loop is not None and self._clock.real:
            self._loop.call_later(_TOGETHER, self._deliver, context=Context())
        else:
            self._awake = False
        while self._calls:
            call = self._calls.popleft()
            try:
                call()
            except Exception:
                # What was posted behind it, the end of another run perhaps, must still arrive.
                log.exception("A call that was brought to the event loop failed")


class EventStream:
    """Hands each event, once, to every reader, always on the loop."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._readers: list[tuple[Callable[[Any], None], tuple[type[Event], ...]]] = []
        self._by_kind: dict[type[Event], list[Callable[[Any], None]]] = {}
        """Who wants a kind of event; what is missing is looked up in `_readers`."""
        self._lock = threading.Lock()

    def subscribe(self, reader: Callable[[Any], None], *kinds: type[Event], first: bool = False) -> None:
        """Call `reader` with each event, or with those of the `kinds` that are given; it must be quick.

        It comes after the others, or `first`, where it keeps what they may look for. One that reads already is not
        called twice. Who wants nothing for a while should leave meanwhile: an event that nobody reads is not made.
        """
        with self._lock:
            others, new = self._without(reader), [(reader, kinds)]
            self._readers = new + others if first else others + new
            self._by_kind = {}

    def unsubscribe(self, reader: Callable[[Any], None]) -> None:
        """Tell `reader` no more."""
        with self._lock:
            self._readers = self._without(reader)
            self._by_kind = {}

    def _without(self, reader: Callable[[Any], None]) -> list[tuple[Callable[[Any], None], tuple[type[Event], ...]]]:
        return [entry for entry in self._readers if entry[0] != reader]

    def is_read(self, kind: type[Event]) -> bool:
        """Tell whether anybody wants events of that kind, so that it is worth while to make one."""
        return bool(self._readers_of(kind))

    def emit(self, event: Event) -> None:
        """Tell the readers; safe from any thread."""
        if self._mailbox.is_here():
            self._tell(event)
        else:
            self._mailbox.post(partial(self._tell, event))

    def _tell(self, event: Event) -> None:
        for reader in self._by_kind.get(type(event)) or self._readers_of(type(event)):
            try:
                reader(event)
            except Exception:
                log.exception("A reader of the scheduler's events failed")

    def _readers_of(self, kind: type[Event]) -> list[Callable[[Any], None]]:
        # A subscription from another thread meanwhile leaves this table behind with what is put into it.
        by_kind = self._by_kind
        readers = by_kind.get(kind)
        if readers is None:
            readers = by_kind[kind] = [reader for reader, kinds in self._readers if not kinds or kind in kinds]
        return readers
