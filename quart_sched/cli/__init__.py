"""The command line: `quart scheduler ...`, for the app that the `quart` command loads, or for a server that runs."""

from __future__ import annotations

import click

from .app import URL_VARIABLE, Commands
from .backfill import backfill
from .db import db
from .health import health
from .jobs import explain, list_jobs, next_fires, pause, remove, resume, show
from .plan import plan
from .runs import list_runs, run
from .worker import worker


@click.group("scheduler", cls=Commands)
@click.option(
    "--url",
    metavar="URL",
    envvar=URL_VARIABLE,
    help="Ask the server whose API is at this address, as http://127.0.0.1:5000/scheduler; no app is loaded.",
)
def commands(url: str | None) -> None:
    """Look after the app's scheduler, or a server's.

    With --url the commands talk to a server over its REST API. The credentials are QUART_SCHED_TOKEN, or
    QUART_SCHED_USER and QUART_SCHED_PASSWORD, out of the environment. Without, they use the app's own store.
    """


for command in (
    db, list_jobs, show, next_fires, list_runs, run, pause, resume, remove, backfill, explain, plan, health, worker,
):  # fmt: skip
    commands.add_command(command)
