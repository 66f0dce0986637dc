"""The performer: calls a job's function where it belongs, on the loop or in a thread, with the hooks around it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import Context, ContextVar, Token, copy_context
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from apscheduler.job import Job
from werkzeug.local import LocalProxy

from ..model.functions import JobFunction, runs_on_loop
from ..model.policies import policy_of
from ..model.runs import Run
from .app_context import enter, is_quiet, leave, left
from .clock import Clock
from .deadline import Deadline
from .logs import RunLog, attach
from .stream import Mailbox
from .thread_calls import ThreadCall

if TYPE_CHECKING:
    from quart import Quart
    from quart.ctx import AppContext

    from .batches import Batch

    Done = Callable[[Batch, Run, "ThreadRun", BaseException | None, Any], None]
    """Called on the loop with what a plain function raised, or None and what it returned."""

Hook = Callable[[], Any]

_COROUTINE = inspect.CO_COROUTINE

_current_run: ContextVar[Run] = ContextVar("quart_sched.current_run")
current_run: Run = LocalProxy(_current_run, unbound_message="Not within a job of quart_sched")  # type: ignore[assignment]
"""The run that the calling job is in, also inside its thread. RuntimeError outside of a job."""


def run_in(context: Context) -> Run | None:
    """Return the run that a context belongs to; None where it is none's."""
    return context.get(_current_run)


def the_run() -> Run | None:
    """Return the run that the caller is in; None outside of jobs."""
    return _current_run.get(None)


class Performer:
    """Calls jobs' functions inside the app's context."""

    def __init__(self, clock: Clock, mailbox: Mailbox) -> None:
        self.clock = clock
        self.app: Quart | None = None
        self.before_run: list[Hook] = []
        self.after_run: list[Hook] = []
        self.log_bytes = 0
        """What is kept of the lines that a run logs; 0 keeps none."""
        self.log_level = logging.INFO
        self.span: Callable[[Run], AbstractContextManager[None]] | None = None
        """What a run is performed in, for traces."""
        self._mailbox = mailbox

    def perform(self, batch: Batch, run: Run) -> Awaitable[Any]:
        """Return what the job returns, or raise what it raises. To be called in a context made for this run alone."""
        self.furnish(run)
        return self._perform(batch, run) if self.span is None else self._perform_in(self.span(run), batch, run)

    async def _perform_in(self, span: AbstractContextManager[None], batch: Batch, run: Run) -> Any:
        with span:
            return await self._perform(batch, run)

    def perform_in_thread(self, batch: Batch, run: Run, done: Done) -> bool:
        """Call a plain function where nothing around it has to be awaited: it needs no task on the loop, only a thread.

        Return False, and do nothing, for other runs.
        """
        job = run.job
        try:
            on_loop = _on_loop(job.func)
        except Exception:
            return False  # A stored job may have a function that can be no job any more: its run fails with it.
        if on_loop or self.before_run or self.after_run or self.span or policy_of(job).timeout is not None:
            return False
        if self.app is not None and not is_quiet(self.app):
            return False
        run.started_at = self.clock.now()
        call = batch.call = ThreadRun(self, self._mailbox, batch, run, done)
        batch.threads.submit(call)
        return True

    def furnish(self, run: Run) -> None:
        """Let the context that this is called in be the run's."""
        _current_run.set(run)
        if self.log_bytes:
            run.log = RunLog(self.log_bytes, self.log_level, run.log_fields)
            attach(run.log)

    async def _perform(self, batch: Batch, run: Run) -> Any:
        app = self.app
        if app is None:
            return await self._call(batch, run)
        if (token := enter(app)) is None:
            async with app.app_context():
                return await self._call(batch, run)
        try:
            return await self._call(batch, run)
        finally:
            if not left(app, token):
                await leave(app, token)

    def _call(self, batch: Batch, run: Run) -> Awaitable[Any]:
        job = run.job
        if not _on_loop(job.func):
            return self._in_thread_in_time(batch, run)
        if self.before_run or self.after_run or policy_of(job).timeout is not None:
            return self._on_loop_with_hooks(run)
        result = job.func(*job.args, **job.kwargs)
        # By far the most frequent case, and the cheapest: no coroutine of ours around the job's own.
        return result if inspect.iscoroutine(result) else _settle(result)

    async def _in_thread_in_time(self, batch: Batch, run: Run) -> Any:
        timeout = policy_of(run.job).timeout
        if timeout is None:
            return await self._in_thread_with_hooks(batch, run.job)
        async with Deadline(self.clock, timeout, run) as deadline:
            return await self._in_thread_with_hooks(batch, run.job, deadline)

    async def _on_loop_with_hooks(self, run: Run) -> Any:
        job, timeout = run.job, policy_of(run.job).timeout
        async with self._hooks():
            if timeout is None:
                return await _settle(job.func(*job.args, **job.kwargs))
            async with Deadline(self.clock, timeout, run) as deadline:
                deadline.start()
                return await _settle(job.func(*job.args, **job.kwargs))

    @asynccontextmanager
    async def _hooks(self) -> AsyncIterator[None]:
        try:
            for hook in self.before_run:
                await _settle(hook())
            yield
        finally:
            await _call_after(self.after_run)

    async def _in_thread_with_hooks(self, batch: Batch, job: Job, deadline: Deadline | None = None) -> Any:
        """Call a plain function, with the hooks around it, in a thread; the thread keeps the slot until it ends.

        The deadline is that of the function alone: it does not run while a thread is waited for, nor in the hooks.
        """
        loop = asyncio.get_running_loop()

        def call() -> Any:
            try:
                for hook in self.before_run:
                    _settle_from_thread(hook(), loop)
                if deadline is not None:
                    self._mailbox.post(deadline.start)
                result = job.func(*job.args, **job.kwargs)
            except BaseException:
                self._after_in_thread(loop, deadline)
                raise
            if not inspect.isawaitable(result):
                self._after_in_thread(loop, deadline)
            return result

        result = await self._in_thread(batch, call, begins_run=True)
        if inspect.isawaitable(result):
            try:
                return await result
            finally:
                if deadline is not None:
                    deadline.stop()
                if self.after_run:
                    await self._in_thread(batch, partial(self._after_in_thread, loop))
        return _refuse_generator(result)

    def _after_in_thread(self, loop: asyncio.AbstractEventLoop, deadline: Deadline | None = None) -> None:
        if deadline is not None:
            self._mailbox.post(deadline.stop)
        _call_after_in_thread(self.after_run, loop)

    async def _in_thread(self, batch: Batch, call: Callable[[], Any], *, begins_run: bool = False) -> Any:
        thread_call = batch.call = _AwaitedCall(call, self._mailbox, begins_run=begins_run)
        batch.threads.submit(thread_call)
        try:
            return await thread_call.future
        finally:
            if thread_call.ended:
                batch.call = None


