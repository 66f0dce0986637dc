"""The pump of a shared store: one process's part in the cluster.

It claims what is due, writes down what ended, shows that this process lives, and looks after the processes that do not.
All of its statements run in one thread of its own, one transaction after the other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from apscheduler import events as aps
from apscheduler.schedulers.base import STATE_RUNNING

from ..errors import InvalidDefinition, SchedulerError, StoreUnavailable
from ..model.events import Event, JobChanged, PumpFailed, RunEnded, RunLeft, RunReturned, RunWaits
from ..model.idempotency import RunRequest
from ..model.instants import micros
from ..model.overrides import Overrides
from ..model.planning import plan
from ..model.runs import Cause, Run, RunRecord, new_run_id
from ..stores.slot import Slot
from ..stores.sql.rounds import Round, Work
from ..stores.sql.workers import SessionLost, Watch
from . import deployment
from .handles import RunHandle
from .progress import Progress
from .pulse import Pulse
from .pump import BATCH, LONGEST_WAIT, SLICE
from .threads import StoreThread

if TYPE_CHECKING:
    from ..stores.sql.wakeups import Wakeups
    from ..stores.sql.workers import Session
    from .scheduler import Scheduler

log = logging.getLogger("quart_sched")

T = TypeVar("T")

MEND_INTERVAL = 30.0
"""Seconds between attempts at loading what could not be loaded."""
HOUSE_INTERVAL = 60.0
"""Seconds between looks for what is old enough to be deleted."""
_HOUSE_PAUSE = 0.005
"""Seconds between batches of deletions, in which others get at the tables."""
_LONGEST_BACKOFF = 5.0
"""Seconds between attempts while the database is away: what comes due meanwhile is waiting for it."""
_BUSY_WAIT = 0.015
"""Seconds until the next look where all that is due is in another process's hands."""
_SIGN_OFF_GRACE = 1.0
_STARTS_FIRST = 0.2
"""Seconds for which what ended may wait to be written down, while there is more to be started."""
_ENDINGS = 250
"""Records that are written in one transaction."""
_OUTPUT = 1_000_000
"""Characters of what they put out, about: turned into text for the database in one go, which holds up the loop."""


@dataclass(slots=True)
class _Attempt:
    """A round under way in the pump's thread, since `begin` of the clock that never jumps."""

    work: Work
    begin: float
    done: asyncio.Future[Round]


class _Known:
    """The runs that a pump knows of at the moment of asking: one may be claimed by hand during a heartbeat."""

    def __init__(self, pump: ClusterPump) -> None:
        self._pump = pump

    def __contains__(self, run_id: object) -> bool:
        pump = self._pump
        return run_id in pump._own or run_id in pump._endings or run_id in pump._returned


