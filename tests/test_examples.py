"""Every example, run as people run it: as a process that listens on a port and is stopped by SIGTERM.

All processes start together at the first test, so that the tests wait for the jobs' seconds only once.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.ports import free_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
DEPLOYMENT = EXAMPLES / "hypercorn_deployment"
HYPERCORN = (sys.executable, "-m", "hypercorn")
SECONDS = 30.0
"""How long anything may take here: many times what it takes on an idle machine."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """How an example is started; `{port}` stands for its port."""

    command: tuple[str, ...]
    cwd: Path = ROOT
    environ: tuple[tuple[str, str], ...] = ()


def script(name: str, **environ: str) -> Example:
    return Example(command=(sys.executable, f"examples/{name}.py"), environ=tuple(environ.items()))


STARTED = {
    "basic": script("basic"),
    "basic, hypercorn": Example(command=(*HYPERCORN, "basic:app", "--bind", "127.0.0.1:{port}"), cwd=EXAMPLES),
    "jobs_from_config": script("jobs_from_config"),
    "decorators": script("decorators"),
    "factory": Example(command=(sys.executable, "-m", "examples.factory")),
    "factory, hypercorn": Example(command=(*HYPERCORN, "examples.factory:create_app()", "--bind", "127.0.0.1:{port}")),
    "allowed_hosts": script("allowed_hosts"),
    "allowed_hosts, elsewhere": script("allowed_hosts", RUN_JOBS_ON="another-machine"),
    "authentication": script("authentication", ADMIN_PASSWORD="secret"),
    "app_context_database": script("app_context_database", DATABASE="{folder}/ticks.sqlite3"),
    "dynamic_jobs": script("dynamic_jobs"),
    "sync_and_async": script("sync_and_async"),
    "monitoring": script("monitoring"),
    "several_workers": Example(
        command=(*HYPERCORN, "-w", "3", "--bind", "127.0.0.1:{port}", "several_workers:app"),
        cwd=EXAMPLES,
        environ=(("JOBS_URL", "sqlite:///{folder}/jobs.sqlite3"),),
    ),
    "hypercorn_deployment": Example(
        command=(*HYPERCORN, "--config", "hypercorn.toml", "--bind", "127.0.0.1:{port}", "app:app"), cwd=DEPLOYMENT
    ),
    "hypercorn_deployment, development": Example(command=(sys.executable, "app.py"), cwd=DEPLOYMENT),
}


class Running:
    """A started example: its process, its pages and its output."""

    def __init__(self, example: Example, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        # `app.run()` of Quart 0.23 and later exits with 3 when it was told to stop.
        self.clean = {0} if "hypercorn" in example.command else {0, 3}
        self._output = folder / "output.txt"
        environ = {key: value.format(folder=folder) for key, value in example.environ}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [part.format(port=self.port) for part in example.command],
                cwd=example.cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PORT": str(self.port), **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its children can be found as its process group
            )

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        self.until("the port", self.listens)
        with httpx.Client(trust_env=False, timeout=SECONDS) as client:
            return client.request(method, f"http://127.0.0.1:{self.port}{path}", **options)

    def get(self, path: str) -> Any:
        response = self.request("GET", path)
        assert response.status_code == 200, response.text
        return response.json()

    def jobs(self) -> dict[str, dict[str, Any]]:
        return {job["id"]: job for job in self.get("/scheduler/jobs")}

    def prints(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until the output has `times` matches of `pattern`, and return all that it has."""
        matches = re.compile(pattern, re.MULTILINE).findall
        self.until(f"{pattern!r} {times}x", lambda: len(matches(self.output)) >= times)
        return matches(self.output)

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"{what} did not come in {SECONDS} s:\n{self.output}"
            time.sleep(0.05)

    def listens(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> str:
        """Stop it as a service manager does, hold it to a clean exit, and return all that it printed."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(SECONDS)
        assert code in self.clean, f"exit status {code}:\n{self.output}"
        deadline = time.monotonic() + 2  # multiprocessing's own helper process ends just after its parent
        while self.is_left():
            assert time.monotonic() < deadline, "a child process is left"
            time.sleep(0.02)
        assert not self.listens()
        assert "Traceback" not in self.output, self.output
        return self.output

    def is_left(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        if self.is_left():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{username}:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    started: dict[str, Running] = {}
    try:
        for name, example in STARTED.items():
            started[name] = Running(example, tmp_path_factory.mktemp("example"))
        yield started
    finally:
        for each in started.values():
            each.kill()


@pytest.mark.parametrize("name", ["basic", "basic, hypercorn"])
def test_basic(running: dict[str, Running], name: str) -> None:
    example = running[name]
    text = example.request("GET", "/scheduler/jobs").text
    assert text.startswith("[\n")  # pretty-printed
    (job,) = example.jobs().values()
    assert list(job)[:6] == ["id", "name", "func", "args", "kwargs", "trigger"]
    assert job["name"] == "print_interval"
    assert job["func"] == ("__main__:print_interval" if name == "basic" else "basic:print_interval")
    assert (job["seconds"], job["misfire_grace_time"], job["max_instances"]) == (3, 1, 1)
    gaps = example.prints(r"^Seconds since the last time: (\d+)$", times=2)
    assert gaps[1] == "3"
    output = example.stop()
    assert output.startswith("True\n")


def test_jobs_from_config(running: dict[str, Running]) -> None:
    example = running["jobs_from_config"]
    jobs = example.jobs()
    assert jobs["add"]["func"] == "__main__:add"
    assert jobs["add"]["args"] == [1, 2]
    assert (jobs["greet"]["trigger"], jobs["greet"]["second"]) == ("cron", "*/3")
    example.prints(r"^1 \+ 2 = 3$")
    seconds = example.prints(r"^Hello Ada, it is \d\d:\d\d:(\d\d) UTC$", times=2)
    assert all(int(second) % 3 == 0 for second in seconds)
    example.stop()


def test_decorators(running: dict[str, Running]) -> None:
    example = running["decorators"]
    example.prints(r"^before once\nonce: this was the only time\nafter once$")
    run_ids = example.prints(r"^every_two_seconds: tick, run (\S+)$", times=2)
    assert len(set(run_ids)) == len(run_ids)
    assert all(second in "05" for second in example.prints(r"^at_full_seconds: due at \d\d:\d\d:\d(\d)$"))
    jobs = example.jobs()
    assert jobs.keys() == {"every_two_seconds", "at_full_seconds", "new_year"}  # a one-shot job goes when it is done
    assert jobs["at_full_seconds"]["timezone"] == "Europe/Berlin"
    assert jobs["new_year"]["next_run_time"].startswith("2027-01-01T00:00:00")
    example.stop()


@pytest.mark.parametrize("name", ["factory", "factory, hypercorn"])
def test_factory(running: dict[str, Running], name: str) -> None:
    example = running[name]
    assert example.get("/") == {"heartbeat": "interval[0:00:02]"}
    assert example.request("POST", "/countdown/2").status_code == 201
    example.prints(r"^heartbeat of examples\.factory$")
    example.prints(r"^event: heartbeat is done$")
    assert example.prints(r"^countdown: (\d)$", times=3) == ["2", "1", "0"]
    assert example.prints(r"^event: countdown was added$") == ["event: countdown was added"]
    example.until("the countdown's end", lambda: "countdown" not in example.get("/"))
    example.stop()


def test_allowed_hosts(running: dict[str, Running]) -> None:
    here, elsewhere = running["allowed_hosts"], running["allowed_hosts, elsewhere"]
    info = here.get("/scheduler")
    assert info["running"] is True
    assert info["allowed_hosts"] == [info["current_host"]]
    here.prints(r"^job1 runs on ", times=2)
    info = elsewhere.get("/scheduler")
    assert info["running"] is False
    assert info["allowed_hosts"] == ["another-machine"]
    here.stop()
    assert "job1 runs" not in elsewhere.stop()


@pytest.mark.parametrize(
    ("headers", "read", "run"),
    [
        ({}, 401, 401),
        (basic("viewer", "wrong"), 401, 401),
        (basic("viewer", "viewer"), 200, 403),
        (basic("admin", "secret"), 200, 200),
        ({"Authorization": "Bearer monitor-token"}, 200, 403),
        ({"Authorization": "Bearer guess"}, 401, 401),
    ],
    ids=["nobody", "wrong password", "viewer", "admin", "monitor", "wrong token"],
)
def test_authentication(running: dict[str, Running], headers: dict[str, str], read: int, run: int) -> None:
    example = running["authentication"]
    answer = example.request("GET", "/scheduler/jobs", headers=headers)
    assert answer.status_code == read
    assert ("WWW-Authenticate" in answer.headers) == (read == 401)
    assert example.request("POST", "/scheduler/jobs/tick/run", headers=headers).status_code == run


def test_authentication_ends_cleanly(running: dict[str, Running]) -> None:
    example = running["authentication"]
    example.prints("^tick$")
    example.stop()


def test_app_context_database(running: dict[str, Running]) -> None:
    example = running["app_context_database"]
    rows = example.prints(r"^wrote row (\d+)$", times=2)
    assert rows[:2] == ["1", "2"]
    assert example.get("/")["rows"] >= 2
    assert (example.folder / "ticks.sqlite3").is_file()
    example.stop()


async def test_a_database_that_cannot_be_opened_fails_the_run_with_its_own_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE", str(tmp_path / "ticks.sqlite3"))
    monkeypatch.syspath_prepend(EXAMPLES)
    program = importlib.import_module("app_context_database")
    async with program.app.test_app():
        program.app.config["DATABASE"] = str(tmp_path / "missing" / "ticks.sqlite3")
        run = await program.scheduler.aio.run_job("write_row")
        with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
            await run


def test_dynamic_jobs(running: dict[str, Running]) -> None:
    example = running["dynamic_jobs"]
    assert example.jobs() == {}
    body = {"func": "dynamic_jobs:remind", "args": ["drink tea"], "trigger": "interval", "seconds": 2}

    added = example.request("POST", "/scheduler/jobs", json={"id": "tea", **body})
    assert added.status_code == 200, added.text
    assert example.request("POST", "/scheduler/jobs", json={"id": "tea", **body}).status_code == 409
    example.prints("^drink tea$")

    change = {"args": ["drink coffee"], "trigger": "interval", "seconds": 1}
    changed = example.request("PATCH", "/scheduler/jobs/tea", json=change)
    assert changed.status_code == 200, changed.text
    assert (changed.json()["seconds"], changed.json()["args"]) == (1, ["drink coffee"])
    example.prints("^drink coffee$", times=2)

    paused = example.request("POST", "/scheduler/jobs/tea/pause").json()
    assert paused["next_run_time"] is None
    cups = len(example.prints("^drink coffee$"))
    assert example.request("POST", "/scheduler/jobs/tea/run").status_code == 200
    assert len(example.prints("^drink coffee$")) == cups + 1
    assert example.request("POST", "/scheduler/jobs/tea/resume").json()["next_run_time"] is not None

    assert example.request("DELETE", "/scheduler/jobs/tea").status_code == 204
    assert example.jobs() == {}
    assert example.request("POST", "/scheduler/jobs", json={"id": "os", **body, "func": "os:system"}).status_code == 422
    example.stop()


def test_the_curl_lines_of_dynamic_jobs_are_what_its_test_sends() -> None:
    text = (EXAMPLES / "dynamic_jobs.py").read_text(encoding="utf-8")
    sent = re.findall(r"^    curl (?:-X (\w+) )?http://127\.0\.0\.1:5000(\S+)", text, re.MULTILINE)
    assert [(method or "GET", path) for method, path in sent] == [
        ("POST", "/scheduler/jobs"),
        ("GET", "/scheduler/jobs/tea"),
        ("PATCH", "/scheduler/jobs/tea"),
        ("POST", "/scheduler/jobs/tea/pause"),
        ("POST", "/scheduler/jobs/tea/run"),
        ("POST", "/scheduler/jobs/tea/resume"),
        ("DELETE", "/scheduler/jobs/tea"),
    ]


def test_sync_and_async(running: dict[str, Running]) -> None:
    example = running["sync_and_async"]
    # Both print at the same moment, so that one line may run into the other.
    assert set(example.prints(r"on_the_loop ran in (MainThread|quart-sched-job)")) == {"MainThread"}
    assert set(example.prints(r"in_a_thread ran in (MainThread|quart-sched-job)")) == {"quart-sched-job"}
    assert example.get("/") == {"thread": "MainThread"}
    report = example.request("POST", "/report").json()
    assert (report["outcome"], report["result"]) == ("succeeded", "'all is well'")
    assert report["seconds"] >= 1
    example.stop()


def test_monitoring(running: dict[str, Running]) -> None:
    example = running["monitoring"]
    example.prints(r"^job=works run=\S{36} all is well$")
    example.prints(r"^hangs should have run at \d\d:\d\d:\d\d, last success: None$")
    assert example.get("/scheduler/health/live")["status"] == "ok"
    ready = example.get("/scheduler/health/ready")
    assert ready["status"] == "degraded"
    assert ready["reasons"][0].startswith('Job "hangs" is overdue')
    metrics = example.request("GET", "/scheduler/metrics").text
    assert re.search(r'^quart_sched_runs_total\{job="works",outcome="succeeded"\} [1-9]', metrics, re.MULTILINE)
    assert re.search(r'^quart_sched_overdue\{worker="\S+"\} 1.0$', metrics, re.MULTILINE)
    assert example.stop().count("hangs should have run") == 1


def test_several_workers(running: dict[str, Running]) -> None:
    example = running["several_workers"]
    example.until("the third worker", lambda: len(example.get("/scheduler")["workers"]) == 3)
    example.prints(r"ran the fire of (\S+), attempt 1", times=3)
    fires = re.findall(r"ran the fire of (\S+), attempt", example.stop())
    assert len(fires) == len(set(fires)) >= 3


@pytest.mark.parametrize("name", ["hypercorn_deployment", "hypercorn_deployment, development"])
def test_a_deployed_application_finishes_what_runs_when_it_is_stopped(running: dict[str, Running], name: str) -> None:
    example = running[name]
    assert example.jobs().keys() == {"report"}
    begun = len(example.prints(r"^report \S+ begins$"))
    example.prints(r"^report \S+ begins$", times=begun + 1)  # the next one has only just begun
    output = example.stop()
    begins = re.findall(r"^report (\S+) begins$", output, re.MULTILINE)
    assert re.findall(r"^report (\S+) is finished$", output, re.MULTILINE) == begins


def test_every_example_is_run_here() -> None:
    names = {path.stem for path in EXAMPLES.iterdir() if path.suffix == ".py"}
    names |= {path.name for path in EXAMPLES.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert names == {name.partition(",")[0] for name in STARTED}
