"""The fleet: real server processes that share one database, and a window of time in which their jobs fire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.faults.accounts import Note, Record, Schedule
from tests.servers.databases import listens
from tests.servers.ports import free_port

ROOT = Path(__file__).parents[2]
_ERROR = re.compile(r"^Traceback .*\n(?:[ \t].*\n)*(\S.*)", re.MULTILINE)
"""A traceback, with the line that names the error."""
LEAD = 2.0
"""Seconds from the moment at which all processes have loaded to the first fire, if that is enough."""
EXIT = 10.0
"""Seconds in which a process that was told to end has to be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything; durations in seconds."""

    seconds: int
    processes: int
    jobs: int
    heartbeat: float = 0.5
    lease: float = 2.0
    poll_interval: float = 1.0
    grace: int = 60


class TooSlow(Exception):
    """The jobs were not in the store before the first fire was due: the machine has too much to do."""


class Process:
    """A server with one worker that serves tests/faults/app.py, in a process group of its own."""

    def __init__(self, folder: Path, name: str, plan: dict[str, object]) -> None:
        self.name = name
        self.notes = folder / f"{name}.notes"
        self.log = folder / f"{name}.log"
        self.port = free_port()
        environ = {
            **os.environ,
            "FLEET": json.dumps(plan | {"notes": str(self.notes)}),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        server = ["-m", "hypercorn", "-w", "0", "-b", f"127.0.0.1:{self.port}", "tests.faults.app:app"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, *server],
                cwd=folder,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._read = 0
        self._open: dict[str, None] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def begin(self, first: float) -> None:
        """Let it serve, its jobs firing from `first` on, in seconds since 1970 UTC."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{first}\n".encode())
        self._process.stdin.close()

    async def until(self, word: str, timeout: float = 60) -> None:
        """Wait until the process has noted that it is so far. Raises RuntimeError with its log."""
        deadline = time.monotonic() + timeout
        while not (self.notes.exists() and f"{word} " in self.notes.read_text()):
            if not self.alive or time.monotonic() > deadline:
                raise RuntimeError(f"process {self.name} is not {word}:\n{self.log.read_text()[-4000:]}")
            await asyncio.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ends(self, timeout: float = EXIT) -> bool:
        """Wait for its end, and return whether it came by itself."""
        deadline = time.monotonic() + timeout
        while self.alive and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        by_itself = not self.alive
        self.kill()
        return by_itself

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def under_way(self) -> int:
        """How many runs it has started and not ended, by what it has written so far."""
        with self.notes.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for note in Note.read(whole.decode()):
            if note.what == "start":
                self._open[note.run_id] = None
            else:
                self._open.pop(note.run_id, None)
        return len(self._open)


