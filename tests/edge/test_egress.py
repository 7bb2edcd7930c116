"""Egress: windows, anomalies and device status for other programs, through the listener and through a real broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from headwater_edge.alert_settings import AlertSettings
from headwater_edge.device_settings import DeviceSettings
from headwater_edge.egress_settings import EgressSettings, check_egress
from headwater_edge.grants import Grant, covers
from headwater_edge.home_assistant import About
from headwater_edge.metric_settings import MetricSettings
from headwater_edge.put_out import check_put_out
from headwater_edge.rule_settings import LimitSettings
from headwater_edge.settings import EdgeSettings
from headwater_edge.subscriptions import code_of
from headwater_shared.errors import SettingsError
from tests.brokers import MosquittoServer, broker_settings, mosquitto_server
from tests.edge.feed import DAY
from tests.edge.running import FILE, Publish, Running, edge_settings, running
from tests.support import program, until, until_async

HOT = LimitSettings(name="hot", series="*/temp", above=80.0, severity="critical", text="too hot")
LEVELS = ("10s", "1m")


def reading(value: float, at: float, metric: str = "temp") -> Publish:
    return Publish(
        "hw/s1/d1/data", b'{"%s": %g, "time": %d}' % (metric.encode(), value, DAY // 1000 + round(at * 1000))
    )


class Reader:
    """A program of the site: a paho client that subscribes at a broker or at the listener, and keeps what it is sent."""

    def __init__(self, port: int, *filters: str, user: str = "", client: str = "reader") -> None:
        self.got: list[tuple[str, bytes, bool]] = []
        self.codes: list[int] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client, protocol=paho.MQTTv5)
        if user:
            self._client.username_pw_set(user, "secret")
        self._client.on_message = lambda _c, _u, m: self.got.append((m.topic, bytes(m.payload), m.retain))
        self._client.on_connect = lambda c, *_: c.subscribe([(one, 1) for one in filters])
        self._client.on_subscribe = self._on_subscribe
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def _on_subscribe(self, _c: Any, _u: Any, _mid: int, codes: Sequence[Any], _p: Any) -> None:
        self.codes = [code.value for code in codes]
        self._subscribed.set()

    def said(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for at, payload, _ in list(self.got) if at == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def reader(port: int, *filters: str, **more: str) -> Iterator[Reader]:
    made = Reader(port, *filters, **more)
    try:
        yield made
    finally:
        made.close()


def settings_of(broker: MosquittoServer | None, **more: Any) -> EdgeSettings:
    brokers = (broker_settings(broker.port, reconnect="1s"),) if broker is not None else ()
    return edge_settings(limit=(HOT,), broker=brokers, devices=DeviceSettings(), **more)


async def started(box: Running, folder: Path, settings: EdgeSettings, about: About | None = None) -> None:
    """Have the agent put out, and wait until it can."""
    box.agent.put_out.start(
        folder / FILE, lambda *_: 0, [""] * len(settings.broker), lambda _: about or About(), "1.0"
    )
    outlets = box.agent.put_out._outlets.values()
    await until_async(lambda: all(outlet.connected for outlet in outlets), what="the outlet is connected")


def test_windows_anomalies_and_status_reach_a_program_through_a_broker(tmp_path: Path) -> None:
    """Each on its topic, in JSON: a window once it is closed, again with a higher revision; an anomaly's begin; the status,
    retained. Levels and series that are not asked for stay here.
    """

    async def test(broker: MosquittoServer, program: Reader) -> None:
        egress = EgressSettings(
            windows=("10s",), anomalies=True, devices=True, series=("*/temp",), broker="plant"
        )
        settings = settings_of(broker, egress=egress)
        async with running(tmp_path, settings) as box:
            await started(box, tmp_path, settings)
            await box.publish(reading(20.0, 1), reading(90.0, 2), reading(1.0, 2, "flow"))
            await box.publish(reading(30.0, 14))
            await box.publish(reading(22.0, 3))
            await until_async(lambda: len(program.said("hw-out/s1/d1/temp/10s")) == 2)
            await until_async(lambda: program.said("hw-out/s1/d1/temp/anomaly/hot"))
            await box.agent.put_out.close()
        first, second = program.said("hw-out/s1/d1/temp/10s")
        assert (first["count"], first["mean"], first["min"], first["max"], first["revision"]) == (
            2,
            55.0,
            20.0,
            90.0,
            0,
        )
        assert (second["count"], second["revision"]) == (3, 1)
        assert (first["series"], first["level"]) == ("s1/d1/temp", "10s")
        assert (first["start"], first["end"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T08:00:10.000Z")
        (anomaly,) = program.said("hw-out/s1/d1/temp/anomaly/hot")[:1]
        assert (anomaly["phase"], anomaly["value"], anomaly["text"]) == ("begin", 90.0, "too hot")
        (status,) = program.said("hw-out/s1/d1/status")
        assert (status["device"], status["status"]) == ("s1/d1", "online")
        assert {topic for topic, *_ in program.got if "flow" in topic or "1m" in topic} == set()
        with reader(broker.port, "hw-out/#", client="later") as later:
            until(lambda: later.got)
            assert [(topic, retained) for topic, _, retained in later.got] == [("hw-out/s1/d1/status", True)]

    with mosquitto_server(tmp_path / "broker") as broker, reader(broker.port, "hw-out/#") as program:
        asyncio.run(test(broker, program))


SENSOR = {
    "availability_template", "availability_topic", "device", "device_class", "json_attributes_topic", "name", "origin",
    "state_class", "state_topic", "unique_id", "unit_of_measurement", "value_template",
}  # fmt: skip
"""Keys of https://www.home-assistant.io/integrations/sensor.mqtt/ that we use; it refuses others."""
PROBLEM = SENSOR - {"state_class", "unit_of_measurement"}
"""... and of https://www.home-assistant.io/integrations/binary_sensor.mqtt/."""


