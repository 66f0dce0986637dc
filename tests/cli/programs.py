"""Real processes of the command line's tests: an app in a folder, and what is started for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port

ROOT = Path(__file__).parents[2]

APP = """
import asyncio, os, time

from quart import Quart
from quart_sched import APScheduler
from quart_sched.auth import HTTPBasicAuth

app = Quart(__name__)
app.config.update(
    SCHEDULER_API_ENABLED=True,
    SCHEDULER_TIMEZONE="Europe/Berlin",
    SCHEDULER_SHUTDOWN_TIMEOUT=float(os.environ.get("TIMEOUT", 5)),
    SCHEDULER_POLL_INTERVAL=0.2,
    SCHEDULER_JOB_DEFAULTS={"misfire_grace_time": 60},
)
if "MEMORY" not in os.environ:
    app.config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": "sqlite:///jobs.db"}}
scheduler = APScheduler(app=app)


def note(*words):
    line = " ".join(map(str, (os.getpid(), *words))) + "\\n"
    fd = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)


@app.before_serving
async def before():
    app.pool = "open"
    note("before_serving")


@app.after_serving
async def after():
    note("after_serving")


@scheduler.task("cron", id="answer", hour=3, tags=["maths", "slow"], description="It knows")
async def answer():
    note("answer", app.pool)
    return 42


@scheduler.task("cron", id="fails", hour=4)
def fails():
    raise ValueError("no \\x1b[31mred")


@scheduler.task("cron", id="long", hour=5)
async def long():
    note("begin")
    await asyncio.sleep(float(os.environ.get("LONG", 2)))
    note("end")


@scheduler.task("cron", id="a/b c", hour=6)
async def odd():
    pass


if "TICKS" in os.environ:
    @scheduler.task("interval", id="tick", seconds=0.2)
    async def tick():
        note("tick", time.time_ns())


if "AUTH" in os.environ:
    scheduler.auth = HTTPBasicAuth()

    @scheduler.authenticate
    def judge(credentials):
        if credentials["username"] == "reader":
            return {"read"} if credentials["password"] == "r" else None
        return credentials["username"] == "boss" and credentials["password"] == "pä:ss"


if "NO_START" not in os.environ:
    scheduler.start()
"""


class Folder:
    """A folder with an app, and the processes that are started in it."""

    def __init__(self, path: Path, **environ: str) -> None:
        self.path = path
        self.root = ROOT
        self.environ = environ
        (path / "run_app.py").write_text(APP)
        self._processes: list[subprocess.Popen[str]] = []

    def append(self, code: str) -> None:
        """Add to the app's code."""
        file = self.path / "run_app.py"
        file.write_text(file.read_text() + code)

    def start(self, *command: str, log: str | None = None, **environ: str) -> subprocess.Popen[str]:
        """Start a program of this Python's; what it prints goes into the file `log`, else into pipes."""
        sink: Any = subprocess.PIPE if log is None else (self.path / log).open("w")
        variables = {"PYTHONPATH": str(ROOT), "QUART_APP": "run_app", "PYTHONUNBUFFERED": "1"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUART_")}
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.path,
            env={**inherited, **variables, **self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.PIPE if log is None else subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if log is not None:
            sink.close()
        self._processes.append(process)
        return process

    def quart(self, *args: str, **environ: str) -> tuple[int, str, str]:
        """Run `quart scheduler ...`; return its exit code and what it printed to stdout and stderr."""
        process = self.start("-m", "quart", "scheduler", *args, **environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def worker(self, log: str = "worker.log", **environ: str) -> subprocess.Popen[str]:
        """Start a worker, and wait until it works."""
        process = self.start("-m", "quart", "scheduler", "worker", log=log, **environ)
        until(lambda: "runs the jobs of" in self.text(log) or process.poll() is not None, lambda: self.text(log))
        return process

    def text(self, name: str) -> str:
        file = self.path / name
        return file.read_text() if file.exists() else ""

    def notes(self, word: str) -> list[str]:
        """Return the notes of a kind, each with the pid first."""
        return [line for line in self.text("notes").splitlines() if line.split(" ")[1] == word]

    @contextmanager
    def server(self, **environ: str) -> Iterator[str]:
        """Serve the app with Hypercorn for a block; yield the address of its API."""
        port = free_port()
        process = self.start("-m", "hypercorn", "-b", f"127.0.0.1:{port}", "run_app:app", log="server.log", **environ)
        url = f"http://127.0.0.1:{port}/scheduler"

        def answers() -> bool:
            assert process.poll() is None, self.text("server.log")
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except urllib.error.HTTPError:
                return True
            except OSError:
                return False
            return True

        until(answers, lambda: self.text("server.log"))
        try:
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    def close(self) -> None:
        """End what is left."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def until(condition: Callable[[], Any], report: Callable[[], str] = str, timeout: float = 30) -> Any:
    """Wait for what another process does; return the condition's value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"it did not happen in time:\n{report()}"
        time.sleep(0.02)
    return value
