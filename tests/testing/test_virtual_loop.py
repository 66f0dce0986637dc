"""VirtualEventLoop: an ordinary loop whose time can be held still and moved, while files and threads stay real."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from quart_sched.testing import VirtualEventLoop


@pytest.fixture
def loop() -> Iterator[VirtualEventLoop]:
    loop = VirtualEventLoop()
    yield loop
    loop.close()


def steps(loop: VirtualEventLoop) -> list[float]:
    """Freeze the loop, and move its time to the next timer whenever it is idle; return the list of moments."""
    moments: list[float] = []

    def at_idle(timer: float | None) -> float:
        if timer is None:
            return 0.01
        loop.move(loop.time() + timer)
        moments.append(round(loop.time() - begin, 6))
        return 0.0

    loop.freeze(at_idle)
    begin = loop.time()
    return moments


def test_as_long_as_it_is_not_frozen_it_is_an_ordinary_loop(loop):
    begin = time.monotonic()
    loop.run_until_complete(asyncio.sleep(0.02))
    assert 0.015 < time.monotonic() - begin < 5
    assert abs(loop.time() - time.monotonic()) < 1
    assert not loop.frozen


def test_its_timers_fire_when_its_time_is_moved_in_order(loop):
    called = []

    async def main() -> None:
        loop.call_later(3600, called.append, "hour")
        loop.call_later(60, called.append, "minute")
        loop.call_later(0.0000001, called.append, "soon")
        await asyncio.sleep(86400 * 3)

    moments = steps(loop)
    begin = time.monotonic()
    loop.run_until_complete(main())
    assert called == ["soon", "minute", "hour"]
    # A selector is never asked to wait for longer than a day.
    assert moments == [0, 60, 3600, 3600 + 86400, 3600 + 2 * 86400, 3 * 86400]
    assert time.monotonic() - begin < 5


def test_sockets_are_served_before_time_moves(loop):
    async def main() -> bytes:
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            async with asyncio.timeout(5):
                await loop.sock_sendall(one, b"here")
                return await loop.sock_recv(other, 10)

    moments = steps(loop)
    assert loop.run_until_complete(main()) == b"here"
    assert moments == []


def test_it_goes_on_from_where_it_stood(loop):
    steps(loop)
    loop.run_until_complete(asyncio.sleep(100))
    frozen = loop.time()
    loop.thaw()
    assert frozen <= loop.time() < frozen + 5
    begin = time.monotonic()
    loop.run_until_complete(asyncio.sleep(0.02))
    assert 0.015 < time.monotonic() - begin < 5


def test_it_knows_which_task_waits_for_which_file(loop):
    async def read(sock: socket.socket) -> bytes:
        return await loop.sock_recv(sock, 10)

    async def main() -> None:
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            reading = asyncio.create_task(read(other))
            await asyncio.sleep(0)
            assert loop.watch.owners == {other.fileno(): reading}
            await loop.sock_sendall(one, b"here")
            assert await reading == b"here"
            assert loop.watch.owners == {}

    loop.run_until_complete(main())


async def test_a_running_loop_is_adopted_for_a_while():
    loop: Any = asyncio.get_running_loop()
    selector, begin, called = loop._selector, loop.time(), asyncio.Event()
    with VirtualEventLoop.adopt(loop) as adopted:
        assert adopted is loop is asyncio.get_running_loop()
        assert isinstance(loop, VirtualEventLoop)
        moments = steps(loop)
        await asyncio.sleep(3600)
        assert moments == [3600]
        loop.thaw()
        loop.call_later(0.02, called.set)
        with VirtualEventLoop.adopt(loop) as again:
            assert again is loop
        await asyncio.to_thread(time.sleep, 0.01)
    assert type(loop) is asyncio.SelectorEventLoop
    assert loop._selector is selector
    # The hour has never been.
    assert loop.time() - begin < 60
    await asyncio.wait_for(called.wait(), 5)


async def test_a_loop_that_is_adopted_again_begins_at_the_real_time():
    loop: Any = asyncio.get_running_loop()
    called: list[str] = []

    async def pass_a_day() -> None:
        with VirtualEventLoop.adopt(loop):
            steps(loop)
            await asyncio.sleep(86400)
            loop.thaw()

    await pass_a_day()
    between = loop.call_later(3600, called.append, "too early")
    with VirtualEventLoop.adopt(loop):
        assert abs(loop.time() - time.monotonic()) < 60
        await asyncio.sleep(0.01)
    assert called == []
    between.cancel()


async def test_a_loop_of_another_kind_is_not_adopted():
    class Other(asyncio.SelectorEventLoop):
        pass

    other = Other()
    with pytest.raises(TypeError, match="expected asyncio's own SelectorEventLoop"):
        VirtualEventLoop.adopt(other).__enter__()
    other.close()
