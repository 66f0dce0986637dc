"""The pump of a shared store: one process's part in the cluster.

It claims what is due, writes down what ended, shows that this process lives, and looks after the processes that do not.
All of its statements run in one thread of its own, one transaction after the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InvalidDefinition, StoreUnavailable
from ..model.events import Event, PumpFailed
from ..model.idempotency import RunRequest
from ..model.ids import new_id
from ..model.overrides import Overrides
from ..model.runs import Cause, Run, RunRecord
from ..stores.slot import Slot
from ..stores.sql.rounds import Round
from ..stores.sql.workers import SessionLost, Watch
from . import deployment
from .failures import Failures
from .handles import RunHandle
from .housekeeping import HOUSE_INTERVAL, keep_house
from .own_runs import ENDINGS, OwnRuns
from .progress import Progress
from .pulse import Pulse
from .pump import LONGEST_WAIT
from .rounds import Rounds
from .runner import REMOVED
from .threads import DaemonPool

if TYPE_CHECKING:
    from ..stores.sql.wakeups import Wakeups
    from ..stores.sql.workers import Session
    from .scheduler import Scheduler

log = logging.getLogger("quart_sched")

T = TypeVar("T")

MEND_INTERVAL = 30.0
"""Seconds between attempts at loading what could not be loaded."""
_OTHERS_TURN = 2.0
"""Poll intervals for which a due job that this process cannot load is left to the others without a word."""
_LONGEST_BACKOFF = 5.0
"""Seconds between attempts while the database is away: what comes due meanwhile is waiting for it."""
_BUSY_WAIT = 0.015
"""Seconds until the next look where all that is due is in another process's hands."""
_TICK = 1e-6
"""Seconds that are none: what is left of a wait by rounding alone must not be waited for, again and again."""
_SIGN_OFF_GRACE = 1.0
_STARTS_FIRST = 0.2
"""Seconds for which what ended may wait to be written down, while there is more to be started."""


