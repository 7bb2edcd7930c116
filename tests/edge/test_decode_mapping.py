"""Foreign JSON by mappings: those that are shipped on payloads of real devices, and the ways to describe one's own."""

from __future__ import annotations

import pytest

from headwater_edge.decode import Decode
from headwater_edge.format_settings import FormatSettings, shipped
from headwater_edge.patterns import Pattern
from headwater_shared.errors import SettingsError
from tests.edge.decoding import ARRIVED, Message, Taken, burst_of, decode_with, decoded_by

REAL: dict[str, tuple[str, str, bytes, dict[str, float], int | None]] = {
    # www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html
    "Xiaomi WSDCGQ01LM": ("zigbee2mqtt", "zigbee2mqtt/office", b'{"temperature":27.34,"humidity":44.72}', {"office/temperature": 27.34, "office/humidity": 44.72}, None),
    "IKEA TRADFRI LED1545G12": ("zigbee2mqtt", "zigbee2mqtt/kitchen/floor_light", b'{"state":"ON","brightness":215,"color_temp":325}', {"kitchen.floor_light/state": 1, "kitchen.floor_light/brightness": 215, "kitchen.floor_light/color_temp": 325}, None),
    "Xiaomi WXKG01LM": ("zigbee2mqtt", "zigbee2mqtt/button", b'{"action":"single"}', {}, None),
    "Xiaomi RTCGQ01LM": ("zigbee2mqtt", "zigbee2mqtt/hall", b'{"occupancy":true}', {"hall/occupancy": 1}, None),
    # github.com/Koenkk/zigbee-herdsman-converters/issues/1020
    "Xiaomi QBKG12LM": (
        "zigbee2mqtt", "zigbee2mqtt/wall",
        b'{"power":0,"consumption":0.32,"temperature":16,"linkquality":34,"last_seen":"2020-02-26T20:44:09+01:00","state_left":"OFF","state_right":"OFF"}',
        {"wall/power": 0, "wall/consumption": 0.32, "wall/temperature": 16, "wall/linkquality": 34, "wall/state_left": 0, "wall/state_right": 0}, None,
    ),
    "Zigbee2MQTT's bridge": ("zigbee2mqtt", "zigbee2mqtt/bridge/state", b"online", {}, None),
    # github.com/arendst/Tasmota/issues/1621
    "Tasmota on a Sonoff POW": (
        "tasmota", "tele/SonoffPOW/SENSOR",
        b'{"Time":"2018-01-17T18:59:50","ENERGY":{"Total":1.956,"Yesterday":0.054,"Today":0.049,"Period":0,"Power":9,"Factor":0.43,"Voltage":231,"Current":0.089}}',
        {f"SonoffPOW/ENERGY.{name}": v for name, v in {"Total": 1.956, "Yesterday": 0.054, "Today": 0.049, "Period": 0, "Power": 9, "Factor": 0.43, "Voltage": 231, "Current": 0.089}.items()}, None,
    ),
    # tasmota.github.io/docs/Matter/
    "Tasmota with an SCD40": (
        "tasmota", "tele/tasmota/SENSOR",
        b'{"Time":"2023-05-28T20:04:27","SCD40":{"CarbonDioxide":618,"eCO2":623,"Temperature":23.8,"Humidity":61.1,"DewPoint":15.8},"TempUnit":"C"}',
        {"tasmota/SCD40.CarbonDioxide": 618, "tasmota/SCD40.eCO2": 623, "tasmota/SCD40.Temperature": 23.8, "tasmota/SCD40.Humidity": 61.1, "tasmota/SCD40.DewPoint": 15.8}, None,
    ),
    # a Tasmota PowR2 and a DS18B20, as a program's author captured them in 2021 (public code, topics as by default)
    "Tasmota with a DS18B20": ("tasmota", "tele/fireplacefan/SENSOR", b'{"Time":"2021-11-17T17:13:36","DS18B20":{"Id":"05167219F3FF","Temperature":32.3},"TempUnit":"C"}', {"fireplacefan/DS18B20.Temperature": 32.3}, None),
    "Tasmota's state": (
        "tasmota", "tele/water_out/STATE",
        b'{"Time":"2018-12-21T09:16:59","Uptime":"0T00:00:23","Vcc":2.723,"Wifi":{"AP":1,"SSId":"fbi-4","RSSI":36,"APMac":"F8:D1:11:A0:AA:68"}}',
        {"water_out/Vcc": 2.723, "water_out/Wifi.RSSI": 36}, None,
    ),
    "Tasmota's switch": ("tasmota", "stat/tasmota/POWER", b"ON", {"tasmota/POWER": 1}, None),
    "Tasmota says goodbye": ("tasmota", "tele/tasmota/LWT", b"Offline", {}, None),
    # a Shelly 1, a 1PM Plus and a 3EM, as the author of a converter captured them in 2022 (public code)
    "Shelly 1's relay": ("shelly-gen1", "shellies/shelly1/relay/0", b"off", {"shelly1/relay.0": 0}, None),
    "Shelly 1's input": ("shelly-gen1", "shellies/shelly1/input/0", b"0", {"shelly1/input.0": 0}, None),
    "Shelly 1's event": ("shelly-gen1", "shellies/shelly1/input_event/0", b'{"event":"","event_cnt":0}', {"shelly1/input_event.0.event_cnt": 0}, None),
    "Shelly 1 is there": ("shelly-gen1", "shellies/shelly1/online", b"true", {"shelly1/online": 1}, None),
    "Shelly 1 announces itself": ("shelly-gen1", "shellies/announce", b'{"id":"shelly1","model":"SHSW-1","mac":"8CAAB54B98DF","ip":"192.168.8.93","new_fw":false}', {}, None),
    "Shelly 3EM's voltage": ("shelly-gen1", "shellies/shellies/shellyem3/emeter/0/voltage", b"230.35", {"shellyem3/emeter.0.voltage": 230.35}, None),
    "Shelly 1PM Plus's status": (
        "shelly-gen2", "shellies/plus1pm/status/switch:0",
        b'{"id":0, "source":"WS_in", "output":true, "apower":0.0, "voltage":232.6, "current":0.000, "aenergy":{"total":0.000,"by_minute":[0.000,0.000,0.000],"minute_ts":1661517429},"temperature":{"tC":46.0, "tF":114.7}}',
        {f"shellies.plus1pm/switch:0.{name}": v for name, v in {"output": 1, "apower": 0, "voltage": 232.6, "current": 0, "aenergy.total": 0, "temperature.tC": 46.0}.items()}, None,
    ),
    "Shelly 1 Plus notifies": (
        "shelly-gen2", "shellyplus1-441793ab3fb4/events/rpc",
        b'{"src":"shellyplus1-441793ab3fb4","dst":"shellyplus1-441793ab3fb4/events","method":"NotifyStatus","params":{"ts":1708179956.30,"switch:0":{"id":0,"temperature":{"tC":37.67,"tF":99.81}}}}',
        {"shellyplus1-441793ab3fb4/switch:0.temperature.tC": 37.67}, 1_708_179_956_300_000,
    ),
    "Shelly's button": (
        "shelly-gen2", "shellyi4g3-54320455c858/events/rpc",
        b'{"src":"shellyi4g3-54320455c858","dst":"x","method":"NotifyEvent","params":{"ts":1735821119.25,"events":[{"component":"sys","event":"config_changed","restart_required":false,"ts":1735821119.25,"cfg_rev":20}]}}',
        {}, 0,
    ),
    "Shelly answers a call": ("shelly-gen2", "shellyplus1/events/rpc", b'{"id":3,"src":"shellyplus1","result":{"output":true}}', {}, None),
    # esphome.io/components/mqtt: PREFIX/COMPONENT/NAME/state; the light is of github.com/a-lost-shadow/gosund-sw2
    "ESPHome's sensor": ("esphome", "esp32-wroom-a/sensor/living_room_temperature/state", b"21.5", {"esp32-wroom-a/living_room_temperature": 21.5}, None),
    "ESPHome's switch": ("esphome", "esp32-wroom-a/switch/pump/state", b"ON", {"esp32-wroom-a/switch.pump": 1}, None),
    "ESPHome's light": ("esphome", "sw2/light/main/state", b'{"state":"ON","brightness":255}', {"sw2/light.main.state": 1, "sw2/light.main.brightness": 255}, None),
    "ESPHome says hello": ("esphome", "esp32-wroom-a/status", b"online", {}, None),
    # www.home-assistant.io/integrations/mqtt_statestream/
    "Home Assistant's state": ("homeassistant", "homeassistant/light/master_bedroom_dimmer/state", b'"on"', {"light.master_bedroom_dimmer/state": 1}, None),
    "Home Assistant's attribute": ("homeassistant", "homeassistant/light/master_bedroom_dimmer/brightness", b"128", {"light.master_bedroom_dimmer/brightness": 128}, None),
    "Home Assistant's number is text": ("homeassistant", "homeassistant/sensor/power/state", b'"230.5"', {"sensor.power/state": 230.5}, None),
    "Home Assistant does not know": ("homeassistant", "homeassistant/sensor/power/state", b"unavailable", {}, None),
    "Home Assistant's stamps": ("homeassistant", "homeassistant/light/dimmer/last_updated", b"2017-10-01T23:20:30.920969+00:00", {}, None),
    # www.home-assistant.io/integrations/mqtt/#discovery-examples-with-component-discovery
    "a discovered device's state": ("homeassistant", "homeassistant/sensor/sensorBedroom/state", b'{ "temperature": 23.20, "humidity": 43.70 }', {"sensor.sensorBedroom/temperature": 23.2, "sensor.sensorBedroom/humidity": 43.7}, None),
    "a discovery": ("homeassistant", "homeassistant/sensor/sensorBedroomT/config", b'{"device_class":"temperature","state_topic":"homeassistant/sensor/sensorBedroom/state","qos":2}', {}, None),
    # docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_tutorial/, from Telegraf's MQTT output
    "Telegraf": ("telegraf", "telegraf/host01/weather", b"weather,host=host01,location=us-midwest temperature=82 1465839830100400200\n", {"host01/weather,location=us-midwest.temperature": 82}, 1_465_839_830_100_400),
}  # fmt: skip