class ClusterPump:
    """One for each shared store. It cannot die of an error, and it goes on until all that ran here is written down."""

    def __init__(self, scheduler: Scheduler, slot: Slot) -> None:
        self.slot = slot
        self.errors = 0
        self.progress = Progress(scheduler.clock)
        self._scheduler = scheduler
        self._store: Any = slot.store
        self._thread = StoreThread(f"quart-sched-{slot.alias}")
        self._wake = asyncio.Event()
        self._claiming = False
        self._closing = False
        self._round_done = asyncio.Event()
        self._round_done.set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch = Watch()
        self._wakeups: Wakeups | None = None
        self._own: set[str] = set()
        """Runs that are on this process's hands, until their end is written down."""
        self._endings: dict[str, RunRecord] = {}
        self._returned: set[str] = set()
        self._left: set[str] = set()
        self._next_due: int | None = None
        self._waiting_due: int | None = None
        self._members: int | None = None
        self._joined: Session | None = None
        """The session whose join is complete."""
        self._reconciled = False
        self._starting = False
        """Whether the scheduler has been started and its jobs have not been reconciled since."""
        self._fresh = True
        """Whether what is broken has not been tried yet with this process's code."""
        self._look_at = self._beat_at = self._mend_at = self._listen_at = self._house_at = float("-inf")
        self._housekeeping: asyncio.Task[None] | None = None
        self._pulse: Pulse | None = None
        self._failures = 0
        scheduler.stream.subscribe(self._hear)

    # Life cycle

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to claim; go on with it after `stop`."""
        self.open(loop)
        self._claiming = self._starting = True
        self._reconciled = False
        self.wake()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take part without claiming."""
        if self._task is None:
            self._loop = loop
            if self._scheduler.clock.real:
                self._pulse = Pulse(self._beat_once, self._scheduler.heartbeat)
            self._task = Context().run(loop.create_task, self._run(), name=f"quart-sched-cluster-{self.slot.alias}")

    def wake(self) -> None:
        """Look at the store now. On the loop only; many calls before it gets its turn are one."""
        self._look_at = float("-inf")
        self._wake.set()

    def stop(self) -> None:
        """Claim no more. What runs is still written down when it ends."""
        self._claiming = False

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
            with anyio.move_on_after(_SIGN_OFF_GRACE):
                try:
                    await self._call(partial(self._store.sign_off, session))
                except StoreUnavailable as error:
                    log.warning("This process leaves without a word; the others will find out: %s", error)
        self._close_wakeups()
        self._scheduler.stream.unsubscribe(self._hear)
        self._thread.stop()

    @property
    def ended(self) -> bool:
        """Whether it has ended though nobody told it to."""
        return self._task is not None and self._task.done() and not self._closing

    async def _call(self, op: Callable[[], T]) -> T:
        """Run `op`, which uses the store, in the pump's thread."""
        self.progress.step()
        return await asyncio.wrap_future(self._thread.submit(partial(self.slot.do, lambda _: op())))

    def _beat_once(self) -> None:
        if (session := self.slot.session) is not None:
            self._store.beat(session)

    # What happens to runs here

    def _hear(self, event: Event) -> None:
        if isinstance(event, RunEnded) and event.jobstore == self.slot.alias:
            record = event.record
            if record.run_id in self._own:
                self._endings[record.run_id] = record
                self._wake.set()
        elif isinstance(event, RunLeft) and event.run_id in self._own:
            self._left.add(event.run_id)
            self._wake.set()
        elif isinstance(event, RunReturned) and event.run.run_id in self._own:
            self._returned.add(event.run.run_id)
            self._wake.set()

    def is_unwritten(self, run_id: str) -> bool:
        """Tell whether the run has ended here and is yet to be written down."""
        return run_id in self._endings

    async def run_now(
        self, job_id: str, cause: Cause, overrides: Overrides, request: RunRequest | None
    ) -> RunHandle | str:
        """Run the job once beside its schedule, counted among its instances over all processes.

        For a `request` that was carried out before, this returns the id of its run. Raises JobLookupError,
        InvalidDefinition, IdempotencyKeyReused, OverlapForbidden, Draining or StoreUnavailable.
        """
        scheduler, run_id = self._scheduler, new_run_id()
        self._own.add(run_id)
        claimed = False
        try:
            session = await scheduler.call(partial(deployment.join, scheduler, self.slot))
            ended = set(self._endings)
            start = partial(self._store.start_now, session, job_id, run_id, cause, ended, overrides, request)
            begin = scheduler.clock.monotonic()
            run: Run | str = await scheduler.call(lambda: self.slot.do(lambda _: start()))
            if isinstance(run, str):
                self._own.discard(run_id)
                return run
            claimed = True
            if scheduler.clock.monotonic() - begin > scheduler.lease / 2 or run_id not in self._own:
                raise StoreUnavailable(
                    self.slot.alias, TimeoutError("its answer took as long as a process may be still")
                )
            if run.job.executor not in scheduler.runner.executors:
                raise InvalidDefinition("executor", f'there is no executor "{run.job.executor}" in this process')
            return scheduler.runner.start_claimed(run)
        except BaseException as error:
            if claimed:
                self._returned.add(run_id)
            else:
                # What the books may say of it is put right with the next heartbeat.
                self._own.discard(run_id)
            if isinstance(error, SessionLost):
                self._beat_at = float("-inf")
            self._wake.set()
            raise

    # The loop

    async def _run(self) -> None:
        clock = self._scheduler.clock
        while not (self._closing and not self._endings and not self._returned and not self._left):
            self._wake.clear()
            self._round_done.clear()
            self.progress.step()
            try:
                try:
                    delay = await self._turn()
                    self._failures, self.slot.failing = 0, None
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
        self.errors += 1
        self._failures += 1
        self.slot.failing = error
        # It is not known what went through: the next heartbeat compares the books with what is here.
        self._beat_at = self._look_at = float("-inf")
        # Well within a heartbeat, so that nobody is taken for dead who has only not tried again yet.
        longest = min(_LONGEST_BACKOFF, self._scheduler.heartbeat / 2)
        delay: float = min(self._scheduler.poll_interval * 2 ** min(self._failures - 1, 10), longest)
        self._scheduler.stream.emit(PumpFailed(self.slot.alias, error))
        report = log.error if self._failures == 1 else log.warning
        show = error if self._failures == 1 and not isinstance(error, SchedulerError) else None
        report("%s; trying again in %g s (failure %d)", error, delay, self._failures, exc_info=show)
        return delay

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
        if now - self._house_at >= HOUSE_INTERVAL and self._housekeeping is None and self._loop is not None:
            self._house_at = now
            self._housekeeping = Context().run(self._loop.create_task, self._keep_house())
        claimed = None
        begin = clock.monotonic()
        attempt = self._begin_round()
        while attempt is not None:
            done = await self._end_round(attempt)
            claimed = done if attempt.work.limit else claimed
            # The next one is under way in the thread while the fires of this one are submitted. However much is due,
            # heartbeats have their time.
            more = done.more or bool(self._endings)
            again = more and not done.unknown and not self._closing and self._until_beat() > 0
            hurry = done.more and len(self._endings) < 2 * _ENDINGS and clock.monotonic() - begin < _STARTS_FIRST
            attempt = self._begin_round(len(done.claimed), hurry=hurry) if again else None
            await self._submit(done)
            self._tell(done)
            if done.unknown:
                await self._call(partial(self._store.loader.learn, done.unknown))
                attempt = self._begin_round()
        return 0.0 if self._closing else await self._poll(claimed)

    async def _poll(self, claimed: Round | None) -> float:
        """Look at the store, unless that was done lately and nothing `claimed` since; return the seconds to wait."""
        now = self._scheduler.clock.monotonic()
        if claimed is not None or now >= self._look_at:
            self._look_at = now + self._scheduler.poll_interval
            poll = await self._call(partial(self._store.poll, self.slot.session))
            if poll.cancels:
                for run_id in await self._call(partial(self._store.to_cancel, self.slot.session)):
                    self._scheduler.runner.cancel(run_id)
            self._next_due, self._waiting_due = poll.earliest, poll.due_us
            self._scheduler.hear_pause(self.slot.alias, poll.paused)
            followed = await self._call(self._store.events.followed) if poll.following else {}
            self._scheduler.live.hear_store(self.slot.alias, listening=poll.listening, followed=followed)
            if self._members != poll.members:
                await self._meet(poll.members)
        wait = self._look_at - self._scheduler.clock.monotonic()
        if self._next_due is not None and self._limit() > 0:
            wait = min(wait, (self._next_due - self._now()) / 1e6)
            if wait <= 0 and claimed is not None and not claimed.claimed and not claimed.unknown:
                # What is due is locked by another process, which is at it.
                wait = _BUSY_WAIT
        return max(0.0, min(wait, self._until_beat()))

    def _until_beat(self) -> float:
        # One sum for all who ask, or its rounding could make the loop spin.
        return self._beat_at + self._scheduler.heartbeat - self._scheduler.clock.monotonic()

    def _now(self) -> int:
        return micros(self._scheduler.clock.now())

    def _limit(self, unsubmitted: int = 0) -> int:
        """How many jobs may be claimed, with so many already that are yet to be submitted."""
        scheduler = self._scheduler
        if not self._claiming or scheduler.state != STATE_RUNNING or scheduler.held:
            return 0
        return max(0, min(BATCH, scheduler.runner.room - unsubmitted))

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
        await self._call(partial(deployment.reconcile, self._scheduler, self.slot, starting=self._starting))
        await self._call(self._store.warm_up)
        self._members, self._reconciled, self._starting = members, True, False
        self._look_at = float("-inf")

    async def _meet(self, members: int) -> None:
        """Reconcile anew: who came or went may have changed which declarations are in force."""
        if self._members is not None and self._scheduler.catalogue.started:
            await self._call(partial(deployment.reconcile, self._scheduler, self.slot))
        self._members = members

    def _begin_round(self, unsubmitted: int = 0, *, hurry: bool = False) -> _Attempt | None:
        """Begin to write down what ended and to claim what is due, if there is either; there may be jobs to submit.

        In a `hurry` nothing is written down that can wait.
        """
        scheduler = self._scheduler
        limit = self._limit(unsubmitted)
        now = self._now()
        due = limit > 0 and self._next_due is not None and self._next_due <= now
        endings = [] if hurry and due else self._next_endings()
        returned, left = set(self._returned), self._left - self._endings.keys()
        if not (due or endings or returned or left):
            return None
        # With an end there may be a place for what waits for one.
        waiting = self._waiting_due is not None and (self._waiting_due <= now or bool(endings or left))
        due = due or (waiting and limit > 0)
        unwritten = list(self._endings.values())[len(endings) :]
        work = Work(endings, sorted(returned), sorted(left), limit if due else 0, waiting, unwritten)
        decide = partial(plan, max_catch_up=scheduler.max_catch_up)
        round_ = partial(self._store.round, self.slot.session, work, decide, set(scheduler.runner.executors))
        return _Attempt(work, scheduler.clock.monotonic(), asyncio.ensure_future(self._call(round_)))

    def _next_endings(self) -> list[RunRecord]:
        """Return what ended and is to be written down, as much of it as makes a transaction of moderate size."""
        chosen: list[RunRecord] = []
        size = 0
        for record in islice(self._endings.values(), _ENDINGS):
            size += sum(len(text) for text in (record.log, record.traceback, record.error_message) if text)
            if chosen and size > _OUTPUT:
                break
            chosen.append(record)
        return chosen

    async def _end_round(self, attempt: _Attempt) -> Round:
        """Wait for a round; what it claimed is this process's from then on."""
        scheduler, clock = self._scheduler, self._scheduler.clock
        done = await attempt.done
        if any(record.outcome == "queued" for record in done.waiting):
            self._waiting_due = self._waiting_due or self._now()
        if done.advanced:
            self._waiting_due = self._next_due = self._now()
        for at in (micros(record.retry_at) for record in attempt.work.endings if record.retry_at is not None):
            self._waiting_due = min(self._waiting_due or at, at)
            self._next_due = min(self._next_due or at, at)
        for record in attempt.work.endings:
            self._endings.pop(record.run_id, None)
            if not record.busy or record.run_id in done.late:
                self._own.discard(record.run_id)
        for run_id in (*attempt.work.returned, *attempt.work.left):
            self._own.discard(run_id)
            self._returned.discard(run_id)
            self._left.discard(run_id)
        for run_id in done.late:
            log.warning("Run %s ended here, but was recorded as lost before: what it brought is dropped", run_id)
        # Before anything is submitted: a heartbeat in between would take these runs for strays.
        claimed = {run.run_id for claim in done.claimed for run in claim.runs}
        self._own |= claimed
        if clock.monotonic() - attempt.begin > scheduler.lease / 2:
            # This process stood still: the others may be about to declare it dead, and run what it has claimed.
            self._returned |= claimed
            done.claimed.clear()
        return done

    async def _submit(self, done: Round) -> None:
        """Hand the claimed fires to the runner, in slices that leave the loop free in between."""
        runner = self._scheduler.runner
        slice_end = time.perf_counter() + SLICE
        for claim in done.claimed:
            try:
                if runner.draining:
                    self._returned |= {run.run_id for run in claim.runs}
                else:
                    runner.submit(claim.job, claim.runs, claimed=True)
            except Exception:
                # The others of the batch are claimed already: they must not be lost with this one.
                self.errors += 1
                self._returned |= {run.run_id for run in claim.runs}
                log.exception('The runs of job "%s" could not be submitted', claim.job.id)
            if time.perf_counter() > slice_end:
                await asyncio.sleep(0)
                slice_end = time.perf_counter() + SLICE

    def _tell(self, done: Round) -> None:
        runner, alias = self._scheduler.runner, self.slot.alias
        for record in done.records:
            if record.outcome == "skipped":
                text = 'Job "%s" skipped: it runs already, as often as its max_instances allows'
                log.warning(text, record.job_id, extra={"job_id": record.job_id, "run_id": record.run_id})
            runner.account(record, alias)
        for record in done.waiting:
            self._scheduler.stream.emit(RunWaits(record, alias))
        for job_id, reason in done.broken:
            log.error('Job "%s" is broken and does not run: %s', job_id, reason)
        for job_id in done.ended:
            self._scheduler.stream.emit(JobChanged(aps.EVENT_JOB_REMOVED, job_id, alias, ended=True))

    # Life and death

    async def _heartbeat(self) -> None:
        scheduler, clock = self._scheduler, self._scheduler.clock
        begin = clock.monotonic()
        beat = await self._call(partial(self._store.heartbeat, self.slot.session, _Known(self)))
        self._beat_at = begin
        if self._pulse is not None:
            self._pulse.touch()
        if beat.strays:
            self._look_at = float("-inf")
        for run_id in beat.strays:
            log.warning("Run %s was claimed here and never begun, as the claim's answer was lost: given back", run_id)
        for worker, stood in self._watch.overdue(beat.others, clock.monotonic(), scheduler.lease):
            records = await self._call(partial(self._store.reap, worker, stood, self.slot.session))
            log.warning("Process %s is dead: %d of its runs are lost or run again", worker, len(records))
            for record in records:
                scheduler.runner.account(record, self.slot.alias)
            # What it wrote down at last, it may not have told.
            scheduler.live.lose()
        if self._wakeups is None and clock.monotonic() >= self._listen_at:
            await self._listen()

    def _disown(self, error: SessionLost) -> None:
        """Give up all that runs here: the others have recorded it as lost, or run it again."""
        own, self._own = self._own, set()
        log.error("%s, having stood still for longer than SCHEDULER_LEASE: %d run(s) are given up", error, len(own))
        self._endings.clear()
        self._returned.clear()
        self._left.clear()
        self.slot.session = None
        self._scheduler.runner.disown(own)
        self._scheduler.live.lose()

    async def _mend(self) -> None:
        self._mend_at = self._scheduler.clock.monotonic()
        marked = await self._call(partial(self._store.mending.mend, starting=self._fresh))
        self._fresh = False
        for job_id, reason in marked:
            log.error('Job "%s" is broken and does not run: %s', job_id, reason)

    async def _keep_house(self) -> None:
        """Clear up what is older than SCHEDULER_HISTORY_DAYS, if this is the process whose turn it is."""
        scheduler, session = self._scheduler, self.slot.session
        in_threads = partial(scheduler.call, blocking=True)
        try:
            if session is not None and await in_threads(
                partial(self._store.house.take_turn, session, 2 * HOUSE_INTERVAL)
            ):
                before = scheduler.clock.now() - timedelta(days=scheduler.history_days)
                await in_threads(partial(self._store.house.clear_up, before))
                await in_threads(self._store.tallies.compact)
                prune = partial(in_threads, partial(self._store.history.prune, before))
                while not self._closing and await prune():  # noqa: ASYNC110  # lets others in
                    await asyncio.sleep(_HOUSE_PAUSE)
        except Exception as error:
            # It is tried again in a minute, and nothing else depends on it.
            log.warning("Old records could not be deleted: %s", error)
        finally:
            self._housekeeping = None

    # NOTIFY

    async def _listen(self) -> None:
        """Listen for changes, where the database tells of them."""
        self._listen_at = self._scheduler.clock.monotonic() + MEND_INTERVAL
        try:
            wakeups = await self._call(self._store.listen)
        except StoreUnavailable as error:
            log.warning("No notifications, polling goes on: %s", error)
            return
        if wakeups is not None and self._loop is not None:
            self._wakeups = wakeups
            self._loop.add_reader(wakeups.fileno(), self._notified)

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
            self._loop.remove_reader(wakeups.fileno())
            wakeups.close()
