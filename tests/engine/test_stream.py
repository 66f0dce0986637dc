"""The event stream: each event once, on the loop, to every reader."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from apscheduler import events as aps

from quart_sched.engine.clock import Clock
from quart_sched.engine.stream import EventStream, Mailbox
from quart_sched.model.events import SchedulerChanged

NOW = datetime(2026, 3, 2, tzinfo=UTC)
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


@pytest.fixture
async def mailbox():
    box = Mailbox(Clock())
    box.open(asyncio.get_running_loop())
    yield box
    box.close()


def changed(code: int = aps.EVENT_SCHEDULER_PAUSED) -> SchedulerChanged:
    return SchedulerChanged(code)


# Mailbox


async def test_posts_from_another_thread_are_delivered_on_the_loop_in_order(mailbox):
    got: list[tuple[int, int]] = []

    def post_many() -> None:
        for number in range(100):
            mailbox.post(lambda number=number: got.append((number, threading.get_ident())))

    await asyncio.to_thread(post_many)
    await asyncio.sleep(0)
    assert got == [(number, threading.get_ident()) for number in range(100)]


async def test_many_posts_make_one_wake_up(mailbox, monkeypatch):
    woken: list[Any] = []
    loop = asyncio.get_running_loop()
    original = loop.call_soon_threadsafe
    gate = threading.Event()

    def count(callback: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(callback, "__name__", "") == "_deliver":
            woken.append(callback)
        return original(callback, *args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    got: list[int] = []
    thread = threading.Thread(target=lambda: ([mailbox.post(lambda: got.append(1)) for _ in range(50)], gate.set()))
    thread.start()
    gate.wait(5)  # the loop is held up, so that nothing is delivered in between
    thread.join()
    await asyncio.sleep(0)
    assert len(got) == 50
    assert len(woken) == 1


async def test_on_the_loop_a_post_is_delivered_at_once(mailbox):
    got: list[int] = []
    mailbox.post(lambda: got.append(1))
    assert got == [1]


async def test_a_call_that_raises_does_not_hold_up_those_behind_it(mailbox, caplog):
    got: list[int] = []

    def post() -> None:
        mailbox.post(lambda: 1 / 0)
        mailbox.post(lambda: got.append(1))

    await asyncio.to_thread(post)
    await asyncio.sleep(0)
    assert got == [1]
    assert "ZeroDivisionError" in caplog.text


async def test_where_many_come_the_loop_is_woken_once_for_all_and_again_when_they_are_through(mailbox, monkeypatch):
    loop, got, woken = asyncio.get_running_loop(), list[int](), list[int]()
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args, **kw: (woken.append(len(got)), wake(*args, **kw)))

    def post(*numbers: int) -> None:
        thread = threading.Thread(target=lambda: [mailbox.post(partial(got.append, number)) for number in numbers])
        thread.start()
        thread.join()

    post(1)
    mailbox._calls.append(lambda: post(2, 3))  # while the others are delivered
    mailbox._calls.append(lambda: loop.call_soon(post, 4))  # and just after
    while len(got) < 4:
        await asyncio.sleep(0.001)
    assert (got, woken) == ([1, 2, 3, 4], [0])
    await asyncio.sleep(0.005)
    post(5)
    await asyncio.sleep(0)
    assert (got, woken) == ([1, 2, 3, 4, 5], [0, 4])


def test_without_a_loop_posts_are_delivered_where_they_are_made():
    got: list[int] = []
    Mailbox(Clock()).post(lambda: got.append(threading.get_ident()))
    assert got == [threading.get_ident()]


def test_a_loop_that_is_closed_makes_no_error():
    box = Mailbox(Clock())

    async def open_box() -> None:
        box.open(asyncio.get_running_loop())

    asyncio.run(open_box())
    thread = threading.Thread(target=lambda: box.post(lambda: None))
    thread.start()
    thread.join()
    box.close()


def test_what_a_loop_left_behind_that_ended_is_delivered_on_the_next_and_so_is_what_follows():
    box, got = Mailbox(Clock()), list[int]()
    for number in range(3):
        loop = asyncio.new_event_loop()
        box.open(loop)
        if number == 1:
            loop.run_until_complete(asyncio.sleep(0))
            assert got == [0]
        thread = threading.Thread(target=lambda number=number: box.post(lambda: got.append(number)))
        thread.start()
        thread.join()
        if number == 2:
            loop.run_until_complete(asyncio.sleep(0))
            assert got == [0, 1, 2]
        loop.close()
    box.close()


async def test_what_comes_from_another_thread_does_not_bring_its_context(mailbox):
    got: list[str] = []

    def post() -> None:
        variable.set("of a thread")
        mailbox.post(lambda: got.append(variable.get()))

    await asyncio.to_thread(post)
    await asyncio.sleep(0)
    assert got == ["clean"]


async def test_closing_delivers_what_is_left(mailbox):
    got: list[int] = []
    posted = threading.Thread(target=lambda: mailbox.post(lambda: got.append(1)))
    posted.start()
    posted.join()
    assert got == []
    mailbox.close()
    assert got == [1]
    await asyncio.to_thread(mailbox.post, lambda: got.append(threading.get_ident()))
    assert got[1] != threading.get_ident()  # there, and at once


async def test_a_mailbox_serves_one_loop_after_the_other():
    box, got = Mailbox(Clock()), list[int]()

    async def use() -> None:
        box.open(asyncio.get_running_loop())
        await asyncio.to_thread(box.post, lambda: got.append(1))
        await asyncio.sleep(0)
        box.close()

    for _ in range(2):
        await asyncio.to_thread(asyncio.run, use())
    assert got == [1, 1]


# Readers and listeners


async def test_every_reader_gets_every_event_once_on_the_loop_and_in_order(mailbox):
    stream = EventStream(mailbox)
    first: list[Any] = []
    second: list[Any] = []
    stream.subscribe(lambda event: first.append((event.code, threading.get_ident())))
    stream.subscribe(lambda event: second.append(event.code))
    await asyncio.to_thread(lambda: [stream.emit(changed(code)) for code in range(50)])
    await asyncio.sleep(0)
    assert first == [(code, threading.get_ident()) for code in range(50)]
    assert second == list(range(50))


async def test_a_reader_that_fails_harms_no_other(mailbox, caplog):
    got: list[Any] = []

    def fail(event: Any) -> None:
        raise ZeroDivisionError

    stream = EventStream(mailbox)
    stream.subscribe(fail)
    stream.subscribe(got.append)
    stream.emit(changed())
    assert got == [changed()]
    assert "reader" in caplog.text
