"""What goes out: JSON with its keys in our order."""

from __future__ import annotations

import asyncio
import json
import textwrap
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from quart import Response

if TYPE_CHECKING:
    from ..extension import APScheduler

_SLICE = 0.002
"""Seconds that a long list may hold the loop before others get their turn."""


def as_json(front: APScheduler, data: Any, status: int = 200) -> Response:
    """Answer with `data`."""
    return Response(as_text(front, data), status, mimetype="application/json")


def as_text(front: APScheduler, data: Any) -> str:
    """Return the JSON text."""
    return _dump(data, front.settings.pretty_json)


def as_error(front: APScheduler, status: int, message: str) -> Response:
    """Answer with an error."""
    return as_json(front, {"error_message": message}, status)


async def as_array(front: APScheduler, items: Iterable[str]) -> Response:
    """Answer with a list of items, however long it is; each is one that `as_text` made."""
    return Response(await array(items, pretty=front.settings.pretty_json), mimetype="application/json")


async def as_listing(front: APScheduler, head: dict[str, Any], items: Iterable[str]) -> Response:
    """Answer with an object that has `items` as its last key, however many texts they are."""
    pretty = front.settings.pretty_json
    empty = _dump(head | {"items": []}, pretty)
    before, _, after = empty.encode().rpartition(b"[]")
    return Response(before + await array(items, pretty=pretty, depth=1) + after, mimetype="application/json")


async def array(items: Iterable[str], *, pretty: bool, depth: int = 0) -> bytes:
    """Return a JSON array of these texts, as it stands `depth` levels deep, in UTF-8; a long one is made in slices."""
    parts = []
    margin = "  " * depth
    slice_end = 0.0  # To collect the items may have taken a slice already.
    for text in items:
        parts.append((textwrap.indent(text, margin + "  ") if pretty else text).encode())
        if time.perf_counter() > slice_end:
            await asyncio.sleep(0)
            slice_end = time.perf_counter() + _SLICE
    if pretty and parts:
        return b"[\n" + b",\n".join(parts) + f"\n{margin}]".encode()
    return b"[" + b", ".join(parts) + b"]"


def _dump(data: Any, pretty: bool) -> str:
    """Return the JSON text, its keys in our order, which the app's own JSON provider would sort."""
    text = json.dumps(data, ensure_ascii=False, indent=2 if pretty else None)
    # Half of a surrogate pair, which a client may have sent, can go over the wire as its escape alone.
    return text if is_unicode(text) else json.dumps(data, indent=2 if pretty else None)


def is_unicode(text: str) -> bool:
    """Tell whether the text can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
