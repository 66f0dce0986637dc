"""The scheduler proper: APScheduler's AsyncIOScheduler with a pump, a runner and a catalogue of our own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from apscheduler import events as aps
from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED

from ..errors import AlreadyRunning, Draining, NoEventLoop, NotRunning
from ..model.events import RunEnded, SchedulerChanged
from ..model.jobs import DEFAULTED, JobDefinition
from ..model.policies import policy_of
from ..model.runs import Run, RunRecord
from .by_hand import ByHand
from .catalogue import Catalogue
from .clock import Clock
from .computing import Computing
from .drain import drain
from .executors import ForeignExecutor
from .history_ring import HistoryRing
from .ledger import ChangeLog, Ledger
from .listeners import Listeners
from .live import Live
from .logs import LogCapture
from .overdue import OverdueWatch
from .pauses import Pauses
from .performer import Performer, the_run
from .pump import Pump
from .runner import Runner
from .setup import SetUp
from .stream import EventStream, Mailbox
from .threads import DaemonPool

if TYPE_CHECKING:
    from ..stores.slot import Slot
    from .cluster import ClusterPump

log = logging.getLogger("quart_sched")

T = TypeVar("T")

_BOOKS_GRACE = 2.0
"""Seconds that the ends of the last runs get to be written down in when the process ends."""
_STORE_GRACE = 0.5
"""Seconds that a blocking store gets at least to finish what it is at when the scheduler stops."""


class Companion(Protocol):
    """Something that goes along with the scheduler, such as its metrics."""

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, on the loop that the scheduler is bound to from now on."""

    async def close(self) -> None:
        """End, after the last run, while the stores are still there."""


