"""A port for a server that may be started again: whoever calls while it is down must not take it."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _BELOW = 10_000, 32_768
_given: set[int] = set()
"""Ports of servers that this process has named and perhaps not yet started."""


def steady_port() -> int:
    """Return a port of the loopback that nobody listens on and that was not returned before, outside the range that the kernel hands out to clients.

    Of many devices that call a dead server on a port of that range, one may get that very port for its own end: it is
    then connected to itself, and the server cannot come back.
    """
    try:
        below = int(_EPHEMERAL.read_text().split()[0])
    except OSError:
        below = _BELOW
    while True:
        port = random.randrange(_LOWEST, max(below, _LOWEST + 1_000))  # noqa: S311 - no secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
