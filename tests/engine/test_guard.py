"""The guard: an early word of the process's end, and a drain where a worker would end at once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from quart_sched.engine import guard as guard_module
from quart_sched.engine.guard import Guard, sibling_workers, worker_arguments


@pytest.fixture
def kills(monkeypatch):
    """Signals that the guard sends to its own process, which are only noted here."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(guard_module.os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


@pytest.fixture
def sigterm():
    """Restore the process's own handling of signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def worker(monkeypatch, sigterm):
    """Let this process look like a spawned worker; `master_dies()` closes what it knows of its master."""
    reader, writer = os.pipe()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(sentinel=reader))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    open_ends = [writer]

    def master_dies() -> None:
        os.close(open_ends.pop())

    yield master_dies
    os.close(reader)
    for end in open_ends:
        os.close(end)


class Parts:
    """A guard with what it steers."""

    def __init__(self) -> None:
        self.holds = 0
        self.shutdown = asyncio.Event()
        self.drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.guard = Guard(asyncio.get_running_loop(), self.shutdown, self.hold, self.drained)

    def hold(self) -> None:
        self.holds += 1


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_handles_the_signal_itself_keeps_its_handler(sigterm, number):
    handled: list[int] = []
    mine = lambda received, frame: handled.append(received)  # noqa: E731  # compared by identity below
    signal.signal(number, mine)
    parts = Parts()
    parts.guard.install()
    signal.raise_signal(number)
    await turns()
    assert handled == [number]
    assert parts.holds == 1
    assert not parts.shutdown.is_set()
    parts.guard.remove()
    assert signal.getsignal(number) is mine


async def test_a_loops_own_signal_handler_is_still_called(sigterm):
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, called.set)
    parts = Parts()
    parts.guard.install()
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(called.wait(), 5)
    await turns()
    assert parts.holds == 1
    parts.guard.remove()
    loop.remove_signal_handler(signal.SIGTERM)


async def test_handlers_that_came_later_are_left_alone(sigterm):
    later = lambda number, frame: None  # noqa: E731  # compared by identity below
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    parts = Parts()
    parts.guard.install()
    signal.signal(signal.SIGTERM, later)
    parts.guard.remove()
    assert signal.getsignal(signal.SIGTERM) is later


async def test_a_process_that_is_no_worker_keeps_its_default(sigterm):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parts = Parts()
    parts.guard.install()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    parts.guard.remove()


def test_outside_of_the_main_thread_nothing_is_installed(sigterm):
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    before = signal.getsignal(signal.SIGTERM)

    async def serve() -> None:
        parts = Parts()
        parts.guard.install()
        parts.guard.remove()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_makes_a_worker_drain_and_then_die_of_it(worker, kills, number):
    parts = Parts()
    parts.guard.install()
    signal.raise_signal(number)
    await turns()
    assert parts.shutdown.is_set()
    assert parts.holds == 1
    assert kills == []
    signal.raise_signal(signal.SIGTERM)  # impatience changes nothing
    await turns()
    parts.drained.set_result(None)
    await turns()
    assert kills == [(os.getpid(), number)]
    assert signal.getsignal(number) is signal.SIG_DFL
    parts.guard.remove()


async def test_a_worker_that_is_to_outlive_its_terminal_does(worker):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    parts = Parts()
    parts.guard.install()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    parts.guard.remove()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


async def test_the_masters_death_makes_a_worker_drain_and_die(worker, kills):
    parts = Parts()
    parts.guard.install()
    worker()
    await turns()
    assert parts.shutdown.is_set()
    parts.drained.set_result(None)
    await turns()
    assert kills == [(os.getpid(), signal.SIGTERM)]
    parts.guard.remove()


async def test_a_drain_that_fails_does_not_keep_the_worker_alive(worker, kills, caplog):
    parts = Parts()
    parts.guard.install()
    signal.raise_signal(signal.SIGTERM)
    await turns()
    parts.drained.set_exception(OSError("store is gone"))
    await turns()
    assert kills == [(os.getpid(), signal.SIGTERM)]
    assert "could not be drained" in caplog.text
    parts.guard.remove()


async def test_in_a_shutdown_in_good_order_sigterm_does_not_cut_the_drain_short(worker, kills):
    parts = Parts()
    parts.guard.install()
    parts.shutdown.set()
    for _ in range(2):  # as Hypercorn's master does
        signal.raise_signal(signal.SIGTERM)
        await turns()
    assert kills == []
    assert parts.holds == 0
    parts.guard.remove()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_a_worker_gets_its_default_back(worker):
    parts = Parts()
    parts.guard.install()
    numbers = (signal.SIGTERM, signal.SIGHUP)
    assert all(signal.getsignal(number) is not signal.SIG_DFL for number in numbers)
    parts.guard.remove()
    assert all(signal.getsignal(number) is signal.SIG_DFL for number in numbers)
    worker()
    await turns()
    assert not parts.shutdown.is_set()


async def test_a_server_in_the_worker_that_handles_sigterm_keeps_it(worker):
    handler: Any = lambda number, frame: None  # noqa: E731  # compared by identity below
    signal.signal(signal.SIGTERM, handler)
    parts = Parts()
    parts.guard.install()
    worker()
    await turns()
    assert not parts.shutdown.is_set()
    parts.guard.remove()
    assert signal.getsignal(signal.SIGTERM) is handler


async def test_hypercorns_shutdown_event_holds_the_firing(worker, monkeypatch):
    told = threading.Event()
    monkeypatch.setattr(guard_module, "worker_arguments", lambda: {"shutdown_event": told})
    monkeypatch.setattr(guard_module, "_LOOK", 0.001)
    parts = Parts()
    parts.guard.install()
    await turns()
    assert parts.holds == 0
    told.set()
    await turns()
    assert parts.holds == 1
    parts.guard.remove()


async def test_looking_for_the_shutdown_event_ends_with_the_guard(worker, monkeypatch):
    told = threading.Event()
    monkeypatch.setattr(guard_module, "worker_arguments", lambda: {"shutdown_event": told})
    parts = Parts()
    parts.guard.install()
    parts.guard.remove()
    told.set()
    await turns(150)
    assert parts.holds == 0


def test_the_number_of_workers_is_known_where_the_server_shows_it(monkeypatch):
    assert worker_arguments() == {}
    assert sibling_workers() == 1
    process = SimpleNamespace(_kwargs={"config": SimpleNamespace(workers=4)})
    monkeypatch.setattr(multiprocessing, "current_process", lambda: process)
    assert sibling_workers() == 4
    process._kwargs = {"config": SimpleNamespace(workers=None)}
    assert sibling_workers() == 1
    process._kwargs = "odd"
    assert worker_arguments() == {}


async def test_several_workers_with_a_memory_store_are_warned_of(scheduler, app, serve, monkeypatch, caplog):
    monkeypatch.setattr("quart_sched.lifespan.sibling_workers", lambda: 4)
    async with serve(scheduler, app):
        pass
    assert "4 workers serve this app" in caplog.text


async def test_the_guard_can_be_switched_off(scheduler, app, serve, sigterm):
    handler: Any = lambda number, frame: None  # noqa: E731  # compared by identity below
    signal.signal(signal.SIGTERM, handler)
    async with serve(scheduler, app, SCHEDULER_GUARD_WORKERS=False):
        assert signal.getsignal(signal.SIGTERM) is handler
    async with serve(scheduler, app, SCHEDULER_GUARD_WORKERS=True):
        assert signal.getsignal(signal.SIGTERM) is not handler
    assert signal.getsignal(signal.SIGTERM) is handler