class Tracing(Protocol):
    """What makes spans."""

    def span(self, run: Run) -> AbstractContextManager[None]:
        """Return the span in which to perform the run."""

    def origin(self) -> Any:
        """Return what stands for the span that the caller is in; None where it is in none."""

    def note_added(self, job_id: str) -> None:
        """Take note that the caller has added a job."""


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
        self.mailbox = Mailbox(clock)
        self.stream = EventStream(self.mailbox)
        self.listeners = Listeners()
        self.history = HistoryRing(10_000)
        self.stream.subscribe(self.history, RunEnded, first=True)
        self.performer = Performer(clock, self.mailbox)
        self.runner = Runner(self.clock, self.stream, self.mailbox, self.performer)
        self.runner.held = lambda: self.held or self.state == STATE_PAUSED
        self.by_hand = ByHand(self)
        self.computing = Computing(self)
        self.changes = ChangeLog(clock)
        self.ledger = Ledger(self)
        self.live = Live(self)
        self.catalogue = Catalogue(self)
        self.watch = OverdueWatch(self)
        self.tracing: Tracing | None = None
        self.companions: list[Companion] = []
        """What lives and ends with the scheduler's ties to the loop."""
        self.held = False
        self.ending_in: asyncio.AbstractEventLoop | None = None
        """Where an app that was served is shut down: once closed, nothing is to begin there that nobody would end."""
        self._pumps: list[Pump | ClusterPump] = []
        self._clusters: dict[str, ClusterPump] = {}
        self._store_thread = DaemonPool("quart-sched-store")
        self._shared_threads = DaemonPool("quart-sched-verbs", 4)
        self._pauses = Pauses()
        self.switches = 0
        """Counts the pauses and resumes through this process."""
        self._capture = LogCapture()
        self._ending: set[asyncio.Task[None]] = set()
        """Shutdowns under way, other than the one that is to free everything."""
        self._closing: asyncio.Task[None] | None = None
        self._pending_jobs, pending = [], self._pending_jobs
        self._take_own()
        for callback, mask in self._listeners:
            self.add_listener(callback, mask)
        for job, alias, replace_existing in pending:
            self._take_over(job, alias, replace_existing)

    @classmethod
    def adopt(cls, scheduler: AsyncIOScheduler) -> Scheduler:
        """Make a plain AsyncIOScheduler, with what is configured and added already, one of ours: the same object."""
        scheduler.__class__ = cls
        adopted: Scheduler = scheduler
        adopted._furnish(Clock())
        return adopted

    def _take_over(self, job: Job, alias: str, replace_existing: bool) -> None:
        options = {key: getattr(job, key) for key in (*DEFAULTED, "next_run_time") if hasattr(job, key)}
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

    def trace(self, tracing: Tracing | None) -> None:
        """Let `tracing` make a span of each run; None makes none."""
        self.tracing = tracing
        self.performer.span = None if tracing is None else tracing.span
        self.runner.origin = None if tracing is None else tracing.origin

    # Where verbs run

    async def call(self, op: Callable[[], T], *, blocking: bool | None = None) -> T:
        """Run `op`, which uses job stores, without holding up the loop."""
        if not (self.blocking if blocking is None else blocking):
            return op()
        return await asyncio.wrap_future(self._threads.submit(partial(copy_context().run, op)))

    async def read_history(self, op: Callable[[], T]) -> T:
        """Run `op`, which reads histories, without holding up the loop for I/O."""
        return await self.call(op, blocking=self.histories.blocking)

    # Life cycle

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run jobs and deliver events on `loop`, which is the running one. Raises Draining where its app is ending."""
        if self._eventloop is loop and self._loop_thread == threading.get_ident():
            return
        if self.ending_in is loop:
            raise Draining("Nothing can be started or run any more: this process is shutting down")
        self.leave_closed_loop()
        self._eventloop = loop
        self._loop_thread = threading.get_ident()
        self.mailbox.open(loop)
        self.live.allow()
        for alias, pump in list(self._clusters.items()):
            # Of a loop that was closed without a shutdown: it knows runs that are yet to be written down.
            if self.catalogue.slots.get(alias) is pump.slot:
                pump.open(loop)
            else:
                self._clusters.pop(alias).abandon()
        self.runner.open(loop)
        if self.performer.log_bytes:
            self._capture.install()
        for alias, executor in self.runner.executors.items():
            executor.start(self, alias)
        for companion in self.companions:
            companion.open(loop)

    def leave_closed_loop(self) -> None:
        """Stand as after a shutdown where the loop was closed without one, as by the end of `asyncio.run`."""
        if self._eventloop is None or not self._eventloop.is_closed():
            return
        self._eventloop = self._loop_thread = self._closing = None
        self._pumps = []
        self._ending.clear()
        self._pauses.forget_stores()
        self.watch.leave_loop()
        self.state = STATE_STOPPED

    def start(self, paused: bool = False) -> None:
        """Start in the running event loop. Raises AlreadyRunning, or NoEventLoop where no loop runs."""
        self.leave_closed_loop()
        if self.state != STATE_STOPPED:
            raise AlreadyRunning
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise NoEventLoop("The scheduler starts in a running event loop; there is none in this thread") from None
        if self.runner.draining and self._eventloop is loop:
            raise Draining("The scheduler cannot start: this process is shutting down")
        self.attach(loop)
        self.runner.begin_generation()
        self.held = False
        self._pauses.own = paused
        self.state = STATE_PAUSED if self._pauses.hold else STATE_RUNNING
        self.catalogue.started = True
        log.info("Scheduler started%s", ", paused" if paused else "")
        self.changes.note("start")
        if self.state == STATE_PAUSED:
            self.changes.note("pause", elsewhere=not paused)
        self.stream.emit(SchedulerChanged(aps.EVENT_SCHEDULER_STARTED))
        # The pumps apply the declarations too; the memory store's at once, so that the jobs are seen right away.
        self._pumps = [self._pump(slot) for slot in self.catalogue.slots.values()]
        for pump in self._pumps:
            if not pump.slot.blocking:
                pump.slot.open(self)
                self.catalogue.apply(pump.slot)
                self._run_on_start(pump.slot)
            elif not pump.slot.shared:
                log.info('Job store "%s" (%r) is safe with one process only', pump.slot.alias, pump.slot.store)
            pump.start(loop)
        self.watch.start(loop)

    def _run_on_start(self, slot: Slot) -> None:
        if self.state != STATE_RUNNING:
            return
        for job in slot.do(lambda store: store.get_all_jobs()):
            if policy_of(job).run_on_start and job.next_run_time is not None:
                job._jobstore_alias = slot.alias
                self.runner.submit(job, [Run(job, self.clock.now(), "start")])

    def _pump(self, slot: Slot) -> Pump | ClusterPump:
        return self.cluster(slot) if slot.shared else Pump(self, slot)

    def cluster(self, slot: Slot) -> ClusterPump:
        """Return the pump of a shared store, which takes part in the cluster from now on, claiming or not."""
        from .cluster import ClusterPump

        assert self._eventloop is not None
        if (pump := self._clusters.get(slot.alias)) is None:
            pump = self._clusters[slot.alias] = ClusterPump(self, slot)
            pump.open(self._eventloop)
        return pump

    def unwritten(self) -> list[RunRecord]:
        """Return the runs that have ended here and are yet to be written down; safe from any thread."""
        return [record for pump in list(self._clusters.values()) for record in pump.unwritten()]

    def is_unwritten(self, run_id: str) -> bool:
        """Tell whether the run has ended and is yet to be written down."""
        return any(pump.is_unwritten(run_id) for pump in self._clusters.values())

    def shutdown(self, wait: bool = True) -> None:
        """Begin the shutdown and return; from another thread than the loop's, wait for its end."""
        loop = self._eventloop
        if self.state == STATE_STOPPED or loop is None:
            if self.ending_in is None:
                raise NotRunning
            return
        if threading.get_ident() == self._loop_thread:
            # Halted at once, so that a start may follow at once; the drain concerns what ran until here.
            self._begin_drain(loop, wait, None)
        else:
            asyncio.run_coroutine_threadsafe(self.stop(wait=wait), loop).result()

    async def stop(self, *, wait: bool = True, timeout: float | None = None) -> None:
        """Stop firing, then wait up to `timeout` seconds for the jobs that run (None: the configured time).

        With `wait` False they are left to themselves, and so is a job that calls this: it cannot wait for its own end.
        The stores stay open. It goes on where the caller is cancelled.
        """
        await asyncio.shield(self._begin_drain(asyncio.get_running_loop(), wait, timeout, the_run()))

    def _begin_drain(
        self, loop: asyncio.AbstractEventLoop, wait: bool, timeout: float | None, caller: Run | None = None
    ) -> asyncio.Task[None]:
        draining = self._drain(*self._halt(), wait, timeout, caller)
        task = loop.create_task(draining, name="quart-sched-drain", context=Context())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    def _halt(self) -> tuple[list[Pump | ClusterPump], int]:
        """Take no more fires, from this moment on; return the pumps, which may be in the middle of a round."""
        pumps, self._pumps = self._pumps, []
        self.watch.stop()
        for pump in pumps:
            pump.stop()
        if self.state != STATE_STOPPED:
            self.state = STATE_STOPPED
            log.info("Scheduler has been shut down")
            self.changes.note("stop")
            self.stream.emit(SchedulerChanged(aps.EVENT_SCHEDULER_SHUTDOWN))
        return pumps, self.runner.generation

    async def _drain(
        self,
        pumps: list[Pump | ClusterPump],
        generation: int,
        wait: bool,
        timeout: float | None,
        caller: Run | None = None,
    ) -> None:
        deadline = self.clock.monotonic() + (self.settings.shutdown_timeout if timeout is None else timeout)
        # A claimed fire is submitted before the drain looks; but a store that hangs must not hold the shutdown.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(deadline - self.clock.monotonic(), _STORE_GRACE)):
                for pump in pumps:
                    await pump.stopped()
        if wait:
            await drain(self.runner, max(0.0, deadline - self.clock.monotonic()), generation, caller)

    def hold(self) -> None:
        """Take no more fires because the process is about to end; runs go on."""
        self.held = True
        self.live.end()

    async def close(self, timeout: float | None = None) -> None:
        """Stop, drain, and free everything that is bound to the loop or the process; it goes on without the caller.

        Where that is under way already, this waits for its end.
        """
        await asyncio.shield(self.begin_close(timeout))

    def begin_close(self, timeout: float | None = None) -> asyncio.Task[None]:
        """Begin that, and return its task."""
        if self._closing is None:
            self.runner.draining = True
            self.live.end()
            loop = asyncio.get_running_loop()
            self._begin_drain(loop, True, timeout)
            self._closing = loop.create_task(self._close(), name="quart-sched-close", context=Context())
        return self._closing

    async def _close(self) -> None:
        try:
            if self._ending:
                await asyncio.wait(set(self._ending))
            await self._free()
        finally:
            self._closing = None

    async def _free(self) -> None:
        await self.watch.close()
        for companion in self.companions:
            try:
                await companion.close()
            except Exception:
                # What goes along must not keep the rest from being ended in order.
                log.exception("%r could not be ended in order", companion)
        clusters, self._clusters = list(self._clusters.values()), {}
        if clusters:
            await asyncio.gather(*(pump.close(_BOOKS_GRACE) for pump in clusters))
        await self.live.close(_BOOKS_GRACE)
        self._pauses.forget_stores()
        if self.history_writer is not None:
            await self.history_writer.close(_BOOKS_GRACE)
        await self.listeners.drain(timeout=0.5)
        if self.blocking:
            with suppress(TimeoutError):
                async with asyncio.timeout(_STORE_GRACE):
                    await self.call(self.catalogue.close_stores)
        for executor in self.runner.executors.values():
            if isinstance(executor, ForeignExecutor):
                executor.stop()
            else:
                executor.shutdown(wait=False)
        self._store_thread.stop()
        self._shared_threads.stop()
        self._capture.remove()
        self.mailbox.close()
        self._eventloop = self._loop_thread = None

    def pause(self) -> None:
        """Stop firing until `resume`, in all processes that share a store. Raises NotRunning."""
        self._check_running()
        self._switch(True, self.call_sync(partial(self.catalogue.slots.set_paused, True)))

    def resume(self) -> None:
        """Fire again, in all processes that share a store. Raises NotRunning."""
        self._check_running()
        self._switch(False, self.call_sync(partial(self.catalogue.slots.set_paused, False)))

    async def set_paused(self, paused: bool) -> None:
        """Carry out `pause` or `resume` without holding up the loop."""
        self._check_running()
        self._switch(paused, await self.call(partial(self.catalogue.slots.set_paused, paused)))

    def _switch(self, paused: bool, changed: bool) -> None:
        """Take note that it was paused or resumed through this process; safe from any thread."""
        self.switches += 1
        self._pauses.switch(paused, shared=[slot.alias for slot in self.catalogue.slots.shared], changed=changed)
        self._show_state()

    @property
    def all_paused(self) -> bool:
        """Whether no job fires before `resume`, be it here or in another process."""
        return self.state == STATE_PAUSED and not self.looks_on

    @property
    def looks_on(self) -> bool:
        """Whether this process alone fires nothing, as it was started so, of a store that others may work on."""
        return self._pauses.only_own and self.state == STATE_PAUSED and bool(self.catalogue.slots.shared)

    def hear_pause(self, alias: str, paused: bool, switches: int) -> None:
        """Take note of what a shared store says: a pause there holds here too, and ends when it ends there.

        It was asked when there had been so many `switches`: an answer from before the last of them is out of date.
        """
        if switches == self.switches and self._pauses.hear(alias, paused):
            self._show_state(elsewhere=True)

    def _show_state(self, *, elsewhere: bool = False) -> None:
        if self.state == STATE_STOPPED:
            return
        if self._pauses.own:
            # It may look on from now on, or no more.
            self.mailbox.post(self.watch.begin_anew)
        before, self.state = self.state, STATE_PAUSED if self._pauses.hold else STATE_RUNNING
        if before != self.state:
            paused = self.state == STATE_PAUSED
            log.info("Scheduler %s", "paused" if paused else "resumed")
            self.changes.note("pause" if paused else "resume", elsewhere=elsewhere)
            code = aps.EVENT_SCHEDULER_PAUSED if paused else aps.EVENT_SCHEDULER_RESUMED
            self.stream.emit(SchedulerChanged(code))
            self.wakeup()

    @property
    def closing(self) -> bool:
        """Whether `close` is under way."""
        return self._closing is not None

    def is_called_by_its_job(self) -> bool:
        """Tell whether the caller is in a run that is under way here."""
        run = the_run()
        return run is not None and run in self.runner.under_way.runs(run.job_id)

    @property
    def pumps(self) -> list[Pump | ClusterPump]:
        """The pumps at work in this process, claiming or not."""
        return list({*self._pumps, *self._clusters.values()})

    def _check_running(self) -> None:
        if self.state == STATE_STOPPED:
            raise NotRunning

    def wakeup(self) -> None:
        """Let the pumps look for due jobs; safe from any thread."""
        if self.state != STATE_STOPPED:
            self.mailbox.post(self._wake_pumps)

    def _wake_pumps(self) -> None:
        for pump in self.pumps:
            pump.wake()

    def _dispatch_event(self, event: aps.SchedulerEvent) -> None:
        """Take an event of APScheduler's own code, such as `add_executor`."""
        if hasattr(self, "stream"):
            self.stream.emit(SchedulerChanged(event.code, event.alias))