@pytest.mark.parametrize(("use", "topic", "payload", "wanted", "time_us"), REAL.values(), ids=REAL)
def test_shipped_formats_read_what_real_devices_send(
    use: str, topic: str, payload: bytes, wanted: dict[str, float], time_us: int | None
) -> None:
    """Each gives the readings that a person would see in it, in the order they stand, and no dead letter."""
    decode = decode_with(FormatSettings(use=use))
    assert decoded_by(decode, (topic.encode(), payload)) == [
        Taken([(f"home/{name}", time_us, float(value)) for name, value in wanted.items()], [])
    ]


def test_every_shipped_format_is_shown_on_a_real_payload() -> None:
    """None is shipped that nobody tried."""
    assert {use for use, *_ in REAL.values()} == set(shipped())


def one(settings: FormatSettings, *messages: Message) -> list[Taken]:
    return decoded_by(decode_with(settings), *messages)


def test_paths_to_values_and_time() -> None:
    """Named values, lists by place, an asterisk for each, numbers in quotes; a site of the format's own."""
    settings = FormatSettings(
        topics=("meters/{device}",),
        site="plant",
        time="meta.at",
        values={
            "power": "data.p",
            "phase.*": "data.phases.*.v",
            "second": "data.phases.1.v",
            "on": "data.on",
            "none": "data.x",
        },
    )
    payload = (
        b'{"meta":{"at":1795000000},"data":{"p":"12.5","phases":[{"v":230},{"v":231}],"on":"off","text":"a"}}'
    )
    assert one(settings, (b"meters/m1", payload)) == [
        Taken([(f"plant/m1/{m}", ARRIVED, v) for m, v in (("power", 12.5), ("phase.0", 230.0), ("phase.1", 231.0), ("second", 231.0), ("on", 0.0))], [])
    ]  # fmt: skip


