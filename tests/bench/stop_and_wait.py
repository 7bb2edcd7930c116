"""`edge-stop-and-wait`: a thousand devices that send one message a second each, and wait for its PUBACK before the next.

`python -m tests.bench.stop_and_wait PORT DEVICES SECONDS` is the load, in a process of its own: prints `connected`, and one
JSON object at the end.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.bench.agents import Process, agent, python_process
from tests.bench.load import CONNECT
from tests.bench.results import Result

_DEVICES, _SECONDS, _WARM = 1000, 20.0, 5.0


class Waited(msgspec.Struct):
    """What the load saw: milliseconds from a message to its PUBACK, and how often a device was not done after a second."""

    sent: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    late: int


class _Device:
    def __init__(self, port: int, number: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(CONNECT % number)
        self.topic = b"hw/site-%d/dev-%04d/data/m0" % (number % 4, number)
        self.packet_id = 0
        self.sent = 0.0
        """When its message in flight went out, 0 if none is."""

    def connected(self) -> None:
        assert self.sock.recv(4)[0] == 0x20

    def send(self, now: float) -> None:
        self.packet_id = self.packet_id % 65_535 + 1
        payload = b'{"t":%d,"v":%d}' % (time.time_ns() // 1000, self.packet_id)
        head = b"\x32%c\x00%c" % (4 + len(self.topic) + len(payload), len(self.topic))
        self.sock.sendall(head + self.topic + self.packet_id.to_bytes(2, "big") + payload)
        self.sent = now


def load(port: int, devices: int, seconds: float) -> Waited:
    """Send; the devices' seconds begin evenly spread over one."""
    clients = [_Device(port, number) for number in range(devices)]
    for client in clients:
        client.connected()
    poll, by_fd = select.epoll(), {client.sock.fileno(): client for client in clients}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    print("connected", flush=True)
    began = time.monotonic()
    due = deque((began + at / devices, client) for at, client in enumerate(clients))
    waited: list[float] = []
    late = 0
    while (now := time.monotonic()) < began + seconds or any(client.sent for client in clients):
        while now < began + seconds and due[0][0] <= now:
            at, client = due.popleft()
            if client.sent:
                late += 1
            else:
                client.send(now)
            due.append((at + 1.0, client))
        for fd, _ in poll.poll(max(0.0, min(due[0][0] - time.monotonic(), 0.05))):
            client = by_fd[fd]
            assert client.sock.recv(4), "the server closed a connection"
            waited.append(time.monotonic() - client.sent)
            client.sent = 0.0
    for client in clients:
        client.sock.close()
    waited.sort()
    p50, p99 = waited[len(waited) // 2], waited[int(len(waited) * 0.99)]
    return Waited(len(waited), p50 * 1e3, p99 * 1e3, waited[-1] * 1e3, late)


def _measured(process: Process, seconds: float) -> Waited:
    command = [
        sys.executable,
        "-m",
        "tests.bench.stop_and_wait",
        str(process.port),
        str(_DEVICES),
        str(seconds),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load_process:
        assert load_process.stdout is not None
        assert load_process.stdout.readline() == "connected\n"
        return msgspec.json.decode(load_process.stdout.read(), type=Waited)


def run(folder: Path) -> Iterator[Result]:
    """Run the bench."""
    with agent(folder / "agent") as ours:
        _measured(ours, _WARM)
        cpu = ours.cpu_s()
        found = _measured(ours, _SECONDS)
        cpu = (ours.cpu_s() - cpu) / found.sent * 1e6
    with python_process(folder / "bare", "tests.bench.bare_server") as bare:
        baseline = _measured(bare, _SECONDS)
    yield Result(
        "edge-stop-and-wait",
        found.p99_ms,
        "ms, p99 of the PUBACK",
        baseline.p99_ms,
        "a bare asyncio server that reads and acknowledges at once, no windows, no disk",
        "SQLite WAL, synchronous=FULL, acknowledged after the commit",
        {
            "devices": _DEVICES, "p50 ms": found.p50_ms, "worst ms": found.worst_ms, "messages": found.sent,
            "late by a second": found.late, "us of CPU a message": cpu,
        },
    )  # fmt: skip


if __name__ == "__main__":
    port_, devices_, seconds_ = sys.argv[1:]
    print(msgspec.json.encode(load(int(port_), int(devices_), float(seconds_))).decode())
