"""The set-up: stores, executors and defaults, from the scheduler's own options and from an app's configuration."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.schedulers.base import STATE_STOPPED

from ..config import Settings
from ..errors import AlreadyRunning, ConfigError
from ..model.events import RunEnded
from ..stores.adapter import make_history, make_store
from ..stores.slot import Slot
from .clock import Clock
from .executors import ForeignExecutor, JobExecutor, make_executor
from .history import Histories, Source
from .history_ring import HistoryRing, under_way
from .live import Live
from .performer import Performer
from .runner import Runner
from .slots import Slots
from .stream import EventStream
from .verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model.runs import RunRecord
    from .history_writer import HistoryWriter


class SetUp(Verbs):
    """Takes settings over as a whole, or not at all."""

    runner: Runner
    performer: Performer
    clock: Clock
    live: Live
    history: HistoryRing
    stream: EventStream
    history_writer: HistoryWriter | None = None
    histories: Histories
    unwritten: Callable[[], list[RunRecord]]
    settings: Settings
    """What was installed last; that stays while the scheduler runs."""
    own_settings: dict[str, Any]
    """What the scheduler itself was given; it stands under every app's configuration."""
    _own_stores: dict[str, Any]
    _own_executors: dict[str, Any]
    _configuring = False

    def install(self, settings: Settings, *, rebind: bool = False) -> None:
        """Take the settings over; with `rebind`, for another app, whose jobs begin anew.

        Everything is made first and exchanged last. Raises ConfigError or DuplicateJob before anything has changed.
        """
        stores = {"default": {"type": "memory"}, **self._own_stores, **settings.jobstores}
        executors = {"default": {"type": "threadpool"}, **self._own_executors, **settings.executors}
        slots = Slots(self, {alias: self._slot(alias, entry, keep=not rebind) for alias, entry in stores.items()})
        made: dict[str, BaseExecutor | ForeignExecutor] = {}
        for alias, entry in executors.items():
            executor = make_executor(f"SCHEDULER_EXECUTORS[{alias!r}]", entry, settings.max_threads)
            ours = isinstance(executor, JobExecutor)
            made[alias] = executor if ours else ForeignExecutor(executor, self.runner.foreign_ended)
        writer = self._writer(settings, slots)
        self.catalogue.declarations.check(settings.jobs, executors=made, stores=slots, rebind=rebind)

        self.settings = settings
        self.catalogue.slots = slots
        known = [getattr(executor, "executor", executor) for executor in self.runner.executors.values()]
        self.runner.executors = made
        if self._eventloop is not None:
            for alias, executor in made.items():
                if getattr(executor, "executor", executor) not in known:
                    executor.start(self, alias)
        self.timezone = settings.timezone
        self._job_defaults = dict(settings.job_defaults)
        self.performer.log_bytes, self.performer.log_level = settings.log_bytes, settings.log_level
        self.runner.under_way.limit = settings.max_runs
        if self.history.size != settings.history_size or rebind:
            self.stream.unsubscribe(self.history)
            self.history = HistoryRing(settings.history_size)
            if settings.history_size:
                self.stream.subscribe(self.history, RunEnded, first=True)
        self.history.keep(slots.is_own, partial(under_way, self.runner, slots.is_own))
        own: list[Source] = [self.history] if writer is None else [writer.waiting, writer.history]
        if self.history_writer is not None:
            self.stream.unsubscribe(self.history_writer)
        if writer is not None:
            self.stream.subscribe(writer, RunEnded, first=True)
        self.history_writer = writer
        self.histories = Histories([*own, *(slot.store.history for slot in slots.shared)], self.unwritten)
        self._jobstores = {alias: slot.store for alias, slot in slots.items()}
        self._executors = {alias: getattr(executor, "executor", executor) for alias, executor in made.items()}
        self.live.bind(slots)
        if rebind:
            for memory in (self.by_hand, self.changes, self.watch):
                memory.clear()
        self.catalogue.begin(settings.jobs, rebind=rebind)

    def _writer(self, settings: Settings, slots: Slots) -> HistoryWriter | None:
        """Make what brings the other stores' runs into a database, where there is one for it. Raises ConfigError."""
        default, entry = slots["default"], settings.history
        if entry is None and not (default.shared and len(slots) > 1):
            return None
        if entry is not None and entry["type"] == "memory":
            return None
        if settings.history_size == 0:
            raise ConfigError(
                "SCHEDULER_HISTORY_SIZE is 0; expected at least 1 where records go to a database, "
                "to keep them until they are there"
            )
        history = default.store.history if entry is None else make_history("SCHEDULER_HISTORY", entry)
        from .history_writer import HistoryWriter

        return HistoryWriter(
            history,
            size=settings.history_size,
            days=settings.history_days,
            clock=self.clock,
            keeps=slots.is_own,
            under_way=partial(under_way, self.runner, slots.is_own),
        )

    def _slot(self, alias: str, entry: Any, *, keep: bool) -> Slot:
        """Make the store, or go on with the memory store that is there, whose jobs nobody else has."""
        slot = Slot(alias, make_store(f"SCHEDULER_JOBSTORES[{alias!r}]", entry))
        existing = self.catalogue.slots.get(alias)
        if (
            keep
            and existing is not None
            and not (existing.blocking or slot.blocking or isinstance(entry, BaseJobStore))
        ):
            return existing
        return slot

    def add_jobstore(self, jobstore: Any, alias: str = "default", **options: Any) -> None:
        """Add a job store, as APScheduler does; only while the scheduler is stopped."""
        if self._configuring:
            super().add_jobstore(jobstore, alias, **options)
        else:
            entry = {"type": jobstore, **options} if isinstance(jobstore, str) else jobstore
            self._change_own(self._own_stores, alias, entry)

    def add_executor(self, executor: Any, alias: str = "default", **options: Any) -> None:
        """Add an executor, as APScheduler does; only while the scheduler is stopped."""
        if self._configuring:
            super().add_executor(executor, alias, **options)
        else:
            entry = {"type": executor, **options} if isinstance(executor, str) else executor
            self._change_own(self._own_executors, alias, entry)

    def remove_jobstore(self, alias: str, shutdown: bool = True) -> None:
        """Remove a job store that was added with `add_jobstore`; only while the scheduler is stopped."""
        self._change_own(self._own_stores, alias, None)

    def remove_executor(self, alias: str, shutdown: bool = True) -> None:
        """Remove an executor that was added with `add_executor`; only while the scheduler is stopped."""
        self._change_own(self._own_executors, alias, None)

    def _change_own(self, own: dict[str, Any], alias: str, entry: Any) -> None:
        if self.state != STATE_STOPPED:
            raise AlreadyRunning
        if entry is None:
            del own[alias]
        else:
            own[alias] = entry
        self.install(self.settings)

    def _configure(self, config: dict[str, Any]) -> None:
        """Read APScheduler's options, as its constructor and `configure` pass them."""
        self._configuring = True
        try:
            super()._configure(config)
        finally:
            self._configuring = False
        if hasattr(self, "catalogue"):
            self._take_own()

    def _take_own(self) -> None:
        """Keep what was given to the scheduler itself: it stands under every app's configuration."""
        self._own_stores, self._own_executors = dict(self._jobstores), dict(self._executors)
        self.own_settings = {"timezone": self.timezone, "job_defaults": dict(self._job_defaults)}
        self.install(Settings(**self.own_settings, jobstores={}, executors={}))
