"""Daemon threads fed by a queue: a function that is stuck in one does not keep the process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
Call = Callable[[], None]


class WorkerThreads:
    """At most `limit` threads, started when there is work for them."""

    def __init__(self, limit: int, name: str) -> None:
        self.limit = limit
        self.name = name
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.done = 0
        """Calls that have been done: about, as many threads count at once."""

    @property
    def waiting(self) -> int:
        """How many calls no thread has taken yet."""
        return self._calls.qsize()

    def submit(self, call: Call) -> None:
        """Run `call`, which must not raise, in one of the threads."""
        self._calls.put(call)
        if len(self._threads) == self.limit or self._idle.acquire(blocking=False):
            return
        with self._lock:
            if len(self._threads) < self.limit:
                thread = threading.Thread(target=self._work, name=f"{self.name}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                try:
                    thread.start()
                except RuntimeError:
                    # The machine has no more of them: another one takes the call, or the next that can be started.
                    self._threads.remove(thread)
                    raise

    def stop(self) -> None:
        """End the threads, each after the calls that were submitted before. Returns at once."""
        with self._lock:
            for _ in self._threads:
                self._calls.put(None)

    def __contains__(self, thread: threading.Thread) -> bool:
        return thread in self._threads

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            self.done += 1
            # Not held through the next wait: a finished job's arguments would live as long as the thread idles.
            del call
            # Once all threads are there, nobody asks any more who is idle, and this costs as much as the queue itself.
            if len(self._threads) < self.limit:
                self._idle.release()


class DaemonPool:
    """Threads for calls that block, whose results are awaited: one, and so one call after the other, or more."""

    def __init__(self, name: str, limit: int = 1) -> None:
        self._name, self._limit = name, limit
        self._threads = WorkerThreads(limit, name)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run `call` in a thread and return its future."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._threads.submit(run)
        return future

    def is_current(self) -> bool:
        """Tell whether the caller is in one of the threads already."""
        return threading.current_thread() in self._threads

    def stop(self) -> None:
        """End the threads after the calls that wait for them."""
        self._threads.stop()
        self._threads = WorkerThreads(self._limit, self._name)
