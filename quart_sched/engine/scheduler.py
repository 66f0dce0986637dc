"""The scheduler proper: APScheduler's AsyncIOScheduler with a pump, a runner and a catalogue of our own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

import anyio
from apscheduler import events as aps
from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED

from ..errors import AlreadyRunning, Draining, NoEventLoop, NotRunning
from ..model.events import Event, SchedulerChanged
from ..model.jobs import JobDefinition
from ..model.runs import Cause
from .catalogue import Catalogue
from .clock import Clock
from .executors import ForeignExecutor
from .history import HistoryRing
from .performer import Performer
from .pump import Pump
from .runner import RunHandle, Runner
from .setup import SetUp
from .stream import EventStream, Listeners, Mailbox
from .threads import StoreThread

log = logging.getLogger("quart_sched")

T = TypeVar("T")

_STORE_GRACE = 0.5
"""Seconds that a blocking store gets at least to finish what it is at when the scheduler stops."""


class Scheduler(SetUp):
    """An AsyncIOScheduler whose pump cannot die and does not hold up the loop.

    Its methods are APScheduler's: synchronous, for any thread. `call` is their asynchronous way in.
    """

    def __init__(self, gconfig: Any = None, *, clock: Clock | None = None, **options: Any) -> None:
        """Take APScheduler's options, and a `clock` to replace real time with."""
        super().__init__(gconfig or {}, **options)
        self._furnish(clock or Clock())

    def _furnish(self, clock: Clock) -> None:
        """Set up what is ours."""
        self.clock = clock
        self.mailbox = Mailbox()
        self.stream = EventStream(self.mailbox)
        self.listeners = Listeners()
        self.history = HistoryRing(10_000)
        self.stream.subscribe(self._keep)
        self.stream.subscribe(self.listeners)
        self.performer = Performer(self.mailbox)
        self.runner = Runner(self.clock, self.stream, self.mailbox, self.performer)
        self.catalogue = Catalogue(self)
        self.held = False
        self._pumps: list[Pump] = []
        self._store_thread = StoreThread()
        self._ending: set[asyncio.Task[None]] = set()
        self._pending_jobs, pending = [], self._pending_jobs
        self._take_own()
        for callback, mask in self._listeners:
            self.listeners.add(callback, mask)
        for job, alias, replace_existing in pending:
            self._take_over(job, alias, replace_existing)

    def _keep(self, event: Event) -> None:
        # Not the ring itself: `install` may exchange it.
        self.history(event)

    @classmethod
    def adopt(cls, scheduler: AsyncIOScheduler) -> Scheduler:
        """Make a plain AsyncIOScheduler, with what is configured and added already, one of ours: the same object."""
        scheduler.__class__ = cls
        adopted: Scheduler = scheduler
        adopted._furnish(Clock())
        return adopted

    def _take_over(self, job: Job, alias: str, replace_existing: bool) -> None:
        options = {
            key: getattr(job, key)
            for key in ("misfire_grace_time", "coalesce", "max_instances", "next_run_time")
            if hasattr(job, key)
        }
        definition = JobDefinition.parse(
            {
                "id": job.id,
                "name": job.name,
                "func": job.func,
                "args": job.args,
                "kwargs": job.kwargs,
                "trigger": job.trigger,
                "executor": job.executor,
                "jobstore": alias,
                "replace_existing": replace_existing,
                **options,
            }
        )
        self.catalogue.add(definition, origin="unbound")

    # Where verbs run

    async def call(self, op: Callable[[], T], *, blocking: bool | None = None) -> T:
        """Run `op`, which uses job stores, without holding up the loop."""
        if not (self.blocking if blocking is None else blocking):
            return op()
        return await asyncio.wrap_future(self._store_thread.submit(op))

    # Life cycle

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run jobs and deliver events on `loop`, which is the running one."""
        if self._eventloop is loop and self._loop_thread == threading.get_ident():
            return
        self._eventloop = loop
        self._loop_thread = threading.get_ident()
        self.mailbox.open(loop)
        self.runner.open(loop)
        for alias, executor in self.runner.executors.items():
            executor.start(self, alias)

    def start(self, paused: bool = False) -> None:
        """Start in the running event loop. Raises AlreadyRunning, or NoEventLoop where no loop runs."""
        if self.state != STATE_STOPPED:
            raise AlreadyRunning
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise NoEventLoop("The scheduler starts in a running event loop; there is none in this thread") from None
        if self.runner.draining and self._eventloop is loop:
            raise Draining("The scheduler cannot start: this process is shutting down")
        self.attach(loop)
        self.runner.generation += 1
        self.held = False
        self.state = STATE_PAUSED if paused else STATE_RUNNING
        self.catalogue.started = True
        log.info("Scheduler started%s", ", paused" if paused else "")
        self.stream.emit(SchedulerChanged(aps.EVENT_SCHEDULER_STARTED))
        # The pumps apply the declarations too; the memory store's at once, so that the jobs are seen right away.
        self._pumps = [Pump(self, slot) for slot in self.catalogue.slots.values()]
        for pump in self._pumps:
            if pump.slot.blocking:
                log.info('Job store "%s" (%r) is safe with one process only', pump.slot.alias, pump.slot.store)
            else:
                pump.prepare()
            Context().run(pump.start, loop)

    def shutdown(self, wait: bool = True) -> None:
        """Begin the shutdown and return; from another thread than the loop's, wait for its end."""
        loop = self._eventloop
        if self.state == STATE_STOPPED or loop is None:
            raise NotRunning
        if threading.get_ident() == self._loop_thread:
            # Halted at once, so that a start may follow at once; the drain concerns what ran until here.
            task = loop.create_task(self._drain(*self._halt(), wait, None), context=Context())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        else:
            asyncio.run_coroutine_threadsafe(self.stop(wait=wait), loop).result()

    async def stop(self, *, wait: bool = True, timeout: float | None = None) -> None:
        """Stop firing, then wait up to `timeout` seconds for the jobs that run (None: the configured time).

        With `wait` False they are left to themselves. The stores stay open.
        """
        await self._drain(*self._halt(), wait, timeout)

    def _halt(self) -> tuple[list[Pump], int]:
        """Take no more fires, from this moment on; return the pumps, which may be in the middle of a round."""
        pumps, self._pumps = self._pumps, []
        for pump in pumps:
            pump.stop()
        if self.state != STATE_STOPPED:
            self.state = STATE_STOPPED
            log.info("Scheduler has been shut down")
            self.stream.emit(SchedulerChanged(aps.EVENT_SCHEDULER_SHUTDOWN))
        return pumps, self.runner.generation

    async def _drain(self, pumps: list[Pump], generation: int, wait: bool, timeout: float | None) -> None:
        deadline = self.clock.monotonic() + (self.shutdown_timeout if timeout is None else timeout)
        # A claimed fire is submitted before the drain looks; but a store that hangs must not hold the shutdown.
        with anyio.move_on_after(max(deadline - self.clock.monotonic(), _STORE_GRACE)):
            for pump in pumps:
                await pump.stopped()
        if wait:
            await self.runner.drain(max(0.0, deadline - self.clock.monotonic()), generation)

    def hold(self) -> None:
        """Take no more fires because the process is about to end; runs go on."""
        self.held = True

    async def close(self, timeout: float | None = None) -> None:
        """Stop, drain, and free everything that is bound to the loop or the process."""
        self.runner.draining = True
        await self.stop(timeout=timeout)
        if self._ending:
            await asyncio.wait(set(self._ending))
        await self.listeners.drain(timeout=0.5)
        if self.blocking:
            with anyio.move_on_after(_STORE_GRACE):
                await self.call(self.catalogue.close_stores)
        for executor in self.runner.executors.values():
            if isinstance(executor, ForeignExecutor):
                executor.stop(kill=False)
            else:
                executor.shutdown(wait=False)
        self._store_thread.stop()
        self.mailbox.close()
        self._eventloop = self._loop_thread = None

    def pause(self) -> None:
        """Stop firing until `resume`. Raises NotRunning."""
        self._switch(STATE_RUNNING, STATE_PAUSED, aps.EVENT_SCHEDULER_PAUSED)

    def resume(self) -> None:
        """Fire again. Raises NotRunning."""
        self._switch(STATE_PAUSED, STATE_RUNNING, aps.EVENT_SCHEDULER_RESUMED)
        self.wakeup()

    def _switch(self, before: int, after: int, code: int) -> None:
        if self.state == STATE_STOPPED:
            raise NotRunning
        if self.state == before:
            self.state = after
            self.stream.emit(SchedulerChanged(code))

    def wakeup(self) -> None:
        """Let the pumps look for due jobs; safe from any thread."""
        if self.state != STATE_STOPPED:
            self.mailbox.post(self._wake_pumps)

    def _wake_pumps(self) -> None:
        for pump in self._pumps:
            pump.wake()

    # Runs by hand

    async def run_now(self, job_id: str, jobstore: str | None, cause: Cause) -> RunHandle:
        """Run the job once beside its schedule. Raises JobNotFound, InvalidDefinition, OverlapForbidden or Draining."""
        if self._eventloop is None or self._eventloop.is_closed():
            self.attach(asyncio.get_running_loop())
        job = await self.call(partial(self.catalogue.runnable, job_id, jobstore))
        return self.runner.start_now(job, cause)

    def run_job(self, job_id: str, jobstore: str | None = None) -> Any:
        """Run the job once beside its schedule.

        In the loop's own thread this returns a RunHandle to await; in others it waits, and raises what the job raised.
        """
        loop = self._eventloop
        if loop is None:
            raise NoEventLoop(f"Job {job_id} needs a running event loop; use await scheduler.aio.run_job({job_id!r})")
        if threading.get_ident() == self._loop_thread:
            return self.runner.start_now(self.call_sync(partial(self.catalogue.runnable, job_id, jobstore)), "manual")

        async def run() -> Any:
            return await (await self.run_now(job_id, jobstore, "manual"))

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    def _dispatch_event(self, event: aps.SchedulerEvent) -> None:
        """Take an event of APScheduler's own code, such as `add_executor`."""
        if hasattr(self, "stream"):
            self.stream.emit(SchedulerChanged(event.code, event.alias))
