"""The command that stands in an app's command line for `quart scheduler`, which is imported when it is used."""

from __future__ import annotations

from typing import Any

import click


class LateCommand(click.Command):
    """Becomes `quart_sched.cli.commands` as soon as it is called, completed or asked for its help."""

    @property
    def target(self) -> click.Group:
        """The group of commands itself."""
        from .cli import commands

        return commands

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Return the context of the group, which is invoked in this command's place."""
        return self.target.make_context(*args, **options)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the group's line in the list of commands."""
        return self.target.get_short_help_str(limit)
