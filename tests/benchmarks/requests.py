"""HTTP requests at an even rate, from a process of its own: ``python -m tests.benchmarks.requests port rate seconds``.

Prints as JSON how many seconds each answer took. A request that had to wait for the one before it counts from when it
was due, so that a server that stands still is seen for as long as it does. Requests that have not been answered
GIVEN_UP seconds after the last was due count as long as that took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

CONNECTIONS = 4
PER_CONNECTION = 500
"""Requests after which another connection is opened: Hypercorn closes each after a thousand."""
GIVEN_UP = 10.0


async def request_for_a_while(port: int, begin: float, pace: float, count: int) -> list[float]:
    """The same as `request`, with an end in any case."""
    lags: list[float] = []
    end = begin + count * pace + GIVEN_UP
    try:
        async with asyncio.timeout(end - time.perf_counter()):
            await request(port, begin, pace, count, lags)
    except TimeoutError:
        lags += [end - (begin + number * pace) for number in range(len(lags), count)]
    return lags


async def request(port: int, begin: float, pace: float, count: int, lags: list[float]) -> None:
    """Send one request each `pace` seconds, over one connection at a time; add to `lags` how long each took."""
    message = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    answered = begin
    for number in range(count):
        if number % PER_CONNECTION == 0:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = begin + number * pace
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        sent = due if answered > due else time.perf_counter()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(b"hello"))
        answered = time.perf_counter()
        assert b" 200 " in head
        assert body == b"hello"
        lags.append(answered - sent)
        if (number + 1) % PER_CONNECTION == 0:
            writer.close()


async def all_requests(port: int, rate: float, seconds: float) -> list[float]:
    """Share the requests among some connections, one after the other."""
    begin, pace = time.perf_counter() + 0.1, CONNECTIONS / rate
    count = max(1, int(seconds / pace))
    parts = [request_for_a_while(port, begin + number / rate, pace, count) for number in range(CONNECTIONS)]
    return [lag for lags in await asyncio.gather(*parts) for lag in lags]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(all_requests(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))))
