"""The engine's clock: real time, and how another clock takes its place."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta

from quart_sched.engine.clock import Clock
from tests.conftest import START
from tests.stores.manual_clock import ManualClock


async def test_real_sleeps_and_blocks_take_their_time():
    clock = Clock()
    begin = time.monotonic()
    await clock.sleep(0.02)
    clock.block(0.02)
    assert 0.03 < time.monotonic() - begin < 5
    assert clock.real
    assert clock.current is clock


async def test_another_clock_answers_in_its_place():
    class Manual(ManualClock):
        blocked = 0.0

        def block(self, seconds: float) -> None:
            self.blocked += seconds

    clock, other = Clock(), Manual()
    clock.replace(other)
    assert not clock.real
    assert clock.current is other
    assert clock.now() == START
    waiting = asyncio.create_task(clock.sleep(60))
    await other.advance(59)
    assert not waiting.done()
    await other.advance(1)
    assert waiting.done()
    threading.Thread(target=clock.block, args=(5,)).run()
    assert other.blocked == 5
    clock.replace(None)
    assert clock.real
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=30)


def test_monotonic_time_does_not_go_back_over_it():
    clock, other = Clock(), ManualClock()
    begin = clock.monotonic()
    other.jump(round(begin) + 3600)
    clock.replace(other)
    assert clock.monotonic() == round(begin) + 3600
    clock.replace(None)
    assert round(begin) + 3600 <= clock.monotonic() < begin + 3660
    clock.replace(ManualClock())
    clock.replace(None)
    assert clock.monotonic() < begin + 3660
