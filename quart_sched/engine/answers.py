"""Answers of several stores, where those that are away may be left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ..errors import SchedulerError, StoreUnavailable

P = TypeVar("P")
T = TypeVar("T")

Away = set[str]
"""Why some did not answer."""


def answers(parts: Iterable[P], ask: Callable[[P], T], away: Away | None) -> Iterator[T]:
    """Ask each of the parts. With `away`, those that are not available are left out, and why is added to it."""
    for part in parts:
        try:
            answer = ask(part)
        except SchedulerError as error:
            if away is None or error.status != StoreUnavailable.status:
                raise
            away.add(str(error))
        else:
            yield answer
