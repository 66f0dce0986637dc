"""The block in which schedulers live in virtual time."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import AsyncExitStack
from datetime import UTC, datetime, tzinfo
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from apscheduler.job import Job

from ..aio import AioVerbs
from ..engine.clock import Clock
from ..engine.performer import current_run
from ..engine.placing import next_fire
from ..engine.scheduler import Scheduler
from ..model.fields import moment
from ..model.jobs import UNSET, JobDefinition
from ..model.triggers import spec_of
from ..model.zones import localize
from ..stores.memory import MemoryStore
from .activity import VirtualTimeError
from .clock import VirtualClock
from .loop import VirtualEventLoop

if TYPE_CHECKING:
    from ..extension import APScheduler

_PATIENCE = 10.0


class VirtualTimeWarning(UserWarning):
    """The event loop's own time is real, so that `asyncio.sleep` in a job really waits."""


class VirtualTime:
    """What `virtual_time` returns; ``async with`` it."""

    def __init__(
        self, fronts: tuple[APScheduler, ...], start: datetime | str | None, *, inline: bool, patience: float
    ) -> None:
        self._fronts = fronts
        self._engines = [front.scheduler for front in fronts]
        self._start = start
        self._inline = inline
        self._patience = patience
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> VirtualClock:
        loop = asyncio.get_running_loop()
        if current_run:
            raise VirtualTimeError(f"virtual_time was entered within job {current_run.job_id!r}; enter it in the test")
        for engine in self._engines:
            self._check(engine, loop)
        if isinstance(loop, VirtualEventLoop) and loop.frozen:
            raise VirtualTimeError(
                "Another virtual_time block holds this event loop's time; give it both schedulers: "
                "quart_sched.testing.virtual_time(one, other)"
            )
        clock = self._clock(loop)
        if not isinstance(loop, VirtualEventLoop):
            warnings.warn(
                f"asyncio.sleep and asyncio.timeout are real within virtual_time on a {type(loop).__name__}, and are "
                "waited for; run the test on a quart_sched.testing.VirtualEventLoop, as the fixture virtual_scheduler "
                "does, or let jobs use the clock's own sleep",
                VirtualTimeWarning,
                stacklevel=2,
            )
        async with AsyncExitStack() as stack:
            self._put(clock, stack)
            for front, engine in zip(self._fronts, self._engines, strict=True):
                if not engine.running:
                    engine.start(paused=bool(front.lifespan.requested))
                    stack.push_async_callback(_stop, front)
            # Nothing runs before the test has its clock.
            self._stack = stack.pop_all()
        return clock

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _check(self, engine: Scheduler, loop: asyncio.AbstractEventLoop) -> None:
        if not engine.clock.real:
            raise VirtualTimeError(
                "The scheduler is in a virtual_time block already, or was given a clock of its own; "
                "blocks cannot be nested"
            )
        if engine.running and engine._eventloop is not loop:
            raise VirtualTimeError("The scheduler runs in another event loop; enter virtual_time in that one")
        if self._start is not None and engine.running and engine.blocking:
            raise VirtualTimeError(
                "The scheduler runs already, and its job store keeps when jobs fire next, so that it cannot be taken "
                "to another time; enter virtual_time before it starts, or leave start= out"
            )

    def _clock(self, loop: asyncio.AbstractEventLoop) -> VirtualClock:
        real = self._engines[0].clock if self._engines else Clock()
        timezone: tzinfo = self._engines[0].timezone if self._engines else UTC
        if self._start is not None:
            start = localize("start", moment("start", self._start), timezone)
        elif any(engine.running for engine in self._engines):
            start = real.now()
        else:
            start = real.now().replace(microsecond=0)
        return VirtualClock(self._engines, loop, start, timezone=timezone, patience=self._patience)

    def _put(self, clock: VirtualClock, stack: AsyncExitStack) -> None:
        """Put the clock in place of the real one, and have it taken away again by `stack`."""
        for engine in self._engines:
            self._put_into(engine, clock, stack)
        clock.begin(partial(self._join, clock))
        stack.callback(clock.end)
        for front in self._fronts if self._inline else ():
            stack.callback(setattr, front, "aio", front.aio)
            front.aio = InlineVerbs(front, clock)

    def _put_into(self, engine: Scheduler, clock: VirtualClock, stack: AsyncExitStack) -> None:
        stack.callback(_meet, engine)
        engine.clock.replace(clock)
        stack.callback(engine.clock.replace, None)
        engine.stream.subscribe(clock.hear)
        stack.callback(engine.stream.unsubscribe, clock.hear)
        if self._start is not None:
            _meet(engine)
        engine.wakeup()

    def _join(self, clock: VirtualClock, front: APScheduler) -> None:
        engine = front.scheduler
        self._check(engine, clock._loop)
        self._put_into(engine, clock, self._stack)
        self._engines.append(engine)


class InlineVerbs(AioVerbs):
    """The coroutine verbs in inline mode: a job that is due when it is added has run when `add_job` returns."""

    def __init__(self, front: APScheduler, clock: VirtualClock) -> None:
        super().__init__(front)
        self._clock = clock

    async def add(self, definition: JobDefinition) -> Job:
        """Add a job, and run what is due then."""
        job = await super().add(definition)
        # Within a job, or an advance, that is what is being done anyway.
        if not (current_run or self._clock.advancing):
            await self._clock.run_due()
        return job


async def _stop(front: APScheduler) -> None:
    """Stop what the block started; what runs still is cancelled."""
    if front.running:
        await front.lifespan.stop(wait=True, timeout=0.0)


def _meet(engine: Scheduler) -> None:
    """Take the declared jobs of memory stores to the present time, as if they were added now."""
    for slot in engine.catalogue.slots.values():
        if isinstance(slot.store, MemoryStore):
            with slot.lock:
                for entry in engine.catalogue.declarations.all(slot.alias):
                    _date(engine, slot.store, entry.definition)
                slot.consumed.clear()
    engine.wakeup()


def _date(engine: Scheduler, store: MemoryStore, definition: JobDefinition) -> None:
    job, now = store.lookup_job(definition.id), engine.clock.now()
    if job is None or job.next_run_time is None:
        return
    if definition.next_run_time is UNSET and definition.trigger.describes(spec_of(job.trigger), engine.timezone):
        trigger = definition.trigger.build(engine.timezone, now)
        fire = next_fire(engine, trigger)
        if fire is not None:
            job._modify(trigger=trigger, next_run_time=fire)
            store.update_job(job)


def virtual_time(
    *schedulers: APScheduler, start: datetime | str | None = None, inline: bool = False, patience: float = _PATIENCE
) -> VirtualTime:
    """Let schedulers live in virtual time for a block: ``async with virtual_time(scheduler) as clock``.

    See `APScheduler.virtual_time`; this takes several schedulers, such as two that share an SQL store, which then go by
    one clock. With none the block has its time all the same, and schedulers made in it take part by `clock.join`.
    """
    return VirtualTime(schedulers, start, inline=inline, patience=patience)


def inline(*schedulers: APScheduler, start: datetime | str | None = None, patience: float = _PATIENCE) -> VirtualTime:
    """Let schedulers live in virtual time, and run what is due when it is added within ``await aio.add_job(...)``.

    The plain `add_job` returns at once; its job runs as soon as the test awaits something, and ``clock.run_due()``
    waits for it. A job that waits for virtual time goes on when the clock is advanced.
    """
    return VirtualTime(schedulers, start, inline=True, patience=patience)
