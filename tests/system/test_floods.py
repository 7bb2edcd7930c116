"""Floods against a real agent: what they cost others, which is nothing that a device would notice."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from headwater_firmware_sim import packets
from tests.support import until
from tests.system.box import EDGE, Box, box
from tests.system.wire import Wire

GOOD = b'{"t":1795000000,"v":1}'
ELSEWHERE = "127.0.0.2"


def test_open_files_run_out(tmp_path: Path) -> None:
    """Silent connections take every file that the agent may open; a device that connects then is let in all the same, since
    one of the silent ones goes for it, and its readings are acknowledged.
    """
    with box(tmp_path) as here, ExitStack() as stack:
        here.start(EDGE)
        here.ready(EDGE)
        _published(here, "before")
        pid = here.running[EDGE].pid
        assert (
            resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
            == resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        )
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_open_files(pid) + 20, 4_096))
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", here.port), 10, (ELSEWHERE, 0)))
        for name in ("after", "and again"):
            _published(here, name)
        until(
            lambda: "connections have not said who they are" in here.log(EDGE).read_text(), what="it is named"
        )
        here.end(EDGE)


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - a count, and files that come and go


def _published(here: Box, name: str) -> None:
    with Wire(here.port, name) as wire:
        wire.send(wire.publish("hw/s/d/data/m", GOOD))
        wire.read_acknowledgements(1)


@pytest.mark.alone
def test_guesses_at_speed_cost_others_nothing(tmp_path: Path) -> None:
    """While an address guesses passwords as fast as it can, on a hundred connections at a time, a device that is connected is
    acknowledged, message by message, within a few ticks at most.
    """
    with box(tmp_path, edge='users = { pump = "env:WORD" }\ngrants = { pump = ["*/*"] }') as here:
        here.start(EDGE, env={"WORD": "swordfish"})
        here.ready(EDGE)
        with socket.create_connection(("127.0.0.1", here.port), 10) as sock:
            sock.sendall(
                packets.connect(
                    packets.V311, "pump", clean=True, keep_alive_s=60, user="pump", password="swordfish"
                )
            )
            assert sock.recv(4) == b"\x20\x02\x00\x00"
            stop = threading.Event()
            guesses: list[int] = []
            flood = threading.Thread(target=_guess, args=(here.port, stop, guesses))
            flood.start()
            try:
                until(lambda: len(guesses) > 300, what="it guesses")
                slowest = _slowest(sock, 1)
            finally:
                stop.set()
                flood.join(20)
        assert slowest < 3
        said = here.log(EDGE).read_text()
        assert "too many wrong passwords from 127.0.0.2" in said
        here.end(EDGE)


def _guess(port: int, stop: threading.Event, guesses: list[int]) -> None:
    """Guess on many connections, and wait for no answer."""
    open_: list[socket.socket] = []
    while not stop.is_set():
        sock = socket.create_connection(("127.0.0.1", port), 10, (ELSEWHERE, 0))
        user = f"user-{len(guesses) % 50}"
        sock.sendall(
            packets.connect(
                packets.V311, "g", clean=True, keep_alive_s=60, user=user, password=f"guess {len(guesses)}"
            )
        )
        guesses.append(1)
        open_.append(sock)
        if len(open_) > 100:
            open_.pop(0).close()
    for sock in open_:
        sock.close()


def _slowest(sock: socket.socket, first: int) -> float:
    """Publish ten messages one after the other; return the longest time to an acknowledgement, in seconds."""
    slowest = 0.0
    for packet_id in range(first, first + 10):
        began = time.monotonic()
        sock.sendall(packets.publish(packets.V311, "hw/s/d/data/m", GOOD, packet_id))
        assert sock.recv(4) == b"\x40\x02" + packet_id.to_bytes(2, "big")
        slowest = max(slowest, time.monotonic() - began)
    return slowest