def test_home_assistant_is_told_of_series_and_problems(tmp_path: Path) -> None:
    """Retained, under the prefix, before the first value: ids of letters that it allows, the unit and the class of it, the
    device with its model and room, availability by the device's status; a problem sensor for each rule that was broken.
    """

    async def test(broker: MosquittoServer, program: Reader) -> None:
        egress = EgressSettings(windows=("10s",), anomalies=True, broker="plant", home_assistant=True)
        settings = settings_of(broker, egress=egress)
        async with running(tmp_path, settings) as box:
            await started(box, tmp_path, settings, About("°C", "Temperature", "PT-100", "Hall 2"))
            await box.publish(reading(90.0, 1))
            await box.publish(reading(20.0, 14))
            await until_async(lambda: len(program.got) >= 6)
            await box.agent.put_out.close()
        configs = {
            topic: json.loads(payload)
            for topic, payload, _ in program.got
            if topic.startswith("homeassistant/")
        }
        assert set(configs) == {
            "homeassistant/sensor/headwater/s1_d1_temp/config",
            "homeassistant/binary_sensor/headwater/s1_d1_temp_hot/config",
        }
        sensor = configs["homeassistant/sensor/headwater/s1_d1_temp/config"]
        assert set(sensor) == SENSOR
        assert sensor["state_topic"] == "hw-out/s1/d1/temp/10s"
        assert (sensor["unit_of_measurement"], sensor["device_class"], sensor["name"]) == (
            "°C",
            "temperature",
            "Temperature",
        )
        assert sensor["device"] == {
            "identifiers": ["headwater_s1_d1"], "name": "s1 d1", "model": "PT-100", "suggested_area": "Hall 2",
        }  # fmt: skip
        assert sensor["availability_topic"] == "hw-out/s1/d1/status"
        problem = configs["homeassistant/binary_sensor/headwater/s1_d1_temp_hot/config"]
        assert set(problem) == PROBLEM
        assert (problem["device_class"], problem["state_topic"]) == (
            "problem",
            "hw-out/s1/d1/temp/anomaly/hot",
        )
        topics = [topic for topic, *_ in program.got]
        assert topics.index(problem["state_topic"]) > topics.index(
            "homeassistant/binary_sensor/headwater/s1_d1_temp_hot/config"
        )
        with reader(broker.port, "homeassistant/#", client="later") as later:
            until(lambda: len(later.got) == 2)
            assert all(retained for *_, retained in later.got)

    with (
        mosquitto_server(tmp_path / "broker") as broker,
        reader(broker.port, "hw-out/#", "homeassistant/#") as program,
    ):
        asyncio.run(test(broker, program))


