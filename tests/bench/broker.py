"""`edge-mosquitto-10k`, `-40k`, `-multi`, `-max`: a real agent with full sync behind a real Mosquitto, by the agent's CPU time.

Beside it, in the same run, a paho-mqtt and an aiomqtt subscriber that keep json's readings in a dict, as most programs begin.
Mosquitto is told to queue without a limit and to let all be in flight; else it drops what a subscriber does not take at once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from headwater_edge import words
from tests.bench.agents import Process, agent, python_process
from tests.bench.load import Found
from tests.bench.results import Result
from tests.support import mosquitto_broker, until

_FULL = "SQLite WAL, synchronous=FULL, acknowledged to the broker after the commit"
_UNLIMITED = "max_queued_messages 0\nmax_inflight_messages 0\nlog_type notice\nlog_type information"
_BROKER = '[[edge.broker]]\nname = "bench"\nhost = "127.0.0.1"\nport = {port}\nfilters = ["hw/#"]'
_SECONDS, _WARM = 20.0, 5.0
_CONNECTIONS = 20
_STEPS = (40_000, 60_000, 80_000, 100_000)
_BASELINE = "a paho-mqtt subscriber with json and a dict behind the same Mosquitto, 10,000 messages/s; nothing on disk"


class Measured(msgspec.Struct):
    """One measurement."""

    us: float
    """CPU of the subscriber a message."""
    found: Found
    more: dict[str, Any] = {}


def ten_thousand(folder: Path) -> Iterator[Result]:
    """10,000 messages/s of 1,000 series."""
    ours = measured(folder / "agent", 10_000)
    paho = _baseline(folder / "paho", "tests.bench.paho_dict")
    aio = _baseline(folder / "aiomqtt", "tests.bench.aiomqtt_dict")
    more = {"aiomqtt and a dict, us": aio.us, "messages/s": ours.found.rate, **ours.more}
    yield Result("edge-mosquitto-10k", ours.us, "us of CPU a message", paho.us, _BASELINE, _FULL, more)


def forty_thousand(folder: Path) -> Iterator[Result]:
    """40,000 messages/s of 1,000 series; the baselines cannot, so theirs is taken at 10,000."""
    ours = measured(folder / "agent", 40_000)
    paho = _baseline(folder / "paho", "tests.bench.paho_dict")
    more = {"messages/s": ours.found.rate, **ours.more}
    yield Result("edge-mosquitto-40k", ours.us, "us of CPU a message", paho.us, _BASELINE, _FULL, more)


def multi(folder: Path) -> Iterator[Result]:
    """8,000 messages/s with five readings each."""
    ours = measured(folder / "agent", 8_000, values=5)
    paho = _baseline(folder / "paho", "tests.bench.paho_dict")
    more = {"us a message": ours.us, "messages/s": ours.found.rate, **ours.more}
    yield Result("edge-mosquitto-multi", ours.us / 5, "us of CPU a reading", paho.us, _BASELINE, _FULL, more)


def largest(folder: Path) -> Iterator[Result]:
    """The largest rate that load, Mosquitto and agent together hold for 30 s on this machine, none lost."""
    best: Found | None = None
    seen: dict[str, Any] = {}
    for rate in _STEPS:
        one = measured(folder / str(rate), rate, seconds=30.0, warm=0.0, must_hold=False)
        seen[f"at {rate}/s"] = {
            "held": one.found.held,
            "messages/s": round(one.found.rate),
            "agent us": one.us,
            **one.more,
        }
        if not one.found.held:
            break
        best = one.found
    paho = _baseline(folder / "paho", "tests.bench.paho_dict", rate=20_000)
    held = best.sent / best.seconds if best else 0.0
    yield Result(
        "edge-mosquitto-max", held, "messages/s held for 30 s", 1e6 / paho.us,
        "what a paho-and-dict subscriber could take of a whole core, from its CPU a message", _FULL, seen,
    )  # fmt: skip


def measured(
    folder: Path,
    rate: float,
    *,
    values: int = 1,
    seconds: float = _SECONDS,
    warm: float = _WARM,
    must_hold: bool = True,
    settings: str = "",
) -> Measured:
    """Measure the agent; every message that Mosquitto acknowledged must have been counted at the end."""
    with ExitStack() as stack:
        mosquitto = stack.enter_context(mosquitto_broker(_made(folder / "broker"), _UNLIMITED))
        ours = stack.enter_context(
            agent(folder / "agent", f"{_BROKER.format(port=mosquitto.port)}\n{settings}")
        )
        until(lambda: _status(ours)["broker bench"]["connected"], what="the agent is subscribed")
        if warm:
            warmed = _load(mosquitto.port, rate, warm, values)
            _taken(ours, warmed.sent)
        before = _status(ours)
        began: list[float] = []
        there = Process(mosquitto.pid, mosquitto.port, folder)

        def connected() -> None:
            began.extend((ours.cpu_s(), there.cpu_s()))

        found = _load(mosquitto.port, rate, seconds, values, connected)
        after = _taken(ours, before["messages"] + found.acknowledged)
        cpu, brokers = ours.cpu_s() - began[0], there.cpu_s() - began[1]
        assert after["accepted"] - before["accepted"] == found.acknowledged * values, (before, after, found)
        assert found.held or not must_hold, found
    more = {
        "ticks/s": (after["tick"] - before["tick"]) / found.seconds,
        "canary ms": after["broker bench"]["canary_ms"],
        "mosquitto us": brokers / found.sent * 1e6,
    }
    return Measured(cpu / found.sent * 1e6, found, more)


def _baseline(folder: Path, module: str, rate: float = 10_000) -> Measured:
    with ExitStack() as stack:
        mosquitto = stack.enter_context(mosquitto_broker(_made(folder), _UNLIMITED))
        theirs = stack.enter_context(python_process(folder, module, str(mosquitto.port)))
        _load(mosquitto.port, rate, _WARM, 1)
        began: list[float] = []
        found = _load(mosquitto.port, rate, _SECONDS, 1, lambda: began.append(theirs.cpu_s()))
        _idle(theirs)
        return Measured((theirs.cpu_s() - began[0]) / found.sent * 1e6, found)


def _idle(process: Process) -> None:
    """Wait until a process has nothing left to do: it may lag behind the load."""
    last = [process.cpu_s(), time.monotonic()]

    def still() -> bool:
        now, cpu = time.monotonic(), process.cpu_s()
        if cpu > last[0] + 0.011:
            last[:] = cpu, now
        return now - last[1] > 0.5

    until(still, 120, "the baseline has caught up")


def _status(ours: Process) -> dict[str, Any]:
    return words.say(ours.folder / "edge.sock", "status")


def _taken(ours: Process, messages: int) -> dict[str, Any]:
    """Wait until the agent has so many messages on disk."""
    until(lambda: _status(ours)["messages"] >= messages, 60, f"{messages} messages are taken")
    return _status(ours)


def _load(
    port: int, rate: float, seconds: float, values: int, connected: Callable[[], None] = lambda: None
) -> Found:
    arguments = [str(port), str(_CONNECTIONS), str(rate), str(seconds), "1024", str(values)]
    command = [sys.executable, "-m", "tests.bench.load", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        connected()
        return msgspec.json.decode(process.stdout.read(), type=Found)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
