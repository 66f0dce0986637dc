"""What tasks wait for: virtual time and each other, or the world outside, for which time must stand still."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType
from typing import Any

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_ASYNCIO = f"{Path(asyncio.__file__).parent}{os.sep}"
_TASKS = f"{_ASYNCIO}tasks.py"
_AMONG_TASKS = {f"{_ASYNCIO}{name}.py" for name in ("taskgroups", "tasks")}
_SIGNALS = {f"{_ASYNCIO}{name}.py" for name in ("locks", "queues")}
_SHIELD = "shield.<locals>._outer_done_callback"
_ANYIO = str(Path("anyio", "_backends", "_asyncio.py"))
_ANYIO_SIGNALS = {"Lock", "Semaphore", "CapacityLimiter", "Condition", "Event"}


class Wait(Enum):
    """What keeps a task from going on."""

    NOTHING = auto()
    TIME = auto()
    TASKS = auto()
    """Certain other tasks."""
    SIGNAL = auto()
    """Whatever task gives it: a lock, a queue, an event."""
    WORLD = auto()


def frames(task: asyncio.Task[Any]) -> Iterator[Any]:
    """Yield the coroutines that a task is in, from the outermost to the one that waits."""
    inner: Any = task.get_coro()
    while inner is not None:
        yield inner
        inner = _awaited(inner)


def _awaited(awaitable: Any) -> Any:
    for name in ("cr_await", "ag_await", "gi_yieldfrom"):
        if hasattr(awaitable, name):
            return getattr(awaitable, name)
    # An iterator over a coroutine or an asynchronous generator, which shows it to the garbage collector alone.
    kinds = (CoroutineType, AsyncGeneratorType, GeneratorType)
    return next((inner for inner in gc.get_referents(awaitable) if isinstance(inner, kinds)), None)


def code_of(coroutine: Any) -> CodeType | None:
    """Return the code of a coroutine or generator; None for what is written in C."""
    for name in ("cr_code", "gi_code", "ag_code"):
        if (code := getattr(coroutine, name, None)) is not None:
            return code  # type: ignore[no-any-return]
    return None


def codes(task: asyncio.Task[Any]) -> list[CodeType]:
    """Return the code that a task is in, from the outermost to that which waits."""
    return [code for frame in frames(task) if (code := code_of(frame)) is not None]


def is_ours(code: CodeType) -> bool:
    """Tell whether this is code of the package."""
    return code.co_filename.startswith(_PACKAGE)


def waiter(task: asyncio.Task[Any]) -> asyncio.Future[Any] | None:
    """Return what the task awaits; None where it is about to go on."""
    # Private, but so named since Python 3.4; there is no other way to it.
    future: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    return None if future is None or future.done() else future


def look(task: asyncio.Task[Any], chain: list[CodeType], *, files: bool, virtual_sleep: bool) -> Wait:
    """Tell what `task` waits for, which is in the code of `chain`.

    `files` tells that it waits for a file or socket; with `virtual_sleep`, asyncio.sleep is virtual. What is not known
    is taken for the world: a driver waits for its thread or socket with a bare future.
    """
    future = waiter(task)
    if future is None:
        return Wait.NOTHING
    if _sleeps(chain, virtual_sleep):
        return Wait.TIME
    if files:
        return Wait.WORLD
    if waited_for := list(awaited(task, chain)):
        outside = any(not (one.done() or isinstance(one, asyncio.Task)) for one in waited_for)
        return Wait.WORLD if outside and not _serves_us(chain) else Wait.TASKS
    if not chain:
        return Wait.WORLD
    code = chain[-1]
    if code is asyncio.sleep.__code__:
        return Wait.WORLD
    anyio_class = code.co_qualname.partition(".")[0] if code.co_filename.endswith(_ANYIO) else ""
    if code.co_filename in _AMONG_TASKS or anyio_class == "TaskGroup":
        return Wait.TASKS
    return Wait.SIGNAL if code.co_filename in _SIGNALS or anyio_class in _ANYIO_SIGNALS else Wait.WORLD


def _sleeps(chain: list[CodeType], virtual_sleep: bool) -> bool:
    if not chain:
        return False
    if chain[-1] is asyncio.sleep.__code__:
        return virtual_sleep
    return any(code.co_qualname == "VirtualClock.wait" and is_ours(code) for code in chain)


def awaited(task: asyncio.Task[Any], chain: list[CodeType]) -> Iterator[asyncio.Future[Any]]:
    """Yield the task that `task` waits for, or what its gather, shield, wait, wait_for or as_completed waits for."""
    future = waiter(task)
    if future is not None:
        yield from _leaves([future] if isinstance(future, asyncio.Task) else _parts(future) or _waited_for(task, chain))


def _leaves(futures: Iterable[asyncio.Future[Any]]) -> Iterator[asyncio.Future[Any]]:
    for future in futures:
        parts = _parts(future)
        yield from _leaves(parts) if parts else (future,)


def _parts(future: Any) -> list[asyncio.Future[Any]]:
    """Return the futures that a gather or a shield stands for; none where it is another future."""
    if type(future).__name__ == "_GatheringFuture":
        return list(future._children)
    callbacks = [callback for callback, _ in getattr(future, "_callbacks", None) or ()]
    shields = [callback for callback in callbacks if getattr(callback, "__qualname__", "") == _SHIELD]
    held = [cell.cell_contents for callback in shields for cell in callback.__closure__]
    return [inner for inner in held if isinstance(inner, asyncio.Future)]


def _waited_for(task: asyncio.Task[Any], chain: list[CodeType]) -> list[asyncio.Future[Any]]:
    """Return the futures for which asyncio's own wait, wait_for or as_completed waits, where the task is in one."""
    if not any(code.co_filename == _TASKS for code in chain[-2:]):
        return []
    way = [frame for frame in frames(task) if code_of(frame) is not None]
    if chain[-1].co_filename == _TASKS:
        given = _locals(way[-1])
        return list(given.get("fs", ())) or [one for one in (given.get("fut"),) if isinstance(one, asyncio.Future)]
    # It takes what is completed out of a queue. The rest is with an iterator, which the loop over it holds.
    iterators = [given for frame in way for given in (_locals(frame).get("self"), *gc.get_referents(frame))]
    for iterator in iterators:
        if code_of(iterator) is getattr(asyncio.as_completed, "__code__", None):
            return list(_locals(iterator).get("todo", ()))
        if type(iterator).__name__ == "_AsCompletedIterator":  # since Python 3.13
            return list(iterator._todo)
    return []


