"""Home Assistant's MQTT discovery: a sensor for each series, a problem sensor for each rule that was broken in one.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery; `sensor.mqtt` and `binary_sensor.mqtt` say which keys there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from headwater_edge.egress_settings import EgressSettings
from headwater_edge.egress_words import Message, status_topic, window_topic
from headwater_shared.identity import stable_id

_OF_UNIT = {
    "°C": "temperature", "°F": "temperature", "K": "temperature",
    "Pa": "pressure", "hPa": "pressure", "kPa": "pressure", "bar": "pressure", "mbar": "pressure", "psi": "pressure",
    "V": "voltage", "mV": "voltage", "A": "current", "mA": "current", "W": "power", "kW": "power", "Hz": "frequency",
}  # fmt: skip
"""Device classes of Home Assistant that a unit alone tells."""
_AVAILABLE = "{{ 'offline' if value_json.status == 'offline' else 'online' }}"
"""A silent device is there."""


class About(NamedTuple):
    """What is known of a device and a series."""

    unit: str = ""
    name: str = ""
    model: str = ""
    place: str = ""


class Announced:
    """What was announced, each series and rule once.

    Args:
        about: what is known of a series.
        version: of Headwater.
    """

    def __init__(
        self, settings: EgressSettings, agent: str, about: Callable[[str], About], version: str
    ) -> None:
        self._settings = settings
        self._agent = agent
        self._about = about
        self._version = version
        self._configs: dict[tuple[str, str], Message] = {}

    def fresh(self, message: Message) -> list[Message]:
        """Return what is to be announced before a message of egress: nothing, if its like was before."""
        if message.kind == "status" or (message.about, message.rule) in self._configs:
            return []
        made = self._problem(message) if message.kind == "anomaly" else self._sensor(message.about)
        self._configs[message.about, message.rule] = made
        return [made]

    def forget(self, series: Iterable[str]) -> None:
        """Series are let go: what was announced of them stays at the broker, and is announced again when they come back."""
        gone = set(series)
        self._configs = {at: config for at, config in self._configs.items() if at[0] not in gone}

    def all(self) -> Iterable[Message]:
        return self._configs.values()

    def _sensor(self, series: str) -> Message:
        about = self._about(series)
        topic = window_topic(self._settings, series, self._settings.windows[0], self._agent)
        config: dict[str, Any] = {
            "name": about.name or series.rpartition("/")[2],
            "state_topic": topic,
            "value_template": "{{ value_json.mean }}",
            "json_attributes_topic": topic,
            "state_class": "measurement",
        }
        if about.unit:
            config["unit_of_measurement"] = about.unit
        if about.unit in _OF_UNIT:
            config["device_class"] = _OF_UNIT[about.unit]
        return self._config("sensor", series, "", config, about)

    def _problem(self, message: Message) -> Message:
        config = {
            "name": f"{message.about.rpartition('/')[2]} {message.rule}",
            "state_topic": message.topic,
            "value_template": "{{ 'ON' if value_json.phase == 'begin' else 'OFF' }}",
            "json_attributes_topic": message.topic,
            "device_class": "problem",
        }
        return self._config("binary_sensor", message.about, message.rule, config, self._about(message.about))

    def _config(
        self, component: str, series: str, rule: str, config: dict[str, Any], about: About
    ) -> Message:
        device = series.rpartition("/")[0]
        identity = _id(f"{series}/{rule}" if rule else series)
        config |= {
            "unique_id": f"headwater_{identity}",
            "availability_topic": status_topic(self._settings, device, self._agent),
            "availability_template": _AVAILABLE,
            "device": {"identifiers": [f"headwater_{_id(device)}"], "name": device.replace("/", " ")},
            "origin": {"name": "Headwater", "sw_version": self._version},
        }
        if about.model:
            config["device"]["model"] = about.model
        if about.place:
            config["device"]["suggested_area"] = about.place
        topic = f"{self._settings.home_assistant_prefix}/{component}/headwater/{identity}/config"
        return Message(topic, msgspec.json.encode(config), "config", series, rule)


def _id(text: str) -> str:
    """Make an id of letters, digits, _ and -, which is all that discovery allows; different texts give different ids."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    return plain if plain == text.replace("/", "_") and "_" not in text else f"{plain}_{stable_id(text)[:8]}"
