"""Real servers, real signals: the scheduler starts once per serving process, and ends without a loose end.

What happened is read from a file to which the jobs append, and from the operating system.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ports import free_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PYTHONS = [sys.executable, *filter(None, os.environ.get("QUART_SCHED_PYTHONS", "").split(os.pathsep))]

APP = """
import asyncio, os, time
from quart import Quart
from quart_sched import APScheduler

app = Quart(__name__)
scheduler = APScheduler()


def note(*words):
    line = " ".join(map(str, (os.getpid(), time.time(), *words))) + "\\n"
    fd = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)


@scheduler.task("interval", id="tick", seconds=0.2)
async def tick():
    note("tick")


@scheduler.task("date", id="coroutine")
async def coroutine():
    note("begin", "coroutine")
    await asyncio.sleep(float(os.environ.get("LONG", 3)))
    note("end", "coroutine")


@scheduler.task("date", id="function")
def function():
    note("begin", "function")
    time.sleep(float(os.environ.get("LONG", 3)))
    note("end", "function")


@app.route("/")
async def index():
    return str(os.getpid())


@app.route("/slow")
async def slow():
    await asyncio.sleep(2)
    note("answered")
    return ""


@app.after_serving
async def after():
    note("after_serving")


app.config.update(SCHEDULER_API_ENABLED=True, SCHEDULER_SHUTDOWN_TIMEOUT=float(os.environ.get("TIMEOUT", 5)))
scheduler.init_app(app)
scheduler.start()
note("loaded")

if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), use_reloader=False)
"""


@dataclass(frozen=True)
class Note:
    pid: int
    at: float
    what: str


class Server:
    """A server process in a group of its own, ended with the test whatever happens."""

    def __init__(self, folder: Path, command: str, python: str, **environ: str) -> None:
        (folder / "run.py").write_text(APP)
        self.folder = folder
        self.port = free_port()
        self.notes_path = folder / "notes"
        paths = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, *command.format(port=self.port).split()],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": paths, "NOTES": str(self.notes_path),
                     "PORT": str(self.port), "PYTHONUNBUFFERED": "1", **environ},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def notes(self, what: str = "") -> list[Note]:
        text = self.notes_path.read_text() if self.notes_path.exists() else ""
        parsed = (line.split(" ", 2) for line in text.splitlines())
        return [Note(int(pid), float(at), words) for pid, at, words in parsed if words.startswith(what)]

    def until(self, what: str, condition: Callable[[], Any], timeout: float = 30) -> Any:
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f"no {what} in time:\n{self.log.read_text()}"
            time.sleep(0.02)
        return value

    def until_busy(self, workers: int = 1) -> None:
        """Wait until each worker has both long jobs under way and has fired a tick."""
        self.until("busy workers", lambda: len({(n.pid, n.what) for n in self.notes("begin")}) == 2 * workers)
        self.until("ticks", lambda: len({n.pid for n in self.notes("tick")}) == workers)

    def members(self) -> list[int]:
        """The living processes of the group; zombies are none."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if int(group) == self.process.pid and state not in "ZX":
                    found.append(int(entry.name))
        return found

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            text: str = response.read().decode()
            return text

    def answers(self) -> bool:
        try:
            self.get("/")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def ends(self, timeout: float = 15) -> int:
        """Wait for the end of the whole group; return the first process's status."""
        self.until("end", lambda: self.process.poll() is not None, timeout)
        self.until("end of the group", lambda: not self.members(), timeout)
        return self.process.wait()

    def kill(self) -> None:
        if self.members():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture(params=PYTHONS, ids=lambda python: Path(python).parents[1].name)
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(command: str, **environ: str) -> Server:
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(Server(folder, command, request.param, **environ))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