def test_rows_are_readings_at_times_of_their_own() -> None:
    """A list of objects, each with its time; one without takes that of the payload."""
    settings = FormatSettings(topics=("log/{site}/{device}",), rows="rows", time="t")
    payload = b'{"t":1795000001,"n":7,"rows":[{"t":1795000000,"a":1},{"a":2,"b":{"c":true,"d":null}},{}]}'
    later = ARRIVED + 1_000_000
    assert one(settings, (b"log/s/d", payload), (b"log/s/d", b'{"rows":[{"t":"soon","a":1}]}'), (b"log/s/d", b'{"x":1}')) == [
        Taken([("s/d/a", ARRIVED, 1.0), ("s/d/a", later, 2.0), ("s/d/b.c", later, 1.0)], []),
        Taken([], ["bad-time"]),
        Taken([], []),
    ]  # fmt: skip


def test_names_from_the_topic_and_other_names() -> None:
    """A metric of the topic stands before inner names; found names may be changed or left out, / + # are replaced."""
    settings = FormatSettings(
        topics=("x/{device}/{metric}", "y/{device}"),
        metric="value",
        rename={"a.b": "c", "value": "level"},
        skip=("*.id", "d*"),
    )
    assert one(settings, (b"x/d1/m", b'{"id":1,"v":2}'), (b"x/d1/m", b"3"), (b"y/d1", b'{"a":{"b":1,"id":5},"d":1,"p/q#":2}'), (b"y/d1", b"4")) == [
        Taken([("home/d1/m.v", None, 2.0)], []),
        Taken([("home/d1/m", None, 3.0)], []),
        Taken([("home/d1/c", None, 1.0), ("home/d1/p.q_", None, 2.0)], []),
        Taken([("home/d1/level", None, 4.0)], []),
    ]  # fmt: skip


