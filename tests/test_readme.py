"""The README says what is so: its programs run, its tables are complete, its files exist."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from quart import Quart

from quart_sched import APScheduler
from quart_sched.config import KNOWN_KEYS
from quart_sched.model.jobs import to_wire
from tests.servers.ports import free_port

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CURL = argparse.ArgumentParser()
CURL.add_argument("url")
CURL.add_argument("-X")
CURL.add_argument("-d")
CURL.add_argument("-N", action="store_true")
# A block that is added to the README needs its test here.
QUICK_START, FROM_CODE, POLICIES, BY_HAND, CRONTAB, HOOKS, WITHOUT_SERVER, CLUSTER, SECURITY, TESTING = PYTHON_BLOCKS


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the README, without its head."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a block as the module `run`, as the quick start tells to call its file."""

    def load(block: str) -> Any:
        (tmp_path / "run.py").write_text(block, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("run", None)
        return importlib.import_module("run")

    yield load
    sys.modules.pop("run", None)


async def run_all_jobs(scheduler: APScheduler) -> list[str]:
    """Run each job once, in the order of their ids: that of their next fires depends on the time of the day."""
    jobs = sorted(await scheduler.aio.get_jobs(), key=lambda job: job.id)
    for job in jobs:
        record = await (await scheduler.aio.run_job(job.id))
        assert record.outcome == "succeeded"
    return [job.id for job in jobs]


async def test_the_quick_start(load: Any, capsys: pytest.CaptureFixture[str]) -> None:
    program = load(QUICK_START)
    async with program.app.test_app() as served:
        assert program.scheduler.running
        program.scheduler.pause()  # one of its jobs fires by the clock on the wall
        assert await run_all_jobs(program.scheduler) == ["add", "tick"]
        jobs = await (await served.test_client().get("/scheduler/jobs")).get_json()
        assert sorted(job["func"] for job in jobs) == ["run:add", "run:tick"]
    assert capsys.readouterr().out == "3\ntick\n"


async def test_verbs_from_code(load: Any) -> None:
    program = load(FROM_CODE)
    async with program.app.test_app() as served:
        client = served.test_client()
        created = await client.post("/reminders/tea")
        assert (created.status_code, await created.get_json()) == (201, {"jobs": ["tea"]})
        run = await (await client.post("/reminders/tea/now")).get_json()
        assert run["outcome"] == "succeeded"
        assert [record.run_id for record in program.scheduler.history.records("tea")] == [run["run_id"]]
        assert (await client.delete("/reminders/tea")).status_code == 204
        assert await program.scheduler.aio.get_jobs() == []


async def test_hooks_and_listeners(load: Any) -> None:
    program = load(HOOKS)
    async with program.app.test_app():
        assert await run_all_jobs(program.scheduler) == ["sync"]


async def test_a_hook_that_fails_is_not_hidden_by_the_one_after_the_run(load: Any) -> None:
    program = load(re.sub(r"g\.connection = .*", 'raise ConnectionError("no database")', HOOKS, count=1))
    async with program.app.test_app():
        run = await program.scheduler.aio.run_job("sync")
        with pytest.raises(ConnectionError, match="no database"):
            await run


async def test_without_a_server(load: Any) -> None:
    program = load(WITHOUT_SERVER)
    served = asyncio.create_task(program.main())
    await asyncio.sleep(0)
    assert await run_all_jobs(program.scheduler) == ["tick"]
    assert program.scheduler.running
    served.cancel()
    with pytest.raises(asyncio.CancelledError):
        await served
    assert not program.scheduler.running


async def test_standard_cron(load: Any) -> None:
    program = load(CRONTAB)
    async with program.app.test_app():
        assert await run_all_jobs(program.scheduler) == ["report"]
        shown = to_wire(await program.scheduler.aio.get_job("report"))
        assert f'"trigger_description": "{shown["trigger_description"]}"' in README


def test_a_test_in_virtual_time(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTING)
    options = ("-W", "error", "-o", "asyncio_default_fixture_loop_scope=function")
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)


async def test_timeouts_and_retries(load: Any) -> None:
    program = load(POLICIES)
    async with program.app.test_app():
        assert await run_all_jobs(program.scheduler) == ["import_rates"]
        [job] = await program.scheduler.aio.get_jobs()
        waits = [job.policy.retry.seconds_after(attempt) for attempt in (1, 2, 99)]
        assert all(least <= wait <= least + 5 for wait, least in zip(waits, (10, 20, 300), strict=True))


async def test_runs_by_hand(load: Any) -> None:
    program = load(BY_HAND)
    async with program.app.test_app() as served:
        answer = await served.test_client().post("/reports")
        assert await answer.get_json() == {"runs": 31}
        while (await program.scheduler.aio.runs("report", outcome="queued")).items:
            await asyncio.sleep(0.01)
        done = (await program.scheduler.aio.runs("report", outcome="succeeded")).items
        assert [record.scheduled_at.day for record in reversed(done)] == list(range(1, 32))


