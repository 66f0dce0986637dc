"""The outbox: what is to be told of what happened here."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from apscheduler import events as aps

from quart_sched.engine.logs import RunLog
from quart_sched.engine.outbox import LIMIT, Outbox
from quart_sched.model.events import (
    JobChanged,
    RunEnded,
    RunLeft,
    RunReturned,
    RunSubmitted,
    RunWaits,
    SchedulerChanged,
)
from quart_sched.model.runs import Run, RunRecord, standing, to_wire
from tests.conftest import START


class Books:
    """What a runner says of itself."""

    worker = "host:1"

    def __init__(self) -> None:
        self.running: list[Run] = []
        self.under_way = SimpleNamespace(runs=lambda: self.running)


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def outbox(books) -> Outbox:
    return Outbox(books)


def run(job_id: str = "job") -> Run:
    job: Any = SimpleNamespace(id=job_id)
    return Run(job, START, "schedule")


def ended(one: Run, outcome: Any = "succeeded", **details: Any) -> RunEnded:
    record = RunRecord(
        one.run_id, one.fire_id, one.job_id, START, outcome, "schedule", "host:1", started_at=START, finished_at=START,
        **details,
    )  # fmt: skip
    return RunEnded(record, "default")


def told(outbox: Outbox) -> list[Any]:
    return [(news.kind, news.data) for news in outbox.take()]


def write(log: RunLog, *lines: str) -> None:
    for line in lines:
        log.append(logging.LogRecord("jobs", logging.INFO, "", 0, line, None, None))


def texts(outbox: Outbox) -> list[tuple[int, list[str]]]:
    logs = [news.data for news in outbox.take() if news.kind == "log"]
    return [(data["line"], [line.rpartition(" ")[2] for line in data["lines"]]) for data in logs]


def test_a_run_is_told_as_the_api_shows_it(outbox):
    one = run()
    outbox.hear(RunSubmitted(one, "default"))
    assert told(outbox) == [("run", to_wire(standing(one, "queued", "host:1")))]
    outbox.hear(RunSubmitted(one, "default"))
    one.started_at = START
    assert told(outbox) == [("run", to_wire(standing(one, "running", "host:1")))]
    end = ended(one)
    outbox.hear(end)
    assert told(outbox) == [("run", to_wire(end.record))]
    assert not outbox


def test_of_a_run_that_is_over_only_the_end_is_told(outbox):
    one, other = run(), run("other")
    outbox.hear(RunSubmitted(one, "default"))
    outbox.hear(RunSubmitted(other, "default"))
    outbox.hear(ended(one))
    assert [(data["job_id"], data["outcome"]) for _, data in told(outbox)] == [
        ("other", "queued"), ("job", "succeeded"),
    ]  # fmt: skip


def test_a_run_that_is_given_back_waits_again(outbox):
    one = run()
    one.started_at = START
    outbox.hear(RunSubmitted(one, "default"))
    outbox.hear(RunReturned(one, "default"))
    [(_, data)] = told(outbox)
    assert (data["outcome"], data["started_at"], data["worker"]) == ("queued", None, "")


def test_a_run_that_waits_is_told(outbox):
    record = standing(run(), "retry_wait", "")
    outbox.hear(RunWaits(record, "default"))
    assert told(outbox) == [("run", to_wire(record))]


def test_the_end_of_a_run_that_is_not_on_record_yet_is_kept_back(outbox):
    one, other = run(), run("other")
    outbox.hear(ended(one))
    outbox.hear(ended(other))
    assert [news.data["job_id"] for news in outbox.take(lambda run_id: run_id == one.run_id)] == ["other"]
    assert outbox
    assert [data["job_id"] for _, data in told(outbox)] == ["job"]


def test_of_a_job_the_last_change_is_told(outbox):
    outbox.hear(JobChanged(aps.EVENT_JOB_ADDED, "job", "default"))
    outbox.hear(JobChanged(aps.EVENT_JOB_MODIFIED, "job", "default", "paused"))
    outbox.hear(JobChanged(aps.EVENT_JOB_REMOVED, "other", "default"))
    assert told(outbox) == [
        ("job", {"action": "paused", "job_id": "job"}), ("job", {"action": "removed", "job_id": "other"}),
    ]  # fmt: skip


def test_changes_of_the_scheduler_are_told_with_the_process(outbox):
    for code in (aps.EVENT_SCHEDULER_PAUSED, aps.EVENT_SCHEDULER_RESUMED, aps.EVENT_EXECUTOR_ADDED):
        outbox.hear(SchedulerChanged(code))
    outbox.hear(RunLeft("a", "default"))
    assert told(outbox) == [
        ("scheduler", {"action": "paused", "worker": "host:1"}),
        ("scheduler", {"action": "resumed", "worker": "host:1"}),
    ]


def test_more_than_it_holds_becomes_a_reset(outbox):
    for _ in range(LIMIT):
        outbox.hear(ended(run()))
    assert len(told(outbox)) == LIMIT
    for _ in range(3 * LIMIT):
        outbox.hear(ended(run()))
    assert told(outbox) == [("reset", {})]
    outbox.hear(ended(run()))
    assert [kind for kind, _ in told(outbox)] == ["run"]


def test_what_is_lost_is_a_reset_and_what_is_cleared_is_nothing(outbox):
    outbox.hear(ended(run()))
    outbox.lose()
    assert told(outbox) == [("reset", {})]
    outbox.lose()
    outbox.clear()
    assert not outbox
    assert told(outbox) == []


def test_a_log_is_told_from_its_first_line_once_for_each_asking(outbox, books):
    one = run()
    one.log = RunLog(1000, logging.INFO)
    books.running = [one]
    write(one.log, "a", "b")
    assert texts(outbox) == []
    outbox.follow({one.run_id: 1})
    assert texts(outbox) == [(0, ["a", "b"])]
    write(one.log, "c")
    outbox.follow({one.run_id: 1})
    assert texts(outbox) == [(2, ["c"])]
    assert texts(outbox) == []
    outbox.follow({one.run_id: 2})
    assert texts(outbox) == [(0, ["a", "b", "c"])]
    outbox.follow({})
    write(one.log, "d")
    assert texts(outbox) == []


def test_the_last_lines_of_a_log_come_before_the_end_of_its_run(outbox):
    one = run()
    outbox.follow({one.run_id: 1})
    outbox.hear(RunSubmitted(one, "default"))
    one.log = RunLog(1000, logging.INFO)
    write(one.log, "a")
    assert texts(outbox) == [(0, ["a"])]
    write(one.log, "b")
    outbox.hear(ended(one, log=one.log.text()))
    one.log.close()
    news = outbox.take()
    assert [item.kind for item in news] == ["log", "run"]
    assert news[0].data["line"] == 1
    assert not outbox


def test_the_log_of_a_run_that_was_over_before_it_was_found_is_told(outbox):
    one = run()
    outbox.follow({one.run_id: 1})
    outbox.hear(ended(one, log="a\nb"))
    assert texts(outbox) == [(0, ["a", "b"])]


def test_a_log_that_is_full_says_so_once(outbox, books):
    one = run()
    one.log = RunLog(300, logging.INFO)
    books.running = [one]
    outbox.follow({one.run_id: 1})
    found: list[str] = []
    for number in range(20):
        write(one.log, f"line{number}")
        found += [line for news in outbox.take() for line in news.data["lines"]]
    assert len([line for line in found if line.startswith("[the log is full")]) <= 1
    assert len(found) < 8
