"""`quart scheduler worker`: real processes and real signals."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.programs import Folder, until

pytestmark = pytest.mark.integration


def runs(folder: Folder, *args: str) -> list[dict[str, Any]]:
    status, out, err = folder.quart("runs", "--json", *args)
    assert status == 0, err
    items: list[dict[str, Any]] = json.loads(out)["items"]
    return items


def start_long(folder: Folder) -> None:
    """Make the long job due once the worker has brought it in, and wait until it has begun."""
    until(lambda: make_due(folder.path / "jobs.db", "long"))
    until(lambda: folder.notes("begin"))


def make_due(file: Path, job_id: str) -> bool:
    try:
        with closing(sqlite3.connect(file, timeout=10)) as connection, connection:
            values = (time.time_ns() // 1000, job_id)
            return connection.execute("UPDATE quart_sched_jobs SET next_us = ? WHERE id = ?", values).rowcount == 1
    except sqlite3.OperationalError:
        return False  # The tables are not there yet.


def nobody_is_left(process: Any) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("environ", [{}, {"NO_START": "1"}], ids=["started by the code", "not started by it"])
def test_a_signal_lets_the_running_job_end_and_nothing_more_fire(folder, number, environ):
    worker = folder.worker(TICKS="1", **environ)
    until(lambda: folder.notes("tick"))
    start_long(folder)
    worker.send_signal(number)
    assert worker.wait(20) == 0
    log = folder.text("worker.log")
    assert f"{number.name}: no more fires; running jobs get 5 s to end in" in log
    assert "Traceback" not in log
    assert len(folder.notes("end")) == 1
    assert nobody_is_left(worker)
    lines = [line.split(" ")[1] for line in folder.text("notes").splitlines()]
    assert (lines[0], lines[-1]) == ("before_serving", "after_serving")
    assert [run["outcome"] for run in runs(folder, "long")] == ["succeeded"]
    assert {run["outcome"] for run in runs(folder, "tick")} <= {"succeeded", "coalesced"}
    with closing(sqlite3.connect(folder.path / "jobs.db")) as connection:
        left = connection.execute("SELECT gone_why FROM quart_sched_workers").fetchall()
        assert set(left) == {("left",)}


def test_a_job_that_takes_too_long_is_cancelled_when_the_time_is_over(folder):
    worker = folder.worker(LONG="60", TIMEOUT="0.3")
    start_long(folder)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert folder.notes("end") == []
    assert [run["outcome"] for run in runs(folder, "long")] == ["cancelled"]


def test_a_second_ctrl_c_ends_it_at_once(folder):
    worker = folder.worker(LONG="60", TIMEOUT="50")
    start_long(folder)
    worker.send_signal(signal.SIGINT)
    until(lambda: "no more fires" in folder.text("worker.log"))
    worker.send_signal(signal.SIGINT)
    assert worker.wait(10) == -signal.SIGINT
    assert nobody_is_left(worker)


def test_a_second_sigterm_does_not_cut_the_drain_short(folder):
    worker = folder.worker(LONG="2")
    start_long(folder)
    for _ in range(3):
        worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert [run["outcome"] for run in runs(folder, "long")] == ["succeeded"]


def test_two_workers_share_the_fires(folder):
    workers = [folder.worker(f"worker{number}.log", TICKS="1") for number in range(2)]
    until(lambda: len({line.split(" ")[0] for line in folder.notes("tick")}) == 2, timeout=60)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait(20) for worker in workers] == [0, 0]
    ticks = runs(folder, "tick", "--limit", "500")
    fires = [run["scheduled_at"] for run in ticks]
    assert len(fires) == len(set(fires))
    started = [run for run in ticks if run["started_at"] is not None]
    assert len(started) == len(folder.notes("tick"))
    assert {run["outcome"] for run in started} == {"succeeded"}


def test_with_the_memory_store_a_worker_runs_what_the_code_declares(folder):
    worker = folder.worker(TICKS="1", MEMORY="1")
    until(lambda: len(folder.notes("tick")) > 2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_a_start_up_that_fails_ends_with_1(folder):
    folder.append("\n@app.before_serving\nasync def broken():\n    raise RuntimeError('no database')\n")
    status, _, err = folder.quart("worker")
    assert status == 1
    assert err.rstrip().endswith("Error: The app could not start: RuntimeError: no database")


def test_a_host_that_may_not_start_the_scheduler_ends_with_1(folder):
    folder.append("\nscheduler.allowed_hosts = ['elsewhere']\n")
    status, _, err = folder.quart("worker")
    assert status == 1
    assert "may not start the scheduler; allowed: elsewhere" in err
    assert "Traceback" not in err