async def test_several_workers(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    monkeypatch.setenv("JOBS_URL", url)
    program = load(CLUSTER)
    async with program.app.test_app() as served:
        assert await run_all_jobs(program.scheduler) == ["invoices"]
        info = await (await served.test_client().get("/scheduler")).get_json()
        assert (info["scope"], len(info["workers"])) == ("cluster", 1)
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
        runs = database.execute("SELECT job_id, outcome FROM quart_sched_runs").fetchall()
    assert runs == [("invoices", "succeeded")]


@pytest.mark.parametrize(
    ("user", "read", "run"),
    [
        (None, 401, 401),
        ("viewer:guess", 401, 401),
        ("viewer:rätsel", 401, 401),
        ("viewer:look", 200, 403),
        ("admin:change me", 200, 200),
    ],
)
async def test_security(load: Any, user: str | None, read: int, run: int) -> None:
    program = load(SECURITY)
    headers = {"Authorization": "Basic " + b64encode(user.encode()).decode()} if user else {}
    async with program.app.test_app() as served:
        client = served.test_client()
        assert (await client.get("/scheduler/jobs", headers=headers)).status_code == read
        assert (await client.post("/scheduler/jobs/tick/run", headers=headers)).status_code == run


@pytest.mark.integration
@pytest.mark.parametrize("server", ["hypercorn", "uvicorn"])
def test_the_quick_start_is_served(tmp_path: Path, server: str) -> None:
    (tmp_path / "run.py").write_text(QUICK_START, encoding="utf-8")
    port = free_port()
    address = ["--bind", f"127.0.0.1:{port}"] if server == "hypercorn" else ["--port", str(port)]
    command = [sys.executable, "-m", server, "run:app", *address]
    with (
        (tmp_path / "output.txt").open("wb") as output,
        subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT) as process,
        httpx.Client(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client,
    ):
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    info = client.get("/scheduler").json()
                    break
                except httpx.TransportError:
                    said = (tmp_path / "output.txt").read_text(encoding="utf-8")
                    assert process.poll() is None, said
                    assert time.monotonic() < deadline, said
                    time.sleep(0.05)
            assert info["running"] is True
            assert client.post("/scheduler/jobs/add/run").json()["id"] == "add"
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
        finally:
            process.kill()
    # uvicorn raises the signal once more when it is done, as its way to end.
    assert code == (0 if server == "hypercorn" else -signal.SIGTERM)
    assert "3" in (tmp_path / "output.txt").read_text(encoding="utf-8").splitlines()


def test_the_configuration_table_is_complete() -> None:
    keys = [re.findall(r"`(.+?)`", cells[0])[0] for cells in rows("Configuration")]
    assert sorted(keys) == sorted(KNOWN_KEYS)


def test_the_rest_table_is_complete() -> None:
    app = Quart(__name__)
    app.config.update(SCHEDULER_API_ENABLED=True, SCHEDULER_METRICS_ENABLED=True)
    APScheduler(app=app)
    served = {
        (method, re.sub(r"<(?:\w+:)?\w+>", "<id>", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("scheduler.")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {tuple(cells[0].strip("`").split()) for cells in rows("REST API")} == served


async def test_the_curl_lines_get_the_answers_that_stand_beside_them(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quart_sched.web.events.LIFETIME", 0.1)
    enabled = "    SCHEDULER_API_ENABLED = True\n"
    program = load(QUICK_START.replace(enabled, f"{enabled}    SCHEDULER_METRICS_ENABLED = True\n"))
    async with program.app.test_app() as served:
        client = served.test_client()
        for request, answers, command in rows("REST API"):
            method, path = request.strip("`").split()
            curl = CURL.parse_args(shlex.split(command.strip("`"))[1:])
            url = curl.url.removeprefix("localhost:5000")
            assert url.partition("?")[0] == path.replace(
                "<id>", "$RUN_ID" if path.startswith("/scheduler/runs") else "sum"
            )
            if "$RUN_ID" in url:
                newest = await (await client.get("/scheduler/runs?limit=1")).get_json()
                url = url.replace("$RUN_ID", newest["items"][0]["run_id"])
            assert method == (curl.X or ("POST" if curl.d else "GET"))
            response = await client.open(url, method=method, data=curl.d, headers={"Host": "localhost:5000"})
            assert str(response.status_code) == answers[:3], command


def test_the_extras_are_listed() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"].keys() - {"dev", "bench"}
    [listed] = re.findall(r"the extras(.+?):", README, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == extras


def test_links_within_the_readme_lead_to_its_headings() -> None:
    headings = re.findall(r"^##+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#(.+?)\)", README)) <= anchors


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\((?!https?:|#)(.+?)\)", README) + re.findall(r"\bexamples/\w+\.py", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_there_is_one_command_to_run_the_tests() -> None:
    # .ci/run looks for it by this pattern.
    assert len(re.findall(r"^python3 -m venv .*/pytest( .*)?$", README, re.MULTILINE)) == 1
