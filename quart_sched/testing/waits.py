"""What tasks wait for: virtual time and each other, or the world outside, for which time must stand still."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType
from typing import Any

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_ASYNCIO = f"{Path(asyncio.__file__).parent}{os.sep}"
_AMONG_TASKS = {f"{_ASYNCIO}{name}.py" for name in ("locks", "queues", "taskgroups", "tasks")}
"""Modules in which a task waits for what another one does."""
_ANYIO = str(Path("anyio", "_backends", "_asyncio.py"))
_ANYIO_AMONG_TASKS = {"TaskGroup", "Lock", "Semaphore", "CapacityLimiter", "Condition", "Event"}


class Wait(Enum):
    """What keeps a task from going on."""

    NOTHING = auto()
    TIME = auto()
    TASKS = auto()
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
    if isinstance(future, asyncio.Task) or type(future).__name__ == "_GatheringFuture" or _is_shield(future):
        return Wait.TASKS
    if not chain:
        return Wait.WORLD
    code = chain[-1]
    if code is asyncio.sleep.__code__:
        return Wait.WORLD
    if code.co_filename in _AMONG_TASKS:
        return Wait.TASKS
    anyio_class = code.co_qualname.partition(".")[0] if code.co_filename.endswith(_ANYIO) else ""
    return Wait.TASKS if anyio_class in _ANYIO_AMONG_TASKS else Wait.WORLD


def _sleeps(chain: list[CodeType], virtual_sleep: bool) -> bool:
    if not chain:
        return False
    if chain[-1] is asyncio.sleep.__code__:
        return virtual_sleep
    return any(code.co_qualname == "VirtualClock.wait" and is_ours(code) for code in chain)


def _is_shield(future: asyncio.Future[Any]) -> bool:
    callbacks = getattr(future, "_callbacks", None) or ()
    return any(getattr(callback, "__qualname__", "").startswith("shield.") for callback, _ in callbacks)


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
