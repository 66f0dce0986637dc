"""The guard: learns early that the process is to end, and turns a sudden end of a server's worker into a drain."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

log = logging.getLogger("quart_sched")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_DEADLY = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
"""What ends a worker that does not handle it; SIGHUP comes to all when a terminal or a session is closed."""
_LOOK = 0.1
"""Seconds between looks at Hypercorn's shutdown event, which several processes share and no loop can await."""


class Guard:
    """Installed while the app serves, in the main thread of the process alone.

    - A server that handles SIGTERM or SIGINT itself keeps its handler; ours is called first, so that firing stops
      before the server waits for its open requests.
    - In a spawned worker whose SIGTERM would end it at once (Hypercorn's), at SIGHUP too, and when its master is gone,
      the scheduler drains first. Then the process dies of the signal, as it would have without us.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        shutdown: asyncio.Event,
        hold: Callable[[], None],
        drained: asyncio.Future[None],
    ) -> None:
        """Call `hold` to stop firing; set `shutdown`, Quart's own event, to make `drained` come true."""
        self._loop = loop
        self._shutdown = shutdown
        self._hold = hold
        self._drained = drained
        self._chained: dict[signal.Signals, Any] = {}
        self._own: list[signal.Signals] = []
        self._sentinel: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._dying: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Take effect, as far as this process calls for it."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and handler is not signal.default_int_handler:
                self._chained[number] = handler
                signal.signal(number, self._on_signal)
        parent = multiprocessing.parent_process()
        if parent is None:
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._own = [number for number in _DEADLY if signal.getsignal(number) is signal.SIG_DFL]
            for number in self._own:
                self._loop.add_signal_handler(number, self._die, number)
            self._sentinel = parent.sentinel
            self._loop.add_reader(self._sentinel, self._die, signal.SIGTERM)
        self._look()

    def remove(self) -> None:
        """Give the process its own handlers back."""
        for number, handler in self._chained.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)
        self._chained.clear()
        if self._dying is None:
            for number in self._own:
                self._loop.remove_signal_handler(number)
            self._own = []
        if self._sentinel is not None:
            self._loop.remove_reader(self._sentinel)
            self._sentinel = None
        if self._timer is not None:
            self._timer.cancel()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop may be closed by now
            self._loop.call_soon_threadsafe(self._hold)
        self._chained[signal.Signals(number)](number, frame)

    def _look(self) -> None:
        """Hold as soon as Hypercorn's master has told its workers to shut down."""
        event = worker_arguments().get("shutdown_event")
        if event is None:
            return
        if event.is_set():
            self._hold()
        else:
            self._timer = self._loop.call_later(_LOOK, self._look)

    def _die(self, number: signal.Signals) -> None:
        if self._sentinel is not None:
            self._loop.remove_reader(self._sentinel)
            self._sentinel = None
        if self._dying is not None:
            return
        if self._shutdown.is_set():
            # The server is shutting down in good order. Hypercorn's master sends this once to all when the first worker
            # has ended, and again as it exits itself: the drain, which has its deadline, goes on all the same.
            return
        self._hold()
        self._dying = self._loop.create_task(self._drain_and_die(number))

    async def _drain_and_die(self, number: signal.Signals) -> None:
        self._shutdown.set()
        try:
            await asyncio.shield(self._drained)
        except Exception:
            log.exception("The scheduler could not be drained")
        finally:
            self._loop.remove_signal_handler(number)
            os.kill(os.getpid(), number)


def worker_arguments() -> dict[str, Any]:
    """What the server's master started this worker process with; empty in a process that is none.

    There is no public way to it: without it, a worker learns later of its shutdown, and cannot count its siblings.
    """
    arguments = getattr(multiprocessing.current_process(), "_kwargs", None)
    return arguments if isinstance(arguments, dict) else {}


def sibling_workers() -> int:
    """How many workers the server runs, as far as it shows (Hypercorn and Uvicorn do); 1 where it does not."""
    workers = getattr(worker_arguments().get("config"), "workers", 1)
    return workers if isinstance(workers, int) else 1
