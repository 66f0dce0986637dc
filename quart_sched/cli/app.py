"""The app that the `quart` command loads, and the group of commands that works without one too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import click
from quart.cli import NoAppException, ScriptInfo

from ..aio import AioVerbs
from ..errors import SchedulerError
from ..late import LateCommand
from .messages import Refused, line

if TYPE_CHECKING:
    from ..extension import APScheduler

URL_VARIABLE = "QUART_SCHED_URL"


class Commands(click.Group):
    """`quart scheduler`, which is there for every app: one that has a command of this name keeps its own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        remote = os.environ.get(URL_VARIABLE) or any(arg.partition("=")[0] == "--url" for arg in args)
        own = None if remote or parent is None else _own_command(parent, info_name)
        if own is not None and not isinstance(own, Commands | LateCommand):
            return own.make_context(info_name, args, parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)


def _own_command(ctx: click.Context, name: str | None) -> click.Command | None:
    info = ctx.find_object(ScriptInfo)
    try:
        return None if info is None else info.load_app().cli.commands.get(name or "")
    except Exception:
        # Help needs no app. The command that does will load it again, and say what is wrong with it.
        return None


def load(info: ScriptInfo) -> APScheduler:
    """Return the scheduler of the app that `quart` was told of."""
    try:
        app = info.load_app()
    except NoAppException as error:
        # Quart's message may hold a whole traceback; its last line says what is wrong.
        told = error.format_message().strip().splitlines()
        reason = told[0] if len(told) == 1 else f"{told[0]} {told[-1]}"
        raise Refused(f"{line(reason)}; give an app with `quart --app` or QUART_APP, or a server with --url") from None
    except SchedulerError as error:
        raise click.ClickException(line(str(error))) from None
    front = app.extensions.get("apscheduler")
    if not isinstance(getattr(front, "aio", None), AioVerbs):
        raise Refused(f"The app {app.name!r} has no scheduler of quart_sched; expected APScheduler(app=app)")
    return cast("APScheduler", front)
