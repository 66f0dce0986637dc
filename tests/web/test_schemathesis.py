"""Schemathesis against the live API: nothing that it sends is answered otherwise than the description says."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import types
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, request

from quart_sched import APScheduler
from quart_sched.auth import HTTPBasicAuth
from quart_sched.model import fields
from quart_sched.web import events
from quart_sched.web.endpoints import OPERATIONS
from tests.servers.ports import free_port

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
EXAMPLES = 50
CONFIG = """
[checks]
positive_data_acceptance.enabled = false # schema_valid_is_accepted takes its place
use_after_free.enabled = false # before each request the jobs that were deleted are added again

# An id may hold slashes, so that each path below a job may itself be that of a job, with the methods of one.
[[operations]]
include-path-regex = "^/scheduler/jobs/.+/"
checks.unsupported_method.enabled = false
checks.allow_header_conformance.enabled = false

# Their bodies have a form for each kind of trigger: to try each key of each form takes too long.
[[operations]]
include-operation-id-regex = "^(add_job|update_job|run_job)$"
phases.coverage.enabled = false

# They leave aside a query that has none of their parameters: what_is_wrong_is_refused takes its place.
[[operations]]
include-operation-id-regex = "^(get_jobs|run_job)$"
checks.negative_data_rejection.enabled = false

# Answers 500 where the job failed: a_500_is_a_job_that_failed takes its place.
[[operations]]
include-operation-id = "run_job"
checks.not_a_server_error.enabled = false
"""


async def tick(*args: Any, **kwargs: Any) -> str:
    return "done"


async def sleep(*args: Any, **kwargs: Any) -> None:
    await asyncio.sleep(3600)


def make_app(**config: Any) -> Quart:
    """An app that has, before each request, a job to work on, and one that runs."""
    app = Quart("app")
    app.config.update(
        SCHEDULER_API_ENABLED=True,
        SCHEDULER_METRICS_ENABLED=True,
        SCHEDULER_API_ALLOWED_FUNCS=["app:*"],
        SCHEDULER_AUTH=HTTPBasicAuth(),
        SCHEDULER_TIMEZONE="Europe/Berlin",
        SCHEDULER_SHUTDOWN_TIMEOUT=0.05,
        SCHEDULER_POLL_INTERVAL=0.05,
        **config,
    )
    scheduler = APScheduler(app=app)
    scheduler.authenticate(lambda given: (given["username"], given["password"]) == ("user", "secret"))
    scheduler.start()

    @app.before_request
    async def set_the_scene() -> None:
        if not scheduler.running:
            await scheduler.aio.start()
        await scheduler.aio.resume()
        for job_id, func in (("standing", tick), ("running", sleep)):
            await scheduler.aio.add_job(job_id, func, trigger="interval", hours=1, replace_existing=True)
        if all(run.job_id != "running" for run in scheduler.scheduler.runner.under_way.runs()):
            await scheduler.aio.run_job("running")
        if request.path == "/scheduler/start":
            await scheduler.aio.shutdown(wait=False)

    return app


@contextmanager
def served(app: Quart) -> Iterator[str]:
    """Serve the app from a thread of its own; the URL."""
    config = Config()
    config.bind, config.errorlog = [f"127.0.0.1:{free_port()}"], None
    loop, up, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    @app.before_serving
    async def note() -> None:
        up.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve(app, config, shutdown_trigger=stop.wait))
        loop.close()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    try:
        assert up.wait(30)
        yield f"http://{config.bind[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("app")
    for func in (tick, sleep):
        setattr(module, func.__name__, func)
    module.report = tick  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "app", module)
    for func in (tick, sleep):
        monkeypatch.setattr(func, "__module__", "app")
    # Each of them would be tried in each place.
    monkeypatch.setattr(fields, "available_timezones", lambda: {"UTC", "Europe/Berlin", "America/New_York"})
    fields.zone_names.cache_clear()
    # Schemathesis reads each stream up to its end.
    monkeypatch.setattr(events, "LIFETIME", 0.05)
    yield
    fields.zone_names.cache_clear()


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_everything_is_answered_as_it_is_described(store: str, functions: None, tmp_path: Path) -> None:
    stores = (
        {"default": {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path}/jobs.sqlite"}} if store == "sqlite" else {}
    )
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    report = tmp_path / "report.ndjson"
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", "schemathesis.toml", "run"),
        *("--phases", "coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES), "--generation-deterministic"),
        *("--auth", "user:secret", "--continue-on-failure", "--no-shrink", "--no-color"),
        *("--report", "ndjson", "--report-ndjson-path", str(report)),
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)}
    with served(make_app(SCHEDULER_JOBSTORES=stores)) as url:
        done = subprocess.run(
            [*command, f"{url}/scheduler/openapi.json"],
            check=False, capture_output=True, text=True, timeout=550, cwd=tmp_path, env=environment | {"API_URL": url},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tried, answered = read(report)
    labels = {f"{operation.method} /scheduler{operation.path}": operation for operation in OPERATIONS}
    del labels["GET /scheduler/openapi.json"]  # of the description itself Schemathesis thinks that it has seen it
    assert tried.pop("Stateful tests") > 0  # requests that follow one another
    assert set(tried) == set(labels)
    for label, operation in labels.items():
        if operation.body or operation.query:
            assert tried[label] >= EXAMPLES, label
        assert answered[label] & {*operation.answers}, (label, answered[label])


def read(report: Path) -> tuple[Counter[str], dict[str, set[int]]]:
    """How many requests each operation got, and the statuses of the answers."""
    tried: Counter[str] = Counter()
    answered: dict[str, set[int]] = defaultdict(set)
    for line in report.read_text().splitlines():
        [(event, content)] = json.loads(line).items()
        if event == "ScenarioFinished":
            recorder = content["recorder"]
            tried[recorder["label"]] += len(recorder.get("cases", ()))
            for interaction in recorder.get("interactions", {}).values():
                if response := interaction.get("response"):
                    answered[recorder["label"]].add(response["status_code"])
    return tried, answered
