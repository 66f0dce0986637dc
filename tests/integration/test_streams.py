"""Real servers with streams of live events open: they end, and do not keep a server from ending."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.test_servers import HYPERCORN, Server, serve

__all__ = ["serve"]

pytestmark = pytest.mark.integration

SECONDS_OF_A_STREAM = 10.0


class Client(threading.Thread):
    """Reads one stream over a socket of its own, as a browser that does not come again."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.sendall(b"GET /scheduler/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        self.text = ""
        self.begun = time.time()
        self.ended_at: float | None = None
        self.start()

    def run(self) -> None:
        try:
            # The last chunk has no length.
            while not self.text.endswith("\r\n0\r\n\r\n") and (data := self._socket.recv(65536)):
                self.text += data.decode()
        except OSError:
            pass
        self.ended_at = time.time()
        self._socket.close()


@pytest.fixture
def streams() -> Iterator[Callable[[Server], Client]]:
    clients: list[Client] = []

    def begin(server: Server) -> Client:
        clients.append(Client(server.port))
        return clients[-1]

    yield begin
    for client in clients:
        client.join(20)


def until_told(server: Server, client: Client) -> None:
    server.until("an event", lambda: "event: run" in client.text)


def test_a_stream_ends_itself_within_ten_seconds(serve, streams):
    server = serve(f"{HYPERCORN} -w 0 run:app", LONG="0")
    server.until("an answer", server.answers)
    client = streams(server)
    until_told(server, client)
    server.until("end of the stream", lambda: client.ended_at)
    assert 8 < client.ended_at - client.begun < SECONDS_OF_A_STREAM
    assert client.text.startswith("HTTP/1.1 200")
    assert '"job_id": "tick"' in client.text
    last = client.text[: client.text.rindex("\r\n0\r\n")].rstrip()
    assert last.rpartition("\n")[2].startswith("id: ")
    server.process.terminate()
    assert server.ends() == 0


@pytest.mark.parametrize(
    ("command", "workers", "target", "number"),
    [
        ("run.py", 1, "master", signal.SIGTERM),
        (f"{HYPERCORN} -w 0 run:app", 1, "master", signal.SIGTERM),
        (f"{HYPERCORN} run:app", 1, "master", signal.SIGTERM),
        (f"{HYPERCORN} -w 2 run:app", 2, "master", signal.SIGTERM),
        (f"{HYPERCORN} -w 2 run:app", 2, "group", signal.SIGINT),
        ("-m uvicorn --port {port} run:app", 1, "master", signal.SIGTERM),
    ],
)
def test_open_streams_do_not_hold_a_shutdown_and_nothing_fires_meanwhile(
    serve, streams, command, workers, target, number
):
    server = serve(command, LONG="1.5")
    server.until_busy(workers)
    server.until("an answer", server.answers)
    clients = [streams(server) for _ in range(4)]
    for client in clients:
        until_told(server, client)
    sent = time.time()
    if target == "group":
        os.killpg(server.process.pid, number)
    else:
        server.process.send_signal(number)
    server.ends()
    assert time.time() - sent < SECONDS_OF_A_STREAM
    server.until("ends of the streams", lambda: all(client.ended_at for client in clients))
    # A worker that hears of it from its master alone looks every 0.1 s.
    assert max(client.ended_at for client in clients) - sent < 2
    assert len(server.notes("end")) == len(server.notes("begin")) == 2 * workers
    assert [note for note in server.notes("tick") if note.at > sent + 0.5] == []
    assert "Traceback" not in server.log.read_text()


SHARED = """
app.config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": "sqlite:///jobs.db"}}
"""


def test_streams_of_workers_that_share_a_store_tell_of_all(serve, streams, monkeypatch):
    from tests.integration import test_servers

    monkeypatch.setattr(
        test_servers, "APP", test_servers.APP.replace("scheduler.init_app", SHARED + "scheduler.init_app")
    )
    server = serve(f"{HYPERCORN} -w 2 run:app", LONG="0")
    server.until("ticks of both", lambda: len({note.pid for note in server.notes("tick")}) == 2)
    client = streams(server)
    host = socket.gethostname()
    pids = {note.pid for note in server.notes("tick")}
    server.until("news of both", lambda: all(f'"worker": "{host}:{pid}"' in client.text for pid in pids))
    sent = time.time()
    server.process.terminate()
    assert server.ends() == 0
    assert time.time() - sent < SECONDS_OF_A_STREAM
    assert [note for note in server.notes("tick") if note.at > sent + 0.5] == []
