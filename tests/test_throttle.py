"""A throttled line carries everything, no faster than it is told to, and ends cleanly."""

from __future__ import annotations

import http.client
import time

import pytest

from tests.influx_v2 import Store, listening
from tests.throttle import throttle


def put(port: int, size: int) -> float:
    """Send a body of a size; return how long it took to be answered, seconds."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    began = time.monotonic()
    asked.request("POST", "/no-such-path", bytes(size))
    assert asked.getresponse().status == 404
    asked.close()
    return time.monotonic() - began


def test_a_line_carries_so_many_bytes_a_second() -> None:
    """20 KB at 40 KB/s take half a second, whatever is sent at once; the rate may change."""
    with listening(Store()) as store:
        with throttle(store.port, 40_000) as line:
            assert put(line.port, 20_000) > 0.4
            assert line.carried > 20_000
            line.rate = 10**9
            put(line.port, 20_000)
        with pytest.raises(OSError, match="refused"):
            http.client.HTTPConnection("127.0.0.1", line.port, timeout=5).connect()