class _AwaitedCall(ThreadCall):
    """Calls a function that a coroutine waits for, in the coroutine's context."""

    __slots__ = ("_function", "future")

    def __init__(self, function: Callable[[], Any], mailbox: Mailbox, *, begins_run: bool) -> None:
        super().__init__(mailbox, copy_context(), begins_run=begins_run)
        self._function = function
        self.future = asyncio.get_running_loop().create_future()

    def call(self) -> Any:
        return self._function()

    def done(self, error: BaseException | None, result: Any) -> None:
        if self.future.done():
            return  # Whoever waited for it was cancelled.
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class ThreadRun(ThreadCall):
    """Performs a run in a thread from its beginning to its end, unless there is something to be awaited at its end."""

    __slots__ = ("_batch", "_done", "_error", "_left_out", "_performer", "_result", "_run", "_token", "unfinished")

    def __init__(self, performer: Performer, mailbox: Mailbox, batch: Batch, run: Run, done: Done) -> None:
        super().__init__(mailbox, None, begins_run=True)
        self._performer = performer
        self._batch = batch
        self._run = run
        self._done = done
        self._token: Token[AppContext] | None = None
        self._left_out = False
        """Whether it has not been performed, as somebody wants to be told of app contexts who did not before."""
        self.unfinished = False
        """Whether `perform` is to be awaited."""

    def call(self) -> Any:
        performer, job = self._performer, self._run.job
        performer.furnish(self._run)
        if performer.app is not None:
            self._token = enter(performer.app)
            if self._token is None:
                self._left_out = True
                return None
        return _refuse_generator(job.func(*job.args, **job.kwargs))

    def done(self, error: BaseException | None, result: Any) -> None:
        self._batch.call = None
        app = self._performer.app
        if self._left_out or inspect.isawaitable(result) or (app is not None and not is_quiet(app)):
            self.unfinished = True
            self._error, self._result = error, result
        self._done(self._batch, self._run, self, error, result)

    async def perform(self, batch: Batch, run: Run) -> Any:
        """Do what is left to be done, in the run's context."""
        if self._left_out:
            return await self._performer.perform(batch, run)
        try:
            if self._error is not None:
                raise self._error
            return await _settle(self._result)
        finally:
            if self._performer.app is not None and self._token is not None:
                await leave(self._performer.app, self._token)

    def drop(self) -> None:
        """Leave that undone."""
        if inspect.iscoroutine(self._result):
            self._result.close()


_known: WeakKeyDictionary[JobFunction, bool] = WeakKeyDictionary()


def _on_loop(func: JobFunction) -> bool:
    """Tell what `runs_on_loop` does, quicker, and without keeping anything that the job was given."""
    kind = type(func)
    if kind is FunctionType and not func.__dict__:
        return func.__code__.co_flags & _COROUTINE != 0
    if kind is MethodType or kind is partial:
        return _on_loop(func.__func__ if kind is MethodType else func.func)  # type: ignore[attr-defined]
    try:
        known = _known.get(func)
        if known is None:
            known = _known[func] = runs_on_loop(func)
    except TypeError:
        return runs_on_loop(func)  # a callable object that is not hashable, or takes no weak reference
    return known


async def _settle(result: Any) -> Any:
    """Await `result` if it is to be awaited."""
    return await result if inspect.isawaitable(result) else _refuse_generator(result)


def _refuse_generator(result: Any) -> Any:
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("the job returned a generator, so none of its code ran; make it a function or coroutine")
    return result


async def _call_after(hooks: list[Hook]) -> None:
    """Call the hooks, the last one first, each of them whatever the others raise."""
    if hooks:
        try:
            await _settle(hooks[-1]())
        finally:
            await _call_after(hooks[:-1])


def _call_after_in_thread(hooks: list[Hook], loop: asyncio.AbstractEventLoop) -> None:
    if hooks:
        try:
            _settle_from_thread(hooks[-1](), loop)
        finally:
            _call_after_in_thread(hooks[:-1], loop)


def _settle_from_thread(result: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Await a hook's result on the loop, while the thread waits."""
    if inspect.isawaitable(result):

        async def wait(awaitable: Awaitable[Any]) -> SystemExit | None:
            try:
                await awaitable
            except SystemExit as error:
                # Raised here it would end the event loop.
                return error
            return None

        if (exit_ := asyncio.run_coroutine_threadsafe(wait(result), loop).result()) is not None:
            raise exit_