def _locals(coroutine: Any) -> Any:
    names = (getattr(coroutine, name, None) for name in ("cr_frame", "gi_frame", "ag_frame"))
    return next((frame.f_locals for frame in names if frame is not None), {})


def _serves_us(chain: list[CodeType]) -> bool:
    """Tell whether this package waits: its futures are those of runs, which are looked at by themselves."""
    callers = [code for code in chain if not code.co_filename.startswith(_ASYNCIO)]
    return bool(callers) and is_ours(callers[-1])


def is_awaited(task: asyncio.Task[Any]) -> bool:
    """Tell whether another task waits for this one, directly or in a group."""
    for callback, _ in getattr(task, "_callbacks", None) or ():
        function = getattr(callback, "func", callback)
        module = getattr(function, "__module__", None) or ""
        if module.startswith(("asyncio.", "anyio.")) or "wakeup" in getattr(function, "__qualname__", ""):
            return True
    return False


def place(task: asyncio.Task[Any]) -> str:
    """Say in words where a task waits: the innermost line outside of asyncio and this package."""
    found = ""
    for frame in frames(task):
        code = code_of(frame)
        inner = getattr(frame, "cr_frame", None) or getattr(frame, "gi_frame", None) or getattr(frame, "ag_frame", None)
        if code is not None and inner is not None and not code.co_filename.startswith((_ASYNCIO, _PACKAGE)):
            found = f"{code.co_qualname} ({code.co_filename}:{inner.f_lineno})"
    return found or task.get_name()
