"""Traces for OpenTelemetry: one span for each run, linked to the request that started it.

Imported where SCHEDULER_TRACES_ENABLED asks for it, since it needs opentelemetry-api. Spans go to the tracer provider
that the app has set.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from .engine.executors import ForeignExecutor
from .errors import RunTimedOut
from .model.events import Event, RunEnded, RunSubmitted
from .model.functions import describe
from .model.instants import micros
from .model.runs import Run, RunRecord

if TYPE_CHECKING:
    from .engine.scheduler import Scheduler

_MOST_ORIGINS = 1000
"""Jobs that requests have added and that have not run yet, of which the requests are remembered."""


class Tracing:
    """Makes the spans of one scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._tracer = trace.get_tracer("quart_sched", version("quart-sched"))
        self._origins: OrderedDict[str, SpanContext] = OrderedDict()
        self._elsewhere: dict[str, Run] = {}
        """Runs that another process performs, as that of a pool, where no span of ours can be."""

    def origin(self) -> SpanContext | None:
        """Return the span that the caller is in, a request's for example."""
        context = trace.get_current_span().get_span_context()
        return context if context.is_valid else None

    def note_added(self, job_id: str) -> None:
        """Take note that the caller has added this job: its first run here is linked to the caller's span."""
        if (origin := self.origin()) is not None:
            self._origins[job_id] = origin
            if len(self._origins) > _MOST_ORIGINS:
                self._origins.popitem(last=False)

    @contextmanager
    def span(self, run: Run) -> Iterator[None]:
        """Perform a run within a span of its own."""
        name, attributes, links = self._describe(run)
        with self._tracer.start_as_current_span(
            name, kind=SpanKind.INTERNAL, attributes=attributes, links=links, record_exception=False,
            set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                yield
            except BaseException as error:
                _note_error(span, error)
                raise
            span.set_attribute("quart_sched.run.outcome", "cancelled" if run.cancelled else "succeeded")

    KINDS = (RunSubmitted, RunEnded)
    """What it is to be told of."""

    def __call__(self, event: Event) -> None:
        """Make the spans of runs that foreign executors perform, when they are over."""
        match event:
            case RunSubmitted(run, _):
                if isinstance(self._scheduler.runner.executors.get(run.job.executor), ForeignExecutor):
                    self._elsewhere[run.run_id] = run
            case RunEnded(record, _, _, exception) if record.run_id in self._elsewhere:
                self._make_up(self._elsewhere.pop(record.run_id), record, exception)

    def _make_up(self, run: Run, record: RunRecord, error: BaseException | None) -> None:
        name, attributes, links = self._describe(run)
        start = _nanos(record.started_at or record.scheduled_at)
        span = self._tracer.start_span(
            name, kind=SpanKind.INTERNAL, attributes=attributes, links=links, start_time=start
        )
        if error is not None:
            _note_error(span, error)
        span.set_attribute("quart_sched.run.outcome", record.outcome)
        span.end(None if record.finished_at is None else _nanos(record.finished_at))

    def _describe(self, run: Run) -> tuple[str, dict[str, Any], list[Link]]:
        job = run.job
        # The name of a span is one of few: job ids may be made up by the thousand.
        function = job.func_ref.replace(":", ".") if job.func_ref else describe(job.func)
        attributes: dict[str, Any] = {
            "code.function.name": function,
            "quart_sched.job.id": run.job_id,
            "quart_sched.run.id": run.run_id,
            "quart_sched.fire.id": run.fire_id,
            "quart_sched.run.attempt": run.attempt,
            "quart_sched.run.cause": run.cause,
            "quart_sched.run.scheduled_at": run.scheduled_at.isoformat(),
            "quart_sched.worker": self._scheduler.runner.worker,
        }
        origin = run.origin or self._origins.pop(run.job_id, None)
        return f"run {function}", attributes, [] if origin is None else [Link(origin)]


def _note_error(span: Span, error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        # Somebody wanted it: no error of the job's.
        span.set_attribute("quart_sched.run.outcome", "cancelled")
        return
    span.set_attribute("quart_sched.run.outcome", "timed_out" if isinstance(error, RunTimedOut) else "failed")
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    span.set_attribute("error.type", kind)
    try:
        message = str(error)
    except Exception as failure:
        # The class is the user's own, and what the job raised has to come through all the same.
        message = f"its __str__ raised {type(failure).__name__}"
        span.add_event("exception", {"exception.type": kind, "exception.message": message})
    else:
        span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {message}"))


def _nanos(at: datetime) -> int:
    return micros(at) * 1000
