"""What goes out: JSON with its keys in our order."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from quart import Response

from ..engine.slices import SLICE
from ..model.texts import is_unicode

if TYPE_CHECKING:
    from ..extension import APScheduler

_CHUNK = 64 * 1024
"""Bytes of a list that go out at once, about."""


def as_json(front: APScheduler, data: Any, status: int = 200) -> Response:
    """Answer with `data`."""
    return Response(as_bytes(front, data), status, mimetype="application/json")


def as_bytes(front: APScheduler, data: Any) -> bytes:
    """Return the JSON text in UTF-8."""
    return dump(data, front.settings.pretty_json).encode()


def as_error(front: APScheduler, status: int, message: str) -> Response:
    """Answer with an error."""
    return as_json(front, {"error_message": message}, status)


async def as_array(front: APScheduler, items: Iterable[bytes]) -> Response:
    """Answer with a list of items, however long it is; each is one that `as_bytes` made."""
    return await _stream(b"", items, b"", pretty=front.settings.pretty_json)


async def as_listing(front: APScheduler, head: dict[str, Any], items: Iterable[bytes]) -> Response:
    """Answer with an object that has `items` as its last key, however many they are; each as above."""
    pretty = front.settings.pretty_json
    before, _, after = dump(head | {"items": []}, pretty).encode().rpartition(b"[]")
    return await _stream(before, items, after, pretty=pretty, depth=1)


async def _stream(before: bytes, items: Iterable[bytes], after: bytes, *, pretty: bool, depth: int = 0) -> Response:
    """Answer with an array between two other texts; a long one goes out in chunks, so that it does not hold the loop.

    All of it is there before the first chunk goes out: what fails is answered as an error.
    """
    chunks = await array(items, pretty=pretty, depth=depth)
    chunks[0] = before + chunks[0]
    chunks[-1] += after
    size = sum(map(len, chunks))
    if size <= _CHUNK:
        return Response(b"".join(chunks), mimetype="application/json")
    response = Response(_by_turns(chunks), mimetype="application/json")
    response.content_length = size
    return response


async def _by_turns(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0)


async def array(items: Iterable[bytes], *, pretty: bool, depth: int = 0) -> list[bytes]:
    """Return a JSON array of these, as it stands `depth` levels deep, as chunks that are made in slices."""
    margin = b"  " * depth
    separator = b",\n" if pretty else b", "
    line = b"\n" + margin + b"  "
    chunks: list[bytes] = []
    chunk: list[bytes] = []
    size = 0
    slice_end = 0.0  # To collect the items may have taken a slice already.

    def close() -> None:
        chunks.append((separator if chunks else b"") + separator.join(chunk))
        chunk.clear()

    for item in items:
        chunk.append(margin + b"  " + item.replace(b"\n", line) if pretty else item)
        size += len(item)
        over = time.perf_counter() > slice_end
        if over or size > _CHUNK:
            close()
            size = 0
        if over:
            await asyncio.sleep(0)
            slice_end = time.perf_counter() + SLICE
    if chunk:
        close()
    if not chunks:
        return [b"[]"]
    return [b"[\n", *chunks, b"\n" + margin + b"]"] if pretty else [b"[", *chunks, b"]"]


def dump(data: Any, pretty: bool = False, separators: tuple[str, str] | None = None) -> str:
    """Return the JSON text, its keys in our order, which the app's own JSON provider would sort."""
    options: dict[str, Any] = {"indent": 2 if pretty else None, "separators": separators}
    text = json.dumps(data, ensure_ascii=False, **options)
    # Half of a surrogate pair, which a client may have sent, can go over the wire as its escape alone.
    return text if is_unicode(text) else json.dumps(data, **options)


def sendable(text: str) -> str:
    """Return the text, with a question mark for each half of a surrogate pair."""
    return text if is_unicode(text) else text.encode(errors="replace").decode()
