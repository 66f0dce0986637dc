"""The lifespan: ties the scheduler to the app that serves, in each serving process."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from quart import Quart

from .engine.guard import Guard, sibling_workers
from .errors import AlreadyRunning, NotRunning, SchedulerError

if TYPE_CHECKING:
    from .extension import APScheduler

log = logging.getLogger("quart_sched")


class Lifespan:
    """Starts the scheduler when everything else of the app has started, and drains it before anything is undone.

    A start that is asked for before then is remembered.
    """

    def __init__(self, front: APScheduler) -> None:
        self._front = front
        self._scheduler = front.scheduler
        self.serving: Quart | None = None
        """The app that serves in this process."""
        self.requested: bool | None = None
        """The remembered start: whether paused; None where there was no call."""
        self._starts: bool | None = None
        """Whether the scheduler starts with the app; None: as its code and configuration say."""
        self._hooked: weakref.WeakSet[Quart] = weakref.WeakSet()
        self._generator: AsyncGenerator[None, None] | None = None

    # What is asked for

    def start(self, paused: bool) -> None:
        """Carry out `APScheduler.start`."""
        if not self.may_start():
            return
        self._scheduler.leave_closed_loop()
        if self._scheduler.running:
            raise AlreadyRunning
        loop = self._scheduler._eventloop
        if self.serving is None or loop is None:
            self.requested = paused
        elif threading.get_ident() == self._scheduler._loop_thread:
            self._scheduler.start(paused)
        else:
            asyncio.run_coroutine_threadsafe(self._front.aio.start(paused), loop).result()

    def may_start(self) -> bool:
        """Tell whether this host is among the allowed ones; says so in the log where it is not."""
        front = self._front
        if front.is_allowed_host:
            return True
        log.info("Host %s may not start the scheduler; allowed: %s", front.host_name, ", ".join(front.allowed_hosts))
        return False

    def _waits(self) -> bool:
        """Tell whether a start is remembered that has not come."""
        return self.requested is not None and self.serving is None and not self._scheduler.running

    def withdraw(self) -> bool:
        """Forget a start that is remembered and has not come; tell whether there was one."""
        waits = self._waits() and self._scheduler.ending_in is None
        if waits:
            self.requested = None
        return waits

    def note_pause(self, paused: bool) -> bool:
        """Where the start is remembered and has not come, remember whether it is to be a paused one; else False."""
        waits = self._waits()
        if waits:
            self.requested = paused
        return waits

    async def stop(self, *, wait: bool, timeout: float | None) -> None:
        """Carry out `aio.shutdown`. Where no app serves, everything bound to the loop is freed too."""
        scheduler, frees = self._scheduler, self.serving is None and wait
        in_job = scheduler.is_called_by_its_job()
        if not (scheduler.running or (frees and scheduler.closing and not in_job)):
            if scheduler.ending_in is None:
                raise NotRunning
            return  # the app that ends has ended it, and its own code asks for the same
        if frees and not in_job:
            await scheduler.close(timeout)
            return
        await scheduler.stop(wait=wait, timeout=timeout)
        if frees and not scheduler.running:
            # It is freed when the job that calls this has ended too.
            scheduler.begin_close(timeout)

    # The life of the app

    def hook(self, app: Quart) -> None:
        """Take part in the life of `app`, once however often this is called."""
        if app not in self._hooked:
            self._hooked.add(app)
            app.before_serving(partial(self._before_serving, app))

    @asynccontextmanager
    async def without_server(self, *, start: bool) -> AsyncIterator[None]:
        """Let the app live as if it were served: with its own start-up and shutdown, and the drain.

        With `start` the scheduler runs, whatever start the app's code asked for; without it does not. Raises
        SchedulerError where the start-up fails.
        """
        app = cast(Quart, self._front.app)
        self._starts = start
        try:
            try:
                await app.startup()
            except Exception as error:  # the log shows it
                raise SchedulerError(f"The app could not start: {type(error).__name__}: {error}") from error
            try:
                yield
            finally:
                await app.shutdown()
        finally:
            self._starts = None

    async def _before_serving(self, app: Quart) -> None:
        """Enter the lifespan behind everything that the app's own start-up does, and leave it before that is undone."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise SchedulerError(
                "quart_sched needs asyncio: a trio worker cannot run it; use asyncio or uvloop"
            ) from None
        if self._front.app is not app:
            log.warning("The scheduler of app %r was bound to another app since, and does not start here", app.name)
            return
        if self._generator in app.while_serving_gens:  # of a start-up that failed
            app.while_serving_gens.remove(self._generator)
        # A new generator for each start-up: those that Quart's decorator takes can serve only once.
        self._generator = self._serve(app)
        app.while_serving_gens.append(self._generator)

    async def _serve(self, app: Quart) -> AsyncGenerator[None, None]:
        loop = asyncio.get_running_loop()
        scheduler = self._scheduler
        generator = self._generator
        scheduler.ending_in = None
        scheduler.attach(loop)
        self.serving = app
        scheduler.catalogue.serving = True
        closing = loop.create_task(self._close_at_shutdown(app), name="quart-sched-shutdown")
        guard = Guard(loop, cast(asyncio.Event, app.shutdown_event), scheduler.hold, closing)
        if self._front.settings.guard_workers:
            guard.install()
        try:
            self._start_serving()
            yield
        finally:
            # Set already, unless the server gave the lifespan up without a word.
            app.shutdown_event.set()
            try:
                await closing
            finally:
                guard.remove()
                self.serving = None
                scheduler.catalogue.serving = False
                if generator is not None:
                    app.while_serving_gens.remove(generator)
                # It is to be the last of the functions that are called at the app's end.
                if self._end in app.after_serving_funcs:
                    app.after_serving_funcs.remove(self._end)
                app.after_serving_funcs.append(self._end)

    def _start_serving(self) -> None:
        """Carry out the remembered start, and say so where something looks forgotten."""
        if self._starts is False:
            return
        front, scheduler = self._front, self._scheduler
        requested = False if self.requested is None and front.settings.autostart else self.requested
        if self._starts:
            requested = False
        else:
            from .web import api

            api.warn_if_open(front)
        if requested is not None and not scheduler.running and self.may_start():
            scheduler.start(requested)
        forgotten = requested is None and not scheduler.running and front.is_allowed_host
        if forgotten and len(scheduler.catalogue.declarations):
            log.warning(
                "Jobs are declared, but the scheduler was not started: call scheduler.start(), or set "
                "SCHEDULER_AUTOSTART = True"
            )
        in_memory = any(not slot.shared for slot in scheduler.catalogue.slots.values())
        if scheduler.running and in_memory and (workers := sibling_workers()) > 1:
            log.warning(
                "%d workers serve this app, and each has a scheduler of its own that fires every job: serve with one, "
                'or share an SQL store: SCHEDULER_JOBSTORES = {"default": {"type": "sqlalchemy", "url": ...}}',
                workers,
            )

    async def _close_at_shutdown(self, app: Quart) -> None:
        await cast(asyncio.Event, app.shutdown_event).wait()
        self._scheduler.ending_in = asyncio.get_running_loop()
        await self._scheduler.close()

    async def _end(self) -> None:
        """Take note that the app has shut down: what begins now is not cut off by that."""
        self._scheduler.ending_in = None
