"""The scheduler of this process's app, which does not start: its verbs work on what is in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from apscheduler.job import Job

from ..engine import deployment
from ..engine.history_ring import HistoryRing
from ..engine.pauses import ALL_PAUSED
from ..errors import JobNotFound, NotStored, RunNotFound, RunOver, SchedulerError
from ..model import overdue
from ..model.actor import current_actor
from ..model.events import RunEnded
from ..model.jobs import from_wire
from ..stores.slot import Slot
from ..web import runs
from ..web.jobs import shown
from .backends import Wire
from .messages import note

if TYPE_CHECKING:
    from ..extension import APScheduler


_RECORDS = 100_000
"""Records that are kept of what this process itself runs."""
_LOOK = 0.05
"""Seconds between looks at a run that is to be cancelled."""


class NotHere(SchedulerError):
    """What was asked for can be done by the process that serves alone."""


class Local:
    """A Backend. Jobs of a store that processes share are those that are stored; of others, what the code declares."""

    ends_runs = True

    def __init__(self, front: APScheduler) -> None:
        self._front = front
        self._aio = front.aio
        self._scheduler = front.scheduler
        self._slots = front.scheduler.catalogue.slots

    @classmethod
    @asynccontextmanager
    async def open(cls, front: APScheduler) -> AsyncIterator[Local]:
        """Open the stores for a block."""
        current_actor.set("cli")
        local = cls(front)
        try:
            for slot in local._slots.shared:
                await local._scheduler.call(partial(deployment.look_on, local._scheduler, slot))
            local._remember()
            yield local
        finally:
            await local._scheduler.close()

    async def jobs(self) -> list[Wire]:
        self._warn()
        return [self._shown(job) for job in await self._aio.get_jobs()]

    async def job(self, job_id: str) -> Wire:
        self._warn()
        return self._shown(await self._find(job_id))

    async def next_fires(self, job_id: str, count: int) -> Wire:
        self._warn()
        found = await self._aio.next_fires(job_id, count)
        paused = found.paused or await self.paused()
        return found.head() | {"paused": paused, "items": [fire.to_wire() for fire in found.items]}

    async def runs(self, job_id: str | None, outcome: str | None, limit: int) -> Wire:
        self._warn()
        if job_id is None:
            return await runs.get_runs(self._front, outcome=outcome, limit=limit)
        return await runs.page_of_job(self._front, job_id, outcome=outcome, limit=limit)

    async def record(self, run_id: str) -> Wire:
        return await runs.get_run(self._front, run_id)

    @asynccontextmanager
    async def running(self, job_id: str, arguments: Wire) -> AsyncIterator[str]:
        await self._find(job_id)
        given = from_wire(arguments)
        # What the job needs may be set up by the app's own start-up.
        async with self._front.lifespan.without_server(start=False):
            handle = await self._aio.run_job(job_id, **given)
            try:
                yield handle.run_id
            finally:
                with suppress(RunNotFound):
                    await self._end(handle.run_id)

    async def _end(self, run_id: str) -> None:
        """Cancel a run or, where it is over, the attempt that follows it. Raises RunNotFound."""
        while True:
            with suppress(RunOver):
                await self._aio.cancel_run(run_id)
                return
            record = await self.record(run_id)
            if record["final"]:
                return
            if record["attempts"][-1] == run_id:
                await asyncio.sleep(_LOOK)  # the next attempt is on its way into the store
            run_id = record["attempts"][-1]

    async def is_stranded(self, record: Wire) -> bool:
        if record["outcome"] != "retry_wait" or not self._slots.shared:
            return False
        job = await self._aio.get_job(record["job_id"])
        return (job is None or self._is_shared(job)) and await self._nobody_runs()

    @asynccontextmanager
    async def filling(self, job_id: str, request: Wire) -> AsyncIterator[Wire]:
        job = await self._find(job_id)
        start, options = request["start"], {key: value for key, value in request.items() if key != "start"}
        stored = self._is_shared(job)
        async with nullcontext() if stored else self._front.lifespan.without_server(start=False):
            if stored and not options.get("dry_run") and await self._nobody_runs():
                note("No process runs the jobs: what is to run waits in the store until one does.")
            found = await self._aio.backfill(job_id, start, **options)
            yield found.to_wire()

    async def pause(self, job_id: str) -> Wire:
        await self._check_stored(job_id)
        return self._shown(await self._aio.pause_job(job_id))

    async def resume(self, job_id: str) -> Wire:
        await self._check_stored(job_id)
        before = self._shown(await self._find(job_id))
        resumed = await self._aio.resume_job(job_id)
        return before | {"state": "ended"} if resumed is None else self._shown(resumed)

    async def remove(self, job_id: str) -> None:
        await self._check_stored(job_id)
        await self._aio.remove_job(job_id)

    async def set_paused(self, paused: bool) -> None:
        if not self._slots.shared:
            raise NotHere(_elsewhere(next(iter(self._slots.values()))))
        await self._scheduler.call(partial(self._slots.set_paused, paused))

    async def paused(self) -> bool:
        return await self._scheduler.call(self._slots.paused)

    async def explain(self, job_id: str, at: str) -> Wire:
        self._warn()
        wire: Wire = (await self._aio.explain(job_id, at)).to_wire()
        return wire

    async def health(self) -> Wire:
        if not self._slots.shared:
            raise NotHere(_elsewhere(next(iter(self._slots.values()))))
        workers = [worker for worker in await self._aio.workers() if worker.decl is not None]
        living = [worker for worker in workers if worker.age <= self._scheduler.settings.lease]
        if not living:
            return {"status": "failing", "reasons": ["No process runs the jobs"]}
        reasons = [
            f"The process {worker.worker} has not shown for {worker.age:.0f} s that it lives"
            for worker in workers
            if worker not in living
        ]
        reasons += overdue.told(await self._scheduler.call(self._slots.overdue))
        status = "degraded" if reasons else "ok"
        return {"status": status, "reasons": reasons + ([ALL_PAUSED] if await self.paused() else [])}

    # The parts of them

    def _remember(self) -> None:
        """Keep what becomes of the runs of this process, however few records the app's own history keeps."""
        ring = HistoryRing(_RECORDS, keeps=self._slots.is_own)
        self._scheduler.stream.subscribe(ring, RunEnded, first=True)
        self._scheduler.histories.sources = [*self._scheduler.histories.sources, ring]

    def _is_shared(self, job: Job) -> bool:
        """Tell whether the job is in a store that processes share."""
        return not job.pending and self._slots[job._jobstore_alias].shared

    async def _nobody_runs(self) -> bool:
        """Tell whether no process is there that runs the jobs of the stores that processes share."""
        return bool((await self.health())["status"] == "failing")

    async def _find(self, job_id: str) -> Job:
        job = await self._aio.get_job(job_id)
        if job is None:
            raise JobNotFound(job_id)
        return job

    def _shown(self, job: Job) -> Wire:
        return shown(self._front, job)

    async def _check_stored(self, job_id: str) -> None:
        """Raise NotHere or NotStored where a change of the job would be one in this process alone, or of another's."""
        job = await self._find(job_id)
        waiting = self._scheduler.catalogue.declarations.get(job_id)
        slot = self._slots[job._jobstore_alias if waiting is None else waiting.definition.jobstore]
        if not slot.shared:
            raise NotHere(_elsewhere(slot))
        if waiting is not None:
            raise NotStored(job_id)

    def _warn(self) -> None:
        """Say it where this process cannot see the jobs that run."""
        for slot in self._slots.values():
            if not slot.blocking:
                note(f"{_elsewhere(slot)} This is what the code declares.")


def _elsewhere(slot: Slot) -> str:
    where = "used by one process alone, the one" if slot.blocking else "in the memory of the process"
    return f"The jobs of the store {slot.alias!r} are {where} that serves; --url reaches it."
