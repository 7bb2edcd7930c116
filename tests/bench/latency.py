"""`edge-alert-latency`: a reading that breaks a limit, sent, to its anomaly committed, under 5,000 readings/s."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.agents import Process, agent
from tests.bench.load import CONNECT
from tests.bench.results import Result

_RULE = '[[edge.limit]]\nname = "hot"\nseries = "alarm/*"\nabove = 80.0\n'
_ALARMS = 160
_EVERY_S = 0.27
"""Up to four anomalies a second: begins and ends in turn."""


def latency(folder: Path) -> Iterator[Result]:
    """Send a breaking (or ending) reading every quarter of a second beside the load, and wait for its PUBACK.

    The PUBACK follows the commit that holds the anomaly, so its delay is an upper bound; that each anomaly is in the
    file is checked afterwards.
    """
    with agent(folder / "agent", settings=_RULE) as ours:
        seconds = _ALARMS * _EVERY_S + 3
        arguments = [str(ours.port), "20", "5000", str(seconds)]
        command = [sys.executable, "-m", "tests.bench.load", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout is not None
            assert load.stdout.readline() == "connected\n"
            alarms = _alarms(ours)
            said, _ = load.communicate()
        found = _committed(ours.folder / "edge.db")
    assert found >= _ALARMS - 1, f"{found} anomalies of {_ALARMS}"
    ordinary = json.loads(said)
    alarms.sort()
    yield Result(
        "edge-alert-latency",
        alarms[int(len(alarms) * 0.99)] * 1e3,
        "ms, p99 from sent to committed",
        ordinary["p99_ms"],
        "p99 of the PUBACK of ordinary readings in the same run",
        "SQLite WAL, synchronous=FULL",
        {"p50 ms": alarms[len(alarms) // 2] * 1e3, "worst ms": alarms[-1] * 1e3, "anomalies": found},
    )


def _alarms(ours: Process) -> list[float]:
    """Return the time from sent to acknowledged of each alarm, seconds."""
    delays, pause = [], threading.Event()
    with socket.create_connection(("127.0.0.1", ours.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(CONNECT % 999_999)
        assert client.recv(4)[0] == 0x20
        topic = b"hw/alarm/device/data/heat"
        for number in range(_ALARMS):
            next_at = time.monotonic() + _EVERY_S
            value = 90 if number % 2 == 0 else 20
            payload = b'{"t":%d,"v":%d}' % (time.time_ns() // 1000, value)
            packet_id = (number + 1).to_bytes(2, "big")
            body = len(topic).to_bytes(2, "big") + topic + packet_id + payload
            sent = time.monotonic()
            client.sendall(b"\x32" + bytes([len(body)]) + body)
            answer = client.recv(4)
            delays.append(time.monotonic() - sent)
            assert answer == b"\x40\x02" + packet_id, answer
            pause.wait(max(0.0, next_at - time.monotonic()))
    return delays


def _committed(file: Path) -> int:
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    count = reader.execute("SELECT count(*) FROM outbox WHERE kind = 'anomaly'").fetchone()[0]
    reader.close()
    return int(count)
