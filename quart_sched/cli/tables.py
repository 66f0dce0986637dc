"""What the command line prints: tables and times for people, JSON for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

import click

from ..engine.clock import Clock
from .messages import line, plain

_clock = Clock()
_GAP = 2
_NARROWEST = 8
"""Columns that a column of a table keeps where all do not fit."""
_UNBOUND = 100_000
"""Columns of an output that is no terminal: what is piped or written to a file is wanted whole."""
_COLOURS = {
    "scheduled": "green", "succeeded": "green", "ok": "green",
    "running": "cyan", "queued": "cyan", "retry_wait": "cyan",
    "paused": "yellow", "pending": "yellow", "missed": "yellow", "skipped": "yellow", "coalesced": "yellow",
    "cancelled": "yellow", "degraded": "yellow",
    "broken": "red", "failing": "red", "failed": "red", "timed_out": "red", "lost": "red",
}  # fmt: skip


def echo(text: str) -> None:
    """Print `text` as far as the output can show it, in colour on a terminal alone."""
    encoding = _encoding()
    click.echo(text.encode(encoding, "replace").decode(encoding), color=False if os.environ.get("NO_COLOR") else None)


def echo_json(data: Any) -> None:
    """Print what the REST API answers with, and nothing that would steer a terminal."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    plain = all(char.isprintable() or char == "\n" for char in text)
    # What cannot be shown is escaped, for those who read it must get what was there.
    echo(text if plain and _can_show(text) else json.dumps(data, indent=2))


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _can_show(text: str) -> bool:
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def table(head: Sequence[str], rows: Iterable[Sequence[str]], below: Sequence[str] = ()) -> None:
    """Print rows under their heads, no wider than the terminal, if it is one; the widest columns give way.

    `below` are texts of any number of lines, one for each row, to stand below it.
    """
    lines = [tuple(head), *(tuple(map(line, row)) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    room = shutil.get_terminal_size((_UNBOUND, 24)).columns - _GAP * (len(widths) - 1)
    while sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    texts = ("", *(below or [""] * len(lines)))
    for row, more in zip(lines, texts, strict=False):
        cells = (_cell(text, width) for text, width in zip(row, widths, strict=True))
        echo((" " * _GAP).join(cells).rstrip())
        for each in more.splitlines():
            echo(f"{' ' * _GAP}{plain(each)}".rstrip())


def facts(items: Iterable[tuple[str, str]]) -> None:
    """Print names and what they are, one a line."""
    shown = [(name, line(text)) for name, text in items]
    width = max((_width(name) for name, _ in shown), default=0)
    for name, text in shown:
        echo(f"{name:<{width}}  {_coloured(text, text)}".rstrip())


def compact(value: Any) -> str:
    """Return a value out of JSON as a cell shows it."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def duration(seconds: float | None) -> str:
    """Return how long something took."""
    if seconds is None:
        return "-"
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"


def when(text: str | None) -> str:
    """Return a moment out of JSON, and how far it is from now."""
    if text is None:
        return "-"
    return f"{moment(text)} ({relative(datetime.fromisoformat(text))})"


def moment(text: str) -> str:
    """Return a moment out of JSON to the second."""
    at = datetime.fromisoformat(text)
    return at.isoformat(" ", "seconds")


def relative(at: datetime, now: datetime | None = None) -> str:
    """Return how far a moment is from now, in its greatest unit."""
    seconds = (at - (now or _clock.now())).total_seconds()
    far = abs(seconds)
    if far < 1:
        return "now"
    amount = next(f"{far / size:.0f} {unit}" for size, unit, end in _UNITS if far < end)
    return f"in {amount}" if seconds > 0 else f"{amount} ago"


_UNITS = ((1, "s", 99.5), (60, "min", 99.5 * 60), (3600, "h", 47.5 * 3600), (86400, "d", float("inf")))


def _cell(text: str, width: int) -> str:
    shown = text if _width(text) <= width else _cut(text, width - 1) + "\N{HORIZONTAL ELLIPSIS}"
    return _coloured(text, shown) + " " * (width - _width(shown))


def _cut(text: str, width: int) -> str:
    """Return as much of the beginning of `text` as fits."""
    ends = accumulate(map(_columns, text))
    return text[: next((index for index, end in enumerate(ends) if end > width), len(text))]


def _coloured(word: str, text: str) -> str:
    return click.style(text, fg=_COLOURS[word]) if word in _COLOURS else text


def _width(text: str) -> int:
    """Return the columns that a terminal gives to `text`."""
    return sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
