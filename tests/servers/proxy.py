"""A proxy in front of a database server: lets each answer arrive late, and loses the answers to commits.

It runs as a process of its own, so that it takes no time from what is measured::

    python tests/servers/proxy.py PORT TARGET_PORT SECONDS

Whatever the server sends is passed on so many seconds later; what is sent to the server goes through at once.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.servers.databases import listens
from tests.servers.ports import free_port

LARGE = 2000
"""Bytes of a transaction from which on it brings more than a query and a heartbeat."""


class Proxy:
    """A proxy process in front of the port `target` of 127.0.0.1, to be used as a context manager."""

    def __init__(self, target: int, *, late: float = 0.0) -> None:
        """`late` is in seconds."""
        self.port = free_port()
        self._target = target
        self._late = late

    def __enter__(self) -> Self:
        arguments = [__file__, str(self.port), str(self._target), str(self._late)]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, *arguments], stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not listens(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError("the proxy does not listen")
            time.sleep(0.02)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def through(self, url: str) -> str:
        """Return the URL of the target changed to lead through this proxy."""
        return url.replace(f":{self._target}/", f":{self.port}/")

    def lose_answer(self) -> None:
        """Let the next LARGE transaction be committed, and break its connection in the place of the answer."""
        self._process.send_signal(signal.SIGUSR1)


class _Relay:
    """Passes on between clients and the server."""

    def __init__(self, target: int, late: float) -> None:
        self._target = target
        self._late = late
        self._to_lose = 0

    def lose_answer(self) -> None:
        self._to_lose += 1

    async def connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except ConnectionError:
            to_client.close()
            return
        doomed = asyncio.Event()
        await asyncio.gather(self._ask(client, to_server, doomed), self._answer(server, to_client, doomed))

    async def _ask(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        sent = 0
        with suppress(ConnectionError):
            while data := await client.read(65536):
                sent += len(data)
                if b"COMMIT" in data:
                    if self._to_lose and sent >= LARGE:
                        self._to_lose -= 1
                        doomed.set()
                    sent = 0
                to_server.write(data)
                await to_server.drain()
        to_server.close()

    async def _answer(
        self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        """Pass on each piece so many seconds after it came, in order."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            with suppress(ConnectionError):
                while (entry := await pieces.get())[1]:
                    await asyncio.sleep(max(0.0, entry[0] - loop.time()))
                    to_client.write(entry[1])
                    await to_client.drain()
            to_client.close()

        sending = loop.create_task(send())
        with suppress(ConnectionError):
            while (data := await server.read(65536)) and not doomed.is_set():
                pieces.put_nowait((loop.time() + self._late, data))
        pieces.put_nowait((0.0, b""))
        await sending


async def serve(port: int, target: int, late: float) -> None:
    """Serve until the process is killed."""
    relay = _Relay(target, late)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, relay.lose_answer)
    async with await asyncio.start_server(relay.connected, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
