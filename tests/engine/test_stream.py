"""The event stream: each event once, on the loop, to every reader and listener."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from apscheduler import events as aps
from apscheduler.triggers.date import DateTrigger

from quart_sched import Scheduler
from quart_sched.engine.clock import Clock
from quart_sched.engine.stream import EventStream, Listeners, Mailbox, translate
from quart_sched.model.events import JobChanged, RunEnded, RunSubmitted, SchedulerChanged
from quart_sched.model.runs import Run, RunRecord
from tests.names import shown

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


async def test_listeners_are_called_by_their_mask_plain_or_async():
    got: list[str] = []

    async def coroutine(event: Any) -> None:
        got.append("async")

    listeners = Listeners()
    listeners.add(lambda event: got.append("plain"), aps.EVENT_ALL)
    listeners.add(lambda event: got.append("other"), aps.EVENT_JOB_ADDED)
    listeners.add(coroutine, aps.EVENT_SCHEDULER_PAUSED)
    listeners(changed())
    await listeners.drain(1)
    assert got == ["plain", "async"]


async def test_a_listener_that_fails_is_logged_and_harms_nothing(caplog):
    got: list[int] = []

    def fail(event: Any) -> None:
        raise ValueError("plain trouble")

    async def fail_async(event: Any) -> None:
        raise ValueError("async trouble")

    listeners = Listeners()
    for callback in (fail, fail_async, lambda event: got.append(1)):
        listeners.add(callback, aps.EVENT_ALL)
    listeners(changed())
    await listeners.drain(1)
    assert got == [1]
    assert "plain trouble" in caplog.text
    assert "async trouble" in caplog.text


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3)], ids=shown)
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_listener_that_lets_more_than_an_exception_through_harms_nothing_either(kind, error):
    def fail(event: Any) -> None:
        raise error

    async def fail_async(event: Any) -> None:
        raise error

    got: list[int] = []
    listeners = Listeners()
    for callback in (fail if kind == "plain" else fail_async, lambda event: got.append(1)):
        listeners.add(callback, aps.EVENT_ALL)
    listeners(changed())
    await listeners.drain(1)
    assert got == [1]


def test_ctrl_c_in_a_listener_ends_the_program():
    def fail(event: Any) -> None:
        raise KeyboardInterrupt

    listeners = Listeners()
    listeners.add(fail, aps.EVENT_ALL)
    with pytest.raises(KeyboardInterrupt):
        listeners(changed())


async def test_listeners_do_not_see_the_context_of_the_event():
    got: list[str] = []

    async def coroutine(event: Any) -> None:
        got.append(variable.get())

    listeners = Listeners()
    listeners.add(lambda event: got.append(variable.get()), aps.EVENT_ALL)
    listeners.add(coroutine, aps.EVENT_ALL)
    variable.set("of a request")
    listeners(changed())
    await listeners.drain(1)
    assert got == ["clean", "clean"]


async def test_a_removed_listener_is_not_called_and_an_unknown_one_is_no_error():
    got: list[Any] = []
    listeners = Listeners()
    listeners.add(got.append, aps.EVENT_ALL)
    listeners.remove(got.append)
    listeners.remove(print)
    listeners(changed())
    assert got == []


async def test_listeners_that_take_too_long_are_cancelled_by_the_drain():
    ended: list[str] = []

    async def slow(event: Any) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    listeners = Listeners()
    listeners.add(slow, aps.EVENT_ALL)
    listeners(changed())
    await asyncio.sleep(0)
    await listeners.drain(0)
    await asyncio.sleep(0)
    assert ended == ["cancelled"]


def test_a_coroutine_listener_without_a_loop_is_reported(caplog):
    async def coroutine(event: Any) -> None: ...

    listeners = Listeners()
    listeners.add(coroutine, aps.EVENT_ALL)
    listeners(changed())
    assert "no event loop runs yet" in caplog.text


def test_another_awaitable_without_a_loop_is_reported_too(caplog):
    class Awaitable:
        def __await__(self) -> Any:
            yield

    listeners = Listeners()
    listeners.add(lambda event: Awaitable(), aps.EVENT_ALL)
    listeners(changed())
    assert "no event loop runs yet" in caplog.text


async def test_without_listeners_there_is_nothing_to_drain():
    listeners = Listeners()
    listeners(changed())
    await listeners.drain(0)


async def test_a_listener_may_remove_itself_while_it_is_called():
    got: list[str] = []
    listeners = Listeners()

    def leave(event: Any) -> None:
        got.append("once")
        listeners.remove(leave)

    listeners.add(leave, aps.EVENT_ALL)
    listeners.add(lambda event: got.append("each"), aps.EVENT_ALL)
    listeners(changed())
    listeners(changed())
    assert got == ["once", "each", "each"]


# Translation


def record(outcome: Any) -> RunRecord:
    return RunRecord("r", "f", "job", NOW, outcome, "schedule", "host:1", traceback="trace")


def ended(outcome: Any) -> Any:
    return translate(RunEnded(record(outcome), "default", "result", ValueError("error")))


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("succeeded", aps.EVENT_JOB_EXECUTED),
        ("failed", aps.EVENT_JOB_ERROR),
        ("cancelled", aps.EVENT_JOB_ERROR),
        ("missed", aps.EVENT_JOB_MISSED),
    ],
)
def test_an_end_becomes_apschedulers_execution_event(outcome, code):
    event = ended(outcome)
    assert type(event) is aps.JobExecutionEvent
    assert (event.code, event.job_id, event.jobstore, event.scheduled_run_time) == (code, "job", "default", NOW)
    assert (event.retval, str(event.exception), event.traceback) == ("result", "error", "trace")


def test_a_skip_becomes_a_max_instances_event_and_a_coalesced_fire_none():
    event = ended("skipped")
    assert (event.code, event.scheduled_run_times) == (aps.EVENT_JOB_MAX_INSTANCES, [NOW])
    assert ended("coalesced") is None


async def test_what_apscheduler_has_no_event_for_reaches_no_listener():
    got: list[Any] = []
    listeners = Listeners()
    listeners.add(got.append, aps.EVENT_ALL)
    listeners(RunEnded(record("coalesced"), "default"))
    assert got == []


def test_the_other_events_are_apschedulers_own():
    job = Scheduler(timezone="UTC").add_job(print, DateTrigger(NOW), id="job")
    submitted: Any = translate(RunSubmitted(Run(job, NOW, "schedule"), "default"))
    assert (submitted.code, submitted.job_id, submitted.scheduled_run_times) == (aps.EVENT_JOB_SUBMITTED, "job", [NOW])
    added: Any = translate(JobChanged(aps.EVENT_JOB_ADDED, "job", "default"))
    assert (type(added), added.code, added.job_id) == (aps.JobEvent, aps.EVENT_JOB_ADDED, "job")
    gone: Any = translate(SchedulerChanged(aps.EVENT_ALL_JOBS_REMOVED, "second"))
    assert (type(gone), gone.code, gone.alias) == (aps.SchedulerEvent, aps.EVENT_ALL_JOBS_REMOVED, "second")


def test_an_event_that_apscheduler_does_not_know_is_translated_to_none():
    unknown: Any = object()
    assert translate(unknown) is None
