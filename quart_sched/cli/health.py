"""`quart scheduler health`: whether the jobs run."""

from __future__ import annotations

import click

from . import tables
from .backends import Backend
from .options import on_scheduler


@click.command("health")
@on_scheduler
async def health(backend: Backend, *, as_json: bool) -> None:
    """Tell whether the jobs run: ok, degraded, or failing, and why.

    With --url this asks how the answering process stands. Without, it looks into the store: whether it can be reached,
    processes live that run its jobs, and they have found jobs to be overdue. Exits with 1 where it is failing.
    """
    found = await backend.health()
    if as_json:
        tables.echo_json(found)
    else:
        tables.facts([("status", found["status"]), *(("reason", reason) for reason in found.get("reasons", ()))])
    if found["status"] not in ("ok", "degraded"):
        raise click.exceptions.Exit(1)
