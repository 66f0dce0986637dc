"""Users' listeners: what was given to `add_listener` is called with APScheduler's event objects."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import Context
from functools import reduce
from operator import or_
from typing import Any

from apscheduler import events as aps

from ..model.events import Event, JobChanged, RunEnded, RunSubmitted, SchedulerChanged

log = logging.getLogger("quart_sched")

Listener = Callable[[aps.SchedulerEvent], Any]

_SUBMITTED: int = aps.EVENT_JOB_SUBMITTED
_ERROR: int = aps.EVENT_JOB_ERROR
_OF_JOBS = aps.EVENT_JOB_ADDED | aps.EVENT_JOB_REMOVED | aps.EVENT_JOB_MODIFIED
_OF_ENDS = aps.EVENT_JOB_EXECUTED | _ERROR | aps.EVENT_JOB_MISSED | aps.EVENT_JOB_MAX_INSTANCES
_OF_ITSELF = aps.EVENT_ALL & ~(_OF_JOBS | _OF_ENDS | _SUBMITTED)
_CODES: dict[type[Event], int] = {
    RunSubmitted: _SUBMITTED, RunEnded: _OF_ENDS, JobChanged: _OF_JOBS, SchedulerChanged: _OF_ITSELF,
}  # fmt: skip
"""The codes that events of a kind may have."""
_ENDS: dict[str, int] = {
    "succeeded": aps.EVENT_JOB_EXECUTED, "missed": aps.EVENT_JOB_MISSED, "skipped": aps.EVENT_JOB_MAX_INSTANCES,
    "coalesced": 0,
}  # fmt: skip
"""The codes of ends by their outcome; all others are errors."""


class Listeners:
    """Calls each listener, plain or coroutine function, with the events that it wants. A reader of the event stream."""

    def __init__(self) -> None:
        self._listeners: list[tuple[Listener, int]] = []
        self._mask = 0
        """The codes that somebody wants."""
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, callback: Listener, mask: int) -> None:
        """Call `callback` with each event whose code is in `mask`."""
        self._set([*self._listeners, (callback, mask)])

    def remove(self, callback: Listener) -> None:
        """Forget `callback`; one that was never added is no error, as in APScheduler."""
        self._set([entry for entry in self._listeners if entry[0] != callback])

    def _set(self, listeners: list[tuple[Listener, int]]) -> None:
        # In one go, as the loop may be telling of something meanwhile.
        self._listeners, self._mask = listeners, reduce(or_, (mask for _, mask in listeners), 0)

    @property
    def kinds(self) -> list[type[Event]]:
        """The kinds of events that somebody may want."""
        return [kind for kind, codes in _CODES.items() if codes & self._mask]

    def __call__(self, event: Event) -> None:
        code = code_of(event)
        if not code & self._mask:
            return
        translated = translate(event, code)
        for callback, mask in self._listeners:
            if code & mask:
                # A fresh context: an event may come out of a request, which is no business of the listener's.
                Context().run(self._call, callback, translated)

    async def drain(self, timeout: float) -> None:
        """Give coroutine listeners that are under way `timeout` seconds, then cancel them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()

    def _call(self, callback: Listener, event: aps.SchedulerEvent) -> None:
        try:
            result = callback(event)
        except KeyboardInterrupt:
            raise
        except BaseException:
            # An exit, or a cancellation that it was told of and raises again: the run that ends must end all the same.
            log.exception("Listener %r failed", callback)
            return
        if result is not None and inspect.isawaitable(result):
            try:
                task = asyncio.get_running_loop().create_task(self._await(callback, result))
            except RuntimeError:
                log.error("Listener %r is a coroutine function, but no event loop runs yet: not called", callback)
                if inspect.iscoroutine(result):
                    result.close()
                return
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _await(self, callback: Listener, result: Any) -> None:
        try:
            await result
        except (Exception, SystemExit):
            # An exit in a task would end the event loop.
            log.exception("Listener %r failed", callback)


def code_of(event: Event) -> int:
    """Return APScheduler's code for `event`; 0 where APScheduler has none."""
    if isinstance(event, RunEnded):
        return _ENDS.get(event.record.outcome, _ERROR)
    if isinstance(event, RunSubmitted):
        return _SUBMITTED
    return event.code if isinstance(event, (JobChanged, SchedulerChanged)) else 0


def translate(event: Event, code: int) -> aps.SchedulerEvent:
    """Return APScheduler's object for `event`, whose `code` is not 0."""
    if isinstance(event, RunEnded):
        record = event.record
        if code == aps.EVENT_JOB_MAX_INSTANCES:
            return aps.JobSubmissionEvent(code, record.job_id, event.jobstore, [record.scheduled_at])
        return aps.JobExecutionEvent(
            code, record.job_id, event.jobstore, record.scheduled_at, event.result, event.exception, record.traceback
        )
    if isinstance(event, RunSubmitted):
        return aps.JobSubmissionEvent(code, event.run.job.id, event.jobstore, [event.run.scheduled_at])
    if isinstance(event, JobChanged):
        return aps.JobEvent(code, event.job_id, event.jobstore)
    assert isinstance(event, SchedulerChanged)
    return aps.SchedulerEvent(code, event.alias)
