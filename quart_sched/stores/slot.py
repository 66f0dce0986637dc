"""A job store in use: opened when first needed, with what this process knows of its jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError

from ..errors import SchedulerError, StoreUnavailable
from ..model import state
from .adapter import check_storable, keep_unrestorable, unrestorable_reason
from .memory import MemoryStore

if TYPE_CHECKING:
    from .sql.workers import Session

T = TypeVar("T")


class Slot:
    """One store under its alias.

    A memory store is used under `lock`, from any thread; a blocking one (`blocking`) in the store thread alone, or in
    any thread where it is `shared`.
    """

    def __init__(self, alias: str, store: BaseJobStore) -> None:
        self.alias = alias
        self.store = store
        self.blocking = not isinstance(store, MemoryStore)
        self.shared = bool(getattr(store, "shared", False))
        """Whether other processes may use the store too, which then claims each fire for one of them."""
        # Each of APScheduler's stores has a driver of its own, with errors of its own.
        self.failures: tuple[type[Exception], ...] = getattr(store, "failures", (Exception,))
        self.lock = threading.RLock()
        self.broken: dict[str, str] = {}
        """Why jobs are broken, by id."""
        self.consumed: dict[str, datetime] = {}
        """The last fire of each job that was claimed here."""
        self.error: str | None = None
        """Why the store is not available; None when its last use went well."""
        self.failing: Exception | None = None
        """What the store's pump failed with; None when its last turn went well. Reading may work all the same."""
        self.observe: Callable[[str, float], None] | None = None
        """To be told of how many seconds a use of the store took, in whatever thread it was."""
        self.session: Session | None = None
        """This process among those that share the store, once it takes part."""
        self._opened = False

    def open(self, scheduler: Any) -> None:
        """Open the store, unless it is open. Raises StoreUnavailable."""
        if self._opened:
            return
        with self.lock, self.use():
            if not self._opened:
                self.store.start(scheduler, self.alias)
                if not self.shared:
                    keep_unrestorable(self.store)
                self._opened = True

    def close(self) -> bool:
        """Free the store's connections and tell whether it was open. A memory store keeps its jobs."""
        if not self.blocking or not (self._opened or self.shared):
            return False
        # A shared store has connections as soon as it is looked into, before it is opened or without.
        opened, self._opened = self._opened, False
        self.session = None
        self.store.shutdown()
        return opened

    @property
    def trouble(self) -> str | None:
        """Why jobs do not fire here, or cannot be read; None where all is well."""
        if self.failing is None:
            return self.error
        cause = self.failing.__cause__ if isinstance(self.failing, StoreUnavailable) else self.failing
        return f"{type(cause).__name__}: {cause}"

    def use(self) -> Use:
        """Use the store: ``with slot.use() as store``; what its driver raises comes out as StoreUnavailable."""
        return Use(self)

    def perform(self, op: Callable[[Any], T], *, write: bool = True) -> T:
        """Return `op(store)`, as one transaction where the store has any; without `write` it only reads."""
        return self.do(lambda store: store.perform(op, write=write)) if self.shared else self.do(op)

    def do(self, op: Callable[[Any], T]) -> T:
        """Return `op(store)`; what its driver raises comes out as StoreUnavailable."""
        with Use(self) as store:
            return op(store)

    def check(self, job: Job) -> None:
        """Raise InvalidDefinition, saying why and what to do, where the store cannot keep `job`."""
        if self.shared:
            state.check_id(job.id)
            state.check(job)
        elif self.blocking:
            check_storable(job, self.alias)

    def broken_reason(self, job: Job) -> str | None:
        """Return why `job` cannot fire, or None."""
        return self.broken.get(job.id) or unrestorable_reason(job) or getattr(job, "broken", None)

    def forget(self, job_id: str) -> None:
        """Drop what is known of a job that is gone."""
        self.broken.pop(job_id, None)
        self.consumed.pop(job_id, None)


class Use:
    """One use of a slot's store. A generator as context manager would cost more than a memory store's own work."""

    __slots__ = ("_begin", "_slot")

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def __enter__(self) -> BaseJobStore:
        slot = self._slot
        self._begin = time.perf_counter()
        if not slot.shared:
            slot.lock.acquire()
        return slot.store

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        slot = self._slot
        if not slot.shared:
            slot.lock.release()
        try:
            if error is None:
                slot.error = None
            elif isinstance(error, slot.failures) and not isinstance(error, _OF_JOBS):
                slot.error = f"{type(error).__name__}: {error}"
                raise StoreUnavailable(slot.alias, error) from error
        finally:
            if slot.observe is not None:
                slot.observe(slot.alias, time.perf_counter() - self._begin)


_OF_JOBS = (JobLookupError, ConflictingIdError, SchedulerError)
"""What a store raises about a job, while all is well with the store itself."""
