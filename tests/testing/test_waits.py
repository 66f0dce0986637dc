"""What tasks are seen to wait for: time, other tasks, or the world outside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from quart_sched.engine.clock import Clock
from quart_sched.testing.waits import Wait, codes, is_awaited, look, place

over = threading.Event()
"""Ends the calls in threads, however long a machine takes to come to look at them."""


async def sleep() -> None:
    await asyncio.sleep(1)


async def ticks() -> AsyncIterator[int]:
    while True:
        await asyncio.sleep(1)
        yield 1


@asynccontextmanager
async def slow_resource() -> AsyncIterator[None]:
    await asyncio.sleep(1)
    yield


class Handle:
    async def _wait(self) -> None:
        await asyncio.Event().wait()

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()


async def iterate() -> None:
    async for _ in ticks():
        pass


async def enter() -> None:
    async with slow_resource():
        pass


async def await_handle() -> None:
    await Handle()


async def await_task() -> None:
    await asyncio.create_task(sleep())


async def gather() -> None:
    await asyncio.gather(sleep(), sleep())


async def shield() -> None:
    await asyncio.shield(asyncio.create_task(sleep()))


async def take_from_queue() -> None:
    await asyncio.Queue().get()


async def in_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sleep())


async def in_anyio_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(sleep)


async def lock_with_anyio() -> None:
    lock = anyio.Lock()
    await lock.acquire()

    async def again() -> None:
        await lock.acquire()

    await asyncio.create_task(again())


async def in_thread() -> None:
    await asyncio.to_thread(over.wait, 60)


async def in_anyio_thread() -> None:
    await anyio.to_thread.run_sync(over.wait, 60)


async def bare_future() -> None:
    await asyncio.get_running_loop().create_future()


def thread_call() -> asyncio.Future[None]:
    return asyncio.get_running_loop().run_in_executor(None, over.wait, 60)


async def gather_calls() -> None:
    await asyncio.gather(sleep(), asyncio.gather(asyncio.shield(thread_call())))


async def shield_call() -> None:
    await asyncio.shield(thread_call())


async def wait_for_call() -> None:
    await asyncio.wait_for(thread_call(), 10)


async def wait_for_calls() -> None:
    await asyncio.wait([thread_call(), asyncio.create_task(sleep())])


async def wait_for_tasks() -> None:
    await asyncio.wait([asyncio.create_task(sleep())], timeout=10)


async def calls_as_completed() -> None:
    for completed in asyncio.as_completed([thread_call(), sleep()]):
        await completed


async def tasks_as_completed() -> None:
    for completed in asyncio.as_completed([sleep(), sleep()]):
        await completed


@pytest.mark.parametrize(
    ("coroutine", "wait"),
    [
        (sleep, Wait.TIME),
        (iterate, Wait.TIME),
        (enter, Wait.TIME),
        (await_handle, Wait.SIGNAL),
        (await_task, Wait.TASKS),
        (gather, Wait.TASKS),
        (shield, Wait.TASKS),
        (take_from_queue, Wait.SIGNAL),
        (in_group, Wait.TASKS),
        (in_anyio_group, Wait.TASKS),
        (lock_with_anyio, Wait.TASKS),
        (wait_for_tasks, Wait.TASKS),
        (tasks_as_completed, Wait.TASKS),
        (in_thread, Wait.WORLD),
        (in_anyio_thread, Wait.WORLD),
        (bare_future, Wait.WORLD),
        (gather_calls, Wait.WORLD),
        (shield_call, Wait.WORLD),
        (wait_for_call, Wait.WORLD),
        (wait_for_calls, Wait.WORLD),
        (calls_as_completed, Wait.WORLD),
    ],
)
async def test_what_a_task_waits_for(coroutine: Callable[[], Coroutine[Any, Any, None]], wait: Wait) -> None:
    over.clear()
    task = asyncio.create_task(coroutine())
    assert look(task, codes(task), files=False, virtual_sleep=True) is Wait.NOTHING
    await asyncio.sleep(0.02)
    assert look(task, codes(task), files=False, virtual_sleep=True) is wait
    # Where sleeps are real, so is what sleeps.
    real = look(task, codes(task), files=False, virtual_sleep=False)
    assert real is (Wait.WORLD if wait is Wait.TIME else wait)
    # Whoever waits for another task may be called by the reader of a file; a sleeper is not.
    assert look(task, codes(task), files=True, virtual_sleep=True) is (Wait.TIME if wait is Wait.TIME else Wait.WORLD)
    over.set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_a_gather_waits_for_still_counts_alone() -> None:
    call = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(await_both(call))
    await asyncio.sleep(0)
    assert look(task, codes(task), files=False, virtual_sleep=True) is Wait.WORLD
    call.set_result(None)
    await asyncio.sleep(0)
    assert look(task, codes(task), files=False, virtual_sleep=True) is Wait.TASKS
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def await_both(call: asyncio.Future[None]) -> None:
    await asyncio.gather(call, sleep())


async def test_a_task_that_is_over_waits_for_nothing() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    assert look(task, codes(task), files=False, virtual_sleep=True) is Wait.NOTHING


async def test_whether_somebody_waits_for_a_task() -> None:
    tasks = {name: asyncio.create_task(sleep()) for name in ("left", "noted", "gathered", "shielded", "awaited")}
    tasks["noted"].add_done_callback({}.get)

    async def wait() -> None:
        await tasks["awaited"]

    others = [
        asyncio.create_task(wait()),
        asyncio.gather(tasks["gathered"], return_exceptions=True),
        asyncio.shield(tasks["shielded"]),
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [name for name, task in tasks.items() if is_awaited(task)] == ["gathered", "shielded", "awaited"]
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), *others, return_exceptions=True)


async def test_a_task_is_said_to_be_where_the_users_own_code_is() -> None:
    task = asyncio.create_task(iterate())
    await asyncio.sleep(0)
    line = ticks.__code__.co_firstlineno + 2
    assert place(task) == f"ticks ({__file__}:{line})"
    task.cancel()
    foreign = asyncio.create_task(Clock().sleep(1), name="pump")
    await asyncio.sleep(0)
    assert place(foreign) == "pump"
    foreign.cancel()
    await asyncio.gather(task, foreign, return_exceptions=True)
