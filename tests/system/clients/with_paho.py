"""paho-mqtt: publish COUNT messages, wait for a command, say goodbye."""

from __future__ import annotations

import sys
import threading
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


def main(port: int, version: str, qos: int, count: int, name: str) -> None:
    """Run; raises what goes wrong."""
    v5 = version == "5"
    client: Any = Client(
        CallbackAPIVersion.VERSION2,
        name,
        protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
    )
    topic = f"hw/clients/{name}/cmd"
    told, subscribed = threading.Event(), threading.Event()

    def on_subscribe(_client: Any, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
        assert not codes[0].is_failure, codes
        subscribed.set()

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        print("command", message.payload.decode(), flush=True)
        told.set()

    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.on_connect = lambda *_: client.subscribe(topic, qos)
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert subscribed.wait(10), "no SUBACK"
    sent = [client.publish(f"hw/clients/{name}/data/m{n}", b"%d" % n, qos) for n in range(count)]
    for info in sent:
        info.wait_for_publish(10)
        assert info.is_published()
    print("acknowledged", len(sent), flush=True)
    assert told.wait(20), "no command"
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
