"""The job that every contender runs, and the book in which it notes that it ran.

Its functions are module-level, as SQL stores keep references. Where a scheduler does not run jobs in the app's context,
the job enters it, as its user's would have to; a Quart app's context cannot be entered in a thread, so that plain
functions of AsyncIOScheduler run without.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import flask
from quart import Quart, current_app


class Score:
    """What ran, and how late. `expected` runs set `done`."""

    def __init__(self, expected: int, *, drifts: bool = False) -> None:
        """Take a contender that `drifts` by its own schedule: its next run is due one period after its last."""
        self.expected = expected
        self.done = asyncio.Event()
        self.runs: list[int] = []
        self.last = 0.0
        self.due: dict[int, tuple[float, float]] | None = None
        """When each job was due first, in seconds since 1970, and its period; only where lateness is asked for."""
        self.late: list[float] = []
        self._drifts = drifts
        self._loop = asyncio.get_running_loop()

    def count(self, number: int) -> None:
        """Note that a job ran; from any thread, as appending is atomic."""
        if self.due is not None:
            now = time.time()
            first, every = self.due[number]
            # Also where a fire was left out this is the time since the last one that was due.
            self.late.append((now - first) % every if not self._drifts else now - first)
            if self._drifts:
                self.due[number] = (now + every, every)
        self.runs.append(number)
        self.last = time.perf_counter()
        if len(self.runs) >= self.expected and not self.done.is_set():
            self._loop.call_soon_threadsafe(self.done.set)


app: Quart
flask_app: Any
score: Score


def begin(quart_app: Quart, new: Score) -> None:
    """Let the jobs belong to this app, and count for this score."""
    global app, flask_app, score
    app, score, flask_app = quart_app, new, flask.Flask("bench")


async def in_context(number: int) -> None:
    """A job of a scheduler that runs it in the app's context."""
    assert current_app.name
    score.count(number)


async def enters_context(number: int) -> None:
    """The same, of one that does not."""
    async with app.app_context():
        assert current_app.name
        score.count(number)


def sync_in_context(number: int) -> None:
    """A plain function of a scheduler that runs it in the app's context."""
    assert current_app.name
    score.count(number)


def sync_without_context(number: int) -> None:
    """The same, of one whose app has no context for threads."""
    score.count(number)


def sync_enters_context(number: int) -> None:
    """The same, beside a Flask app."""
    with flask_app.app_context():
        assert flask.current_app.name
        score.count(number)


def sleeps(number: int) -> None:
    """A plain function that waits for something for 1 ms."""
    time.sleep(0.001)
    score.count(number)
