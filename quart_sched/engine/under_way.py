"""What is under way in this process: the batches of each job, and whether there is room for more."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from apscheduler.job import Job

from ..model.runs import Run
from .batches import Batch
from .performer import run_in


class UnderWay:
    """The batches that hold an instance of their job. It changes on the loop; what it holds may be read elsewhere."""

    def __init__(self) -> None:
        self.limit = 1000
        """Runs that this process takes at once."""
        self._batches: defaultdict[str | None, dict[str, list[Batch]]] = defaultdict(dict)
        """By store and job: an id tells jobs apart within their store alone."""
        self._count = 0
        self._wanting_room: set[asyncio.Event] = set()

    def enter(self, batch: Batch) -> None:
        """Let the batch hold an instance of its job."""
        jobs = self._batches[batch.jobstore]
        if (batches := jobs.get(batch.job.id)) is None:
            jobs[batch.job.id] = [batch]
        else:
            batches.append(batch)
        self._count += 1

    def leave(self, batch: Batch) -> None:
        """Free the batch's place."""
        jobs = self._batches[batch.jobstore]
        batches = jobs[batch.job.id]
        batches.remove(batch)
        if not batches:
            del jobs[batch.job.id]
        self._count -= 1
        for wake in self._wanting_room:
            wake.set()

    def of_job(self, job: Job) -> Sequence[Batch]:
        """Return the batches of a job, the oldest first, as they are from now on."""
        return self._batches[job._jobstore_alias].get(job.id, ())

    def of(self, job_id: str) -> list[Batch]:
        """Return the batches of the jobs that have this id, in whichever stores; safe from any thread."""
        return [batch for jobs in list(self._batches.values()) for batch in list(jobs.get(job_id, ()))]

    def all(self) -> list[Batch]:
        """Return every batch there is now; safe from any thread."""
        # Copies: it may change meanwhile.
        stores = list(self._batches.values())
        return [batch for jobs in stores for batches in list(jobs.values()) for batch in list(batches)]

    def runs(self, job_id: str | None = None) -> list[Run]:
        """Return the current runs, of all jobs or of those that have this id; safe from any thread."""
        return [batch.current for batch in (self.all() if job_id is None else self.of(job_id))]

    def job_of(self, task: asyncio.Task[Any]) -> str | None:
        """Return the id of the job at which a task is, be it one that the job started; safe from any thread."""
        for batch in self.all():
            if batch.task is task:
                return str(batch.job.id)
        if sys.version_info < (3, 12):
            return None  # There is no way to the context of a task.
        run = run_in(task.get_context())
        return None if run is None else run.job_id

    # Room

    @property
    def room(self) -> int:
        """How many more there may be."""
        return max(0, self.limit - self._count)

    async def wait_for_room(self, wake: asyncio.Event) -> None:
        """Return when there is room, or when `wake` is set."""
        wake.clear()
        self._wanting_room.add(wake)
        try:
            if self.room == 0:
                await wake.wait()
        finally:
            self._wanting_room.discard(wake)
