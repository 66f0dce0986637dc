"""What the command line says when something is wrong, and how it asks: in one line, never with a stack trace."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..errors import TOLD, answer_to


class Refused(click.ClickException):
    """The command was used wrongly; told in one line, unlike click's own UsageError."""

    exit_code = 2


@contextmanager
def told() -> Iterator[None]:
    """End the command with one line for what goes wrong with the scheduler."""
    try:
        yield
    except TOLD as error:
        raise click.ClickException(line(answer_to(error)[1])) from None


def note(text: str) -> None:
    """Say something beside the output."""
    click.echo(text, err=True)


def ask(warning: str, question: str, *, otherwise: str) -> None:
    """Have the user's word, or end the command; where there is no terminal to ask on, say what to do `otherwise`."""
    if not has_terminal():
        raise Refused(f"{warning} There is no terminal to ask on: {otherwise}")
    note(warning)
    click.confirm(question, abort=True, err=True)


def has_terminal() -> bool:
    """Tell whether there is somebody to ask."""
    return sys.stdin.isatty()


def line(text: str) -> str:
    """Return `text` in one line, and without what would steer a terminal."""
    return plain(" ".join(text.split()))


def plain(text: str) -> str:
    """Return a line with its indentation, and without what would steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text.expandtabs())
