"""Batches: claimed fires of one job on their way through the runner."""

from __future__ import annotations

import asyncio
import inspect

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job

from ..model.events import RunEnded
from ..model.runs import Run
from .executors import ForeignExecutor, JobExecutor
from .thread_calls import ThreadCall
from .threads import WorkerThreads


class Batch:
    """Fires of one job that run one after the other and hold one of its instance slots."""

    # Most of them never have anything else than these.
    disowned = False
    """Whether the others have declared this process dead, and have taken it over."""
    stopped = False
    """Whether the run under way was asked to stop, other than by its timeout."""
    why: str | None = None
    """Why the run under way was cancelled, where somebody wanted that."""
    given_up = False
    """Whether it is to end with the run under way."""
    last = False
    """Whether no retry is to follow it."""
    task: asyncio.Task[None] | None = None
    call: ThreadCall | None = None
    done = False
    ended = False
    """Whether the current run is on record; its function may be busy still."""
    waiter: asyncio.Future[RunEnded] | None = None

    def __init__(
        self,
        job: Job,
        runs: list[Run],
        executor: BaseExecutor | ForeignExecutor,
        generation: int,
        *,
        claimed: bool = False,
    ) -> None:
        """Take the fires in `runs`, oldest first.

        `claimed` tells that a shared store has them on its books, counts their instance, and takes back what was not
        begun.
        """
        self.job = job
        self.jobstore: str | None = job._jobstore_alias
        self.executor = executor
        self.generation = generation
        self.claimed = claimed
        self.runs = runs
        self.current = runs[0]

    def begin_next(self) -> Run:
        """Make the next of the fires the current one."""
        run = self.current = self.runs.pop(0)
        if self.ended:
            self.ended, self.stopped, self.why, self.task = False, False, None, None
        return run

    @property
    def has_unbegun_task(self) -> bool:
        """Whether its task has been made, and has not had its first step."""
        coroutine = None if self.task is None else self.task.get_coro()
        return inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED

    @property
    def threads(self) -> WorkerThreads:
        """Where its function is called, if it is a plain one."""
        assert isinstance(self.executor, JobExecutor)
        return self.executor.threads