def test_what_a_mapping_cannot_read_is_a_dead_letter() -> None:
    """Cut JSON, bytes that are no text, nothing, a bare value without a name, no number; plain text is skipped."""
    settings = FormatSettings(topics=("y/{device}",))
    deep = b'{"a":' * 200 + b"1" + b"}" * 200
    bad = (
        b'{"a":1',
        b"\xff",
        b"",
        b"5",
        b"nan",
        b'{"a":1,"b":' + b"1" + b"0" * 400 + b"}",
        deep,
        b"[" * 100_000,
    )
    found = one(settings, *((b"y/d", payload) for payload in (*bad, b"running", b'{"a":1}')))
    assert [one.dead for one in found] == [
        ["unreadable"], ["unreadable"], ["empty"], ["no-metric"], ["no-metric"], ["not-taken"], ["unreadable"], ["unreadable"], [], [],
    ]  # fmt: skip
    assert [len(one.readings) for one in found] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert one(FormatSettings(topics=("y/{device}/{metric}",)), (b"y/d/m", b"nan")) == [
        Taken([], ["not-taken"])
    ]


def test_the_memory_of_a_topic_is_bounded() -> None:
    """A payload of ever other names fills nothing; those that are known are read as before."""
    decode = decode_with(FormatSettings(topics=("y/{device}",)), cap=10)
    for at in range(20):
        said = ",".join(f'"k{at}_{k}":{{"x":1}}' for k in range(500))
        decoded_by(decode, (b"y/d", b"{%s}" % said.encode()))
    place = decode._topics.places([b"y/d"])[0]
    assert place.names <= 4096 + 1
    assert decoded_by(decode, (b"y/d", b'{"k0_0":{"x":7}}')) == [Taken([("home/d/k0_0.x", None, 7.0)], [])]


