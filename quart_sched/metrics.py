"""Metrics for Prometheus: a reader of the event stream that counts, and what it counted as text.

Imported where SCHEDULER_METRICS_ENABLED asks for it, since it needs prometheus-client.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler import events as aps
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from .engine.stalls import StallWatch
from .errors import StoreUnavailable
from .model.events import Event, PumpFailed, RunEnded, SchedulerChanged
from .model.runs import RunRecord
from .model.tallies import OTHER, Numbers, Tally, add_up, fold, run_key, split_run_key
from .stores.memory import MemoryStore
from .stores.slot import Slot

if TYPE_CHECKING:
    from .engine.scheduler import Scheduler
    from .stores.sql.tallies import Addition, Sums

log = logging.getLogger("quart_sched")

MOST_JOBS = 200
"""Jobs that have a label of their own, the first that were seen; all others are counted for the job `_other`."""
NO_JOB = "_none"
"""The job of what holds up the loop and is none."""
DURATION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
LATENESS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0)
STORE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds in seconds."""
_LAST_WORD = 1.0
"""Seconds that writing down the last counts may take."""


class Metrics:
    """Counts what happens in one scheduler; with a shared store, what happens in the whole cluster."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._total = Tally()
        """What was counted here, where no store is shared."""
        self._pending = Tally()
        """What was counted here and is not in the shared store yet."""
        self._sending: Addition | None = None
        """An addition that is on its way, or whose answer was lost."""
        self._sums: Numbers = {}
        """The sum of all processes, as it was seen last."""
        self._since: Numbers = {}
        """What this process has added to it since."""
        self._session = ""
        """The id under which this process has added last."""
        self._others: list[dict[str, Any]] = []
        self._additions = 0
        self._jobs: dict[str, str] = {}
        # What other threads measure. A list's end is where several may write at once.
        self._measured: deque[tuple[str, str, float]] = deque(maxlen=100_000)
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._exchanges: set[asyncio.Task[Sums | None]] = set()
        self._stalls: StallWatch | None = None

    # Life cycle

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to measure, on this loop."""
        self._lock = asyncio.Lock()
        self._observe_stores()
        if self._task is not None and self._task.get_loop() is not loop:
            # That one was closed without a shutdown.
            self._task = self._stalls = None
        if self._task is None:
            self._task = Context().run(loop.create_task, self._write(), name="quart-sched-metrics")
        if self._stalls is None and self._scheduler.clock.real:
            self._stalls = StallWatch(loop, self._note_stall)
            self._stalls.start()

    async def close(self) -> None:
        """Write down what was counted last, and measure no more."""
        stalls, self._stalls = self._stalls, None
        if stalls is not None:
            stalls.stop()
        task, self._task = self._task, None
        try:
            async with asyncio.timeout(_LAST_WORD):
                async with self._lock:  # so that it is not cut off in the middle of writing
                    if task is not None:
                        task.cancel()
                await self._add()
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("What was counted last is not in the cluster's metrics: %s", error or type(error).__name__)
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    def _observe_stores(self) -> None:
        for slot in self._scheduler.catalogue.slots.values():
            if slot.blocking:
                slot.observe = self._note_store

    # What is counted

    KINDS = (RunEnded, PumpFailed, SchedulerChanged)
    """What it is to be told of."""

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, RunEnded):
            self._note_run(event.record)
        elif isinstance(event, PumpFailed):
            self._tally.count("pump_errors", event.jobstore)
        elif isinstance(event, SchedulerChanged) and event.code == aps.EVENT_SCHEDULER_STARTED:
            self._observe_stores()

    def _note_run(self, record: RunRecord) -> None:
        job, tally = self._label(record.job_id), self._tally
        tally.count("runs", run_key(job, record.outcome), record.fires or 1)
        if (duration := record.duration) is not None:
            tally.observe("duration", job, duration, DURATION)
            if record.cause == "schedule" and record.started_at is not None:
                late = (record.started_at - record.scheduled_at).total_seconds()
                tally.observe("lateness", job, max(0.0, late), LATENESS)

    def _note_store(self, alias: str, seconds: float) -> None:
        self._measured.append(("store", alias, seconds))

    def _note_stall(self, task: asyncio.Task[Any] | None, seconds: float) -> None:
        job_id = None if task is None else self._scheduler.runner.under_way.job_of(task)
        self._measured.append(("stall", NO_JOB if job_id is None else job_id, seconds))

    def _drain(self) -> None:
        """Count what other threads have measured."""
        tally = self._tally
        while self._measured:
            family, key, seconds = self._measured.popleft()
            if family == "store":
                tally.observe(family, key, seconds, STORE)
            else:
                tally.count(family, key if key == NO_JOB else self._label(key), seconds)

    def _label(self, job_id: str) -> str:
        label = self._jobs.get(job_id)
        if label is None:
            if len(self._jobs) >= MOST_JOBS:
                return OTHER
            # What is no Unicode, as half of a surrogate pair, cannot be sent.
            label = self._jobs[job_id] = job_id.encode(errors="replace").decode()
        return label

    @property
    def _tally(self) -> Tally:
        return self._total if self._shared is None else self._pending

    # The cluster

    @property
    def _shared(self) -> Slot | None:
        """The store through which processes add up what they count."""
        shared = self._scheduler.catalogue.slots.shared
        return shared[0] if shared else None

    async def _write(self) -> None:
        """Write down what was counted, with each heartbeat."""
        while True:
            await self._scheduler.clock.sleep(self._scheduler.settings.heartbeat)
            try:
                await self._add()
            except StoreUnavailable:
                pass  # The pump says so. It is kept, and written down with the next one.
            except Exception:
                # Nothing that goes wrong here may end the writing for good.
                log.exception("Metrics could not be written down")

    async def _add(self) -> None:
        """Write down what was counted here, and how this process stands, for the others to see."""
        self._drain()
        slot = self._shared
        if slot is not None and slot.session is not None:
            await self._exchange(slot, read=False)

    async def _exchange(self, slot: Slot, *, read: bool) -> Sums | None:
        """Add what was counted here; with `read`, return the sums. Raises StoreUnavailable.

        A client that leaves does not cut it off: then nobody would know whether it was added.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._exchange_once(slot, read), name="quart-sched-sums", context=Context())
        self._exchanges.add(task)
        task.add_done_callback(self._note_exchange)
        return await asyncio.shield(task)

    def _note_exchange(self, task: asyncio.Task[Sums | None]) -> None:
        self._exchanges.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever waited for it has it, if there still is anybody.

    async def _exchange_once(self, slot: Slot, read: bool) -> Sums | None:
        from .stores.sql.tallies import Addition

        async with self._lock:
            if self._sending is not None:
                await self._send(slot, read=False, again=True)
            if slot.session is not None:
                self._additions += 1
                self._session = slot.session.id
                self._sending = Addition(self._session, self._additions, self._pending.take(), self._gauges())
            return await self._send(slot, read=read)

    async def _send(self, slot: Slot, *, read: bool, again: bool = False) -> Sums | None:
        addition = self._sending

        def send(store: Any) -> Sums | None:
            slot.open(self._scheduler)
            if read:
                sums: Sums = store.tallies.read(addition)
                return sums
            if addition is not None:
                store.tallies.add(addition, again=again)
            return None

        sums = await self._scheduler.call(partial(slot.do, send), blocking=True)
        if addition is not None:
            self._since = add_up([self._since, addition.numbers])
            self._sending = None
        if sums is not None:
            self._sums, self._since = sums.numbers, {}
            self._others = [gauges for session, gauges in sums.gauges.items() if session != self._session]
        return sums

    def _gauges(self) -> dict[str, Any]:
        runner, watch = self._scheduler.runner, self._scheduler.watch
        return {"worker": runner.worker, "running": len(runner.under_way.runs()), "overdue": len(watch.overdue)}

    # What comes out

    async def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics as text, and its content type, out of those that `accept`, the header, admits."""
        self._drain()
        due = {slot.alias: self._due(slot) for slot in self._scheduler.catalogue.slots.values() if not slot.blocking}
        if (slot := self._shared) is None:
            numbers = add_up([self._total.numbers])
        else:
            numbers = await self._sum_up(slot, due)
        workers = _by_name([self._gauges(), *self._others])
        render = partial(_render, numbers, workers, due, accept)
        # Some thousand lines take as many microseconds each.
        text: tuple[bytes, str] = await self._scheduler.call(render, blocking=True)
        return text

    async def _sum_up(self, slot: Slot, due: dict[str, int]) -> Numbers:
        """Return what all processes counted; note how many jobs are `due` in their store."""
        try:
            sums = await self._exchange(slot, read=True)
        except StoreUnavailable as error:
            log.warning("The metrics show what was known of the other processes: %s", error)
            sums = None
        if sums is not None:
            due[slot.alias] = sums.due
            if slot.session is not None:
                # And not what was counted here since: another process does not know of it, and may be asked next.
                return sums.numbers
        sending = {} if self._sending is None else self._sending.numbers
        return add_up([self._sums, self._since, sending, self._pending.numbers])

    def _due(self, slot: Slot) -> int:
        store = slot.store
        if not isinstance(store, MemoryStore):
            return 0
        with slot.lock:
            return len(store.peek_due(self._scheduler.clock.now()))


