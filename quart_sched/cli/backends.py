"""Where the commands find the scheduler: in this process, or behind the REST API of one that serves."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

Wire = dict[str, Any]
"""JSON as the REST API shows it."""


class Backend(Protocol):
    """The verbs. What they return is the same JSON whichever way it came. They raise SchedulerError."""

    ends_runs: bool
    """Whether a run ends with this process."""

    async def jobs(self) -> list[Wire]:
        """Return all jobs."""

    async def job(self, job_id: str) -> Wire:
        """Return a job."""

    async def next_fires(self, job_id: str, count: int) -> Wire:
        """Return a job's next fires."""

    async def runs(self, job_id: str | None, outcome: str | None, limit: int) -> Wire:
        """Return what runs and has run, newest first."""

    async def record(self, run_id: str) -> Wire:
        """Return a run with what it put out. Raises RunNotFound where it is not on record."""

    def running(self, job_id: str, arguments: Wire) -> AbstractAsyncContextManager[str]:
        """Run a job now: yields the run's id. A run in this process is cancelled when the block is left before.

        So is a retry, whichever process is to make it. `arguments` may have `args` and `kwargs`, as JSON, which take
        the place of the job's own.
        """

    async def is_stranded(self, record: Wire) -> bool:
        """Tell whether it is a retry that others are to make, while no process is there that does."""

    def filling(self, job_id: str, request: Wire) -> AbstractAsyncContextManager[Wire]:
        """Run past fires: yields them. Those that run in this process end with the block.

        `request` has `start` and may have `end`, `dry_run`, `concurrency` and `rerun`.
        """

    async def pause(self, job_id: str) -> Wire:
        """Pause a job."""

    async def resume(self, job_id: str) -> Wire:
        """Resume a job."""

    async def remove(self, job_id: str) -> None:
        """Remove a job."""

    async def set_paused(self, paused: bool) -> None:
        """Pause or resume all of it."""

    async def paused(self) -> bool:
        """Tell whether all of it is paused."""

    async def explain(self, job_id: str, at: str) -> Wire:
        """Say what happened to the job's fire at a moment, in ISO 8601: `verdict`, `description` and details."""

    async def health(self) -> Wire:
        """Return the `status` (ok, degraded or failing), and the `reasons` where they may be known."""
