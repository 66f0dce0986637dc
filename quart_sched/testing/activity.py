"""What is going on in the schedulers of a block: whether anything has to end before virtual time may move."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from types import CodeType
from typing import Any
from weakref import WeakSet

from ..engine.executors import ForeignExecutor
from ..engine.scheduler import Scheduler
from ..errors import SchedulerError
from .loop import VirtualEventLoop
from .waits import Wait, awaited, codes, is_awaited, is_ours, look, place, waiter

_DRAINS = {"Scheduler._drain", "Scheduler.close", "ClusterPump.close", "HistoryWriter.close"}
_HANDLES = {"RunHandle.wait", "RunHandle._result"}
_ADVANCE = "VirtualClock._go_on"
_IN_THREAD = "Performer._in_thread"


class VirtualTimeError(SchedulerError):
    """Virtual time was used wrongly, or cannot go on; the message says why, and what to do."""


class Activity:
    """Looks at tasks and threads. `blocked` has the run of each thread that waits for virtual time."""

    def __init__(self, schedulers: list[Scheduler], loop: asyncio.AbstractEventLoop, blocked: Sequence[str]) -> None:
        self._schedulers = schedulers
        self._loop = loop
        self._blocked = blocked
        self._judged: dict[asyncio.Task[Any], tuple[asyncio.Future[Any], Wait]] = {}
        self._before: WeakSet[asyncio.Task[Any]] = WeakSet(asyncio.all_tasks(loop))

    def busy(self) -> str:
        """Say what has to end before time may move on: "" where there is nothing."""
        return self._busy_executor() or self._busy_task()

    def runnable(self) -> bool:
        """Tell whether a task of the schedulers is about to go on."""
        me = asyncio.current_task()
        tasks = asyncio.all_tasks(self._loop)
        return any(waiter(task) is None and task is not me and self._counts(task, codes(task)) for task in tasks)

    def draining(self) -> bool:
        """Tell whether a scheduler is being shut down."""
        if all(scheduler.running for scheduler in self._schedulers):
            return False
        tasks = asyncio.all_tasks(self._loop)
        return any(code.co_qualname in _DRAINS and is_ours(code) for task in tasks for code in codes(task))

    def complain(self) -> None:
        """Raise VirtualTimeError in the tasks that wait for time to move, where nothing else is left to move it."""
        others: list[tuple[asyncio.Task[Any], Wait, bool]] = []
        for task in asyncio.all_tasks(self._loop):
            chain = codes(task)
            for_run = any(code.co_qualname in _HANDLES and is_ours(code) for code in chain)
            if for_run or not self._counts(task, chain[:1]):
                others.append((task, self._look(task, chain), for_run))
        if any(wait in (Wait.WORLD, Wait.NOTHING) for _, wait, _ in others) or self.busy():
            return
        hint = "virtual time stands still unless it is moved: await clock.advance(...)"
        for task, wait, for_run in others:
            future = waiter(task)
            if wait is Wait.TIME and future is not None:
                future.set_exception(VirtualTimeError(f"{place(task)} waits for time to pass, but {hint}"))
            elif for_run:
                task.cancel(f"{place(task)} waits for a run that waits for time to pass, but {hint}")

    def _busy_executor(self) -> str:
        """Look at what runs elsewhere than on the loop."""
        taken: Counter[Any] = Counter()
        queued: dict[Any, str] = {}
        for scheduler in self._schedulers:
            for batch in scheduler.runner.under_way.all():
                if isinstance(batch.executor, ForeignExecutor):
                    return f"job {batch.job.id!r} in its executor"
                if (call := batch.call) is None or call.ended:
                    continue
                if call._ticket:
                    queued[batch.threads] = batch.job.id
                    continue
                taken[batch.threads] += 1
                if batch.current.run_id not in self._blocked:
                    return f"job {batch.job.id!r} in its thread"
        # What is queued behind threads that wait for virtual time waits for it too.
        free = [job_id for threads, job_id in queued.items() if taken[threads] < threads.limit]
        return f"job {free[0]!r}, which gets a thread" if free else ""

    def _busy_task(self) -> str:
        judged: dict[asyncio.Task[Any], tuple[asyncio.Future[Any], Wait]] = {}
        found: dict[str | None, list[asyncio.Task[Any]]] = {}
        for task in asyncio.all_tasks(self._loop):
            if (future := waiter(task)) is None:
                continue
            # What a task waits for does not change as long as it waits, but that a part of it may have come.
            before = self._judged.get(task)
            known = before is not None and before[0] is future and before[1] is not Wait.WORLD
            wait = before[1] if before is not None and known else self._look(task, codes(task))
            judged[task] = (future, wait)
            if wait is Wait.WORLD and self._counts(task, codes(task)):
                found.setdefault(self._run_of(task), []).append(task)
        self._judged = judged
        # Those that ask a thread which waits for virtual time wait for it too.
        busy = (tasks[0] for run_id, tasks in found.items() if len(tasks) > self._blocked.count(run_id))
        return next(map(place, busy), "")

    def _look(self, task: asyncio.Task[Any], chain: list[CodeType]) -> Wait:
        if chain and is_ours(chain[-1]) and chain[-1].co_qualname in (_ADVANCE, _IN_THREAD):
            return Wait.TASKS  # The threads are looked at by themselves.
        virtual = isinstance(self._loop, VirtualEventLoop)
        files = isinstance(self._loop, VirtualEventLoop) and task in self._loop.watch.owners.values()
        return look(task, chain, files=files, virtual_sleep=virtual)

    def _counts(self, task: asyncio.Task[Any], chain: list[CodeType]) -> bool:
        """Tell whether time stands still for what the task does: a scheduler, a verb, or a job and its children."""
        return any(is_ours(code) for code in (chain[:1] + chain[-1:])) or self._is_child(task)

    def _is_child(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether a job waits for the task, or for a signal that may be its.

        What a job has left behind in the background is not waited for.
        """
        if not isinstance(self._loop, VirtualEventLoop):
            return task not in self._before and is_awaited(task)
        creators, child = self._loop.creators, False
        while task in creators:
            creator = creators[task]
            if creator is None:
                return is_awaited(task)
            if creator.done() or not (is_awaited(task) or self._awaits_signal(creator)):
                return False
            task, child = creator, True
        return child

    def _awaits_signal(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether the task waits, directly or through others, for what any of its children may have to give."""
        seen, ahead = set(), [task]
        while ahead:
            if (one := ahead.pop()) not in seen:
                seen.add(one)
                chain = codes(one)
                if self._look(one, chain) is Wait.SIGNAL:
                    return True
                ahead += [other for other in awaited(one, chain) if isinstance(other, asyncio.Task)]
        return False

    def _run_of(self, task: asyncio.Task[Any]) -> str | None:
        """Return the run in which the task was begun, where it is a coroutine's that is under way."""
        creators = self._loop.creators if isinstance(self._loop, VirtualEventLoop) else {}
        while (creator := creators.get(task)) is not None:
            task = creator
        batches = (batch for scheduler in self._schedulers for batch in scheduler.runner.under_way.all())
        return next((batch.current.run_id for batch in batches if batch.task is task), None)
