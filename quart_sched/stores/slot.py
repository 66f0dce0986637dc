"""A job store in use: opened when first needed, with what this process knows of its jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError

from ..errors import SchedulerError, StoreUnavailable
from .adapter import keep_unrestorable, unrestorable_reason
from .memory import MemoryStore


class Slot:
    """One store under its alias.

    A memory store is used under `lock`, from any thread; a blocking one (`blocking`) in the store thread alone.
    """

    def __init__(self, alias: str, store: BaseJobStore) -> None:
        self.alias = alias
        self.store = store
        self.blocking = not isinstance(store, MemoryStore)
        self.lock = threading.RLock()
        self.broken: dict[str, str] = {}
        """Why jobs are broken, by id."""
        self.consumed: dict[str, datetime] = {}
        """The last fire of each job that was claimed here."""
        self.error: str | None = None
        """Why the store is not available; None when its last use went well."""
        self._opened = False

    def open(self, scheduler: Any) -> None:
        """Open the store, unless it is open. Raises StoreUnavailable."""
        if not self._opened:
            with self.use():
                self.store.start(scheduler, self.alias)
                keep_unrestorable(self.store)
                self._opened = True

    def close(self) -> bool:
        """Free the store's connections and tell whether there were any. A memory store keeps its jobs."""
        if not (self._opened and self.blocking):
            return False
        self._opened = False
        self.store.shutdown()
        return True

    @contextmanager
    def use(self) -> Iterator[BaseJobStore]:
        """Use the store; what its driver raises comes out as StoreUnavailable."""
        try:
            with self.lock:
                yield self.store
        except (JobLookupError, ConflictingIdError, SchedulerError):
            raise
        except Exception as error:
            # Each store has a driver of its own, with errors of its own.
            self.error = f"{type(error).__name__}: {error}"
            raise StoreUnavailable(self.alias, error) from error
        else:
            self.error = None

    def broken_reason(self, job: Job) -> str | None:
        """Return why `job` cannot fire, or None."""
        return self.broken.get(job.id) or unrestorable_reason(job)

    def forget(self, job_id: str) -> None:
        """Drop what is known of a job that is gone."""
        self.broken.pop(job_id, None)
        self.consumed.pop(job_id, None)
