"""Availability topics and Sparkplug's births and deaths become what is said of devices, and no readings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater_edge import explain
from headwater_edge.availability import said_online
from headwater_edge.device_settings import DeviceSettings
from headwater_edge.format_settings import FormatSettings
from headwater_edge.settings import EdgeSettings
from headwater_shared.errors import SettingsError
from tests.edge.decoding import Message, burst_of, decode_with
from tests.edge.running import Publish, edge_settings, running


def said(use: str, *messages: Message) -> list[tuple[int, str, bool]]:
    decode = decode_with(FormatSettings(use=use)) if use else decode_with()
    return [(at, one.device, one.online) for at, one in decode.burst(burst_of(*messages)).said]


@pytest.mark.parametrize(
    ("payload", "online"),
    [
        (b"Online", True), (b"offline\n", False), (b"true", True), (b"false", False), (b"1", True), (b"0", False),
        (b'{"state":"online"}', True), (b'{"state": "offline"}', False), (b'"OFF"', False), (b"", None), (b"maybe", None),
        (b"[1]", None), (b"\xff\xfe", None), (b"online" * 1000, None), (b"{}", None),
    ],
)  # fmt: skip
def test_what_a_payload_says(payload: bytes, online: bool | None) -> None:
    """Words in any case, JSON's true and 1, Zigbee2MQTT's object; whatever else says nothing."""
    assert said_online(payload) is online


@pytest.mark.parametrize(
    ("use", "topic", "payload", "device"),
    [
        ("tasmota", b"tele/plug/LWT", b"Offline", "home/plug"),
        ("zigbee2mqtt", b"zigbee2mqtt/hall/availability", b'{"state":"offline"}', "home/hall"),
        ("zigbee2mqtt", b"zigbee2mqtt/up/hall/availability", b"offline", "home/up.hall"),
        ("shelly-gen2", b"shelly-2/online", b"false", "home/shelly-2"),
        ("esphome", b"node/status", b"offline", "home/node"),
        ("", b"hw/s1/d1/status", b"offline", "s1/d1"),
    ],
)
def test_the_wills_of_shipped_formats_are_known(use: str, topic: bytes, payload: bytes, device: str) -> None:
    """Each format's own topic, as its devices set their will at a broker; our own needs no setting."""
    assert said(use, (b"hw/s1/d9/data/x", b"1"), (topic, payload)) == [(1, device, False)]


def test_an_availability_without_a_device_is_refused() -> None:
    """Nobody would know who is gone."""
    with pytest.raises(SettingsError, match="which device"):
        decode_with(FormatSettings(availability=("x/lwt",)))


def test_a_will_on_the_status_topic_makes_the_device_offline(tmp_path: Path) -> None:
    """From the payload to the status: the message is no dead letter and no reading, and the next reading is a return."""

    async def test() -> None:
        settings: EdgeSettings = edge_settings(devices=DeviceSettings())
        async with running(tmp_path, settings) as box:
            await box.publish(Publish("hw/s1/d1/data/temp", b"20.5"))
            assert box.agent.state.presence.counts()["online"] == 1
            await box.publish(Publish("hw/s1/d1/status", b"offline"))
            assert box.agent.state.presence.counts() == {"online": 0, "silent": 0, "offline": 1}
            counters = box.agent.state.counters
            assert (counters.dead, counters.readings) == (0, 1)
            await box.publish(Publish("hw/s1/d1/data/temp", b"20.6"))
            assert box.agent.state.presence.counts()["online"] == 1

    asyncio.run(test())


def test_a_person_sees_what_a_topic_says(tmp_path: Path) -> None:
    """`headwater-edge decode` says it in words, and as JSON."""
    told = explain.explain("hw/s1/d1/status", b"offline", EdgeSettings(), tmp_path / "edge.db", 0)
    assert told["said"] == [{"device": "s1/d1", "online": False}]
    assert explain.lines(told) == ["s1/d1 is offline"]