HYPERCORN = "-m hypercorn -b 127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("command", "workers"),
    [
        ("run.py", 1),
        ("-m quart --app run run --port {port}", 1),
        ("-m quart --app run run --port {port} --reload", 1),
        (f"{HYPERCORN} run:app", 1),
        (f"{HYPERCORN} -w 0 run:app", 1),
        (f"{HYPERCORN} -w 3 run:app", 3),
        (f"{HYPERCORN} --reload run:app", 1),
        ("-m uvicorn --port {port} run:app", 1),
        ("-m uvicorn --port {port} --workers 2 run:app", 2),
    ],
)
def test_it_starts_once_in_each_serving_process_and_nowhere_else(serve, command, workers):
    server = serve(command, LONG="0")
    server.until_busy(workers)
    server.until("an answer", server.answers)
    time.sleep(0.5)  # for a start too many to show
    begun = Counter((note.pid, note.what) for note in server.notes("begin"))
    assert len(begun) == 2 * workers
    assert set(begun.values()) == {1}
    loaded = {note.pid for note in server.notes("loaded")}
    assert {note.pid for note in server.notes("tick")} <= loaded
    if workers > 1:
        assert server.process.pid not in {note.pid for note in server.notes("tick")}
        assert f"{workers} workers serve this app" in server.log.read_text()
    os.killpg(server.process.pid, signal.SIGINT)
    server.ends()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    ("command", "workers", "target", "number", "status"),
    [
        ("run.py", 1, "master", signal.SIGTERM, None),  # app.run's own status: 0, from Quart 0.23 on 3
        ("run.py", 1, "group", signal.SIGINT, None),
        (f"{HYPERCORN} -w 0 run:app", 1, "master", signal.SIGTERM, 0),
        (f"{HYPERCORN} run:app", 1, "master", signal.SIGTERM, 0),
        (f"{HYPERCORN} run:app", 1, "group", signal.SIGTERM, None),
        (f"{HYPERCORN} run:app", 1, "worker", signal.SIGTERM, None),
        (f"{HYPERCORN} run:app", 1, "group", signal.SIGINT, 0),
        (f"{HYPERCORN} run:app", 1, "master", signal.SIGKILL, -signal.SIGKILL),
        (f"{HYPERCORN} -w 4 run:app", 4, "master", signal.SIGTERM, 0),
        (f"{HYPERCORN} -w 4 run:app", 4, "group", signal.SIGTERM, None),
        (f"{HYPERCORN} -w 4 run:app", 4, "worker", signal.SIGTERM, None),
        (f"{HYPERCORN} -w 4 run:app", 4, "group", signal.SIGINT, 0),
        (f"{HYPERCORN} -w 4 run:app", 4, "master", signal.SIGKILL, -signal.SIGKILL),
        ("-m uvicorn --port {port} run:app", 1, "master", signal.SIGTERM, -signal.SIGTERM),
        ("-m uvicorn --port {port} --workers 2 run:app", 2, "master", signal.SIGTERM, None),
    ],
)
def test_what_runs_is_finished_and_nothing_begins_any_more(serve, command, workers, target, number, status):
    server = serve(command, LONG="1.5")
    server.until_busy(workers)
    sent = time.time()
    if target == "group":
        os.killpg(server.process.pid, number)
    else:
        one = server.notes("begin")[0].pid
        os.kill(server.process.pid if target == "master" else one, number)
    ended = server.ends()
    if status is not None:
        assert ended == status
    assert Counter(n.pid for n in server.notes("end")) == Counter(n.pid for n in server.notes("begin"))
    # The signalled process knows at once; a worker whose master passes the word on looks every 0.1 s, and where only
    # one worker was told, the others hear of it when it has drained.
    if target != "worker":
        assert [n for n in server.notes("tick") if n.at > sent + 0.5] == []
    end_of_jobs = max(note.at for note in server.notes("end"))
    assert [n for n in server.notes("tick") if n.at > end_of_jobs + 0.5] == []


def test_firing_stops_while_a_slow_request_still_holds_the_server(serve):
    server = serve(f"{HYPERCORN} -w 0 run:app", LONG="0")
    server.until_busy()
    server.until("an answer", server.answers)
    slow = subprocess.Popen(
        [sys.executable, "-c", f"import urllib.request as u; u.urlopen('http://127.0.0.1:{server.port}/slow').read()"]
    )
    time.sleep(0.7)  # until it has arrived
    sent = time.time()
    server.process.terminate()
    assert server.ends() == 0
    slow.wait(10)
    [answered] = server.notes("answered")
    assert answered.at > sent + 0.5
    assert [n for n in server.notes("tick") if n.at > sent + 0.3] == []
    assert server.notes("after_serving")


