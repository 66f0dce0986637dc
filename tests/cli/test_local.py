"""The commands without a server: on what is in the SQL store, and on what the code declares."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from quart import Quart, current_app

from quart_sched import APScheduler
from quart_sched.aio import AioVerbs
from quart_sched.cli import messages
from quart_sched.cli.local import Local
from tests.cli.commands import build, deploy, invoke, sql

pytestmark = pytest.mark.integration  # there is a database in each

ran: list[Any] = []


async def job(*args: Any) -> str:
    ran.append((*args, current_app.name))
    return "done"


def fails() -> None:
    logging.getLogger("jobs").warning("about to fail")
    raise ValueError("no")


async def endless() -> None:
    await asyncio.sleep(60)


def declare(scheduler: APScheduler) -> None:
    daily = {"trigger": "cron", "hour": 3}
    scheduler.add_job("a", job, **daily, tags=["x", "y"], description="The first")
    scheduler.add_job("b", fails, **daily, tags=["x"])
    scheduler.add_job("endless", endless, **daily)


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@pytest.fixture
def store(tmp_path: Path) -> dict[str, Any]:
    """A store in which the declared jobs are."""
    entry = sql(tmp_path / "jobs.db")
    deploy(entry, declare)
    return entry


@pytest.fixture
def run(store: dict[str, Any]) -> Run:
    """Run a command for an app of its own, as each process has one."""
    return lambda *args, **options: invoke(build(store, declare)[0], *args, **options)


@pytest.fixture
def memory() -> Run:
    return lambda *args, **options: invoke(build({"type": "memory"}, declare)[0], *args, **options)


def data(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# What is there


def test_list_shows_each_job_with_its_next_fire(run):
    lines = run("list").stdout.splitlines()
    assert lines[0].split("  ")[0] == "JOB"
    assert [line.split()[0] for line in lines[1:]] == ["a", "b", "endless"]
    assert all("03:00:00+00:00 (in " in line and "scheduled" in line for line in lines[1:])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["b", "endless", "a"]),
        (("--state", "paused"), ["a"]),
        (("--state", "broken"), []),
        (("--tag", "x"), ["b", "a"]),
        (("--tag", "x", "--tag", "y"), ["a"]),
        (("--tag", "z"), []),
    ],
)
def test_list_has_filters(run, options, expected):
    run("pause", "a")
    assert [job["id"] for job in data(run("list", "--json", *options))] == expected


def test_a_job_that_waits_for_a_start_shows_the_store_that_it_is_meant_for(memory):
    shown = data(memory("show", "a", "--json"))
    assert (shown["state"], shown["jobstore"]) == ("pending", "default")


def test_show_tells_all_of_a_job(run):
    text = run("show", "a").stdout
    assert 'tags                 ["x", "y"]' in text
    assert "description          The first" in text
    assert "(in " in text
    assert data(run("show", "a", "--json"))["trigger_description"] == "at 03:00 (UTC)"


def test_next_tells_the_fires_to_come(run):
    assert len(data(run("next", "a", "--count", "3", "--json"))["items"]) == 3
    run("pause", "a")
    paused = run("next", "a", "--count", "2").stdout.splitlines()
    assert paused[0].startswith("The job is paused. ")
    assert len(paused) == 4


def test_a_pause_of_all_is_told(run):
    before = run("list")
    run("pause", "--all")
    assert (run("list").stdout.splitlines()[0], before.stderr) == (before.stdout.splitlines()[0], "")
    assert run("list").stderr == "The scheduler is paused: no job fires until it is resumed.\n"
    assert run("next", "a").stdout.startswith("The scheduler is paused. ")
    assert data(run("next", "a", "--json"))["paused"] is True
    run("pause", "a")
    assert run("next", "a").stdout.startswith("The job is paused. ")
    run("resume", "--all")
    assert run("list").stderr == ""


def test_a_broken_job_is_told(run, store):
    with closing(sqlite3.connect(store["url"].removeprefix("sqlite:///"))) as connection, connection:
        definition = connection.execute("SELECT definition FROM qs_jobs WHERE id = 'a'").fetchone()[0]
        gone = definition.replace(f"{__name__}:job", "no_such_module:job")
        connection.execute("UPDATE qs_jobs SET definition = ?, func = 'no_such_module:job' WHERE id = 'a'", (gone,))
    trigger = data(run("show", "b", "--json"))["trigger_description"]
    [broken] = data(run("list", "--state", "broken", "--json"))
    assert (broken["id"], broken["trigger_description"]) == ("a", trigger)
    result = run("next", "a")
    assert result.exit_code == 1
    assert "no_such_module" in result.stderr
    assert result.stdout == ""


# Changes


def test_a_pause_is_in_the_store_with_who_made_it(run, store):
    result = run("pause", "a")
    assert (result.exit_code, result.stdout) == (0, "Job a is paused\n")
    shown = data(run("show", "a", "--json"))
    assert (shown["state"], shown["paused_by"]) == ("paused", "cli")
    resumed = run("resume", "a")
    assert resumed.stdout.startswith("Job a fires next at ")
    assert data(run("show", "a", "--json"))["state"] == "scheduled"


def test_everything_is_paused_and_resumed(run, store):
    file = store["url"].removeprefix("sqlite:///")

    def paused() -> Any:
        with closing(sqlite3.connect(file)) as connection:
            return connection.execute("SELECT n, v FROM qs_meta WHERE k = 'paused'").fetchone()

    assert run("pause", "--all").stdout == "Paused: no job fires\n"
    assert paused() == (1, "cli")
    assert data(run("resume", "--all", "--json")) == {"paused": False}
    assert paused()[0] == 0


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize("args", [(), ("a", "--all")])
def test_a_pause_is_of_one_job_or_of_all(run, verb, args):
    result = run(verb, *args)
    assert (result.exit_code, result.stderr) == (2, "Error: Give either the id of a job, or --all\n")


def test_a_job_is_removed_when_the_user_says_so(run, store, monkeypatch):
    app, scheduler = build(store)

    async def add() -> None:
        async with app.test_app():
            scheduler.start(paused=True)
            await scheduler.aio.add_job("extra", job, trigger="cron", hour=1)

    asyncio.run(add())
    refused = run("remove", "extra")
    assert refused.exit_code == 2
    assert refused.stderr.endswith("There is no terminal to ask on: give --yes\n")
    monkeypatch.setattr(messages, "has_terminal", lambda: True)
    assert run("remove", "extra", input="n\n").exit_code == 1
    assert data(run("show", "extra", "--json"))["id"] == "extra"
    assert run("remove", "extra", input="y\n").exit_code == 0
    assert run("show", "extra").exit_code == 1


def test_a_declared_job_is_not_removed(run):
    result = run("remove", "a", "--yes")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: Job a is declared in the code and would come back; pause it, or take it out of the code\n",
    )


def test_nothing_is_deployed_by_looking(run, store):
    def more(scheduler: APScheduler) -> None:
        declare(scheduler)
        scheduler.add_job("new", job, trigger="cron", hour=1)

    app, _ = build(store, more)
    shown = data(invoke(app, "show", "new", "--json"))
    assert shown["state"] == "pending"
    app, _ = build(store, more)
    refused = invoke(app, "pause", "new")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: Job new is declared, but not in the store yet: the next process that starts adds it\n",
    )
    assert run("show", "new").exit_code == 1


@pytest.mark.parametrize("command", [("--url", "", "pause", "--all"), ("pause", "--all", "--url=")], ids=" ".join)
def test_an_empty_address_is_not_taken_for_this_app(run, store, command):
    result = run(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: --url is ''; expected an address as http://127.0.0.1:5000/scheduler\n"
    with closing(sqlite3.connect(store["url"].removeprefix("sqlite:///"))) as connection:
        assert connection.execute("SELECT * FROM qs_meta WHERE k = 'paused' AND n = 1").fetchall() == []


def test_an_empty_variable_for_the_address_is_none(run):
    assert run("pause", "a", env={"QUART_SCHED_URL": ""}).stdout == "Job a is paused\n"


# Runs


def test_a_run_takes_place_here_within_the_apps_life(run, store):
    lived: list[str] = []
    app, _ = build(store, declare)

    @app.before_serving
    async def before() -> None:
        lived.append("before")

    @app.after_serving
    async def after() -> None:
        lived.append(f"after {len(ran)} run")

    result = invoke(app, "run", "a")
    assert result.exit_code == 0, result.output
    assert "of job a: succeeded in " in result.stdout
    assert lived == ["before", "after 1 run"]
    assert ran == [("tests.cli.commands",)]
    page = data(run("runs", "a", "--json"))
    assert [(item["outcome"], item["cause"]) for item in page["items"]] == [("succeeded", "manual")]
    assert "succeeded" in run("runs").stdout
    assert data(run("runs", "--outcome", "failed", "--json"))["items"] == []


def test_a_run_gives_its_record_as_json(run):
    record = data(run("run", "a", "--json"))
    assert (record["outcome"], record["result"], record["final"]) == ("succeeded", "'done'", True)


def test_a_run_that_fails_ends_with_1(run):
    result = run("run", "b")
    assert result.exit_code == 1
    assert "of job b: failed in " in result.stdout
    assert result.stdout.endswith("\nValueError: no\n")


def test_the_details_of_runs_are_their_tracebacks_and_log_lines(run):
    record = json.loads(run("run", "b", "--json").stdout)
    run("run", "a")
    succeeded, failed = data(run("runs", "--details", "--json"))["items"]
    assert failed == record
    assert (succeeded["traceback"], "about to fail" in failed["log"]) == (None, True)
    printed = run("runs", "--details").stdout
    assert '\n    File "' in printed
    assert "\n  ValueError: no\n" in printed
    assert "about to fail" in printed.partition("\n  Log:\n")[2]
    assert "Traceback" not in run("runs").stdout


def test_a_run_that_is_not_waited_for_any_longer_is_cancelled(run):
    result = run("run", "endless", "--wait", "0.2")
    assert result.exit_code == 3
    assert "of job endless: cancelled, as it had not ended after 0.2 s" in result.stdout
    [record] = data(run("runs", "endless", "--json"))["items"]
    assert record["outcome"] == "cancelled"
    as_json = run("run", "endless", "--wait", "0.2", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["outcome"]) == (3, "cancelled")


def test_a_run_in_memory_that_is_not_waited_for_any_longer_is_cancelled(memory):
    result = memory("run", "endless", "--wait", "0.2")
    assert result.exit_code == 3
    assert "of job endless: cancelled, as it had not ended after 0.2 s" in result.stdout


FEW = pytest.mark.parametrize("kept", [0, 1, 10_000])


@FEW
@pytest.mark.parametrize(
    ("args", "outcome", "code"),
    [(("a",), "succeeded", 0), (("b",), "failed", 1), (("endless", "--wait", "0.2"), "cancelled", 3)],
)
def test_a_run_is_told_of_however_few_records_the_app_keeps(kept, args, outcome, code):
    app, _ = build({"type": "memory"}, declare, SCHEDULER_HISTORY_SIZE=kept)
    result = invoke(app, "run", *args, "--json")
    assert (result.exit_code, json.loads(result.stdout)["outcome"]) == (code, outcome)


@FEW
def test_a_run_is_followed_through_its_retries(kept):
    def retrying(scheduler: APScheduler) -> None:
        scheduler.add_job("again", fails, trigger="cron", hour=3, retry={"attempts": 3, "delay": 0.01})

    app, _ = build({"type": "memory"}, retrying, SCHEDULER_HISTORY_SIZE=kept)
    result = invoke(app, "run", "again", "--json")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert (record["attempt"], record["final"], len(record["attempts"])) == (3, True, 3)


def retrying_late(scheduler: APScheduler) -> None:
    scheduler.add_job("again", fails, trigger="cron", hour=3, retry={"attempts": 3, "delay": 3600})


def waiting_in(store: dict[str, Any]) -> int:
    with closing(sqlite3.connect(store["url"].removeprefix("sqlite:///"))) as connection:
        count: int = connection.execute("SELECT COUNT(*) FROM qs_live").fetchone()[0]
    return count


def test_a_retry_that_is_not_waited_for_any_longer_is_cancelled(tmp_path):
    store = sql(tmp_path / "jobs.db")
    deploy(store, retrying_late)
    result = invoke(build(store, retrying_late)[0], "run", "again", "--wait", "0.5", "--json")
    assert result.exit_code == 3
    record = json.loads(result.stdout)
    assert (record["attempt"], record["outcome"], record["final"]) == (2, "cancelled", True)
    assert waiting_in(store) == 0


def test_a_retry_that_no_process_would_make_is_cancelled(tmp_path):
    store = sql(tmp_path / "jobs.db")
    deploy(store, retrying_late)
    result = invoke(build(store, retrying_late)[0], "run", "again")
    assert result.exit_code == 3
    assert "of job again: cancelled, as no process runs the jobs that could make this attempt\n" in result.stdout
    assert waiting_in(store) == 0


def test_a_retry_that_a_process_would_make_is_waited_for(tmp_path, monkeypatch):
    store = sql(tmp_path / "jobs.db")
    looked: list[str] = []
    health = Local.health

    async def looks(self: Local) -> Any:
        found = await health(self)
        looked.append(found["status"])
        if len(looked) == 2:
            [retry] = (await self._aio.runs(outcome="retry_wait")).items
            await self._aio.cancel_run(retry.run_id)
        return found

    monkeypatch.setattr(Local, "health", looks)
    app, scheduler = build(store, retrying_late)
    scheduler.start()

    async def serve() -> Result:
        async with app.test_app():
            await scheduler.aio.get_jobs()
            return await asyncio.to_thread(invoke, build(store, retrying_late)[0], "run", "again", "--json")

    result = asyncio.run(serve())
    assert looked == ["ok", "ok"]
    record = json.loads(result.stdout)
    assert (result.exit_code, record["attempt"], record["outcome"]) == (1, 2, "cancelled")


def test_arguments_take_the_place_of_the_jobs_own(store, monkeypatch):
    """What they come to is the verb's own affair; here it is what it is called with."""
    given: list[Any] = []
    real = AioVerbs.run_job

    async def run_job(self: AioVerbs, id: str, **options: Any) -> Any:
        given.append(options)
        return await real(self, id)

    monkeypatch.setattr(AioVerbs, "run_job", run_job)
    args, kwargs = '[1, {"$datetime": "2030-01-01T00:00:00+00:00"}]', '{"x": [2]}'
    result = invoke(build(store, declare)[0], "run", "a", "--args", args, "--kwargs", kwargs)
    assert result.exit_code == 0, result.output
    assert given == [{"args": [1, datetime(2030, 1, 1, tzinfo=UTC)], "kwargs": {"x": [2]}}]


