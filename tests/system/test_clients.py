"""Real clients against the real agent: paho-mqtt, aiomqtt and mosquitto_pub, in both versions; and the README as pasted."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support import ROOT, part_required, until
from tests.system import result
from tests.system.box import CLOUD, EDGE, Box, box

VERSIONS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}
T_US = 1_795_000_000_000_000


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that the clients of this module publish to."""
    with box(tmp_path_factory.mktemp("box")) as made:
        made.up()
        yield made
        made.end(EDGE)
        made.end(CLOUD)
        assert not made.troubles()


def _paho(name: str, version: str) -> Client:
    return Client(CallbackAPIVersion.VERSION2, name, protocol=VERSIONS[version])


def _publish_with_paho(port: int, version: str, topics: list[tuple[str, int]]) -> None:
    client = _paho(f"paho-{version}", version)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        sent = [client.publish(f"{topic}/v", b"%d" % n, qos) for n, (topic, qos) in enumerate(topics)]
        for info in sent:
            info.wait_for_publish(10)  # at QoS 1: the PUBACK is there
            assert info.is_published()
        client.disconnect()
    finally:
        client.loop_stop()


def _publish_with_aiomqtt(port: int, version: str, topics: list[tuple[str, int]]) -> None:
    protocol = aiomqtt.ProtocolVersion.V5 if version == "5" else aiomqtt.ProtocolVersion.V311

    async def publish() -> None:
        async with aiomqtt.Client("127.0.0.1", port, protocol=protocol) as client:
            for n, (topic, qos) in enumerate(topics):
                await client.publish(f"{topic}/v", n, qos, timeout=10)

    asyncio.run(publish())


def _publish_with_mosquitto(port: int, version: str, topics: list[tuple[str, int]]) -> None:
    part_required("mosquitto")
    protocol = "mqttv5" if version == "5" else "mqttv311"
    for n, (topic, qos) in enumerate(topics):
        words = ("-V", protocol, "-p", str(port), "-q", str(qos), "-t", f"{topic}/v", "-m", str(n))
        subprocess.run(["mosquitto_pub", *words], check=True, timeout=10)


PUBLISHERS = {
    "paho": _publish_with_paho,
    "aiomqtt": _publish_with_aiomqtt,
    "mosquitto_pub": _publish_with_mosquitto,
}


def test_what_any_client_publishes_is_stored(here: Box) -> None:
    """Three real clients, both versions, QoS 0 and 1: each value is in its window in the cloud side's file."""
    wanted: dict[str, float] = {}
    for name, publish in PUBLISHERS.items():
        for version in VERSIONS:
            device = f"{name}-{version}"
            topics = [(f"hw/clients/{device}-qos{qos}/data", qos) for qos in (0, 1)]
            publish(here.port, version, topics)
            wanted |= {f"clients/{device}-qos{qos}/v": float(qos) for qos in (0, 1)}
    until(lambda: here.status()["accepted"] >= len(wanted), what="what was sent at QoS 0 came, too")
    here.closed()
    stored = result.read(here.data / "cloud.db").windows
    found = {series: window.last for (series, level, _), window in stored.items() if level == "10s"}
    assert {series: value for series, value in found.items() if series.startswith("clients/")} == wanted


def _present(port: int, version: str, *, clean: bool = False) -> bool:
    """Connect with paho-mqtt and leave again; return whether a session was present."""
    seen: list[ConnectFlags] = []
    of_old = None if version == "5" else clean
    client = Client(
        CallbackAPIVersion.VERSION2, f"s-{version}", clean_session=of_old, protocol=VERSIONS[version]
    )
    client.on_connect = lambda _client, _data, flags, _reason, _properties: seen.append(flags)
    if version == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 600
        client.connect("127.0.0.1", port, clean_start=clean, properties=properties)
    else:
        client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        until(lambda: seen, what="the CONNACK")
        client.disconnect()
        return seen[0].session_present
    finally:
        client.loop_stop()


def test_a_session_outlives_the_agent(tmp_path: Path) -> None:
    """A persistent session is not present at first, is present when the client comes again, after kill -9 of the agent
    too, and is gone when the client asks for a clean start.
    """
    with box(tmp_path) as own:
        own.start(EDGE)
        own.ready(EDGE)
        for expected in (False, True):
            assert [_present(own.port, version) for version in VERSIONS] == [expected, expected]
        own.kill(EDGE)
        own.start(EDGE)
        own.ready(EDGE)
        assert [_present(own.port, version) for version in VERSIONS] == [True, True]
        assert [_present(own.port, version, clean=True) for version in VERSIONS] == [False, False]


def _shell(section: str) -> list[str]:
    """Return the lines of the shell blocks of a section of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    assert blocks, section
    return [line for block in blocks for line in block.splitlines()]


def _paste(line: str, folder: Path) -> str:
    done = subprocess.run(
        ["sh", "-ec", line], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}"
    return done.stdout


def test_the_readme_as_pasted(tmp_path: Path) -> None:
    """Line for line, but for the ports: settings are written, the box runs, a device publishes, its value is shown."""
    part_required("mosquitto")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    init, up, *lines = _shell("Connect your own device")
    _paste(init, tmp_path)
    settings = tmp_path / "headwater.toml"
    ports = Box(tmp_path / "ports").port
    text = settings.read_text()
    for before, after in (("1883", str(ports)), ("9641", "0"), ("9642", "0")):
        assert f"port = {before}" in text
        text = text.replace(f"port = {before}", f"port = {after}")
    settings.write_text(text)
    with (tmp_path / "up.log").open("wb") as out:
        running = subprocess.Popen(["sh", "-c", f"exec {up}"], cwd=tmp_path, stdout=out, stderr=out)
    try:
        for part in ("edge", "cloud"):
            until((tmp_path / "headwater-data" / f"{part}.json").exists, 20, f"{part} is ready")
        shown = _pasted(lines, ports, tmp_path)
    finally:
        running.terminate()
        assert running.wait(20) == 0
    assert "home/stove/temperature" in shown
    assert "21.5" in shown


def _pasted(lines: list[str], port: int, folder: Path) -> str:
    """Paste the lines; return what the query shows. It is pasted again until the cloud side has taken the windows in."""
    shown = ""
    for line in lines:
        pasted = line.replace("-p 1883", f"-p {port}")
        if line.startswith("mosquitto_pub") and "-p " not in line:
            pasted = line.replace("mosquitto_pub", f"mosquitto_pub -p {port}", 1)
        if " query " in line:
            shown = until(partial(_shown, pasted, folder), 10, "the value is shown")
        else:
            _paste(pasted, folder)
    return shown


def _shown(query: str, folder: Path) -> str:
    said = _paste(query, folder)
    return said if "21.5" in said else ""