class ClusterPump:
    """One for each shared store. It cannot die of an error, and it goes on until all that ran here is written down."""

    def __init__(self, scheduler: Scheduler, slot: Slot) -> None:
        self.slot = slot
        self.progress = Progress(scheduler.clock)
        self._scheduler = scheduler
        self._store: Any = slot.store
        self._thread = DaemonPool(f"quart-sched-{slot.alias}")
        self._wake = asyncio.Event()
        self._closing = False
        self._round_done = asyncio.Event()
        self._round_done.set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch = Watch()
        self._wakeups: Wakeups | None = None
        self._own = OwnRuns(slot.alias)
        self._rounds = Rounds(scheduler, slot, self._own, self._call)
        self._members: int | None = None
        self._joined: Session | None = None
        """The session whose join is complete."""
        self._reconciled = False
        self._start_runs: dict[str, str] | None = None
        """The runs that the scheduler's start brings, by job; None where its jobs have been reconciled since."""
        self._fresh = True
        """Whether what is broken has not been tried yet with this process's code."""
        self._look_at = self._beat_at = self._mend_at = self._listen_at = self._house_at = float("-inf")
        self._report_at = float("-inf")
        self._reported: set[str] = set()
        """Why due jobs were left to other processes, as far as that was said."""
        self._housekeeping: asyncio.Task[None] | None = None
        self._pulse: Pulse | None = None
        self._failures = Failures(slot)
        scheduler.stream.subscribe(self._hear, *OwnRuns.KINDS)

    # Life cycle

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to claim; go on with it after `stop`."""
        self.open(loop)
        self._rounds.claiming, self._start_runs = True, {}
        self._reconciled = False
        self.wake()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take part without claiming; go on where a loop before was closed without a shutdown."""
        if self._loop is not loop:
            self._close_wakeups()
            self._loop = loop
            self._wake, self._round_done = asyncio.Event(), asyncio.Event()
            self._round_done.set()
            self._housekeeping = None
            # What the closed loop took along on its way to the runner never began.
            batches = self._scheduler.runner.under_way.all()
            here = {run.run_id for batch in batches for run in (batch.current, *batch.runs)}
            self._own.returned |= self._own.held - here - self._own.endings.keys()
            # What it took along of a round shows in the books, which the heartbeat compares.
            self._look_at = self._beat_at = self._listen_at = float("-inf")
            if self._scheduler.clock.real and self._pulse is None:
                self._pulse = Pulse(self._beat_once, self._scheduler.settings.heartbeat)
            self._task = Context().run(loop.create_task, self._run(), name=f"quart-sched-cluster-{self.slot.alias}")

    def wake(self) -> None:
        """Look at the store now. On the loop only; many calls before it gets its turn are one."""
        self._look_at = float("-inf")
        self._wake.set()

    def stop(self) -> None:
        """Claim no more. What runs is still written down when it ends."""
        self._rounds.claiming = False

    async def stopped(self) -> None:
        """Return when the round under way, if any, has been submitted."""
        await self._round_done.wait()

    async def close(self, timeout: float) -> None:
        """Write down what is left within `timeout` seconds, and leave the cluster."""
        self.stop()
        self._closing = True
        if self._pulse is not None:
            self._pulse.stop()
        self._wake.set()
        if tasks := [task for task in (self._task, self._housekeeping) if task is not None]:
            await asyncio.wait(tasks, timeout=timeout)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        session, self.slot.session = self.slot.session, None
        if session is not None:
            try:
                async with asyncio.timeout(_SIGN_OFF_GRACE):
                    await self._call(partial(self._store.sign_off, session))
            except (StoreUnavailable, TimeoutError) as error:
                log.warning(
                    "This process leaves without a word; the others will find out: %s", str(error) or "no answer"
                )
        self.abandon()

    def abandon(self) -> None:
        """Free what it has. Where it was not closed before, the others find out that this process has left."""
        if self._pulse is not None:
            self._pulse.stop()
        self._close_wakeups()
        self._scheduler.stream.unsubscribe(self._hear)
        self._thread.stop()

    @property
    def ended(self) -> bool:
        """Whether it has ended though nobody told it to."""
        return self._task is not None and self._task.done() and not self._closing

    def _call(self, op: Callable[[], T]) -> asyncio.Future[T]:
        """Run `op`, which uses the store, in the pump's thread."""
        return asyncio.wrap_future(self._submit(op))

    def _submit(self, op: Callable[[], T]) -> Future[T]:
        self.progress.step()
        return self._thread.submit(partial(self.slot.do, lambda _: op()))

    def _beat_once(self) -> None:
        if (session := self.slot.session) is not None:
            self._store.beat(session)

    # What happens to runs here

    def _hear(self, event: Event) -> None:
        if self._own.hear(event) and not self._rounds.ends_can_wait():
            self._wake.set()

    def unwritten(self) -> list[RunRecord]:
        """Return the runs that have ended here and are yet to be written down; safe from any thread."""
        return list(self._own.endings.values())

    def is_unwritten(self, run_id: str) -> bool:
        """Tell whether the run has ended here and is yet to be written down."""
        return run_id in self._own.endings

    async def run_now(
        self, job_id: str, cause: Cause, overrides: Overrides, request: RunRequest | None
    ) -> RunHandle | str:
        """Run the job once beside its schedule, counted among its instances over all processes.

        For a `request` that was carried out before, this returns the id of its run. Raises JobLookupError,
        InvalidDefinition, IdempotencyKeyReused, OverlapForbidden, Draining or StoreUnavailable.
        """
        scheduler, run_id = self._scheduler, new_id()
        self._own.held.add(run_id)
        claimed = False
        try:
            session = await scheduler.call(partial(deployment.join, scheduler, self.slot))
            ended = {record.run_id for record in self._own.freed()}
            start = partial(self._store.start_now, session, job_id, run_id, cause, ended, overrides, request)
            begin = scheduler.clock.monotonic()
            run: Run | str = await scheduler.call(lambda: self.slot.do(lambda _: start()))
            if isinstance(run, str):
                self._own.held.discard(run_id)
                return run
            claimed = True
            if scheduler.clock.monotonic() - begin > scheduler.settings.lease / 2 or run_id not in self._own.held:
                raise StoreUnavailable(
                    self.slot.alias, TimeoutError("its answer took as long as a process may be still")
                )
            if run.job.executor not in scheduler.runner.executors:
                raise InvalidDefinition("executor", f'there is no executor "{run.job.executor}" in this process')
            return scheduler.runner.start_claimed(run)
        except BaseException as error:
            if claimed:
                self._own.returned.add(run_id)
            else:
                # What the books may say of it is put right with the next heartbeat.
                self._own.held.discard(run_id)
            if isinstance(error, SessionLost):
                self._beat_at = float("-inf")
            self._wake.set()
            raise

    # The loop

    async def _run(self) -> None:
        clock = self._scheduler.clock
        while self._own.unwritten or not self._closing:
            self._wake.clear()
            self._round_done.clear()
            self.progress.step()
            try:
                try:
                    delay = await self._turn()
                    self._failures.end()
                except SessionLost as error:
                    self._disown(error)
                    delay = 0.0
            except Exception as error:
                # Whatever the database, a trigger or we ourselves did wrong: the jobs must go on.
                delay = self._back_off(error)
            finally:
                self._round_done.set()
                self.progress.rest()
            if delay > 0:
                await clock.wait(self._wake, min(delay, LONGEST_WAIT))
            else:
                await asyncio.sleep(0)

    def _back_off(self, error: Exception) -> float:
        # It is not known what went through: the next heartbeat compares the books with what is here.
        self._beat_at = self._look_at = float("-inf")
        # Well within a heartbeat, so that nobody is taken for dead who has only not tried again yet.
        longest = min(_LONGEST_BACKOFF, self._scheduler.settings.heartbeat / 2)
        self._scheduler.stream.emit(PumpFailed(self.slot.alias, error))
        return self._failures.add(error, self._scheduler.settings.poll_interval, longest)

    async def _turn(self) -> float:
        """Do what is to be done now; return the seconds until something is."""
        scheduler, clock = self._scheduler, self._scheduler.clock
        if self.slot.session is None or self.slot.session is not self._joined:
            await self._join()
        now = clock.monotonic()
        if self._until_beat() <= 0:
            await self._heartbeat()
        if now - self._mend_at >= MEND_INTERVAL:
            await self._mend()
        if scheduler.catalogue.started and not self._reconciled:
            await self._reconcile()
        due = now - self._house_at >= HOUSE_INTERVAL and self._housekeeping is None
        # Not while this closes, which waits for what had begun before and for no more.
        if due and not self._closing and self._loop is not None:
            self._house_at = now
            self._housekeeping = Context().run(self._loop.create_task, self._keep_house())
        claimed = None
        begin = clock.monotonic()
        attempt = self._rounds.begin()
        while attempt is not None:
            done = await self._rounds.end(attempt)
            claimed = done if attempt.work.limit else claimed
            # The next one is under way in the thread while the fires of this one are submitted. However much is due,
            # heartbeats have their time.
            more = done.more or bool(self._own.endings)
            again = more and not done.unknown and not self._closing and self._until_beat() > 0
            hurry = done.more and len(self._own.endings) < 2 * ENDINGS and clock.monotonic() - begin < _STARTS_FIRST
            attempt = self._rounds.begin(len(done.claimed), hurry=hurry) if again else None
            await self._rounds.submit(done)
            self._rounds.tell(done)
            if done.unknown:
                await self._call(partial(self._store.loader.learn, done.unknown))
                attempt = self._rounds.begin()
        return 0.0 if self._closing else await self._poll(claimed)

    async def _poll(self, claimed: Round | None) -> float:
        """Look at the store, unless that was done lately or what was `claimed` says enough; return seconds to wait."""
        now = self._scheduler.clock.monotonic()
        if self._look_at - now < _TICK or (claimed is not None and claimed.next_us is None):
            self._look_at = now + self._scheduler.settings.poll_interval
            switches = self._scheduler.switches
            poll = await self._call(partial(self._store.poll, self.slot.session))
            if poll.cancels:
                stopping = await self._call(partial(self._store.to_cancel, self.slot.session))
                for run_id, unless_begun in stopping.items():
                    if unless_begun:
                        self._scheduler.runner.cancel_unbegun(run_id, REMOVED)
                    else:
                        self._scheduler.runner.cancel(run_id, "it was asked to stop")
            self._rounds.next_due, self._rounds.waiting_due = poll.earliest, poll.due_us
            self._scheduler.hear_pause(self.slot.alias, poll.paused, switches)
            followed = await self._call(self._store.events.followed) if poll.following else {}
            self._scheduler.live.hear_store(self.slot.alias, listening=poll.listening, followed=followed)
            if self._members != poll.members:
                await self._meet(poll.members)
            if now >= self._report_at and self._rounds.limit() > 0 and self._store.loader.has_failures:
                await self._report_unclaimed()
        wait = self._look_at - self._scheduler.clock.monotonic()
        if self._rounds.next_due is not None and self._rounds.limit() > 0:
            wait = min(wait, (self._rounds.next_due - self._rounds.now()) / 1e6)
            if wait <= 0 and claimed is not None and not claimed.claimed and not claimed.unknown:
                # What is due is locked by another process, which is at it.
                wait = _BUSY_WAIT
        if self._own.endings:
            wait = min(wait, (self._own.write_by - self._rounds.now()) / 1e6)
        return max(0.0, min(wait, self._until_beat()))

    def _until_beat(self) -> float:
        # One sum for all who ask, or its rounding could make the loop spin.
        return self._beat_at + self._scheduler.settings.heartbeat - self._scheduler.clock.monotonic()

    async def _join(self) -> None:
        """Take part as a session that is new: the rest of this turn does what belongs to that."""
        session = await self._call(partial(deployment.join, self._scheduler, self.slot))
        self._watch, self._members = Watch(), None
        self._beat_at = self._mend_at = float("-inf")
        self._fresh, self._reconciled = True, False
        self._joined = session

    async def _reconcile(self) -> None:
        # Before the reconcile: who comes or goes after it is noticed by the next poll.
        members = (await self._call(self._store.poll)).members
        await self._call(partial(deployment.reconcile, self._scheduler, self.slot, start_runs=self._start_runs))
        await self._call(self._store.warm_up)
        self._members, self._reconciled, self._start_runs = members, True, None
        self._look_at = float("-inf")

    async def _meet(self, members: int) -> None:
        """Reconcile anew: who came or went may have changed which declarations are in force."""
        if self._members is not None and self._scheduler.catalogue.started:
            await self._call(partial(deployment.reconcile, self._scheduler, self.slot))
        self._members = members

    # Life and death

    async def _heartbeat(self) -> None:
        scheduler, clock = self._scheduler, self._scheduler.clock
        begin = clock.monotonic()
        beat = await self._call(partial(self._store.heartbeat, self.slot.session, self._own))
        self._beat_at = begin
        if self._pulse is not None:
            self._pulse.touch()
        if beat.strays:
            self._look_at = float("-inf")
        for run_id in beat.strays:
            log.warning("Run %s was claimed here and never begun, as the claim's answer was lost: given back", run_id)
        for worker, stood in self._watch.overdue(beat.others, clock.monotonic(), scheduler.settings.lease):
            records = await self._call(partial(self._store.reap, worker, stood, self.slot.session))
            if records is None:
                continue
            log.warning("Process %s is dead: %d of its runs are lost or run again", worker, len(records))
            for record in records:
                scheduler.runner.accounts.tell(record, self.slot.alias)
            # What it wrote down at last, it may not have told.
            scheduler.live.lose()
        if self._wakeups is None and clock.monotonic() >= self._listen_at:
            await self._listen()

    def _disown(self, error: SessionLost) -> None:
        """Give up all that runs here: the others have recorded it as lost, or run it again."""
        own = self._own.give_up()
        log.error("%s, having stood still for longer than SCHEDULER_LEASE: %d run(s) are given up", error, len(own))
        self.slot.session = None
        self._scheduler.runner.disown(own)
        self._scheduler.live.lose()

    async def _mend(self) -> None:
        self._mend_at = self._scheduler.clock.monotonic()
        marked, given_up = await self._call(partial(self._store.mending.mend, starting=self._fresh))
        self._fresh = False
        for job_id, reason in marked:
            log.error('Job "%s" is broken and does not run: %s', job_id, reason)
        for record in given_up:
            fields = {"job_id": record.job_id, "run_id": record.run_id}
            log.error('A run of job "%s" is given up. %s', record.job_id, record.error_message, extra=fields)
            self._scheduler.runner.accounts.tell(record, self.slot.alias)

    async def _report_unclaimed(self) -> None:
        """Say once for each reason why jobs that are due do not run here, where no other process took them either."""
        self._report_at = self._scheduler.clock.monotonic() + self._scheduler.settings.poll_interval
        before = self._rounds.now() - int(_OTHERS_TURN * self._scheduler.settings.poll_interval * 1e6)
        for reason, (job_id, *more) in (await self._call(partial(self._store.mending.unclaimed, before))).items():
            if reason not in self._reported:
                self._reported.add(reason)
                text = 'Job "%s"%s is due, and this process cannot run it: %s. It is left to processes that can'
                log.error(text, job_id, f", as {len(more)} more," if more else "", reason, extra={"job_id": job_id})

    async def _keep_house(self) -> None:
        try:
            await keep_house(self._scheduler, self.slot, lambda: self._closing)
        finally:
            self._housekeeping = None

    # NOTIFY

    async def _listen(self) -> None:
        """Listen for changes, where the database tells of them."""
        self._listen_at = self._scheduler.clock.monotonic() + MEND_INTERVAL
        listening = self._submit(self._store.listen)
        try:
            wakeups = await asyncio.wrap_future(listening)
        except StoreUnavailable as error:
            log.warning("No notifications, polling goes on: %s", error)
            return
        except asyncio.CancelledError:
            listening.add_done_callback(_close_late)
            raise
        if wakeups is None or self._loop is None:
            return
        try:
            self._loop.add_reader(wakeups.fileno(), self._notified)
        except NotImplementedError:
            # The loop that is the default on Windows watches no sockets.
            wakeups.close()
            self._listen_at = float("inf")
            log.info("No notifications, polling goes on: %s watches no sockets", type(self._loop).__name__)
        else:
            self._wakeups = wakeups

    def _notified(self) -> None:
        assert self._wakeups is not None
        try:
            if self._wakeups.read():
                self.wake()
        except OSError:
            self._close_wakeups()

    def _close_wakeups(self) -> None:
        wakeups, self._wakeups = self._wakeups, None
        if wakeups is not None and self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(wakeups.fileno())
            wakeups.close()


def _close_late(listening: Future[Wakeups | None]) -> None:
    """Close a connection that came when nobody waited for it any more."""
    if not listening.cancelled() and listening.exception() is None and (wakeups := listening.result()) is not None:
        wakeups.close()