def test_a_broker_that_is_away_costs_the_agent_nothing(tmp_path: Path) -> None:
    """Readings are acknowledged; what waits is bounded, what is dropped is counted; afterwards an alert that waited in the
    file comes, and new windows do.
    """

    async def test(broker: MosquittoServer) -> None:
        egress = EgressSettings(windows=("10s",), broker="plant", queue=5)
        alert = AlertSettings(name="ops", to="mqtt", broker="plant", retry="100ms", retry_most="200ms")
        settings = settings_of(broker, egress=egress, alert=(alert,))
        async with running(tmp_path, settings) as box:
            await started(box, tmp_path, settings)
            broker.kill()
            outlet = box.agent.put_out._outlets["plant"]
            await until_async(lambda: not outlet.connected)
            await box.publish(*(reading(90.0, 10 * at) for at in range(30)))
            assert box.agent.put_out.egress is not None
            assert box.agent.put_out.egress.status()["dropped"] > 0
            assert box.agent.put_out.egress.status()["waiting"] == 5
            broker.start()
            with reader(broker.port, "hw-alert/#") as program:
                await until_async(lambda: program.said("hw-alert/s1/d1/hot"), deadline=20)
                await until_async(lambda: box.agent.put_out.alerts.routes["ops"].waiting == 0)
            await box.agent.put_out.close()

    with mosquitto_server(tmp_path / "broker") as broker:
        asyncio.run(test(broker))


def test_mosquitto_sub_reads_what_is_put_out(tmp_path: Path) -> None:
    """The line of the docs, with the client that everybody has."""

    async def test(broker: MosquittoServer) -> None:
        settings = settings_of(broker, egress=EgressSettings(windows=("10s",), broker="plant"))
        executable = program("mosquitto_sub")
        assert executable is not None
        line = [executable, "-p", str(broker.port), "-t", "hw-out/#", "-v", "-C", "1", "-W", "20"]
        with subprocess.Popen(line, stdout=subprocess.PIPE) as sub:  # noqa: ASYNC220 - it starts at once
            await until_async(lambda: "hw-out/#" in broker.log())
            async with running(tmp_path, settings) as box:
                await started(box, tmp_path, settings)
                await box.publish(reading(20.0, 1), reading(20.0, 14))
                out, _ = await asyncio.get_running_loop().run_in_executor(None, sub.communicate)
                await box.agent.put_out.close()
        topic, _, payload = out.decode().partition(" ")
        assert topic == "hw-out/s1/d1/temp/10s"
        assert json.loads(payload)["count"] == 1

    with mosquitto_server(tmp_path / "broker") as broker:
        asyncio.run(test(broker))


@pytest.mark.parametrize(
    ("granted", "asked", "wanted"),
    [
        ("hw-out/#", "hw-out/+/d/x", True), ("hw-out/#", "hw-out", True), ("hw-out/#", "#", False), ("#", "#", True),
        ("hw-out/+/d/#", "hw-out/s/d/#", True), ("hw-out/+/d/#", "hw-out/#", False), ("hw-out/+", "hw-out/#", False),
        ("hw-out/a", "hw-out/+", False), ("hw-out/a", "hw-out/a", True), ("hw-out/a/b", "hw-out/a", False), ("#", "$SYS/x", False),
        ("+/x", "a/x", True), ("a/+", "a", False), ("a/+", "a/b/c", False),
    ],
)  # fmt: skip
def test_a_right_covers_what_is_within_it(granted: str, asked: str, wanted: bool) -> None:
    """A filter is granted if every topic of it is one that the user may read."""
    assert covers(granted, asked) is wanted


