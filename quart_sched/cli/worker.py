"""`quart scheduler worker`: the scheduler without a server."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import click
from quart.cli import ScriptInfo

from .app import load
from .messages import told
from .options import refuse_url

if TYPE_CHECKING:
    from ..extension import APScheduler

log = logging.getLogger("quart_sched")

_LEVELS = ("debug", "info", "warning", "error")


@click.command("worker")
@click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True, help="What to log.")
@click.pass_context
def worker(ctx: click.Context, log_level: str) -> None:
    """Run the app's jobs without serving HTTP.

    The scheduler starts, whether the app's code starts it or not, within the app's own start-up and shutdown. SIGTERM
    and Ctrl-C end it as they end a server: nothing new fires, and running jobs get SCHEDULER_SHUTDOWN_TIMEOUT seconds.
    A second Ctrl-C ends it at once. The log goes to stderr.

    Exits with 0 after SIGTERM or Ctrl-C, and with 1 where the app or its scheduler could not start.
    """
    refuse_url(ctx)
    # An app that has set up logging of its own keeps it.
    logging.basicConfig(
        stream=sys.stderr, level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    front = load(ctx.ensure_object(ScriptInfo))
    with told():
        asyncio.run(_work(front))


async def _work(front: APScheduler) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        heard = partial(_on_signal, number, stop, front.settings.shutdown_timeout)
        try:
            loop.add_signal_handler(number, heard)
        except NotImplementedError:  # on Windows
            signal.signal(number, lambda *_, heard=heard: loop.call_soon_threadsafe(heard))
    async with front.lifespan.without_server(start=True):
        if not front.running:
            allowed = ", ".join(front.allowed_hosts)
            raise click.ClickException(f"{front.host_name} may not start the scheduler; allowed: {allowed}")
        log.info("Worker %s runs the jobs of %r; SIGTERM or Ctrl-C ends it", front.scheduler.runner.worker, front.app)
        await stop.wait()


def _on_signal(number: signal.Signals, stop: asyncio.Event, timeout: float) -> None:
    if stop.is_set():
        if number is signal.SIGINT:
            # As if nobody had handled it: whoever started this process sees what ended it.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            os._exit(128 + number)  # The first process of a container is spared by signals of its own.
        return
    stop.set()
    log.info("%s: no more fires; running jobs get %g s to end in", number.name, timeout)
