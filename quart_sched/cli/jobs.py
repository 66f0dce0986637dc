"""`quart scheduler list | show | next | explain | pause | resume | remove`: the jobs."""

from __future__ import annotations

from typing import Any

import click

from ..engine.pauses import ALL_PAUSED
from . import tables
from .backends import Backend
from .messages import Refused, ask, line, note
from .options import on_scheduler

_STATES = ("pending", "broken", "paused", "scheduled")


@click.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Only the jobs in this state.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only the jobs with this tag; may be repeated.")
@on_scheduler
async def list_jobs(backend: Backend, *, as_json: bool, state: str | None, tags: tuple[str, ...]) -> None:
    """List the jobs by time of their next fire."""
    found = [
        job for job in await backend.jobs() if state in (None, job["state"]) and set(tags) <= set(job.get("tags") or ())
    ]
    if as_json:
        tables.echo_json(found)
        return
    if await backend.paused():
        note(f"{ALL_PAUSED}.")
    rows = [
        (job["id"], job["state"], tables.when(job.get("next_run_time")), job["trigger_description"]) for job in found
    ]
    tables.table(("JOB", "STATE", "NEXT FIRE", "TRIGGER"), rows)


@click.command("show")
@click.argument("job_id", metavar="ID")
@on_scheduler
async def show(backend: Backend, *, as_json: bool, job_id: str) -> None:
    """Show a job."""
    job = await backend.job(job_id)
    if as_json:
        tables.echo_json(job)
        return
    shown = job | {"next_run_time": tables.when(job.get("next_run_time"))}
    tables.facts((key, tables.compact(value)) for key, value in shown.items())


@click.command("next")
@click.argument("job_id", metavar="ID")
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many.")
@on_scheduler
async def next_fires(backend: Backend, *, as_json: bool, job_id: str, count: int) -> None:
    """Show a job's next fires, and what clock changes do to them."""
    found = await backend.next_fires(job_id, count)
    if as_json:
        tables.echo_json(found)
        return
    if found["paused"]:
        what = "job" if found["state"] in ("paused", "ended") else "scheduler"
        click.echo(f"The {what} is paused. These would be the job's fires if it were resumed now:")
    elif found["state"] == "pending":
        click.echo("The job waits for the start. These would be its fires if that were now:")
    rows = [
        (tables.when(fire["at"]), fire["clock_change"]["description"] if fire["clock_change"] else "")
        for fire in found["items"]
    ]
    if rows or not found["reason"]:
        tables.table(("FIRE", "CLOCK CHANGE"), rows)
    if found["reason"]:
        raise click.ClickException(line(found["reason"]))


@click.command("explain")
@click.argument("job_id", metavar="ID")
@click.argument("at", metavar="AT")
@on_scheduler
async def explain(backend: Backend, *, as_json: bool, job_id: str, at: str) -> None:
    """Say why a job fired, or did not, at a moment as 2026-03-29T02:30; in its own time zone unless one is given."""
    found = await backend.explain(job_id, at)
    if as_json:
        tables.echo_json(found)
        return
    tables.echo(line(found["description"]))
    details = {key: value for key, value in found.items() if key not in ("description", "job_id") and value is not None}
    tables.facts((key, tables.compact(value)) for key, value in details.items())


_all_option = click.option("--all", "everything", is_flag=True, help="All of it, for every process.")


@click.command("pause")
@click.argument("job_id", metavar="[ID]", required=False)
@_all_option
@on_scheduler
async def pause(backend: Backend, *, as_json: bool, job_id: str | None, everything: bool) -> None:
    """Keep a job from firing until it is resumed, or all jobs."""
    await _switch(backend, job_id, everything, as_json, paused=True)


@click.command("resume")
@click.argument("job_id", metavar="[ID]", required=False)
@_all_option
@on_scheduler
async def resume(backend: Backend, *, as_json: bool, job_id: str | None, everything: bool) -> None:
    """Let a job fire again, or lift the pause of all. Jobs that were paused by themselves stay so."""
    await _switch(backend, job_id, everything, as_json, paused=False)


async def _switch(backend: Backend, job_id: str | None, everything: bool, as_json: bool, *, paused: bool) -> None:
    if everything == (job_id is not None):
        raise Refused("Give either the id of a job, or --all")
    if job_id is None:
        await backend.set_paused(paused)
        _done({"paused": paused}, "Paused: no job fires" if paused else "Resumed: jobs fire", as_json)
        return
    job = await (backend.pause if paused else backend.resume)(job_id)
    ends = {
        "paused": "is paused",
        "ended": "has no fire left, and is removed",
        "broken": "is broken, and does not fire",
    }
    word = ends.get(job["state"], f"fires next at {tables.when(job.get('next_run_time'))}")
    _done(job, f"Job {job_id} {word}", as_json)


@click.command("remove")
@click.argument("job_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@on_scheduler
async def remove(backend: Backend, *, as_json: bool, job_id: str, yes: bool) -> None:
    """Remove a job. A run under way goes on, and what ran stays in the history."""
    job = await backend.job(job_id)
    if not yes:
        ask(
            f"This removes the job {line(job_id)}, {line(job['trigger_description'])}.",
            "Remove it?",
            otherwise="give --yes",
        )
    await backend.remove(job_id)
    _done({"job_id": job_id, "removed": True}, f"Job {job_id} is removed", as_json)


def _done(data: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        tables.echo_json(data)
    else:
        tables.echo(line(text))
