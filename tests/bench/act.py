"""`edge-act-latency`: a reading that breaks a limit, sent, to the command at its device, under 5,000 readings/s."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from headwater_firmware_sim import packets
from headwater_firmware_sim.packets import V311, Incoming, Told
from tests.bench.agents import Process, agent
from tests.bench.results import Result

_RULES = """[[edge.limit]]
name = "hot"
series = "alarm/*"
above = 80.0
[[edge.act]]
name = "cool"
rule = "hot"
command = "shut"
undo = "open"
"""
_COMMANDS = 160
_EVERY_S = 0.27
"""Up to four commands a second: what a begin leads to and what an end leads to in turn."""
_TOPIC = "hw/alarm/device/cmd"


def latency(folder: Path, commands: int = _COMMANDS) -> Iterator[Result]:
    """Send a breaking (or ending) reading every quarter of a second beside the load, and wait for the command; it is answered
    at once, as a device would.
    """
    with agent(folder / "agent", settings=_RULES) as ours:
        arguments = [str(ours.port), "20", "5000", str(commands * _EVERY_S + 3)]
        command = [sys.executable, "-m", "tests.bench.load", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout is not None
            assert load.stdout.readline() == "connected\n"
            delays = _commanded(ours, commands)
            said, _ = load.communicate()
    ordinary = json.loads(said)
    delays.sort()
    yield Result(
        "edge-act-latency",
        delays[int(len(delays) * 0.99)] * 1e3,
        "ms, p99 from reading sent to command received",
        ordinary["p99_ms"],
        "p99 of the PUBACK of ordinary readings in the same run",
        "SQLite WAL, synchronous=FULL",
        {"p50 ms": delays[len(delays) // 2] * 1e3, "worst ms": delays[-1] * 1e3, "commands": len(delays)},
    )


def _commanded(ours: Process, commands: int) -> list[float]:
    """Return the time from a reading sent to its command received, of each, seconds."""
    delays, pause, incoming = [], threading.Event(), Incoming(V311)
    with socket.create_connection(("127.0.0.1", ours.port)) as device:
        device.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        device.sendall(packets.connect(V311, "device", clean=True, keep_alive_s=60))
        device.sendall(packets.subscribe(V311, _TOPIC, 1))
        for number in range(1, commands + 1):
            next_at = time.monotonic() + _EVERY_S
            payload = b'{"t":%d,"v":%d}' % (time.time_ns() // 1000, 90 if number % 2 else 20)
            sent = time.monotonic()
            device.sendall(packets.publish(V311, "hw/alarm/device/data/heat", payload, 1 + number))
            told = _told(device, incoming)
            delays.append(time.monotonic() - sent)
            answer = json.dumps({"id": json.loads(told.payload)["id"], "status": "done"}).encode()
            device.sendall(
                packets.puback(told.packet_id) + packets.publish_once(V311, f"{_TOPIC}/ack", answer)
            )
            pause.wait(max(0.0, next_at - time.monotonic()))
    return delays


def _told(device: socket.socket, incoming: Incoming) -> Told:
    while True:
        data = device.recv(4_096)
        assert data, "the agent closed the connection"
        for packet in incoming.feed(data):
            if isinstance(packet, Told):
                return packet