def test_the_first_format_that_fits_a_topic_reads_it() -> None:
    """In the order of the settings, Headwater's own topics last; headwater's JSON may have other topics."""
    formats = (
        FormatSettings(topics=("hw/{site}/{device}/data/{metric}",), values={"x": "deep.x"}),
        FormatSettings(topics=("plain/{site}/{device}/{metric}", "plain/{device}"), codec="json"),
    )
    decode = decode_with(*formats)
    found = decoded_by(
        decode, (b"hw/s/d/data/m", b'{"deep":{"x":1}}'), (b"hw/s/d/data", b'{"m":2}'), (b"plain/s/d/m", b"3"), (b"plain/d", b'{"t":5,"m":4}')
    )  # fmt: skip
    assert [one.readings for one in found] == [
        [("s/d/m.x", None, 1.0)], [("s/d/m", None, 2.0)], [("s/d/m", None, 3.0)], [("home/d/m", 5_000_000, 4.0)],
    ]  # fmt: skip


def test_patterns() -> None:
    """A placeholder is text of one level, twice it is both with a dot between; + and # as in MQTT."""
    pattern = Pattern("a/{device}-x/+/{metric}/{metric}/#")
    assert pattern.match("a/d-x/any/m/n") == (None, "d", "m.n")
    assert pattern.match("a/d-x/any/m/n/below/it") == (None, "d", "m.n")
    for other in ("a/d/any/m/n", "a/-x/any/m/n", "a/d-x/any/m", "b/d-x/any/m/n"):
        assert pattern.match(other) is None
    assert pattern.filter == "a/+/+/+/+/#"


WRONG = {
    "no topics": FormatSettings(),
    "no device": FormatSettings(topics=("a/{metric}",)),
    "an unknown placeholder": FormatSettings(topics=("a/{device}/{room}",)),
    "a + in a level": FormatSettings(topics=("a/{device}/x+",)),
    "a # in the middle": FormatSettings(topics=("a/#/{device}",)),
    "an open brace": FormatSettings(topics=("a/{device}/{x",)),
    "none such is shipped": FormatSettings(use="zigbee"),
    "use beside topics": FormatSettings(use="tasmota", topics=("a/{device}",)),
    "a mapping's key for another codec": FormatSettings(topics=("a/{device}",), codec="senml", time="t"),
    "a path with a hole": FormatSettings(topics=("a/{device}",), time="a..b"),
    "an asterisk in one of both": FormatSettings(topics=("a/{device}",), values={"x.*": "a.b"}),
    "a device that is no name": FormatSettings(topics=("a",), device="x/y"),
    "a site that is no name": FormatSettings(topics=("a/{device}",), site="x/y"),
}


@pytest.mark.parametrize("settings", WRONG.values(), ids=WRONG)
def test_a_format_that_cannot_be_is_an_error_with_a_hint(settings: FormatSettings) -> None:
    """At the start, not at the first message."""
    with pytest.raises(SettingsError) as error:
        decode_with(settings)
    assert error.value.hint


def test_topics_that_are_ignored_are_counted() -> None:
    """They bring neither readings nor dead letters."""
    decode: Decode = decode_with(FormatSettings(topics=("a/{device}",), ignore=("a/+/log", "a/noise")))
    found = decode.burst(burst_of((b"a/noise", b"{"), (b"a/d/log", b"x"), (b"a/d", b'{"v":1}')))
    assert (found.readings.tolist(), found.dead, found.skipped) == ([0, 0, 1], [], 2)


def test_filters_let_through_all_that_is_read() -> None:
    """For whoever subscribes at a broker on behalf of the agent."""
    filters = decode_with(FormatSettings(use="tasmota")).formats.filters()
    assert filters == [
        "hw/+/+/cmd/ack",
        "tele/+/LWT", "tele/+/SENSOR", "tele/+/STATE", "stat/+/+", "hw/+/+/data/+", "hw/+/+/data", "hw/+/+/senml", "hw/+/+/influx", "spBv1.0/#",
        "hw/+/+/status",
    ]  # fmt: skip
