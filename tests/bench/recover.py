"""`edge-recover`: from kill -9 at 10,000 readings/s to the first PUBACK of the agent that follows, its replay included."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from headwater_appliance.ports import steady_port
from tests.bench.agents import Process, agent
from tests.bench.load import CONNECT
from tests.bench.results import Result

_RATE = 10_000
_WORKED_S = (14.0, 11.0, 17.0, 12.5, 15.5)
"""So long each agent works before it is killed: not in step with its snapshots."""
_TOPIC = b"hw/probe/device/data/m"


def run(folder: Path) -> Iterator[Result]:
    """Kill five agents, one after the other on the same file, each under load; the next one starts at once, as `up` does."""
    listener = f"port = {steady_port()}"
    took: list[float] = []
    replayed: list[int] = []
    killed_at = 0.0
    for worked_s in (*_WORKED_S, 0.0):
        with agent(folder / "agent", listener=listener) as ours:
            answered_at = _first_puback(ours.port)
            if killed_at:
                took.append(answered_at - killed_at)
            if worked_s:
                killed_at = _killed_under_load(ours, worked_s)
                replayed.append(_to_replay(ours.folder / "edge.db"))
    yield Result(
        "edge-recover", max(took), "s, the longest of five", _new_agent(folder / "new"),
        "the same from the start of an agent with a new file", "SQLite WAL, synchronous=FULL",
        {"median s": median(took), "readings/s before": _RATE, "journal rows to run again": replayed},
    )  # fmt: skip


def _killed_under_load(ours: Process, worked_s: float) -> float:
    """Let the agent work, and kill it; return when."""
    command = [sys.executable, "-m", "tests.bench.load", str(ours.port), "20", str(_RATE), str(worked_s + 30)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as load:
        assert load.stdout is not None
        assert load.stdout.readline() == "connected\n"
        threading.Event().wait(worked_s)
        assert load.poll() is None
        os.kill(ours.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        load.kill()
    return killed_at


def _first_puback(port: int) -> float:
    """Connect, publish a reading, wait for its PUBACK; return when it came."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(CONNECT % 999_999)
        assert client.recv(4)[0] == 0x20
        body = (
            len(_TOPIC).to_bytes(2, "big")
            + _TOPIC
            + b"\x00\x01"
            + b'{"t":%d,"v":1}' % (time.time_ns() // 1000)
        )
        client.sendall(b"\x32" + bytes([len(body)]) + body)
        assert client.recv(4) == b"\x40\x02\x00\x01"
        return time.monotonic()


def _to_replay(file: Path) -> int:
    """Count the journal rows after the newest whole snapshot."""
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    rows = reader.execute(
        "SELECT count(*) FROM journal WHERE tick > (SELECT coalesce(max(tick), 0) FROM snapshot WHERE section = 0)"
    ).fetchone()[0]
    reader.close()
    return int(rows)


def _new_agent(folder: Path) -> float:
    began = time.monotonic()
    with agent(folder) as ours:
        return _first_puback(ours.port) - began
