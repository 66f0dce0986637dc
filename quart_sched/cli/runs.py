"""`quart scheduler runs | run`: what ran, and what is to run now."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..errors import RunNotFound
from ..model import pages
from ..model.runs import OUTCOMES, STATES
from . import tables
from .backends import Backend, Wire
from .messages import line
from .options import json_of, on_scheduler

UNFINISHED = 3
"""Exit code where a run had not ended when the wait was over, or how it ended is not on record."""
_LOOKS = (0.05, 1.0)
"""Seconds between looks at a run: at first, and at most."""


@click.command("runs")
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--outcome", type=click.Choice((*OUTCOMES, *STATES)), help="Only the runs with this outcome or state.")
@click.option("--limit", type=click.IntRange(1, pages.LONGEST), default=20, show_default=True, help="How many.")
@click.option("--details", is_flag=True, help="With the traceback and the log lines of each run.")
@on_scheduler
async def list_runs(
    backend: Backend, *, as_json: bool, job_id: str | None, outcome: str | None, limit: int, details: bool
) -> None:
    """List what runs and what has run, of one job or of all, newest first."""
    found = await backend.runs(job_id, outcome, limit)
    if details:
        found = found | {"items": [await backend.record(run["run_id"]) for run in found["items"]]}
    if as_json:
        tables.echo_json(found)
        return
    rows = [
        (
            tables.when(run["scheduled_at"]), run["job_id"], run["outcome"], tables.duration(run["duration"]),
            run["cause"], run["run_id"], _error(run),
        )
        for run in found["items"]
    ]  # fmt: skip
    below = [_output(run) for run in found["items"]] if details else []
    tables.table(("SCHEDULED", "JOB", "OUTCOME", "TOOK", "CAUSE", "RUN", "ERROR"), rows, below)


@click.command("run")
@click.argument("job_id", metavar="ID")
@click.option("--wait", type=click.FloatRange(0, 86400), metavar="SECONDS", help="How long to wait for its end.")
@click.option("--args", callback=json_of(list), metavar="JSON", help="A list in place of the job's arguments.")
@click.option("--kwargs", callback=json_of(dict), metavar="JSON", help="An object for its keyword arguments.")
@on_scheduler
async def run(
    backend: Backend, *, as_json: bool, job_id: str, wait: float | None, args: list[Any] | None,
    kwargs: dict[str, Any] | None,
) -> None:  # fmt: skip
    """Run a job once beside its schedule, also a paused one.

    With --url the server runs it, and goes on when this command does not wait for its end, or not any more. Without, it
    runs in this process, within the app's start-up and shutdown; this waits for its end, and after --wait seconds, or
    at Ctrl-C or SIGTERM, the run is cancelled. With an SQL store its retries are made by the processes that serve;
    where none does, a retry is cancelled.

    Exits with 0 where the run succeeded, or was not waited for, with 3 where it has not ended, or how it ended is not
    on record, else with 1.
    """
    arguments = {key: value for key, value in (("args", args), ("kwargs", kwargs)) if value is not None}
    async with backend.running(job_id, arguments) as run_id:
        if wait is None and not backend.ends_runs:
            started = {"run_id": run_id, "job_id": job_id}
            tables.echo_json(started) if as_json else tables.echo(line(f"Run {run_id} of job {job_id} started"))
            return
        with _spinner(f"{job_id} runs") as turn:
            record = await follow(backend, run_id, wait, turn, given_up=backend.is_stranded)
    if record is None:
        gone = {"run_id": run_id, "job_id": job_id, "outcome": None}
        text = f"Run {run_id} of job {job_id} is not on record (any more), so that it is not known how it ended"
        tables.echo_json(gone) if as_json else tables.echo(line(text))
        raise click.exceptions.Exit(UNFINISHED)
    ended_in_time = record["final"]
    if not ended_in_time and backend.ends_runs:
        # It was cancelled meanwhile, or its next attempt was.
        last = (await backend.record(record["run_id"]))["attempts"][-1]
        record = await backend.record(last)
    if as_json:
        tables.echo_json(record)
    else:
        ended = record["outcome"]
        if not ended_in_time:
            late = "as" if ended == "cancelled" else "and"
            nobody = "no process runs the jobs that could make this attempt"
            ended += f", {late} {nobody if wait is None else f'it had not ended after {wait:g} s'}"
        took = f" in {tables.duration(record['duration'])}" if record["duration"] is not None else ""
        tables.echo(line(f"Run {record['run_id']} of job {job_id}: {ended}{took}"))
        if error := _error(record):
            tables.echo(line(error))
    if record["outcome"] != "succeeded":
        raise click.exceptions.Exit(1 if ended_in_time else UNFINISHED)


async def follow(
    backend: Backend,
    run_id: str,
    wait: float | None = None,
    turn: Iterator[None] | None = None,
    *,
    given_up: Callable[[Wire], Awaitable[bool]] | None = None,
) -> Wire | None:
    """Return the run's record when its fire is over, retries included, or as it stands after `wait` seconds.

    Without `wait`, also as it stands when it is `given_up`. None: it is not on record, as with a server that keeps few
    records, or none.
    """
    loop = asyncio.get_running_loop()
    deadline = None if wait is None else loop.time() + wait
    pause, longest = _LOOKS
    while True:
        try:
            record = await backend.record(run_id)
        except RunNotFound:
            return None
        left = longest if deadline is None else deadline - loop.time()
        if record["final"] or left <= 0:
            return record
        if record["attempts"][-1] != run_id and record["outcome"] not in STATES:
            run_id = record["attempts"][-1]
            continue
        if deadline is None and given_up is not None and await given_up(record):
            return record
        if turn is not None:
            next(turn)
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, longest)


@contextmanager
def _spinner(text: str) -> Iterator[Iterator[None]]:
    """On a terminal, show that something goes on, each time that the iterator is asked."""
    begin = asyncio.get_running_loop().time()
    shows = sys.stderr.isatty()

    def turns() -> Iterator[None]:
        for sign in itertools.cycle("|/-\\"):
            if shows:
                seconds = asyncio.get_running_loop().time() - begin
                click.echo(f"\r{sign} {line(text)}, {seconds:.0f} s", nl=False, err=True)
            yield

    try:
        yield turns()
    finally:
        if shows:
            click.echo("\r\x1b[K", nl=False, err=True)


def _output(record: Wire) -> str:
    """Return what stands below a run: its traceback, and what it logged."""
    log = record["log"] and f"Log:\n{record['log']}"
    return "\n".join(filter(None, (record["traceback"], log)))


def _error(run: Wire) -> str:
    error = run["error"]
    return "" if error is None else ": ".join(filter(None, (error["type"], error["message"])))
