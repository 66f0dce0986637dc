"""Threads: few, made on demand, and never in the way of the process's end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from quart_sched.engine.threads import DaemonPool, WorkerThreads


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.0005)


@pytest.fixture
def make() -> Iterator[Callable[[int], WorkerThreads]]:
    """Make worker threads named "test-threads", of which none is left when the test is over."""
    made: list[WorkerThreads] = []

    def new(limit: int) -> WorkerThreads:
        made.append(WorkerThreads(limit, "test-threads"))
        return made[-1]

    yield new
    for threads in made:
        threads.stop()
    until(lambda: not named("test-threads"))


# Worker threads


def test_a_thread_that_could_not_be_started_does_not_count(make, monkeypatch):
    threads, done = make(1), threading.Semaphore(0)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            threads.submit(done.release)
    threads.submit(done.release)
    assert all(done.acquire(timeout=5) for _ in range(2))


def test_no_thread_is_made_before_there_is_work(make):
    make(5)
    assert not named("test-threads")


def test_threads_are_daemons_and_never_more_than_the_limit(make):
    threads = make(2)
    gate, started, ended = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def call() -> None:
        started.release()
        gate.wait(10)
        ended.release()

    for _ in range(5):
        threads.submit(call)
    for _ in range(2):
        assert started.acquire(timeout=5)
    assert [thread.daemon for thread in named("test-threads")] == [True, True]
    assert not started.acquire(blocking=False)
    gate.set()
    for _ in range(5):
        assert ended.acquire(timeout=5)
    assert len(named("test-threads")) == 2


def test_an_idle_thread_is_used_again(make):
    threads = make(5)
    used: set[int] = set()
    for _ in range(20):
        threads.submit(lambda: used.add(threading.get_ident()))
        until(lambda: threads._idle._value == 1)
    assert len(used) == 1
    assert len(named("test-threads")) == 1


def test_one_thread_takes_the_calls_in_order(make):
    threads = make(1)
    got: list[int] = []
    for number in range(100):
        threads.submit(partial(got.append, number))
    until(lambda: len(got) == 100)
    assert got == list(range(100))


def test_a_thread_knows_whose_it_is(make):
    threads, others = make(1), make(1)
    got: list[bool] = []
    threads.submit(lambda: got.extend(threading.current_thread() in pool for pool in (threads, others)))
    until(lambda: got)
    assert got == [True, False]
    assert threading.current_thread() not in threads


def test_a_stopped_thread_ends_after_the_calls_that_were_submitted_before(make):
    threads = make(1)
    gate, got = threading.Event(), list[int]()
    threads.submit(lambda: gate.wait(5))
    threads.submit(lambda: got.append(1))
    threads.stop()
    [thread] = named("test-threads")
    gate.set()
    thread.join(5)
    assert not thread.is_alive()
    assert got == [1]


def test_what_a_finished_call_was_given_does_not_live_on_in_the_idle_thread(make):
    class Big: ...

    threads, big = make(1), Big()
    gone = weakref.ref(big)
    threads.submit(partial(lambda value: None, big))
    del big
    until(lambda: gc.collect() >= 0 and gone() is None)
    assert len(named("test-threads")) == 1


def test_a_stuck_call_does_not_keep_the_process_from_ending():
    program = (
        "import threading\n"
        "from quart_sched.engine.threads import WorkerThreads\n"
        "started = threading.Event()\n"
        "def stuck(): started.set(); threading.Event().wait(600)\n"
        "WorkerThreads(1, 'stuck').submit(stuck)\n"
        "assert started.wait(5)\n"
        "print('at the end')\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "at the end\n", "")


# The pool


@pytest.fixture
def thread() -> Iterator[DaemonPool]:
    pool = DaemonPool("test-pool")
    yield pool
    pool.stop()
    until(lambda: not named("test-pool"))


def test_a_pool_of_one_thread_takes_the_calls_one_by_one_and_returns_results_in_order(thread):
    order: list[tuple[int, int]] = []

    def call(number: int) -> int:
        order.append((number, threading.get_ident()))
        return number

    futures = [thread.submit(partial(call, number)) for number in range(50)]
    assert [future.result(5) for future in futures] == list(range(50))
    assert [number for number, _ in order] == list(range(50))
    assert len({ident for _, ident in order}) == 1


def test_an_error_comes_out_of_the_future_and_the_thread_goes_on(thread):
    def leave() -> None:
        raise SystemExit(3)

    failing: Future[Any] = thread.submit(lambda: 1 / 0)
    leaving: Future[Any] = thread.submit(leave)
    with pytest.raises(ZeroDivisionError):
        failing.result(5)
    with pytest.raises(SystemExit):
        leaving.result(5)
    assert thread.submit(lambda: "on").result(5) == "on"


def test_a_pool_knows_its_threads(thread):
    assert thread.submit(thread.is_current).result(5)
    assert not thread.is_current()


async def test_a_call_that_nobody_waits_for_any_more_is_not_made(thread):
    gate, made = threading.Event(), list[int]()
    thread.submit(lambda: gate.wait(5))
    waiting = asyncio.wrap_future(thread.submit(lambda: made.append(1)))
    waiting.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wrap_future(thread.submit(lambda: None))
    assert made == []


def test_stopping_lets_what_waits_be_done_and_work_after_it_gets_a_new_thread(thread):
    gate = threading.Event()
    thread.submit(lambda: gate.wait(5))
    waiting = thread.submit(threading.get_ident)
    thread.stop()
    later = thread.submit(threading.get_ident)
    assert later.result(5) not in (None, threading.get_ident())
    assert not waiting.done()
    gate.set()
    assert waiting.result(5) != later.result()
