"""Metrics: what is counted, over one process and over a cluster, and who holds up the loop."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from quart import Quart

from quart_sched import APScheduler, Scheduler
from quart_sched.auth import HTTPBearerAuth
from quart_sched.errors import ConfigError
from quart_sched.metrics import DURATION, LATENESS, MOST_JOBS, STORE, _families
from quart_sched.model.tallies import OTHER, Tally, add_up, fold, run_key, split_run_key
from tests.conftest import eventually
from tests.stores.cluster import Process
from tests.stores.conftest import cluster, cluster_clock, tables
from tests.stores.peers import answers_lost, at, outage

__all__ = ["cluster", "cluster_clock", "tables"]

gate = asyncio.Event()


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global gate
    gate = asyncio.Event()


async def job() -> None: ...


async def fails() -> None:
    raise LookupError("not there")


async def waits() -> None:
    await gate.wait()


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(client: Any, **headers: str) -> Samples:
    response = await client.get("/scheduler/metrics", headers=headers)
    assert response.status_code == 200
    text = await response.get_data(as_text=True)
    families = parse_openmetrics(text) if "openmetrics" in response.content_type else parse(text)
    samples = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in families
        for sample in family.samples
    ]
    found = dict(samples)
    assert len(found) == len(samples), "no series may be there twice"
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"quart_sched_{name}", frozenset(labels.items())), 0.0)


def labels(samples: Samples, name: str) -> list[dict[str, str]]:
    return [dict(pairs) for found, pairs in samples if found == f"quart_sched_{name}"]


# Numbers


def test_numbers_of_several_processes_add_up_in_the_order_in_which_they_were_first_seen():
    one, other = Tally(), Tally()
    one.count("runs", "b")
    one.observe("duration", "b", 0.2, (0.1, 1.0))
    other.count("runs", "a", 2)
    other.count("runs", "b", 3)
    other.observe("duration", "b", 5.0, (0.1, 1.0))
    other.observe("duration", "b", 0.1, (0.1, 1.0))
    total = add_up([one.take(), other.take()])
    assert total == {"runs": {"b": [4], "a": [2]}, "duration": {"b": [5.3, 1, 1, 1]}}
    assert list(total["runs"]) == ["b", "a"]
    assert one.numbers == {}


def test_buckets_of_another_version_are_left_out():
    assert add_up([{"duration": {"a": [1, 1]}}, {"duration": {"a": [1, 1, 1]}}]) == {"duration": {"a": [1, 1]}}


def test_a_job_may_have_any_name():
    assert split_run_key(run_key("failed job with spaces", "succeeded")) == ("failed job with spaces", "succeeded")


def test_jobs_beyond_the_limit_are_counted_together_and_nothing_is_lost():
    runs = {run_key(f"job{number}", outcome): [1.0] for number in range(5) for outcome in ("succeeded", "failed")}
    folded = fold({"runs": runs, "duration": {"job4": [1.0, 1.0]}, "store": {"x": [1.0]}}, ("duration",), ("runs",), 2)
    assert folded == {
        "runs": {run_key(name, outcome): [1.0] for name in ("job0", "job1") for outcome in ("succeeded", "failed")}
        | {run_key(OTHER, "succeeded"): [3.0], run_key(OTHER, "failed"): [3.0]},
        "duration": {OTHER: [1.0, 1.0]},
        "store": {"x": [1.0]},
    }


# One process


@pytest.fixture
def metered(app: Quart) -> Quart:
    app.config.update(SCHEDULER_METRICS_ENABLED=True)
    return app


async def test_runs_are_counted_by_job_and_outcome_and_their_times_measured(scheduler, metered, serve, clock):
    async def slow() -> None:
        await clock.sleep(2)

    scheduler.add_job("good", job, trigger="interval", seconds=10, start_date=at(10))
    scheduler.add_job("bad", fails, trigger="interval", seconds=10, start_date=at(10))
    scheduler.add_job("slow", slow, trigger="interval", seconds=20, start_date=at(10))
    scheduler.add_job("missed", job, trigger="interval", seconds=10, start_date=at(25), coalesce=False)
    async with serve(scheduler, metered) as client:
        await clock.advance(seconds=22)
        clock.suspend(seconds=26)
        scheduler.scheduler.wakeup()
        await clock.advance(seconds=10)
        samples = await scrape(client)
    assert value(samples, "runs_total", job="good", outcome="succeeded") == 3
    assert value(samples, "runs_total", job="bad", outcome="failed") == 3
    assert value(samples, "runs_total", job="missed", outcome="missed") == 3
    assert value(samples, "run_duration_seconds_count", job="slow") == 2
    assert value(samples, "run_duration_seconds_sum", job="slow") == 4
    assert value(samples, "run_duration_seconds_bucket", job="good", le="0.005") == 3
    assert value(samples, "run_duration_seconds_bucket", job="slow", le="+Inf") == 2
    assert value(samples, "start_lateness_seconds_count", job="good") == 3
    assert value(samples, "start_lateness_seconds_bucket", job="good", le="0.001") == 3


async def test_gauges_carry_the_worker(scheduler, metered, serve, clock):
    scheduler.add_job("waits", waits, trigger="date", run_date=at(1))
    scheduler.add_job("due", job, trigger="date", run_date=at(2), misfire_grace_time=None)
    async with serve(scheduler, metered, SCHEDULER_MAX_RUNS=1) as client:
        await clock.advance(seconds=100)
        samples, worker = await scrape(client), scheduler.scheduler.runner.worker
        assert value(samples, "running", worker=worker) == 1
        assert value(samples, "due", worker=worker, jobstore="default") == 1
        assert value(samples, "overdue", worker=worker) == 2
        gate.set()


async def test_at_most_so_many_jobs_have_a_label_of_their_own(scheduler, metered, serve, clock):
    for number in range(MOST_JOBS + 50):
        scheduler.add_job(f"job{number}", job, trigger="date", run_date=at(1))
    scheduler.add_job('job\ud800\n"', job, trigger="date", run_date=at(1))
    async with serve(scheduler, metered) as client:
        await clock.advance(seconds=2)
        samples = await scrape(client)
    assert len({one["job"] for one in labels(samples, "runs_total")}) == MOST_JOBS + 1
    assert value(samples, "runs_total", job=OTHER, outcome="succeeded") == 51


async def test_an_id_that_is_no_unicode_is_shown_all_the_same(scheduler, metered, serve, clock):
    scheduler.add_job('\ud800\n"', job, trigger="date", run_date=at(1))
    async with serve(scheduler, metered) as client:
        await clock.advance(seconds=2)
        assert value(await scrape(client), "runs_total", job='?\n"', outcome="succeeded") == 1


async def test_open_metrics_is_spoken_to_whom_asks_for_it(scheduler, metered, serve, clock):
    scheduler.add_job("job", job, trigger="date", run_date=at(1))
    async with serve(scheduler, metered) as client:
        await clock.advance(seconds=2)
        samples = await scrape(client, Accept="application/openmetrics-text; version=1.0.0")
    assert value(samples, "runs_total", job="job", outcome="succeeded") == 1


@pytest.mark.parametrize("version", ["abc", "1.x", "", "1.", "-1", '"1.0.0"'])
@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
async def test_a_version_that_is_none_is_answered_as_any(scheduler, metered, serve, kind, version):
    async with serve(scheduler, metered) as client:
        response = await client.get("/scheduler/metrics", headers={"Accept": f"{kind};version={version}"})
        assert response.status_code == 200
        assert "quart_sched_running" in await response.get_data(as_text=True)


async def test_the_pumps_failures_are_counted(scheduler, metered, serve, clock, monkeypatch):
    scheduler.add_job("job", job, trigger="interval", seconds=10, start_date=at(10))
    async with serve(scheduler, metered) as client:
        store = scheduler.scheduler.catalogue.slots["default"].store
        monkeypatch.setattr(store, "due", lambda *_: 1 / 0)
        await clock.advance(seconds=10.5)
        assert value(await scrape(client), "pump_errors_total", jobstore="default") == 1


async def test_counts_outlive_a_second_init_app_and_end_with_another_app(scheduler, metered, serve, clock):
    scheduler.add_job("job", job, trigger="interval", seconds=10)
    async with serve(scheduler, metered):
        await clock.advance(seconds=15)
    async with serve(scheduler, metered) as client:
        assert value(await scrape(client), "runs_total", job="job", outcome="succeeded") == 1
        await clock.advance(seconds=10)
        assert value(await scrape(client), "runs_total", job="job", outcome="succeeded") == 2
    other = Quart("other")
    other.config["SCHEDULER_METRICS_ENABLED"] = True
    async with serve(scheduler, other) as client:
        assert labels(await scrape(client), "runs_total") == []


def test_the_readme_lists_them_with_their_labels():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| Name, behind `quart_sched_` |")[2].partition("\n\n")[0]
    told = [row.removeprefix("| ").rsplit(" | ", 1)[0] for row in table.splitlines()[2:]]
    numbers: Any = {name: {"a": [1]} for name in ("runs", "pump_errors", "stall")}
    for name, bounds in (("duration", DURATION), ("lateness", LATENESS), ("store", STORE)):
        numbers[name] = {"a": [1] * (len(bounds) + 2)}
    workers = [{"worker": "w", "running": 1, "overdue": 1}]
    shown = []
    for family in _families(numbers, workers, {"default": 1}):
        name = family.name.removeprefix("quart_sched_") + ("_total" if family.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in family.samples[0].labels if label != "le")
        shown.append(f"`{name}` | {family.type} | {labels}")
    assert told == shown


# Who may see them, and when they are there


async def test_without_the_setting_there_are_none(scheduler, app, serve):
    async with serve(scheduler, app, SCHEDULER_API_ENABLED=True) as client:
        assert (await client.get("/scheduler/metrics")).status_code == 404
    assert scheduler.metrics is None


async def test_they_ask_for_the_right_to_read(scheduler, metered, serve):
    rights: dict[str, Any] = {"reader": {"read"}, "operator": {"operate"}}
    scheduler.auth = HTTPBearerAuth()
    scheduler.authenticate(lambda auth: rights.get(auth["token"]))
    async with serve(scheduler, metered) as client:
        for headers, status in (({}, 401), ({"Authorization": "Bearer operator"}, 403)):
            assert (await client.get("/scheduler/metrics", headers=headers)).status_code == status
        await scrape(client, Authorization="Bearer reader")


def test_a_missing_library_is_named_with_its_extra(scheduler, app, monkeypatch):
    original = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *args, **options)

    monkeypatch.delitem(sys.modules, "quart_sched.metrics")
    monkeypatch.setattr(builtins, "__import__", without)
    app.config["SCHEDULER_METRICS_ENABLED"] = True
    with pytest.raises(ConfigError, match=r"SCHEDULER_METRICS_ENABLED is True.*pip install 'quart-sched\[metrics\]'"):
        scheduler.init_app(app)
    assert scheduler.app is None


def test_nothing_optional_is_imported_unasked():
    optional = "{'prometheus_client', 'opentelemetry', 'sqlalchemy', 'quart_sched.cli', 'quart_sched.web.dashboard'}"
    code = f"import quart_sched, sys; print({optional} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Who holds up the loop


async def test_a_stall_is_put_down_to_the_job_that_caused_it(app, serve):
    async def blocks() -> None:
        await asyncio.sleep(0)
        time.sleep(0.6)

    async def innocent() -> None:
        await asyncio.sleep(0.3)

    scheduler = APScheduler(Scheduler())
    scheduler.add_job("blocks", blocks, trigger="interval", hours=1)
    scheduler.add_job("innocent", innocent, trigger="interval", hours=1)
    async with serve(scheduler, app, SCHEDULER_METRICS_ENABLED=True) as client:
        begin = time.perf_counter()
        handles = [await scheduler.aio.run_job(name) for name in ("innocent", "blocks")]
        for handle in handles:
            await handle
        passed = time.perf_counter() - begin
        samples = await scrape(client)
    stall = value(samples, "loop_stall_seconds_total", job="blocks")
    assert 0.4 < stall < passed + 0.1
    assert value(samples, "loop_stall_seconds_total", job="innocent") < stall / 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a task does not show its context")
async def test_a_stall_in_a_task_of_a_job_is_the_jobs(app, serve):
    async def step() -> None:
        time.sleep(0.5)

    async def starts_another() -> None:
        await asyncio.create_task(step())

    scheduler = APScheduler(Scheduler())
    scheduler.add_job("job", starts_another, trigger="interval", hours=1)
    async with serve(scheduler, app, SCHEDULER_METRICS_ENABLED=True) as client:
        await (await scheduler.aio.run_job("job"))
        assert value(await scrape(client), "loop_stall_seconds_total", job="job") > 0.3


async def test_what_holds_up_the_loop_and_is_no_job_is_not_put_down_to_one(app, serve):
    scheduler = APScheduler(Scheduler())
    async with serve(scheduler, app, SCHEDULER_METRICS_ENABLED=True) as client:
        await asyncio.sleep(0.1)
        time.sleep(0.5)
        await asyncio.sleep(0.1)
        samples = await scrape(client)
    assert {one["job"] for one in labels(samples, "loop_stall_seconds_total")} == {"_none"}
    assert value(samples, "loop_stall_seconds_total", job="_none") > 0.3


# The cluster

METERED = {"SCHEDULER_METRICS_ENABLED": True}


def every_10s(scheduler: APScheduler) -> None:
    for number in range(4):
        scheduler.add_job(f"job{number}", job, trigger="interval", seconds=10, start_date=at(10))


async def total(process: Process) -> float:
    samples = await scrape(process.client)
    return sum(number for (name, _), number in samples.items() if name == "quart_sched_runs_total")


async def test_each_process_shows_the_sum_of_all_and_it_never_goes_back(cluster):
    for _ in range(3):
        await cluster.start(every_10s, **METERED)
    seen = 0.0
    for round_ in range(1, 5):
        await cluster.advance(10)
        for process in cluster.processes:
            # The others' last counts come with their heartbeats.
            now = await total(process)
            assert now >= seen
            seen = now
        assert seen <= 4 * round_
    await cluster.advance(6)  # a heartbeat
    metrics = [process.scheduler.metrics for process in cluster.processes]
    await eventually(lambda: not any("runs" in one._pending.numbers or one._sending for one in metrics))
    assert [await total(process) for process in cluster.processes] == [16, 16, 16]
    # One that leaves takes nothing with it, and one that is killed neither.
    await cluster.stop(cluster.processes[0])
    assert [await total(process) for process in cluster.processes] == [16, 16]
    cluster.kill(cluster.processes[0])
    await cluster.advance(30)
    assert await total(cluster.processes[0]) == 28
    workers = labels(await scrape(cluster.processes[0].client), "running")
    assert len(workers) == 1


async def test_gauges_of_all_living_processes_are_shown(cluster):
    def declare(scheduler: APScheduler) -> None:
        scheduler.add_job("waits", waits, trigger="date", run_date=at(10))

    first = await cluster.start(declare, **METERED)
    first.scheduler.scheduler.runner.accounts.worker = "elsewhere:1"  # two processes in one have the same name
    await cluster.advance(11)
    second = await cluster.start(declare, **METERED)
    await cluster.advance(6)

    mine = second.scheduler.scheduler.runner.worker
    await shows_running(second, {"elsewhere:1": 1, mine: 0})
    gate.set()
    await cluster.stop(first)
    await shows_running(second, {mine: 0})


async def shows_running(process: Process, expected: dict[str, float]) -> None:
    """Wait until the process knows how the others stand."""
    deadline = time.monotonic() + 5
    found: dict[str, float] = {}
    while found != expected:
        assert time.monotonic() < deadline, found
        samples = await scrape(process.client)
        found = {one["worker"]: value(samples, "running", **one) for one in labels(samples, "running")}
        await asyncio.sleep(0.01)


async def test_processes_of_one_name_share_a_series(cluster):
    def declare(scheduler: APScheduler) -> None:
        scheduler.add_job("waits", waits, trigger="interval", days=1, max_instances=2)

    first, second, third = [await cluster.start(declare, **METERED) for _ in range(3)]
    third.scheduler.scheduler.runner.accounts.worker = "elsewhere:1"  # and the others have the same name
    for process in (first, second):
        await process.aio.run_job("waits")
    await cluster.advance(6)
    name = first.scheduler.scheduler.runner.worker
    for process in cluster.processes:
        await shows_running(process, {name: 2, "elsewhere:1": 0})
    gate.set()


async def test_what_is_due_in_a_shared_store_and_how_long_it_took_is_shown(cluster):
    def declare(scheduler: APScheduler) -> None:
        scheduler.add_job("waits", waits, trigger="date", run_date=at(5))
        every_10s(scheduler)

    process = await cluster.start(declare, SCHEDULER_MAX_RUNS=1, **METERED)
    await cluster.advance(12)
    samples = await scrape(process.client)
    assert value(samples, "due", worker=process.scheduler.scheduler.runner.worker, jobstore="default") == 4
    assert value(samples, "store_seconds_count", jobstore="default") > 10
    gate.set()


async def test_an_outage_takes_nothing_back(cluster):
    process = await cluster.start(every_10s, **METERED)
    await cluster.advance(25)
    assert await total(process) == 8
    with outage(process.slot.store.database):
        process.scheduler.metrics._tally.count("runs", run_key("job0", "succeeded"))
        assert await total(process) == 9
        assert await total(process) == 9
    assert await total(process) == 9


async def test_what_was_added_is_not_added_again_when_the_answer_was_lost(cluster):
    process = await cluster.start(every_10s, **METERED)
    await cluster.advance(11)
    with answers_lost(process.slot.store.database, "SqlTallies") as lost:
        assert await total(process) == 4
    assert lost
    assert await total(process) == 4
    await cluster.advance(10)
    assert await total(process) == 8


async def test_a_client_that_leaves_does_not_cut_off_the_adding(cluster):
    process = await cluster.start(every_10s, **METERED)
    await cluster.advance(11)
    asked = asyncio.ensure_future(process.scheduler.metrics.render())
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    assert await total(process) == 4
    assert not process.scheduler.metrics._exchanges
    assert process.slot.error is None


async def test_the_table_stays_small_and_the_sums_as_they_were(cluster):
    process = await cluster.start(every_10s, **METERED)
    for _ in range(60):
        await cluster.advance(10)
    rows = [count for (count,) in cluster.query("SELECT COUNT(*) FROM {p}metric_deltas")]
    assert rows[0] < 50
    assert await total(process) == 240
    process.slot.store.tallies.compact()
    assert await total(process) == 240


PROGRAM = """
    import asyncio, sys
    from quart import Quart
    from quart_sched import APScheduler

    async def job() -> None:
        print("ran", flush=True)

    async def main() -> None:
        app = Quart("app")
        app.config.update(
            SCHEDULER_METRICS_ENABLED=True, SCHEDULER_TIMEZONE="UTC", SCHEDULER_HEARTBEAT=0.2, SCHEDULER_LEASE=2,
            SCHEDULER_JOBSTORES={"default": {"type": "sqlalchemy", "url": sys.argv[1]}},
        )
        scheduler = APScheduler(app=app)
        scheduler.add_job(sys.argv[2], job, trigger="date", jobstore="default", misfire_grace_time=None)
        await scheduler.aio.start()
        await asyncio.sleep(60)

    asyncio.run(main())
"""


@pytest.mark.integration
async def test_what_a_process_counted_stays_when_it_is_killed(tmp_path: Path, app, serve):
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(PROGRAM))
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    process = subprocess.Popen([sys.executable, script, url, "theirs"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ran\n"
        scheduler = APScheduler(Scheduler())
        config = {"SCHEDULER_JOBSTORES": {"default": {"type": "sqlalchemy", "url": url}}}
        async with serve(scheduler, app, SCHEDULER_PRUNE="keep", SCHEDULER_METRICS_ENABLED=True, **config) as client:
            await seen_in(client, "theirs")
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert value(await scrape(client), "runs_total", job="theirs", outcome="succeeded") == 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        process.stdout.close()


async def seen_in(client: Any, name: str) -> None:
    deadline = time.monotonic() + 10
    while value(await scrape(client), "runs_total", job=name, outcome="succeeded") != 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