def test_an_explanation_is_that_of_the_verb(run, monkeypatch):
    told = {"job_id": "a", "at": "2026-03-02T03:00:00+00:00", "verdict": "ran", "description": "It ran."}

    class Explanation:
        def to_wire(self) -> dict[str, str]:
            return told

    async def explain(self: AioVerbs, job_id: str, at: str) -> Explanation:
        assert (job_id, at) == ("a", "2026-03-02T03:00")
        return Explanation()

    monkeypatch.setattr(AioVerbs, "explain", explain, raising=False)
    assert data(run("explain", "a", "2026-03-02T03:00", "--json")) == told
    assert run("explain", "a", "2026-03-02T03:00").stdout.startswith("It ran.\n")


# Health


def test_without_a_process_that_runs_the_jobs_health_is_failing(run):
    result = run("health")
    assert (result.exit_code, result.stdout) == (1, "status  failing\nreason  No process runs the jobs\n")


def test_with_a_process_that_runs_the_jobs_health_is_ok(store):
    app, scheduler = build(store, declare)
    scheduler.start(paused=True)

    async def serve() -> tuple[Result, Result]:
        async with app.test_app():
            await scheduler.aio.get_jobs()
            fine = await asyncio.to_thread(invoke, build(store, declare)[0], "health", "--json")
            with closing(sqlite3.connect(store["url"].removeprefix("sqlite:///"))) as connection, connection:
                connection.execute("INSERT INTO qs_workers (id, host, pid, started_us, seen_us, decl, beat) "
                                   "VALUES ('x', 'other', 7, 0, 0, 'code', 0)")  # fmt: skip
            return fine, await asyncio.to_thread(invoke, build(store, declare)[0], "health")

    fine, silent = asyncio.run(serve())
    assert data(fine) == {"status": "ok", "reasons": []}
    assert silent.exit_code == 0
    assert silent.stdout.startswith("status  degraded\nreason  The process other:7 has not shown for ")


