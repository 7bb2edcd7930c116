"""A baseline: a paho-mqtt subscriber that keeps json's readings in a dict by topic, as most such programs begin.

`python -m tests.bench.paho_dict BROKER_PORT` prints 0 when it is subscribed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

readings: dict[str, list[float]] = {}


def on_message(_: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
    """Count, sum, least and largest by topic and 10 s window: no dedupe, no disk."""
    said = json.loads(message.payload)
    window = said["t"] // 10_000_000
    pane = readings.setdefault(f"{message.topic}/{window}", [0.0, 0.0, said["v"], said["v"]])
    pane[0] += 1
    pane[1] += said["v"]
    pane[2] = min(pane[2], said["v"])
    pane[3] = max(pane[3], said["v"])


def _subscribed(*_: object) -> None:
    print(0, flush=True)


def main(port: int) -> None:
    """Subscribe to all that the load sends, at QoS 1."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="paho-dict", clean_session=False)
    client.on_message = on_message
    client.on_subscribe = _subscribed
    client.on_connect = lambda *_: client.subscribe("hw/#", qos=1) and None
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