class Fleet:
    """The processes of one trial. `problems` collects what went wrong with the processes themselves."""

    def __init__(
        self, folder: Path, url: str, size: Size, *, on_crash: str = "lost", lead: float = LEAD, through: str = ""
    ) -> None:
        """Let the processes use the database by the URL `through`, if given; `url` is the direct way."""
        folder.mkdir(parents=True)
        self.lead = lead
        self.size = size
        self.url = url
        self.processes: list[Process] = []
        self.problems: list[str] = []
        self.first = 0.0
        self._folder = folder
        self._all: list[Process] = []
        settings = {"heartbeat": size.heartbeat, "lease": size.lease, "poll_interval": size.poll_interval}
        self._plan: dict[str, object] = {"url": through or url, "on_crash": on_crash, "settings": settings} | {
            key: getattr(size, key) for key in ("jobs", "seconds", "grace")
        }
        self._engine = sa.create_engine(url, poolclass=sa.NullPool)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Fleet]:
        """Start all processes, set the first fire to a whole second soon, and end them in good order.

        Raises TooSlow.
        """
        try:
            self.processes = [self._start(str(number)) for number in range(self.size.processes)]
            await asyncio.gather(*(process.until("loaded") for process in self.processes))
            self.first = float(math.ceil(time.time() + self.lead))
            for process in self.processes:
                process.begin(self.first)
            await asyncio.gather(*(process.until("serving") for process in self.processes))
            while self._declared() < self.size.jobs:
                await asyncio.sleep(0.05)
                if time.time() > self.first + EXIT:
                    raise RuntimeError("the jobs are not in the store")
            if time.time() > self.first:
                raise TooSlow
            yield self
            await self._end()
        finally:
            for process in self._all:
                process.kill()
            self._engine.dispose()

    def _declared(self) -> int:
        if not sa.inspect(self._engine).has_table("quart_sched_jobs"):
            return 0
        return len(self._rows("SELECT id FROM quart_sched_jobs"))

    def _start(self, name: str) -> Process:
        process = Process(self._folder, name, self._plan)
        self._all.append(process)
        return process

    async def _end(self) -> None:
        self.send(signal.SIGTERM)
        await asyncio.gather(*(self._ended(process) for process in self.processes))

    async def _ended(self, process: Process) -> None:
        if not await process.ends():
            self.problems.append(f"process {process.name} did not end within {EXIT:g} s of SIGTERM")
        if listens(process.port):
            self.problems.append(f"port {process.port} of process {process.name} is still open")

    async def replace(self, process: Process) -> None:
        """End a process in good order and start another in its place."""
        process.send(signal.SIGTERM)
        await self._ended(process)
        successor = self._start(process.name + "'")
        self.processes[self.processes.index(process)] = successor
        successor.begin(self.first)
        await successor.until("serving")

    def dies(self, process: Process) -> None:
        """Kill a process, which nobody is to expect back."""
        process.kill()
        self.processes.remove(process)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all."""
        for process in self.processes:
            process.send(number)

    async def moment(self, seconds: float) -> None:
        """Wait until so long after the first fire."""
        await asyncio.sleep(max(0.0, self.first + seconds - time.time()))

    async def busy(self, timeout: float = 5) -> Process:
        """Return the process with the most runs under way, at a moment at which there are some."""
        deadline = time.monotonic() + timeout
        while True:
            busiest = max(self.processes, key=Process.under_way)
            if busiest.under_way():
                return busiest
            if time.monotonic() > deadline:
                raise RuntimeError("no process has a run under way")
            await asyncio.sleep(0.002)

    async def quiet(self) -> None:
        """Wait until the window is over and everything due in it has been dealt with, as far as it will be."""
        await self.moment(self.size.seconds)
        deadline = time.monotonic() + 3 * self.size.lease + 2 * self.size.poll_interval + 5
        fires = self.size.jobs * self.size.seconds
        while time.monotonic() < deadline:
            recorded = sum((record.fires or 1) for record in self.records() if record.final)
            if recorded >= fires and not self.live() and self.here() == len(self.processes):
                return
            await asyncio.sleep(0.25)

    def schedule(self) -> Schedule:
        jobs = [f"job{number:04}" for number in range(self.size.jobs)]
        return Schedule(jobs, int(self.first) * 1_000_000, self.size.seconds)

    def notes(self) -> list[Note]:
        return [note for process in self._all for note in Note.read(process.notes.read_text())]

    def records(self) -> list[Record]:
        """The history of what the schedule caused."""
        columns = "run_id, job_id, sched_us, first_us, fires, outcome, final, attempt"
        return [Record(*row) for row in self._rows(f"SELECT {columns} FROM quart_sched_runs")]

    def live(self) -> int:
        """How many runs are under way, or wait."""
        return len(self._rows("SELECT run_id FROM quart_sched_live"))

    def to_come(self) -> int:
        """How many jobs still have a fire to come: none is to have one once the window is over."""
        return len(self._rows("SELECT id FROM quart_sched_jobs WHERE next_us IS NOT NULL"))

    def due_is_locked(self) -> bool:
        """Whether some process has a lock on jobs that are due."""
        due = f"SELECT id FROM quart_sched_jobs WHERE next_us <= {time.time_ns() // 1000}"
        return len(self._rows(f"{due} FOR UPDATE SKIP LOCKED")) < len(self._rows(due))

    def here(self) -> int:
        """How many process sessions are not known to be over."""
        return len(self._rows("SELECT id FROM quart_sched_workers WHERE gone_us IS NULL"))

    def complaints(self) -> list[str]:
        """What the processes' logs tell of errors that nobody was prepared for."""
        found = {
            process.name: sorted(set(_ERROR.findall(process.log.read_text(errors="replace")))) for process in self._all
        }
        return [f"process {name} logged a traceback: {'; '.join(errors)}" for name, errors in found.items() if errors]

    def _rows(self, statement: str) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(sa.text(statement)).all()
