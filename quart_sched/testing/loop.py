"""An event loop whose time can be held still and moved by hand, while its sockets and threads stay real."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary

from ..engine.performer import current_run

AtIdle = Callable[[float | None], float]
"""Is told in how many seconds the next timer is due; returns how many real seconds may pass until it is asked again."""

Creators = WeakKeyDictionary[asyncio.Task[Any], asyncio.Task[Any] | None]


class _Watch(selectors.BaseSelector):
    """The loop's selector, which is where a loop shows that nothing on it can go on."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.inner = selector
        self.at_idle: AtIdle | None = None
        self.turns = 0
        """Counts what happened on the loop."""
        self.owners: dict[int, asyncio.Task[Any]] = {}
        """Which tasks have registered the files that are registered now, where it was a task itself that did so."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.at_idle is None or timeout == 0:
            self.turns += 1
            return self.inner.select(timeout)
        if events := self.inner.select(0):
            self.turns += 1
            return events
        seconds = self.at_idle(timeout)
        return self.inner.select(seconds) if seconds > 0 else []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self.inner.register(fileobj, events, data)
        self._note(key)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self.inner.unregister(fileobj)
        self.owners.pop(key.fd, None)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self.inner.modify(fileobj, events, data)
        self._note(key)
        return key

    def _note(self, key: selectors.SelectorKey) -> None:
        # Transports register theirs from a callback, and keep them registered while nobody waits for anything.
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return
        if task is not None:
            self.owners[key.fd] = task

    def close(self) -> None:
        self.inner.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        files: Mapping[Any, selectors.SelectorKey] = self.inner.get_map()
        return files


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on which `virtual_time` moves the loop's own time too.

    Within its block `asyncio.sleep`, `asyncio.timeout`, `call_later` and the like go by virtual time; sockets,
    subprocesses and threads work as ever. Outside of a block it is an ordinary loop. The fixture `virtual_scheduler`
    installs it; elsewhere use ``asyncio.Runner(loop_factory=VirtualEventLoop)`` or your test framework's way of
    choosing a loop.
    """

    watch: _Watch
    _still: float | None = None
    _ahead = 0.0

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        """Take a selector, as asyncio's own loop does."""
        self.creators: Creators = WeakKeyDictionary()
        """Which tasks have begun the tasks that jobs have begun; None where it was a callback."""
        self.watch = _Watch(selector or selectors.DefaultSelector())
        super().__init__(self.watch)

    @classmethod
    @contextmanager
    def adopt(cls, loop: asyncio.AbstractEventLoop) -> Iterator[VirtualEventLoop]:
        """Make an ordinary loop, which may be running, a virtual one within the block: the same object.

        Raises TypeError where it is not asyncio's own SelectorEventLoop.
        """
        if isinstance(loop, cls):
            yield loop
            return
        if type(loop) is not asyncio.SelectorEventLoop:
            raise TypeError(f"{loop!r} cannot be made a VirtualEventLoop; expected asyncio's own SelectorEventLoop")
        adopted: Any = loop
        selector = adopted._selector
        adopted.creators = WeakKeyDictionary()
        adopted.watch = adopted._selector = _Watch(selector)
        adopted.__class__ = cls
        try:
            yield adopted
        finally:
            for handle in adopted._scheduled:
                # From now on time is what it would be without what was virtual.
                handle._when -= adopted._ahead
            adopted._ahead = 0.0
            adopted.__class__ = asyncio.SelectorEventLoop
            adopted._selector = selector
            del adopted.watch, adopted.creators

    def time(self) -> float:
        """Return the loop's time in seconds, virtual or real."""
        return time.monotonic() + self._ahead if self._still is None else self._still

    @property
    def frozen(self) -> bool:
        """Whether time stands still unless it is moved."""
        return self._still is not None

    def freeze(self, at_idle: AtIdle) -> None:
        """Hold time still, and ask `at_idle` whenever nothing can go on without time or the world outside."""
        self._still = self.time()
        self.watch.at_idle = at_idle

    def move(self, to: float) -> None:
        """Move the time on, while it is frozen."""
        assert self._still is not None
        self._still = max(self._still, to)

    def thaw(self) -> None:
        """Let real time go on from here."""
        assert self._still is not None
        self._ahead = self._still - time.monotonic()
        self._still = self.watch.at_idle = None

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Create a task, as asyncio's own loop does."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        context: Context | None = options.get("context")
        if context is None and current_run:
            self.creators[task] = asyncio.current_task(self)
        return task