def test_health_names_the_jobs_that_the_processes_found_to_be_overdue(store):
    app, scheduler = build(store, declare)
    scheduler.start()
    mark = json.dumps({"job_id": "a", "expected": 0, "since": 60_000_000, "last": None})

    async def serve() -> tuple[Result, Result]:
        async with app.test_app():
            await scheduler.aio.get_jobs()
            with closing(sqlite3.connect(store["url"].removeprefix("sqlite:///"))) as connection, connection:
                connection.execute("INSERT INTO qs_meta (k, n, v, at_us) VALUES ('overdue:a', 1, ?, 0)", (mark,))
            late = await asyncio.to_thread(invoke, build(store, declare)[0], "health")
            await scheduler.aio.pause()
            return late, await asyncio.to_thread(invoke, build(store, declare)[0], "health")

    late, paused = asyncio.run(serve())
    assert late.stdout == (
        "status  degraded\n"
        'reason  Job "a" is overdue: its fire at 1970-01-01 00:00:00+00:00 has not led to a success; '
        "no success is known\n"
    )
    assert paused.stdout == "status  ok\nreason  The scheduler is paused: no job fires until it is resumed\n"


# Backfills


class Entered:
    def __init__(self, *run_ids: str) -> None:
        self._run_ids = run_ids

    def to_wire(self) -> dict[str, Any]:
        items = [{"scheduled_at": "2026-03-01T03:00:00+00:00", "run_id": run_id} for run_id in self._run_ids]
        return {"job_id": "a", "items": items, "left_out": 0, "dry_run": False}


