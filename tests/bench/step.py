"""`edge-step`: bytes of PUBLISHes to committed tick and PUBACK bytes, in this process, no sockets, full sync."""

from __future__ import annotations

import json
import random
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from headwater_edge.decode import Decode
from headwater_edge.events import Connect, Settings, Start
from headwater_edge.gather import Gather
from headwater_edge.publishes import Known, cut, pubacks
from headwater_edge.rows import commit_of
from headwater_edge.rule_settings import LimitSettings
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_edge.source import Burst
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.store import Chores, open_store, write
from headwater_edge.tick import quiet_tick
from headwater_edge.topics import SeriesIndex
from headwater_shared.clock import SetClock
from tests.bench.results import Result

_SERIES = 1000
_WARM, _MEASURED = 30, 300
"""Ticks of one reading a series at 1 Hz: 30 windows of 10 s close in the measured ones, and minutes, too."""


def wire(start_us: int, ticks: int) -> Iterator[bytes]:
    """Yield each tick's PUBLISHes, QoS 1, JSON with a time in us and a random walk of two decimals."""
    chance = random.Random(1)
    values = [50.0] * _SERIES
    topics = [b"hw/site-%d/pump-%03d/data/m%d" % (i % 4, i // 5, i % 5) for i in range(_SERIES)]
    packet_id = 0
    for tick in range(ticks):
        out = []
        for at, topic in enumerate(topics):
            values[at] = round(values[at] + chance.gauss(0, 0.2), 2)
            packet_id = packet_id % 65_535 + 1
            payload = b'{"t":%d,"v":%r}' % (start_us + tick * 1_000_000 + at * 317, values[at])
            head = struct.pack(">BBH", 0x32, 4 + len(topic) + len(payload), len(topic))
            out.append(head + topic + packet_id.to_bytes(2, "big") + payload)
        yield b"".join(out)


def headwater(folder: Path) -> Callable[[bytes], bytes]:
    """Return the agent's way of a tick, every stage of it, in line."""
    settings = step_settings(EdgeSettings(limit=(LimitSettings(name="hot", series="*/m2", above=500.0),)))
    state, clock = State(settings), SetClock()
    index = SeriesIndex(state.names, 20_000)
    decode = Decode(index)
    known = Known(256_000)
    connection, _ = open_store(folder / "edge.db")
    body = msgspec.json.encode(settings).decode()
    start = quiet_tick(
        clock.now(), Start(1, "bench"), Settings(body), Connect(1, "bench", "", clean=False, expiry_s=60)
    )
    write(connection, commit_of(start, step(state, start), []), Chores())

    def tick(data: bytes) -> bytes:
        clock.advance(1)
        burst = Burst(clock.wall_us)
        cut(data, 0, False, known, burst.topics, burst.payloads, burst.packet_ids, burst.flags)
        burst.runs.append((1, len(burst.topics)))
        gather = Gather()
        gather.add(burst, decode.burst(burst))
        columns, dead = gather.tick(clock.now(), index.take_fresh())
        write(connection, commit_of(columns, step(state, columns), dead), Chores())
        return pubacks(burst.packet_ids)

    return tick


def plain(folder: Path) -> Callable[[bytes], bytes]:
    """Return what a plain program does: a reading an object, a dict of windows, each reading a row, full sync."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE reading(topic TEXT, time INTEGER, value REAL)")
    windows: dict[tuple[str, int], list[float]] = {}

    def tick(data: bytes) -> bytes:
        at, rows, acknowledgements = 0, [], []
        while at < len(data):
            length = data[at + 1]
            topic_end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
            said = json.loads(data[topic_end + 2 : at + 2 + length])
            topic = data[at + 4 : topic_end].decode()
            rows.append((topic, said["t"], said["v"]))
            pane = windows.setdefault((topic, said["t"] // 10_000_000), [0.0, 0.0, said["v"], said["v"]])
            pane[0] += 1
            pane[1] += said["v"]
            pane[2], pane[3] = min(pane[2], said["v"]), max(pane[3], said["v"])
            acknowledgements.append(b"\x40\x02" + data[topic_end : topic_end + 2])
            at += 2 + length
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO reading VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
        return b"".join(acknowledgements)

    return tick


def measure(way: Callable[[bytes], bytes]) -> float:
    """Return us of CPU a reading."""
    start_us = SetClock().wall_us
    spent = 0.0
    for at, data in enumerate(wire(start_us, _WARM + _MEASURED)):
        began = time.process_time()
        acknowledged = way(data)
        if at >= _WARM:
            spent += time.process_time() - began
        assert len(acknowledged) == 4 * _SERIES
    return spent / (_MEASURED * _SERIES) * 1e6


def run(folder: Path) -> Iterator[Result]:
    """Run the bench."""
    baseline = measure(plain(folder))
    figures = sorted(measure(headwater(_made(folder / str(at)))) for at in range(3))
    yield Result(
        "edge-step",
        figures[1],
        "us of CPU a reading",
        baseline,
        "in the same process: a loop over packets, json, a dict of windows, executemany into SQLite, full sync",
        "SQLite WAL, synchronous=FULL, one commit of 1,000 readings",
        {"of three runs": figures, "series": _SERIES, "ticks": _MEASURED},
    )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