def test_what_outlasts_the_deadline_does_not_hold_the_exit(serve):
    server = serve(f"{HYPERCORN} run:app", LONG="60", TIMEOUT="0.5")
    server.until_busy()
    sent = time.time()
    server.process.terminate()
    server.ends()
    assert time.time() - sent < 10
    assert server.notes("end") == []
    assert "Cancelling 2 job run(s) that did not end within" in server.log.read_text()


def test_a_reload_drains_the_old_worker_and_starts_a_new_one(serve):
    server = serve(f"{HYPERCORN} --reload run:app", LONG="1")
    server.until_busy()
    server.until("an answer", server.answers)
    [first] = {note.pid for note in server.notes("tick")}
    time.sleep(1.1)  # file times may have a resolution of a second
    (server.folder / "run.py").write_text(APP + "\n# changed\n")
    server.until("a second worker", lambda: len({n.pid for n in server.notes("tick")}) == 2)
    last = max(note.at for note in server.notes("tick") if note.pid == first)
    assert all(note.at > last for note in server.notes("tick") if note.pid != first)
    server.until("ends", lambda: len(server.notes("end")) == 4)
    server.process.terminate()
    server.ends()


ISSUE = """
import time
from quart import Quart
from quart_sched import APScheduler

app = Quart(__name__)
scheduler = APScheduler()
start = time.time()

@scheduler.task('interval', id='job1', seconds=3)
def print_interval():
    global start
    print(f"间隔时间：{round(time.time() - start)}")
    start = time.time()

class Config:
    JSONIFY_PRETTYPRINT_REGULAR = True
    SCHEDULER_API_ENABLED = True

app.config.from_object(Config)
scheduler.init_app(app)
print(scheduler.api_enabled)
scheduler.start()
if __name__ == '__main__':
    import os
    app.run(port=int(os.environ["PORT"]))
"""


@pytest.mark.parametrize(("command", "module"), [("issue.py", "__main__"), (f"{HYPERCORN} issue:app", "issue")])
def test_a_program_for_flask_apscheduler_runs_with_other_imports(tmp_path, command, module):
    (tmp_path / "issue.py").write_text(ISSUE)
    server = Server(tmp_path, command, sys.executable)
    try:
        server.until("two intervals", lambda: server.log.read_text().count("间隔时间：3") >= 2)
        text = server.get("/scheduler/jobs")
        shown = text.replace(" ", "").replace("\n", "")
        assert shown.startswith(
            f'[{{"id":"job1","name":"print_interval","func":"{module}:print_interval","args":[],"kwargs":{{}},'
            '"trigger":"interval","start_date":"'
        )
        assert text.startswith('[\n  {\n    "id": "job1",')
        order = ["seconds", "timezone", "misfire_grace_time", "max_instances", "next_run_time"]
        places = [text.index(f'"{key}"') for key in order]
        assert places == sorted(places)
        assert "True" in server.log.read_text()
        os.killpg(server.process.pid, signal.SIGINT)
        server.ends()
    finally:
        server.kill()


SCRIPT = """
import asyncio, threading
from quart_sched import APScheduler

scheduler = APScheduler()
done = asyncio.Event()


@scheduler.task("interval", id="job", seconds=0.05)
async def job():
    done.set()


@scheduler.task("interval", id="function", seconds=0.05)
def function(): ...


async def main():
    await scheduler.aio.start()
    await done.wait()
    await scheduler.aio.shutdown()
    await asyncio.sleep(0.1)
    print("threads", [t.name for t in threading.enumerate() if t.name.startswith("quart-sched")])


asyncio.run(main())
"""


def test_a_script_without_a_server_ends_clean(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "threads []\n"
