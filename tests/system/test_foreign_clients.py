"""The listener against clients that are not ours, each in both versions and at each QoS; edge/README.md has the table.

A client is a program of the same words, PORT VERSION QOS COUNT NAME: it subscribes to its commands, publishes, says when all
is acknowledged, waits for a command, says which, and leaves with a farewell.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from headwater_edge import ticker
from tests.edge.on_sockets import Served, run, served
from tests.support import ROOT, lacking, part_required, program, until_async

CLIENTS = ROOT / "tests" / "system" / "clients"
MADE = ROOT / ".venv" / "clients"
COUNT = 30
RUNS = [(version, qos) for version in ("3.1.1", "5") for qos in (0, 1, 2)]


def _command(client: str) -> list[str]:
    """Return how a client is started; where it cannot be had the test is skipped with the reason."""
    if client in {"paho-mqtt", "aiomqtt", "gmqtt"}:
        return [sys.executable, str(CLIENTS / f"with_{client.removesuffix('-mqtt')}.py")]
    if client == "npm mqtt":
        part_required("node")
        if not (MADE / "node" / "made").exists():
            lacking("node", "npm's mqtt is not installed: run tests/clients.sh")
        return [str(program("node")), str(CLIENTS / "node" / "client.cjs")]
    part_required("go")
    if not (MADE / "go" / "client").exists():
        lacking("go", "the Go clients are not built: run tests/clients.sh")
    return [str(MADE / "go" / "client")]


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks as short as in the agent's settings, at any rate."""
    monkeypatch.setattr(ticker, "_LONGEST_US", 1_000)


async def _run(box: Served, words: Sequence[str], version: str, qos: int) -> None:
    """Run one client to its end, and see what it did."""
    name = f"v{version[0]}q{qos}"
    process = await asyncio.create_subprocess_exec(
        *words, str(box.listener.port), version, str(qos), str(COUNT), name,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_PATH": str(MADE / "node" / "node_modules")},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        first = await asyncio.wait_for(process.stdout.readline(), 30)
        assert first == b"acknowledged %d\n" % COUNT, (version, qos, first + await process.stderr.read())
        topic = f"hw/clients/{name}/cmd".encode()
        await until_async(lambda: box.listener.publish(topic, b"go"), what="it has subscribed")
        rest = await asyncio.wait_for(process.stdout.read(), 30)
        assert (rest, await process.wait()) == (b"command go\n", 0), (version, qos)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _all_counted(counted: dict[str, int]) -> None:
    """Each message of each run is there once."""
    assert counted == {f"clients/v{v[0]}q{qos}/m{n}": 1 for v, qos in RUNS for n in range(COUNT)}


@pytest.mark.parametrize("client", ["paho-mqtt", "aiomqtt", "gmqtt", "npm mqtt", "Eclipse for Go"])
def test_a_client_publishes_and_is_told_commands(tmp_path: Path, client: str) -> None:
    """In 3.1.1 and 5, at QoS 0, 1 and 2: all is acknowledged and counted once, a command arrives, and the client leaves
    with a farewell; nothing that it sends is malformed to us.
    """
    words = _command(client)

    async def test() -> None:
        async with served(tmp_path) as box:
            await asyncio.gather(*(_run(box, words, version, qos) for version, qos in RUNS))
            _all_counted(await box.counted())
            counts = box.listener.counts
            await until_async(lambda: counts.ended == {"disconnect": len(RUNS)}, what="all have said goodbye")
            assert (counts.malformed, counts.refused) == ({}, {})

    run(test())


async def _shell(*words: str, lines: bytes = b"") -> bytes:
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(lines), 30)
    assert process.returncode == 0, out
    return out


def test_mosquittos_own_clients(tmp_path: Path) -> None:
    """mosquitto_pub in both versions at each QoS, and mosquitto_sub to whom a command is sent; a filter that we refuse is
    refused.
    """
    part_required("mosquitto")
    pub, sub = str(program("mosquitto_pub")), str(program("mosquitto_sub"))

    async def test() -> None:
        async with served(tmp_path) as box:
            port = str(box.listener.port)

            async def publish(version: str, qos: int) -> None:
                name = f"v{version[0]}q{qos}"
                where = ["-p", port, "-V", f"mqttv{version.replace('.', '')}", "-q", str(qos), "-i", name]
                lines = b"".join(b"%d\n" % n for n in range(COUNT))
                assert await _shell(pub, *where, "-t", f"hw/clients/{name}/data/m", "-l", lines=lines) == b""

            async def subscribe(version: str, qos: int) -> None:
                name = f"s{version[0]}q{qos}"
                where = ["-p", port, "-V", f"mqttv{version.replace('.', '')}", "-q", str(qos), "-i", name]
                topic = f"hw/clients/{name}/cmd"
                waiting = asyncio.ensure_future(_shell(sub, *where, "-t", topic, "-C", "1", "-W", "20"))
                await until_async(
                    lambda: box.listener.publish(topic.encode(), b"go"), what=f"{name} has subscribed"
                )
                assert await waiting == b"go\n"

            await asyncio.gather(*(publish(*one) for one in RUNS), *(subscribe(*one) for one in RUNS))
            assert await box.counted() == {f"clients/v{v[0]}q{qos}/m": COUNT for v, qos in RUNS}
            refused = await asyncio.create_subprocess_exec(
                sub, "-p", port, "-t", "#", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            out, _ = await asyncio.wait_for(refused.communicate(), 30)
            assert b"denied" in out
            assert box.listener.counts.malformed == {}

    run(test())
