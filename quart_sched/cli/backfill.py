"""`quart scheduler backfill`: past fires of a job that are to run after all."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from . import tables
from .backends import Backend, Wire
from .options import on_scheduler
from .runs import UNFINISHED, follow

_UNKNOWN = "unknown"
"""Stands for the outcome of a run that is not on record."""


@click.command("backfill")
@click.argument("job_id", metavar="ID")
@click.option("--from", "start", metavar="TIME", required=True, help="The first fire, in ISO 8601.")
@click.option("--to", "end", metavar="TIME", help="Fires before this, not at it. [default: now]")
@click.option("--dry-run", is_flag=True, help="Say which fires would run, and run none.")
@click.option("--concurrency", type=click.IntRange(1, 100), default=1, show_default=True, help="How many at once.")
@click.option("--rerun", is_flag=True, help="Also fires that have succeeded.")
@click.option("--no-wait", is_flag=True, help="Do not wait for their end.")
@on_scheduler
async def backfill(backend: Backend, *, as_json: bool, job_id: str, no_wait: bool, **request: Any) -> None:
    """Run the past fires of a job, each with the time that it was due at.

    With --url, and with an SQL store, they run where the job's other fires do, and go on when this command does not
    wait for them any more. Else they run in this process.

    Exits with 1 where one of them did not succeed, and with 3 where how one ended is not on record.
    """
    given = {key: value for key, value in request.items() if value is not None}
    async with backend.filling(job_id, given) as found:
        run_ids = [item["run_id"] for item in found["items"] if item["run_id"] is not None]
        if not run_ids or no_wait:
            _print(found, as_json)
            return
        records = []
        with _bar(len(run_ids)) as advance:
            for run_id in run_ids:
                records.append(await follow(backend, run_id))
                next(advance)
    outcomes = Counter(_UNKNOWN if record is None else record["outcome"] for record in records)
    if as_json:
        tables.echo_json(found | {"outcomes": dict(outcomes)})
    else:
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        tables.echo(f"{_fires(run_ids)}: {told}; {found['left_out']} left out")
    if set(outcomes) != {"succeeded"}:
        raise click.exceptions.Exit(UNFINISHED if set(outcomes) <= {"succeeded", _UNKNOWN} else 1)


def _print(found: Wire, as_json: bool) -> None:
    if as_json:
        tables.echo_json(found)
        return
    if found["items"]:
        rows = [(tables.moment(item["scheduled_at"]), item["run_id"] or "-") for item in found["items"]]
        tables.table(("FIRE", "RUN"), rows)
    would = "would run" if found["dry_run"] else "run"
    tables.echo(f"{_fires(found['items'])} {would}; {found['left_out']} left out")


def _fires(items: Sequence[Any]) -> str:
    return f"{len(items)} fire{'' if len(items) == 1 else 's'}"


@contextmanager
def _bar(length: int) -> Iterator[Iterator[None]]:
    """On a terminal, show how many of them are over: one more each time that the iterator is asked."""

    def advances(bar: Any) -> Iterator[None]:
        while True:
            if bar is not None:
                bar.update(1)
            yield

    if sys.stderr.isatty():
        with click.progressbar(length=length, label="Fires", file=sys.stderr) as bar:
            yield advances(bar)
    else:
        yield advances(None)
