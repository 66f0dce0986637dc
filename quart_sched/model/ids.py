"""Ids of what comes one after the other: they sort by the time at which they were made."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import count

_noise = random.getrandbits


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7) as text: ids sort by the time at which they were made.

    Within a millisecond they count on from a random number (section 6.2, method 2), so that those of one process sort
    by the order in which they were made.
    """
    prefix, numbers = _series(time.time_ns() // 1_000_000)
    return f"{prefix}{next(numbers):012x}"


def first_id(us: int) -> str:
    """Return the least id that `new_id` can make at a moment, given in microseconds since 1970."""
    return f"{_head(min(max(us // 1000, 0), 2**48 - 1))}-7000-8000-000000000000"


@lru_cache(maxsize=1)  # Many are made within the same millisecond.
def _series(millis: int) -> tuple[str, Iterator[int]]:
    # The number's highest bit is left free, so that counting on does not carry out of it.
    return f"{_head(millis)}-{0x7000 | _noise(12):x}-{0x8000 | _noise(14):x}-", count(_noise(47))


def _head(millis: int) -> str:
    digits = f"{millis:012x}"
    return f"{digits[:8]}-{digits[8:]}"


if hasattr(os, "register_at_fork"):
    # A forked child would count on in its parent's series.
    os.register_at_fork(after_in_child=_series.cache_clear)
