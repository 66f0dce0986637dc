"""Pages: how many entries one has, and the opaque text that leads on to the next."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from .fields import Field, whole

LONGEST = 500
LIMIT = whole(1, LONGEST, text=True).about("Entries to a page, at most.", default=50)


def cursor(decode: Callable[[Any], Any]) -> Field:
    """Return the field for the `next` of a page, of which `decode` makes a place; it raises InvalidDefinition."""
    schema = {"type": "string", "minLength": 1, "description": "The `next` of the page before."}
    return Field(lambda _, value: decode(value), schema)


def pack(place: str) -> str:
    """Return a place, in words of ours, as the text that clients send back."""
    return base64.urlsafe_b64encode(place.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def unpack(text: Any) -> str:
    """Return the place that `pack` made the text of; nothing where it is none of its texts."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        place = raw.decode("utf-8", "surrogatepass")
    except (TypeError, ValueError):
        return ""
    return place if pack(place) == text else ""
