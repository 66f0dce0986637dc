"""The embedded default: jobs in memory, ordered by a heap."""

from __future__ import annotations

import heapq
from collections.abc import Generator
from datetime import datetime
from itertools import count

from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError


class MemoryStore(BaseJobStore):
    """Keeps the live job objects, for one process, over stop and start of the scheduler.

    Changing a job costs O(log n). Not thread-safe by itself: its owner holds a lock around each use.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        # The heap may hold outdated entries; the one whose number stands in _entries is the job's valid one.
        self._heap: list[tuple[float, int, str]] = []
        self._entries: dict[str, int] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._jobs)

    def due(self, now: datetime) -> Generator[Job, None, None]:
        """Yield the jobs due at `now`, earliest first, each once.

        They may be changed and removed meanwhile. Until the iterator is closed those that it has yielded and that are
        due still are not in the order of fires.
        """
        timestamp, newest, last = now.timestamp(), next(self._numbers), -1
        heap, aside = self._heap, []
        try:
            while heap:
                due, number, job_id = heap[0]
                if self._entries.get(job_id) != number:
                    heapq.heappop(heap)
                elif due > timestamp:
                    break
                elif number > newest or number == last:
                    aside.append(heapq.heappop(heap))
                else:
                    last = number
                    yield self._jobs[job_id]
        finally:
            for entry in aside:
                heapq.heappush(heap, entry)

    def peek_due(self, now: datetime) -> list[Job]:
        """Return the jobs due at `now`, in no order, and leave them there; the others are not looked at."""
        due: list[Job] = []
        timestamp = now.timestamp()
        places = [0]
        while places:
            place = places.pop()
            if place < len(self._heap) and self._heap[place][0] <= timestamp:
                _, number, job_id = self._heap[place]
                if self._entries.get(job_id) == number:
                    due.append(self._jobs[job_id])
                places += (2 * place + 1, 2 * place + 2)
        return due

    def next_due(self) -> float | None:
        """Return the time of the earliest fire as a POSIX timestamp in seconds, or None."""
        head = self._head()
        return head[0] if head else None

    def lookup_job(self, job_id: str) -> Job | None:
        """Return the job, or None."""
        return self._jobs.get(job_id)

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """Return the jobs due at `now`, earliest first."""
        return [job for job in self.get_all_jobs() if job.next_run_time is not None and job.next_run_time <= now]

    def get_next_run_time(self) -> datetime | None:
        """Return the time of the earliest fire, or None."""
        head = self._head()
        next_run_time: datetime | None = self._jobs[head[2]].next_run_time if head else None
        return next_run_time

    def get_all_jobs(self) -> list[Job]:
        """Return all jobs by time of their next fire, paused ones last."""
        due = {job_id: at for at, number, job_id in self._heap if self._entries.get(job_id) == number}
        never = float("inf")
        return sorted(self._jobs.values(), key=lambda job: due.get(job.id, never))

    def add_job(self, job: Job) -> None:
        """Add the job; raises ConflictingIdError where the id is taken."""
        if job.id in self._jobs:
            raise ConflictingIdError(job.id)
        self._jobs[job.id] = job
        self._enter(job)

    def update_job(self, job: Job) -> None:
        """Replace the job with the same id; raises JobLookupError where there is none."""
        if job.id not in self._jobs:
            raise JobLookupError(job.id)
        self._jobs[job.id] = job
        self._enter(job)

    def remove_job(self, job_id: str) -> None:
        """Remove the job; raises JobLookupError where there is none."""
        if self._jobs.pop(job_id, None) is None:
            raise JobLookupError(job_id)
        self._entries.pop(job_id, None)

    def remove_all_jobs(self) -> None:
        """Remove every job."""
        self._jobs.clear()
        self._entries.clear()
        self._heap.clear()

    def _enter(self, job: Job) -> None:
        if job.next_run_time is None:
            self._entries.pop(job.id, None)
            return
        outdated = self._entries.get(job.id)
        number = self._entries[job.id] = next(self._numbers)
        entry = (job.next_run_time.timestamp(), number, job.id)
        if self._heap and self._heap[0][1] == outdated:
            # The job that is due is moved on: its entry is replaced at once.
            heapq.heapreplace(self._heap, entry)
            return
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + 64:
            self._heap[:] = [entry for entry in self._heap if self._entries.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def _head(self) -> tuple[float, int, str] | None:
        while self._heap:
            head = self._heap[0]
            if self._entries.get(head[2]) == head[1]:
                return head
            heapq.heappop(self._heap)
        return None
