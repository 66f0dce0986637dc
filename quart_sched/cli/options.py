"""What the commands have in common: `--json`, and `--url` with which they need no app."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import Any

import click
from click.core import ParameterSource
from quart.cli import ScriptInfo

from ..model.arguments import bounded_repr
from ..model.texts import parse_json
from .app import URL_VARIABLE, load
from .backends import Backend
from .local import Local
from .messages import Refused, told
from .remote import Remote

_url_option = click.option(
    "--url",
    metavar="URL",
    help=f"Ask the server whose API is at this address, as http://127.0.0.1:5000/scheduler. [env: {URL_VARIABLE}]",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, the same as the REST API's.")
_timeout_option = click.option(
    "--timeout", type=click.FloatRange(0, 3600, min_open=True), metavar="SECONDS", default=30.0, show_default=True,
    help="How long the server may take to answer.",
)  # fmt: skip


def json_of(kind: type) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return a callback that reads an option's JSON, a list or an object as `kind` (list, dict) says."""
    name = "list" if kind is list else "object"

    def parse(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        try:
            parsed = parse_json(value)
        except (ValueError, RecursionError) as error:
            raise click.BadParameter(f"{bounded_repr(value)} is no JSON: {error}") from None
        if not isinstance(parsed, kind):
            raise click.BadParameter(f"{bounded_repr(value)} is no JSON {name}")
        return parsed

    return parse


def on_scheduler(command: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Call the coroutine function `command` with a Backend and `as_json`, and tell in one line what goes wrong.

    SIGTERM cancels it, so that a run in this process ends as with Ctrl-C, cancelled and on record.
    """

    @_url_option
    @_timeout_option
    @_json_option
    @wraps(command)
    def run(url: str | None, timeout: float, as_json: bool, **options: Any) -> None:
        ctx = click.get_current_context()
        terminated = asyncio.Event()

        async def call() -> None:
            with suppress(NotImplementedError, RuntimeError):  # on Windows, and in another thread than the main one
                _on_sigterm(terminated)
            async with _backend(ctx, url, timeout) as backend:
                await command(backend, as_json=as_json, **options)

        try:
            with told():
                asyncio.run(call())
        except asyncio.CancelledError:
            if not terminated.is_set():
                raise
            raise click.exceptions.Exit(128 + signal.SIGTERM) from None

    return run


def _on_sigterm(terminated: asyncio.Event) -> None:
    """Have the first SIGTERM set the event and cancel this task; others do not cut short what follows."""
    task = asyncio.current_task()

    def terminate() -> None:
        if task is not None and not terminated.is_set():
            terminated.set()
            task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)


@asynccontextmanager
async def _backend(ctx: click.Context, url: str | None, timeout: float) -> AsyncIterator[Backend]:
    group = ctx.parent
    address = url if url is not None or group is None else group.params.get("url")
    if address is not None:  # an empty one is refused: it was meant to be a server's, and must not mean this app
        remote = Remote(address, timeout=timeout)
        try:
            yield remote
        finally:
            remote.close()
        return
    async with Local.open(load(ctx.ensure_object(ScriptInfo))) as local:
        yield local


def refuse_url(ctx: click.Context) -> None:
    """End a command that concerns this app alone where it was given the address of a server."""
    group: click.Context | None = ctx
    while group is not None and "url" not in group.params:
        group = group.parent
    if group is not None and group.get_parameter_source("url") is ParameterSource.COMMANDLINE:
        raise Refused(f"`{ctx.info_name}` concerns the app and its store here; leave --url out")
