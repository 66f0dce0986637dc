"""The runs that a shared store knows as a process's own."""

from __future__ import annotations

from typing import Any

from quart_sched.engine.own_runs import OwnRuns
from quart_sched.model.events import RunEnded, RunLeft
from quart_sched.model.runs import RunRecord
from tests.conftest import START


def ended(run_id: str, **details: Any) -> RunEnded:
    return RunEnded(RunRecord(run_id, run_id, "job", START, "timed_out", "schedule", "host:1", **details), "default")


def test_an_end_frees_its_instance_unless_the_function_is_still_in_its_thread():
    own = OwnRuns("default")
    own.held |= {"a", "b", "c"}
    for event in (ended("a"), ended("b", busy=True), ended("c")):
        own.hear(event)
    assert [record.run_id for record in own.freed()] == ["a", "c"]
    assert [record.run_id for record in own.freed(1)] == ["c"]
    own.hear(RunLeft("b", "default"))
    assert [record.run_id for record in own.freed()] == ["a", "b", "c"]
