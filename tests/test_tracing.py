"""Traces: one span for each run, linked to what started it."""

from __future__ import annotations

import asyncio
import builtins
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from quart_sched import APScheduler, Scheduler, current_run
from quart_sched.errors import ConfigError
from tests.conftest import eventually
from tests.stores.conftest import cluster, cluster_clock, tables
from tests.stores.peers import at

__all__ = ["cluster", "cluster_clock", "tables"]


class Spans:
    """What a provider of the test's own has got."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def runs(self) -> list[ReadableSpan]:
        return [span for span in self.all if span.name.startswith("run ")]


@pytest.fixture
def spans(monkeypatch) -> Spans:
    made = Spans()
    # The process's own provider can be set but once.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: made.provider)
    return made


TRACED = {"SCHEDULER_TRACES_ENABLED": True}


async def job() -> None:
    trace.get_current_span().set_attribute("seen", True)


def plain() -> None:
    trace.get_current_span().set_attribute("seen", current_run.run_id)


async def fails() -> None:
    raise LookupError("not there")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def fails_unspeakably() -> None:
    raise Unspeakable


def fails_unspeakably_far_away() -> None:
    raise Unspeakable


async def hangs() -> None:
    await asyncio.Event().wait()


def far_away(seconds: int) -> int:
    return seconds


@pytest.mark.parametrize("func", [job, plain])
async def test_a_run_has_a_span_in_which_its_function_runs(scheduler, app, serve, clock, spans, func):
    scheduler.add_job("nightly", func, trigger="interval", seconds=10, start_date=at(10))
    async with serve(scheduler, app, **TRACED):
        await clock.advance(seconds=10)
        [record] = await eventually(scheduler.history.records)
        await eventually(lambda: spans.runs)
    [span] = spans.runs
    name = f"{__name__}.{func.__qualname__}"
    assert span.name == f"run {name}"
    assert span.kind is SpanKind.INTERNAL
    assert span.parent is None
    assert span.links == ()
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope.name == "quart_sched"
    attributes = dict(span.attributes)
    assert attributes.pop("seen") in (True, record.run_id)
    assert attributes == {
        "code.function.name": name,
        "quart_sched.job.id": "nightly",
        "quart_sched.run.id": record.run_id,
        "quart_sched.fire.id": record.fire_id,
        "quart_sched.run.attempt": 1,
        "quart_sched.run.cause": "schedule",
        "quart_sched.run.scheduled_at": "2026-03-02T12:00:10+00:00",
        "quart_sched.run.outcome": "succeeded",
        "quart_sched.worker": scheduler.scheduler.runner.worker,
    }


async def test_a_failure_is_recorded_with_its_exception(scheduler, app, serve, clock, spans):
    scheduler.add_job("job", fails, trigger="date", run_date=at(10), retry={"attempts": 2, "delay": 5})
    async with serve(scheduler, app, **TRACED):
        await clock.advance(seconds=20)
    first, second = spans.runs
    assert [span.attributes["quart_sched.run.attempt"] for span in spans.runs] == [1, 2]
    assert first.attributes["quart_sched.fire.id"] == second.attributes["quart_sched.fire.id"]
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description == "LookupError: not there"
    assert first.attributes["error.type"] == "LookupError"
    assert first.attributes["quart_sched.run.outcome"] == "failed"
    [event] = first.events
    assert event.name == "exception"
    assert event.attributes["exception.message"] == "not there"


@pytest.mark.parametrize(
    ("func", "executor"),
    [(fails_unspeakably, "default"), pytest.param(fails_unspeakably_far_away, "pool", marks=pytest.mark.integration)],
)
async def test_an_error_without_a_text_stays_what_the_job_raised(app, serve, spans, func, executor):
    scheduler = APScheduler(Scheduler())
    scheduler.add_job("job", func, trigger="interval", hours=1, executor=executor, misfire_grace_time=None)
    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"pool": {"type": "processpool"}}, **TRACED):
        record = await (await scheduler.aio.run_job("job")).wait()
    assert (record.outcome, record.error_type) == ("failed", "Unspeakable")
    [span] = spans.runs
    assert span.status.description == "Unspeakable: its __str__ raised RuntimeError"
    assert span.attributes["error.type"] == f"{__name__}.Unspeakable"
    [event] = span.events
    assert (event.name, event.attributes["exception.type"]) == ("exception", f"{__name__}.Unspeakable")
    assert event.attributes["exception.message"] == "its __str__ raised RuntimeError"


async def test_a_timeout_is_an_error_and_a_cancelled_run_is_none(scheduler, app, serve, clock, spans):
    scheduler.add_job("slow", hangs, trigger="date", run_date=at(10), timeout=5)
    scheduler.add_job("unwanted", hangs, trigger="date", run_date=at(20))
    async with serve(scheduler, app, **TRACED):
        await clock.advance(seconds=20)
        [run] = scheduler.scheduler.runner.under_way.runs()
        await scheduler.aio.cancel_run(run.run_id)
        await eventually(lambda: len(spans.runs) == 2)
    slow, unwanted = spans.runs
    assert (slow.status.status_code, slow.attributes["quart_sched.run.outcome"]) == (StatusCode.ERROR, "timed_out")
    assert slow.attributes["error.type"] == "quart_sched.errors.RunTimedOut"
    assert unwanted.status.status_code is StatusCode.UNSET
    assert unwanted.attributes["quart_sched.run.outcome"] == "cancelled"


async def test_a_run_by_hand_is_linked_to_the_request_and_is_no_part_of_its_trace(scheduler, app, serve, spans):
    scheduler.add_job("job", job, trigger="interval", hours=1)

    @app.post("/go")
    async def go() -> str:
        with spans.tracer.start_as_current_span("POST /go"):
            await (await scheduler.aio.run_job("job"))
        return ""

    async with serve(scheduler, app, **TRACED) as client:
        assert (await client.post("/go")).status_code == 200
    run, request = spans.all
    assert [link.context for link in run.links] == [request.context]
    assert run.context.trace_id != request.context.trace_id
    assert run.attributes["quart_sched.run.cause"] == "manual"


async def test_a_run_that_a_thread_asks_for_is_linked_too(scheduler, app, serve, spans):
    scheduler.add_job("job", job, trigger="interval", hours=1)

    def asks() -> None:
        with spans.tracer.start_as_current_span("thread"):
            scheduler.run_job("job")

    async with serve(scheduler, app, **TRACED):
        await asyncio.to_thread(asks)
    run, request = spans.all
    assert [link.context for link in run.links] == [request.context]


async def test_the_first_run_of_a_job_is_linked_to_the_request_that_added_it(scheduler, app, serve, clock, spans):
    async with serve(scheduler, app, **TRACED):
        with spans.tracer.start_as_current_span("request") as request:
            await scheduler.aio.add_job("job", job, trigger="interval", seconds=10)
        await clock.advance(seconds=20)
    assert [[link.context for link in run.links] for run in spans.runs] == [[request.get_span_context()], []]


async def test_in_a_cluster_too_runs_are_linked_to_what_started_them(cluster, spans):
    process = await cluster.start(**TRACED)
    with spans.tracer.start_as_current_span("adds") as adds:
        await process.aio.add_job("job", job, trigger="interval", seconds=10)
    with spans.tracer.start_as_current_span("runs") as runs:
        await process.aio.add_job("other", job, trigger="interval", hours=1)
        await (await process.aio.run_job("other"))
    await cluster.advance(11)
    found = {span.attributes["quart_sched.job.id"]: [link.context for link in span.links] for span in spans.runs}
    assert found == {"job": [adds.get_span_context()], "other": [runs.get_span_context()]}


@pytest.mark.integration
async def test_a_run_in_a_process_pool_has_a_span_when_it_is_over(app, serve, spans):
    scheduler = APScheduler(Scheduler())
    options = {"trigger": "interval", "hours": 1, "misfire_grace_time": None}
    scheduler.add_job("job", far_away, args=(3,), executor="pool", **options)
    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"pool": {"type": "processpool"}}, **TRACED):
        record = await (await scheduler.aio.run_job("job"))
    [span] = spans.runs
    assert span.attributes["quart_sched.run.outcome"] == "succeeded"
    assert span.attributes["code.function.name"] == f"{__name__}.far_away"
    assert span.start_time == int(record.started_at.timestamp() * 1e6) * 1000
    assert span.end_time >= span.start_time


async def test_without_the_setting_there_are_no_spans(scheduler, app, serve, clock, spans):
    scheduler.add_job("job", job, trigger="date", run_date=at(10))
    async with serve(scheduler, app):
        await clock.advance(seconds=10)
    assert spans.all == []


def test_a_missing_library_is_named_with_its_extra(scheduler, app, monkeypatch):
    original = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *args, **options)

    monkeypatch.delitem(sys.modules, "quart_sched.tracing", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    app.config |= TRACED
    with pytest.raises(ConfigError, match=r"SCHEDULER_TRACES_ENABLED is True.*pip install 'quart-sched\[otel\]'"):
        scheduler.init_app(app)
    assert scheduler.app is None
