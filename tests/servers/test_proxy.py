"""The proxy: answers come late by as much as they should, and those to commits are lost where they should be."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.servers.databases import listens
from tests.servers.proxy import LARGE, Proxy

pytestmark = pytest.mark.integration


def echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(100):
            connection.sendall(data.upper())


def serve(server: socket.socket) -> None:
    with suppress(OSError):  # the end of the test
        while True:
            threading.Thread(target=echo, args=server.accept()[:1], daemon=True).start()


@pytest.fixture
def target() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_each_answer_is_late_and_the_end_of_a_connection_is_passed_on(target):
    with Proxy(target, late=0.1) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        for word in (b"one", b"two"):
            begin = time.monotonic()
            client.sendall(word)
            assert client.recv(100) == word.upper()
            assert 0.1 <= time.monotonic() - begin < 1
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert not listens(proxy.port)


def test_the_answer_to_a_large_commit_is_lost_with_its_connection_and_no_other(target):
    with Proxy(target) as proxy:
        address = ("127.0.0.1", proxy.port)
        with (
            socket.create_connection(address, timeout=10) as large,
            socket.create_connection(address, timeout=10) as small,
        ):

            def answer(client: socket.socket, text: bytes) -> bytes:
                client.sendall(text)
                answered = b""
                while len(answered) < len(text) and (data := client.recv(LARGE)):
                    answered += data
                return answered

            assert len(answer(large, b"COMMIT" + b"x" * LARGE)) > LARGE  # nothing is to be lost yet
            proxy.lose_answer()
            deadline = time.monotonic() + 10
            while answer(large, b"x" * LARGE) and answer(large, b"COMMIT"):  # the signal takes a moment to arrive
                assert time.monotonic() < deadline
            assert answer(small, b"COMMIT") == b"COMMIT"
            assert len(answer(small, b"COMMIT" + b"x" * LARGE)) > LARGE  # one was to be lost


def test_a_url_is_led_through_the_proxy():
    proxy = Proxy(5432)
    assert proxy.through("postgresql://a@127.0.0.1:5432/x") == f"postgresql://a@127.0.0.1:{proxy.port}/x"
