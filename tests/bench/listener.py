"""`edge-listener-20`, `-500`, `-max`, `-tls`: a real agent with full sync under a real load, by its CPU time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from headwater_appliance import certs
from tests.bench.agents import Process, agent, cpu_over, python_process
from tests.bench.load import Found
from tests.bench.results import Result
from tests.support import mosquitto_broker

_FULL = "SQLite WAL, synchronous=FULL, acknowledged after the commit"
_SECONDS = 20.0
_WARM = 5.0
_STEPS = (40_000, 60_000, 80_000, 100_000, 120_000, 150_000)


def load(
    port: int,
    connections: int,
    rate: float,
    seconds: float,
    in_flight: int = 256,
    connected: Callable[[], None] = lambda: None,
    ca: str = "",
) -> Found:
    """Run the load in a process of its own; `connected` is called before the first message."""
    arguments = [str(port), str(connections), str(rate), str(seconds), str(in_flight), "1", ca]
    command = [sys.executable, "-m", "tests.bench.load", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        connected()
        return msgspec.json.decode(process.stdout.read(), type=Found)


def cpu_a_message(
    processes: list[Process], port: int, connections: int, rate: float, ca: str = ""
) -> tuple[float, Found]:
    """Return us of CPU a message of all processes together, after a warm-up."""
    load(port, connections, rate, _WARM, ca=ca)
    before: list[float] = []
    found = load(
        port, connections, rate, _SECONDS, connected=lambda: before.append(cpu_over(processes)), ca=ca
    )
    assert found.acknowledged == found.sent, found
    return (cpu_over(processes) - before[0]) / found.sent * 1e6, found


def twenty(folder: Path) -> Iterator[Result]:
    """20 connections, 10,000 messages/s; beside it Mosquitto with a paho-and-dict subscriber."""
    with agent(folder / "agent") as ours:
        figure, found = cpu_a_message([ours], ours.port, 20, 10_000)
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto_broker(_made(folder / "broker")))
        there = Process(broker.pid, broker.port, folder)
        paho = stack.enter_context(python_process(folder / "paho", "tests.bench.paho_dict", str(broker.port)))
        baseline, _ = cpu_a_message([there, paho], broker.port, 20, 10_000)
    yield Result(
        "edge-listener-20",
        figure,
        "us of CPU a message",
        baseline,
        "Mosquitto and a paho-mqtt subscriber with json and a dict, CPU of both; acknowledged from memory, nothing on disk",
        _FULL,
        {"messages/s": found.rate, "puback p50 ms": found.p50_ms, "puback p99 ms": found.p99_ms},
    )


def five_hundred(folder: Path) -> Iterator[Result]:
    """500 connections, 5,000 messages/s; beside it an asyncio server that only reads and acknowledges."""
    with agent(folder / "agent") as ours:
        figure, found = cpu_a_message([ours], ours.port, 500, 5_000)
    with python_process(folder / "bare", "tests.bench.bare_server") as bare:
        baseline, _ = cpu_a_message([bare], bare.port, 500, 5_000)
    yield Result(
        "edge-listener-500",
        figure,
        "us of CPU a message",
        baseline,
        "a bare asyncio server that reads and acknowledges, no windows, no disk",
        _FULL,
        {"messages/s": found.rate, "puback p50 ms": found.p50_ms, "puback p99 ms": found.p99_ms},
    )


def tls(folder: Path) -> Iterator[Result]:
    """20 connections, 10,000 messages/s over TLS 1.3; beside it the same without TLS."""
    now = datetime.now(UTC)
    ca = certs.make_authority(folder / "certs", "bench", 2, now)
    own = certs.make_server(folder / "certs", ["localhost"], 2, now)
    settings = (
        f'plain = false\n[edge.listener.tls]\nport = 0\ncertificate = "{own.certificate}"\nkey = "{own.key}"'
    )
    with agent(folder / "agent", listener=settings) as ours:
        figure, found = cpu_a_message([ours], ours.port, 20, 10_000, str(ca.certificate))
    with agent(folder / "plain") as plain:
        baseline, _ = cpu_a_message([plain], plain.port, 20, 10_000)
    yield Result(
        "edge-listener-tls",
        figure,
        "us of CPU a message",
        baseline,
        "the same agent and load without TLS",
        _FULL,
        {"messages/s": found.rate, "puback p50 ms": found.p50_ms, "puback p99 ms": found.p99_ms},
    )


def largest(folder: Path) -> Iterator[Result]:
    """The largest rate that is held for 30 s, over 20 connections with 1,024 in flight."""
    best, seen = None, {}
    for rate in _STEPS:
        with agent(folder / str(rate)) as ours:
            found = load(ours.port, 20, rate, 30, 1024)
            cpu = ours.cpu_s()
        seen[f"at {rate}/s"] = {"held": found.held, "messages/s": round(found.rate), "agent CPU s": cpu}
        if not found.held:
            break
        best = found
    assert best is not None, seen
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto_broker(_made(folder / "broker")))
        stack.enter_context(python_process(folder / "paho", "tests.bench.paho_dict", str(broker.port)))
        baseline = load(broker.port, 20, 60_000, 10, 1024)
    yield Result(
        "edge-listener-max",
        best.sent / best.seconds,
        "messages/s held for 30 s",
        baseline.rate,
        "what Mosquitto acknowledges (from memory) beside a paho-and-dict subscriber, 60,000/s offered",
        _FULL,
        {"puback p50 ms": best.p50_ms, "puback p99 ms": best.p99_ms, **seen},
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