@pytest.mark.parametrize("kind", ["run", "memory"])
def test_a_backfill_is_that_of_the_verb(request, monkeypatch, kind):
    """In the memory store's case within this process, where it is waited for until the runs are over."""
    given: list[Any] = []

    async def backfill(self: AioVerbs, job_id: str, start: str, end: str | None = None, **options: Any) -> Entered:
        given.append((job_id, start, end, options))
        return Entered((await self.run_job(job_id)).run_id)

    monkeypatch.setattr(AioVerbs, "backfill", backfill, raising=False)
    result = request.getfixturevalue(kind)("backfill", "a", "--from", "2026-03-01", "--rerun")
    assert (result.exit_code, result.stdout) == (0, "1 fire: 1 succeeded; 0 left out\n")
    assert given == [("a", "2026-03-01", None, {"dry_run": False, "concurrency": 1, "rerun": True})]
    assert ran == [("tests.cli.commands",)]


@FEW
def test_a_backfill_is_told_of_however_few_records_the_app_keeps(kept):
    app, _ = build({"type": "memory"}, declare, SCHEDULER_HISTORY_SIZE=kept)
    result = invoke(app, "backfill", "a", "--from", "2026-03-01", "--to", "2026-03-06")
    assert (result.exit_code, result.stdout) == (0, "5 fires: 5 succeeded; 0 left out\n")


