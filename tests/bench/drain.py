"""`edge-drain`: an hour of 1,000 series waits in the outbox; how fast it goes out, and what live readings and anomalies feel."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headwater_edge import words
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.errors import BusUnavailable, Refused
from headwater_shared.identity import shard_of
from headwater_shared.records import Anomaly
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import IN
from tests.bench.agents import Process, agent
from tests.bench.load import CONNECT, SERIES, Load
from tests.bench.results import Result
from tests.support import until

_HOUR_S = 3600
_VALUES = 5
_RULE = '[[edge.limit]]\nname = "hot"\nseries = "alarm/*"\nabove = 80.0\n'
_LIVE_S = 6.0
_EVERY_S = 0.3


def run(folder: Path) -> Iterator[Result]:
    """Fill the outbox while the log's folder is not there; then it is. An anomaly every third of a second, 1,000 readings/s live."""
    mount = folder / "mount"
    with agent(folder / "agent", settings=_RULE, bus=str(mount / "log.db")) as ours:
        _hour(ours)
        before = _live(ours, _LIVE_S)
        waits = _status(ours)["outbox"]
        held = _size(ours.folder / "edge.db")
        anomalies = _Anomalies(ours, mount / "log.db")
        mount.mkdir()
        until(lambda: _status(ours).get("forward") == "backlog", 60, "the bus is found")
        began = time.monotonic()
        drained: list[float] = []
        watch = threading.Thread(target=_watch, args=(ours, began, drained))
        watch.start()
        during = _live(ours, _LIVE_S)
        watch.join()
        delays = anomalies.stop()
        replayed = _status(ours)["replayed"]
    (took,) = drained
    plain = _plain(ours.folder / "edge.db", folder / "plain.db")
    yield Result(
        "edge-drain",
        _HOUR_S / took,
        "times real time",
        _HOUR_S / plain,
        "a bare loop that appends the same rows to the same kind of log, 64 at a time, as fast as it can",
        "SQLite WAL, synchronous=FULL; the log on the same disk",
        {
            "drained in s": took,
            "rows": replayed,
            "rows that waited": waits,
            "MB in the outbox": held / 1e6,
            "new anomaly on the bus, worst ms": max(delays) * 1e3,
            "new anomaly on the bus, median ms": sorted(delays)[len(delays) // 2] * 1e3,
            "anomalies": len(delays),
            "live puback p99 ms, draining": during["p99_ms"],
            "live puback p99 ms, offline": before["p99_ms"],
            "live puback p50 ms, draining": during["p50_ms"],
            "live puback p50 ms, offline": before["p50_ms"],
        },
    )


def _hour(ours: Process) -> None:
    """An hour of event time, up to now, as fast as it is acknowledged."""
    load = Load(ours.port, 20, 256, _VALUES)
    began_us = time.time_ns() // 1000 - _HOUR_S * 1_000_000
    for second in range(_HOUR_S):
        due = (second + 1) * SERIES // _VALUES
        while load.sent < due:
            load.write(due, began_us + second * 1_000_000)
            load.read(time.monotonic() + 0.001)
    while load.acknowledged < load.sent:
        load.write(0, 0)
        load.read(time.monotonic() + 0.02)
    load.close()


def _live(ours: Process, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.load", str(ours.port), "20", str(SERIES), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _status(ours: Process) -> dict[str, Any]:
    try:
        return words.say(ours.folder / "edge.sock", "status")
    except Refused:
        return {}


def _watch(ours: Process, began: float, drained: list[float]) -> None:
    until(lambda: _status(ours).get("backlog") == 0, 300, "the backlog is drained")
    drained.append(time.monotonic() - began)


class _Anomalies:
    """Breaks a limit (or ends that) now and then, and looks for the anomaly on the bus."""

    def __init__(self, ours: Process, log: Path) -> None:
        self._port, self._log = ours.port, log
        self._over = threading.Event()
        self._sent: list[float] = []
        self._seen: dict[float, float] = {}
        self._threads = [threading.Thread(target=run) for run in (self._send, self._look)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[float]:
        """Return, of all that were sent once the bus was there, the time from sent to on the bus, seconds."""
        until(lambda: self._sent and self._sent[-1] in self._seen, 20, "the last anomaly is on the bus")
        self._over.set()
        for thread in self._threads:
            thread.join()
        first = min(sent for sent, seen in self._seen.items() if seen - sent < 1e9 and sent >= self._there)
        return [self._seen[sent] - sent for sent in self._sent if sent >= first]

    def _send(self) -> None:
        topic = b"hw/alarm/device/data/heat"
        with socket.create_connection(("127.0.0.1", self._port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(CONNECT % 999_999)
            client.recv(4)
            number = 0
            while not self._over.wait(_EVERY_S):
                stamp = time.time_ns() // 1000
                payload = b'{"t":%d,"v":%d}' % (stamp, 90 if number % 2 == 0 else 20)
                number += 1
                body = len(topic).to_bytes(2, "big") + topic + number.to_bytes(2, "big") + payload
                self._sent.append(stamp / 1e6)
                client.sendall(b"\x32" + bytes([len(body)]) + body)
                client.recv(4)

    def _look(self) -> None:
        self._there = 0.0
        log, offset, shard = None, 0, shard_of("alarm")
        while not self._over.wait(0.01):
            with contextlib.suppress(BusUnavailable):
                if log is None:
                    if not self._log.exists():
                        continue
                    log = SqliteLog(self._log)
                    self._there = time.time()
                for stored in log.read(IN.name, {shard: offset}, 1000):
                    offset = stored.offset + 1
                    if records.kind_of(stored.headers) == records.ANOMALY:
                        found = records.decode(Anomaly, stored.body)
                        self._seen.setdefault(found.time_us / 1e6, time.time())
        if log is not None:
            log.close()


def _size(file: Path) -> int:
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    size = reader.execute("SELECT sum(length(body)) FROM outbox").fetchone()[0]
    reader.close()
    return int(size)


def _plain(file: Path, log: Path) -> float:
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    bus = SqliteLog(log)
    began = time.monotonic()
    cursor = reader.execute("SELECT shard, body FROM outbox ORDER BY n")
    while rows := cursor.fetchmany(64):
        bus.append(
            [Record(IN.name, shard, "a", {"ce_type": "x"}, zlib.decompress(body)) for shard, body in rows]
        )
    took = time.monotonic() - began
    bus.close()
    reader.close()
    return took
