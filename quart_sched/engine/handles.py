"""Handles: runs that were started by hand, for those who wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import RunCancelled, RunFailed, RunNotFound
from ..model.events import RunEnded
from ..model.runs import STATES, Run, RunRecord
from .clock import Clock

_LOOK = 0.25
"""Seconds between looks at the history for a run that another process may have."""


class RunHandle:
    """A run that was started by hand. Await it for its record; what the job raised is raised.

    An exit, ``sys.exit()`` for example, comes out as RunFailed: it must not end the server.
    """

    repeated = False
    """Whether the run was there already, for an earlier request with the same idempotency key."""

    def __init__(self, run: Run, ended: asyncio.Future[RunEnded]) -> None:
        self.run_id = run.run_id
        self.job_id = run.job_id
        self._ended = ended

    def done(self) -> bool:
        """Tell whether the run is over, as far as is known here."""
        return self._ended.done()

    async def wait(self) -> RunRecord:
        """Return the run's record when it is over, whatever its outcome. Leaving early does not disturb the run."""
        return (await asyncio.shield(self._ended)).record

    def __await__(self) -> Any:
        return self._result().__await__()

    async def _result(self) -> RunRecord:
        ended = await asyncio.shield(self._ended)
        if ended.record.outcome == "cancelled":
            raise RunCancelled(f"Run {self.run_id} of job {self.job_id} was cancelled")
        if isinstance(ended.exception, Exception):
            raise ended.exception
        if ended.exception is not None:
            # An exit in a task would end the event loop; so would one in a sync view's thread, which goes on to one.
            reason = ": ".join(filter(None, (ended.record.error_type, ended.record.error_message)))
            raise RunFailed(self.run_id, ended.record.outcome, reason) from ended.exception
        return ended.record


class RepeatedRun(RunHandle):
    """A run that an earlier request with the same idempotency key has started, perhaps in another process."""

    repeated = True

    def __init__(
        self, run_id: str, job_id: str, find: Callable[[str], Awaitable[RunRecord | None]], clock: Clock
    ) -> None:
        """Take what finds the run's record in the history."""
        self.run_id = run_id
        self.job_id = job_id
        self._find = find
        self._clock = clock
        self._record: RunRecord | None = None

    def done(self) -> bool:
        """Tell whether the run is over, as far as is known here."""
        return self._record is not None

    async def wait(self) -> RunRecord:
        """Return the run's record when it is over, whatever its outcome. Raises RunNotFound where it is gone."""
        while self._record is None:
            record = await self._find(self.run_id)
            if record is None:
                raise RunNotFound(self.run_id)
            if record.outcome not in STATES:
                self._record = record
            else:
                await self._clock.sleep(_LOOK)
        return self._record

    async def _result(self) -> RunRecord:
        record = await self.wait()
        if record.outcome == "cancelled":
            raise RunCancelled(f"Run {self.run_id} of job {self.job_id} was cancelled")
        if record.outcome != "succeeded":
            raise RunFailed(self.run_id, record.outcome, record.error_message or record.error_type or "")
        return record