def test_a_backfill_that_nobody_runs_yet_says_so(run, monkeypatch):
    async def backfill(*_: Any, **options: Any) -> Entered:
        return Entered("r1")

    monkeypatch.setattr(AioVerbs, "backfill", backfill, raising=False)
    result = run("backfill", "a", "--from", "2026-03-01", "--no-wait")
    assert (result.exit_code, result.stderr) == (
        0,
        "No process runs the jobs: what is to run waits in the store until one does.\n",
    )


# The memory store


@pytest.mark.parametrize("command", [("list",), ("show", "a"), ("next", "a"), ("runs",)], ids=" ".join)
def test_with_the_memory_store_it_is_said_where_the_jobs_are(memory, command):
    result = memory(*command, "--json")
    assert result.exit_code == 0
    json.loads(result.stdout)
    assert result.stderr == (
        "The jobs of the store 'default' are in the memory of the process that serves; --url reaches it. "
        "This is what the code declares.\n"
    )


@pytest.mark.parametrize(
    "command",
    [("pause", "a"), ("resume", "a"), ("pause", "--all"), ("remove", "a", "--yes"), ("health",)],
    ids=" ".join,
)
def test_with_the_memory_store_nothing_can_be_changed_from_here(memory, command):
    result = memory(*command)
    assert result.exit_code == 1
    assert "are in the memory of the process that serves; --url reaches it." in result.stderr


