"""Ports for the servers that the tests start."""

from __future__ import annotations

import random
import socket

_PORTS = range(15_000, 32_000)
"""Below those that the kernel gives to outgoing connections, one of which might take a port before its server does."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
