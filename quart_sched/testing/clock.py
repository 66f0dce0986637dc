"""The virtual clock: time that moves when a test says so, after all that the present instant causes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from ..engine.clock import Clock
from ..engine.performer import current_run
from ..engine.scheduler import Scheduler
from ..model.events import Event, RunEnded, RunSubmitted
from ..model.fields import moment
from ..model.runs import RunRecord
from ..model.zones import localize
from .activity import Activity, VirtualTimeError
from .loop import VirtualEventLoop
from .timers import Timers

if TYPE_CHECKING:
    from ..extension import APScheduler

_DRAIN_PATIENCE = 0.5
"""Real seconds that a shutdown waits for a thread that is stuck before its own deadlines come."""
_LOOK = 0.005
"""Real seconds between looks at what goes on outside of the loop, most of which wakes it up by itself."""
_ROUNDS = 25
"""Turns of an ordinary loop within which one callback is taken to have led to all that it leads to."""
_NOTHING_SEEN = (-1, "")


@dataclass(slots=True)
class _Advance:
    """An `advance` under way."""

    until: int
    done: asyncio.Future[None]


def _check_distance(verb: str, by: object) -> None:
    if by is not None and not isinstance(by, timedelta):
        raise VirtualTimeError(f"{verb}() got {by!r}; expected a timedelta, such as {verb}(seconds=5)")


class VirtualClock(Clock):
    """What `virtual_time` gives: moves the time of a block, and tells what ran in it.

    Time stands still unless it is advanced. What is due in the present runs all the same, as soon as the event loop
    gets round to it; `run_due` waits for that.
    """

    def __init__(
        self,
        schedulers: list[Scheduler],
        loop: asyncio.AbstractEventLoop,
        start: datetime,
        *,
        timezone: tzinfo,
        patience: float,
    ) -> None:
        self._schedulers = schedulers
        self._loop = loop
        self._virtual = isinstance(loop, VirtualEventLoop)
        self._thread = threading.get_ident()
        self._start = start.astimezone(UTC)
        self._timezone = timezone
        self._patience = patience
        self._us = 0
        clocks = [scheduler.clock for scheduler in schedulers] or [Clock()]
        self._monotonic = max(clock.monotonic() for clock in clocks)
        self._loop_start = 0.0
        self._timers = Timers()
        self._blocked: list[str] = []
        self._activity = Activity(schedulers, loop, self._blocked)
        self._advance: _Advance | None = None
        self._over = False
        self._join: Callable[[APScheduler], None]
        self._seen = _NOTHING_SEEN
        self._silent_since = 0.0
        self._ended: list[tuple[int, RunRecord]] = []
        self._jobs: dict[str, int] = {}
        """In which order jobs ran for the first time."""

    # For tests

    def now(self) -> datetime:
        """Return the virtual time, aware, in UTC."""
        return self._start + timedelta(microseconds=self._us)

    @property
    def fires(self) -> list[RunRecord]:
        """What became of each fire since the block began, in order: those that ran, and those missed or skipped too.

        The order is that in which they ended; at one moment, that of their due times and then that of the jobs, however
        fast their threads were. Of a fire that was retried this has the last attempt; `runs` has all.
        """
        return [record for record in self.runs if record.final]

    @property
    def runs(self) -> list[RunRecord]:
        """Every attempt that has ended since the block began, in the order of `fires`."""
        ended = sorted(
            self._ended,
            key=lambda end: (end[0], end[1].scheduled_at.timestamp(), self._jobs[end[1].job_id], end[1].attempt),
        )
        return [record for _, record in ended]

    async def advance(
        self,
        by: timedelta | None = None,
        *,
        to: datetime | str | None = None,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
        microseconds: float = 0,
    ) -> None:
        """Move the time on, by a timedelta or its parts, or to a moment, and run what comes due, in order.

        Each instant's jobs run at that instant, and time goes on when nothing is left to do in it: when all jobs have
        ended or wait for virtual time. A job in a thread, or one that waits for a socket or a subprocess, is waited for
        in real time. A naive `to` is read in SCHEDULER_TIMEZONE.

        Raises VirtualTimeError when time would go backwards, within a job, while another `advance` is under way, after
        the block, and where something outside was silent for longer than the block's `patience`. What a job raises is
        recorded in `fires`.
        """
        parts = timedelta(days, seconds, microseconds, milliseconds, minutes, hours, weeks)
        if sum((by is not None, to is not None, bool(parts))) > 1:
            raise VirtualTimeError("advance() got several distances; expected a timedelta, its parts, or to=")
        _check_distance("advance", by)
        try:
            target = self.now() + (by or parts) if to is None else self._moment(to)
        except OverflowError:
            raise VirtualTimeError(f"advance() by {by or parts} from {self.now()} leads out of the calendar") from None
        until = (target - self._start) // timedelta(microseconds=1)
        if until < self._us:
            raise VirtualTimeError(
                f"advance() leads back to {target.isoformat()}; it is {self.now().isoformat()} already, and time only "
                "moves forward"
            )
        await self._go_on(until)

    async def run_due(self) -> None:
        """Run what is due now, and wait for all that it leads to at this moment. Raises as `advance` does."""
        for scheduler in self._schedulers:
            scheduler.wakeup()
        await self._go_on(self._us)

    def step(
        self,
        by: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Set the machine's clock, forward or back (negative), as an administrator or NTP does, and let no time pass.

        Nobody is told of that: what has become due is noticed when the scheduler next looks, within 60 seconds, so
        advance the time after it. What has been fired already is not due again when the clock is set back.

        Raises VirtualTimeError where it leads out of the calendar, and after the block.
        """
        self._set("step", by, timedelta(days, seconds, 0, 0, minutes, hours))

    def suspend(
        self,
        by: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Let the machine be suspended for so long: time passes, and nothing runs in it, nor does any timer.

        What was due meanwhile is noticed within 60 seconds of virtual time after it, so advance the time by as much.

        Raises VirtualTimeError for a negative distance, where it leads out of the calendar, and after the block.
        """
        distance = self._set("suspend", by, timedelta(days, seconds, 0, 0, minutes, hours), least=0)
        self._monotonic += distance / 1e6
        self._timers.sleep(self._us, distance)

    def join(self, scheduler: APScheduler) -> None:
        """Let a scheduler that was made after the block began live in its time too, until the block ends.

        It is neither started nor stopped by that. Raises VirtualTimeError, as entering a block with it would, and after
        the block.
        """
        if self._over:
            raise VirtualTimeError("join() was called after the end of its virtual_time block")
        self._join(scheduler)

    @property
    def advancing(self) -> bool:
        """Whether an `advance` is under way."""
        return self._advance is not None

    # As a Clock

    @property
    def real(self) -> bool:
        """False."""
        return False

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return self._monotonic + self._us / 1e6

    async def wait(self, event: asyncio.Event, timeout: float | None) -> None:
        """Return as soon as `event` is set, or after `timeout` virtual seconds (None: no limit)."""
        if timeout is None:
            await event.wait()
        elif timeout <= 0:
            event.set()
            await asyncio.sleep(0)
        else:
            timer = self._timers.enter(self._us, timeout, event.set)
            try:
                await event.wait()
            finally:
                timer.over = True

    def block(self, seconds: float) -> None:
        """Hold up the calling thread, a plain function's, for so many virtual seconds; time may go on meanwhile."""
        if threading.get_ident() == self._thread:
            raise VirtualTimeError("block() was called on the event loop, which it would hold up; use await sleep()")
        if seconds <= 0:
            return
        woken, run_id = threading.Event(), current_run.run_id if current_run else ""

        def wake() -> None:
            self._blocked.remove(run_id)
            woken.set()

        self._timers.enter(self._us, seconds, wake, in_thread=True)
        # Behind the timer: until here the thread counts as busy, and time stands still.
        self._blocked.append(run_id)
        self._loop.call_soon_threadsafe(lambda: None)
        woken.wait()
        if self._over:
            raise VirtualTimeError(f"block({seconds:g}) was still waiting when its virtual_time block ended")

    # The parts of it

    def _set(self, verb: str, by: timedelta | None, parts: timedelta, least: int | None = None) -> int:
        """Move the wall clock alone; return how far, in microseconds."""
        _check_distance(verb, by)
        if by is not None and parts:
            raise VirtualTimeError(f"{verb}() got several distances; expected a timedelta or its parts")
        if self._over:
            raise VirtualTimeError(f"{verb}() was called after the end of its virtual_time block")
        distance = by or parts
        if least is not None and distance < timedelta(least):
            raise VirtualTimeError(f"{verb}() got {distance}; expected a time that is not negative")
        try:
            self.now() + distance
            self._start += distance
        except OverflowError:
            raise VirtualTimeError(f"{verb}() by {distance} from {self.now()} leads out of the calendar") from None
        return distance // timedelta(microseconds=1)

    def _moment(self, value: datetime | str) -> datetime:
        return localize("to", moment("to", value), self._timezone)

    async def _go_on(self, until: int) -> None:
        """Move the time on to `until`, in microseconds, with all that happens on the way."""
        self._check()
        advance = self._advance = _Advance(until, self._loop.create_future())
        self._seen = _NOTHING_SEEN
        try:
            while not (self._virtual or advance.done.done()):
                await self._settle()
                if (seconds := self._turn(None)) > 0:
                    await asyncio.sleep(seconds)
            await advance.done
        finally:
            self._advance = None

    def _check(self) -> None:
        if current_run:
            raise VirtualTimeError(
                f"advance() was called within job {current_run.job_id!r}, whose end it would wait for; "
                "a job waits with asyncio.sleep or the clock's sleep"
            )
        if self._over:
            raise VirtualTimeError("advance() was called after the end of its virtual_time block")
        if asyncio.get_running_loop() is not self._loop:
            raise VirtualTimeError("advance() was called in another event loop than that of its virtual_time block")
        if self._advance is not None:
            raise VirtualTimeError(
                "advance() was called while another advance() is under way; await one after the other"
            )

    async def _settle(self) -> None:
        """Let all that can go on on an ordinary loop go on."""
        calm = 0
        while calm < _ROUNDS:
            await asyncio.sleep(0)
            calm = 0 if self._activity.runnable() else calm + 1

    def at_idle(self, timer: float | None) -> float:
        """Take a step where nothing on the loop can go on; return how many real seconds it may wait until the next."""
        if self._advance is not None:
            return self._turn(timer)
        if self._activity.draining():
            if self._activity.busy() and self._silence() < _DRAIN_PATIENCE:
                return _LOOK
            # A shutdown has deadlines of its own.
            return 0.0 if self._to_next_moment(timer, None) else self._patience
        if self._silence() >= self._patience:
            self._activity.complain()
            self._silent_since = time.monotonic()
        return self._patience

    def _turn(self, timer: float | None) -> float:
        """Go on with the advance under way."""
        advance = self._advance
        assert advance is not None
        if what := self._activity.busy():
            if self._silence(what) < self._patience:
                return _LOOK
            if not advance.done.done():
                advance.done.set_exception(VirtualTimeError(self._why_it_stands(what)))
        elif not self._to_next_moment(timer, advance.until) and not advance.done.done():
            self._move(advance.until, 0.0)
            advance.done.set_result(None)
        return 0.0

    def _why_it_stands(self, what: str) -> str:
        advice = (
            "if it waits for something else in the test, let it do so with asyncio's own Event, Queue or Lock"
            if self._virtual
            else "asyncio.sleep is real on this event loop, and virtual on a quart_sched.testing.VirtualEventLoop"
        )
        return (
            f"Virtual time has stood still for {self._patience:g} real seconds, waiting for {what}. "
            f"If that takes so long, give virtual_time more `patience`; {advice}"
        )

    def _silence(self, what: str = "") -> float:
        """Return for how many real seconds nothing has happened, while time waited for the same."""
        seen = (self._loop.watch.turns if isinstance(self._loop, VirtualEventLoop) else 0, what)
        if seen != self._seen:
            self._seen, self._silent_since = seen, time.monotonic()
        return time.monotonic() - self._silent_since

    def _to_next_moment(self, timer: float | None, until: int | None) -> bool:
        """Move on to the next moment for which somebody waits; False where there is none until `until`."""
        moments = []
        at = 0.0
        if (own := self._timers.next()) is not None:
            moments.append(own)
        if timer is not None:
            at = self._loop.time() + timer
            moments.append(max(self._us, round((at - self._loop_start) * 1e6)))
        us = min(moments, default=None)
        if us is None or (until is not None and us > until):
            return False
        self._move(us, at if moments[-1] == us else 0.0)
        return True

    def _move(self, us: int, loop_time: float) -> None:
        """Let it be `us`, and wake those who have waited for that."""
        self._us = max(self._us, us)
        if isinstance(self._loop, VirtualEventLoop):
            self._loop.move(max(self._loop_start + us / 1e6, loop_time))
        for timer in self._timers.due(self._us):
            # One may have been given up by what an earlier one has led to.
            if not timer.over:
                timer.wake()

    # For the block

    def begin(self, join: Callable[[APScheduler], None]) -> None:
        """Hold the loop's time, where it can be held; `join` is what lets another scheduler into the block."""
        self._join = join
        if isinstance(self._loop, VirtualEventLoop):
            self._loop.freeze(self.at_idle)
        self._loop_start = self._loop.time()

    def hear(self, event: Event) -> None:
        """Note what ran; a reader of the schedulers' events."""
        if isinstance(event, RunSubmitted):
            self._jobs.setdefault(event.run.job_id, len(self._jobs))
        elif isinstance(event, RunEnded):
            self._jobs.setdefault(event.record.job_id, len(self._jobs))
            self._ended.append((self._us, event.record))

    def end(self) -> None:
        """Let who waits still go on in real time."""
        self._over = True
        for timer in self._timers.clear():
            if timer.in_thread:
                timer.wake()
            else:
                self._loop.call_later((timer.us - self._us) / 1e6, timer.wake)
        if isinstance(self._loop, VirtualEventLoop):
            self._loop.thaw()