def test_with_the_memory_store_a_declared_job_can_be_run(memory):
    result = memory("run", "a", "--json")
    assert data(result)["outcome"] == "succeeded"
    assert ran == [("tests.cli.commands",)]


# What is wrong


@pytest.mark.parametrize(
    "command",
    [("show", "no"), ("next", "no"), ("runs", "no"), ("pause", "no"), ("resume", "no"), ("remove", "no", "--yes"),
     ("run", "no")],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["run", "memory"])
def test_a_job_that_is_not_there_is_named(request, kind, command):
    result = request.getfixturevalue(kind)(*command)
    assert result.exit_code == 1
    assert result.stderr.endswith("Error: Job no not found\n")
    assert result.stdout == ""


@pytest.mark.parametrize(
    "command",
    [
        ("list", "--state", "asleep"),
        ("next", "a", "--count", "0"),
        ("next", "a", "--count", "many"),
        ("runs", "--outcome", "perfect"),
        ("runs", "--limit", "501"),
        ("run", "a", "--wait", "-1"),
        ("run",),
        ("list", "--timeout", "0"),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_told_by_its_name(run, command):
    result = run(*command)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert result.stdout == ""


def test_a_database_that_is_away_is_told_in_one_line():
    app, _ = build({"type": "sqlalchemy", "url": "postgresql+psycopg://me:secret@127.0.0.1:1/db"}, declare)
    for command in (["list"], ["run", "a"], ["plan"]):
        result = invoke(app, *command)
        assert result.exit_code == 1
        assert result.stderr.startswith('Error: Job store "default" is not available: ')
        assert result.stderr.count("\n") == 1
        assert "secret" not in result.output


def test_an_app_without_a_scheduler_is_told():
    from quart_sched.cli import commands

    app = Quart("bare")
    app.cli.add_command(commands)
    result = invoke(app, "list")
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: The app 'bare' has no scheduler of quart_sched; expected APScheduler(app=app)\n",
    )


def test_a_start_up_that_fails_is_told(store):
    app, _ = build(store, declare)

    @app.before_serving
    async def before() -> None:
        raise RuntimeError("no pool")

    result = app.test_cli_runner().invoke(args=["scheduler", "run", "a"])
    assert result.exit_code == 1
    assert result.stderr.endswith("Error: The app could not start: RuntimeError: no pool\n")
