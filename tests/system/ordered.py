"""Devices that are ordered to do things: real MQTT clients (paho), which keep the ids of what they did, as a flash would."""

from __future__ import annotations

import json
import queue
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode


class Device:
    """One device at a listener or a broker; answers what it did, and refuses to blink."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self.done: Counter[str] = Counter()
        """How often it did what it heard, by id: more than once is a promise broken."""
        self._flash: set[str] = set()
        self._there: queue.Queue[int] = queue.Queue()
        self._client = Client(CallbackAPIVersion.VERSION2, name)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._there.put(1)
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def there(self) -> None:
        """Wait until it has subscribed."""
        self._there.get(timeout=20)

    def says(self, value: float) -> None:
        """Send a reading, and wait for its PUBACK."""
        self._client.publish(f"hw/{self.name}/data/temperature", b"%r" % value, 1).wait_for_publish(20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self, client: Client, _: object, __: object, ___: ReasonCode, ____: Properties | None
    ) -> None:
        client.subscribe(f"hw/{self.name}/cmd", 1)

    def _on_message(self, client: Client, _: object, message: MQTTMessage) -> None:
        command = json.loads(message.payload)
        self.heard.put(command)
        status = "refused" if command["name"] == "blink" else "done"
        if status == "done" and command["id"] not in self._flash:
            self._flash.add(command["id"])
            self.done[command["id"]] += 1
        answer = {
            "id": command["id"],
            "status": status,
            "reason": "it has no lamp" if status == "refused" else "",
        }
        client.publish(f"hw/{self.name}/cmd/ack", json.dumps(answer), 1)


@contextmanager
def device(name: str, port: int) -> Iterator[Device]:
    """A device that is there, and gone with the block."""
    made = Device(name, port)
    try:
        made.there()
        yield made
    finally:
        made.close()