@pytest.mark.parametrize(
    ("topic", "rules", "wanted"),
    [
        ("hw-out/s1/#", ("read:hw-out/s1/#",), 0), ("hw-out/#", ("read:hw-out/s1/#",), 0xA2), ("hw/s1/d1/data", ("read:#",), 0x87),
        ("hw-out/x", ("s1/*",), 0x87), ("hw-out/#", None, 0xA2), ("hw/s1/d1/cmd", ("read:#",), 0x87), ("x/y", ("read:x/+",), 0),
    ],
)  # fmt: skip
def test_who_may_subscribe_to_what_is_put_out(topic: str, rules: tuple[str, ...] | None, wanted: int) -> None:
    """With the right and within it; never to topics of devices, nor to their commands; who has grants of another kind may not."""
    code = code_of(topic, 1, Grant("u", rules))
    assert (code == 0) is (wanted == 0)


def test_a_user_with_the_right_only_may_say_nothing() -> None:
    """It is not locked out, and no topic is its own."""
    grant = Grant("nodered", ("read:hw-out/#",))
    assert not grant.nothing
    assert not grant.allows(b"hw/s1/d1/data")
    assert not grant.allows(b"hw-out/x")


@pytest.mark.parametrize(
    ("egress", "words"),
    [
        (EgressSettings(windows=("5m",)), "no level '5m'"),
        (EgressSettings(windows=("1m",), broker="none"), "none of"),
        (EgressSettings(windows=("1m",), home_assistant=True), "needs a broker"),
        (EgressSettings(windows=LEVELS, window_topic="x/{device}"), "level"),
        (EgressSettings(window_topic="hw/{site}/{device}/data"), "topic of devices"),
        (EgressSettings(anomaly_topic="a/{level}"), "no topic"),
    ],
)
def test_settings_that_cannot_work_are_refused(egress: EgressSettings, words: str) -> None:
    """Each with what to write instead."""
    with pytest.raises(SettingsError, match=words) as refused:
        check_egress(egress, ["plant"], LEVELS)
    assert refused.value.hint


def test_units_are_those_of_the_settings_then_of_the_registry(tmp_path: Path) -> None:
    """`[[edge.metric]]` rules; what it does not say the registry may."""
    from headwater_edge.about import about_of
    from headwater_shared import registry

    with registry.changed(tmp_path / registry.FILE, 1) as devices:
        devices["s1/d1"] = registry.Entry(
            model="PT-100", place="Hall 2", metrics={"temp": "K", "flow": "l/s"}
        )
    metrics = (MetricSettings(series="*/temp", unit="°C", name="Temperature"),)
    about = about_of(EdgeSettings(metric=metrics), tmp_path)
    assert about("s1/d1/temp") == About("°C", "Temperature", "PT-100", "Hall 2")
    assert about("s1/d1/flow") == About("l/s", "", "PT-100", "Hall 2")
    assert about("s1/d2/flow") == About()


def test_what_goes_out_does_not_come_in_again() -> None:
    """An agent that subscribes at a broker to all there is may not publish there what it would then read."""
    brokers = (broker_settings(1, filters=("#",)),)
    alert = AlertSettings(name="a", to="mqtt", broker="plant")
    for more in ({"egress": EgressSettings(windows=("10s",), broker="plant")}, {"alert": (alert,)}):
        with pytest.raises(SettingsError, match="come in again"):
            check_put_out(edge_settings(broker=brokers, **more))