def _by_name(workers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each worker once: containers may share a host name and a pid, and no series may be there twice."""
    found: dict[str, dict[str, Any]] = {}
    for gauges in workers:
        name = gauges["worker"]
        if (known := found.setdefault(name, gauges)) is not gauges:
            # Each has runs of its own, and all watch the same jobs.
            running, overdue = known["running"] + gauges["running"], max(known["overdue"], gauges["overdue"])
            found[name] = {"worker": name, "running": running, "overdue": overdue}
    return list(found.values())


def _render(numbers: Numbers, workers: list[dict[str, Any]], due: dict[str, int], accept: str) -> tuple[bytes, str]:
    folded = fold(numbers, ("duration", "lateness", "stall"), ("runs",), MOST_JOBS)
    registry = CollectorRegistry()
    registry.register(_Snapshot(list(_families(folded, workers, due))))
    try:
        encoder, content_type = choose_encoder(accept)
    except TypeError:  # It compares whatever stands for a version with numbers.
        encoder, content_type = choose_encoder("")
    return encoder(registry), content_type


class _Snapshot:
    """What prometheus-client takes for a collector."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(numbers: Numbers, workers: list[dict[str, Any]], due: dict[str, int]) -> Iterable[Metric]:
    runs = CounterMetricFamily("quart_sched_runs", "Runs, and fires without one, by outcome", labels=["job", "outcome"])
    for key, (count,) in numbers.get("runs", {}).items():
        runs.add_metric(split_run_key(key), count)
    yield runs
    yield _histogram(
        "quart_sched_run_duration_seconds", "How long runs took", "job", DURATION, numbers.get("duration", {})
    )
    yield _histogram(
        "quart_sched_start_lateness_seconds",
        "How long after their time scheduled runs started",
        "job",
        LATENESS,
        numbers.get("lateness", {}),
    )
    yield _histogram(
        "quart_sched_store_seconds", "How long uses of a job store took", "jobstore", STORE, numbers.get("store", {})
    )
    for name, text, label, family in (
        ("pump_errors", "Failures of the pump that claims what is due", "jobstore", "pump_errors"),
        ("loop_stall_seconds", "For how long a job held up the event loop", "job", "stall"),
    ):
        counter = CounterMetricFamily(f"quart_sched_{name}", text, labels=[label])
        for key, (count,) in numbers.get(family, {}).items():
            counter.add_metric([key], count)
        yield counter
    for name, text in (("running", "Runs under way"), ("overdue", "Jobs that did not succeed in time")):
        gauge = GaugeMetricFamily(f"quart_sched_{name}", text, labels=["worker"])
        for gauges in workers:
            gauge.add_metric([gauges["worker"]], gauges[name])
        yield gauge
    gauge = GaugeMetricFamily("quart_sched_due", "Jobs that are due and not claimed", labels=["worker", "jobstore"])
    for alias, count in due.items():
        gauge.add_metric([workers[0]["worker"], alias], count)
    yield gauge


def _histogram(
    name: str, text: str, label: str, bounds: tuple[float, ...], keys: dict[str, list[float]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=[label])
    edges = [*map(str, bounds), "+Inf"]
    for key, (total, *counts) in keys.items():
        if len(counts) != len(edges):
            continue  # of a version with other buckets
        so_far, buckets = 0.0, []
        for edge, count in zip(edges, counts, strict=True):
            so_far += count
            buckets.append((edge, so_far))
        family.add_metric([key], buckets, total)
    return family
