"""gmqtt: publish COUNT messages, wait for a command, say goodbye."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from gmqtt import Client
from gmqtt.mqtt.constants import MQTTv50, MQTTv311


async def main(port: int, version: str, qos: int, count: int, name: str) -> None:
    """Run; raises what goes wrong. What waits for an acknowledgement stands in the client's own store of messages."""
    client = Client(name)
    told, subscribed = asyncio.Event(), asyncio.Event()

    def on_message(_client: Any, _topic: str, payload: bytes, _qos: int, _properties: Any) -> int:
        print("command", payload.decode(), flush=True)
        told.set()
        return 0

    def on_subscribe(_client: Any, _mid: int, codes: Any, _properties: Any) -> None:
        assert codes[0] < 0x80, codes
        subscribed.set()

    client.on_message = on_message
    client.on_subscribe = on_subscribe
    await client.connect("127.0.0.1", port, version=MQTTv50 if version == "5" else MQTTv311)
    client.subscribe(f"hw/clients/{name}/cmd", qos=qos)
    async with asyncio.timeout(20):
        await subscribed.wait()
        for n in range(count):
            client.publish(f"hw/clients/{name}/data/m{n}", b"%d" % n, qos=qos)
        await client._persistent_storage.wait_empty()
        print("acknowledged", count, flush=True)
        await told.wait()
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
