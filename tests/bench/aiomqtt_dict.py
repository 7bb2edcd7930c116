"""A baseline: an aiomqtt subscriber that does what `paho_dict` does, in a loop over messages.

`python -m tests.bench.aiomqtt_dict BROKER_PORT` prints 0 when it is subscribed.
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiomqtt

readings: dict[str, list[float]] = {}


async def main(port: int) -> None:
    """Count, sum, least and largest by topic and 10 s window: no dedupe, no disk."""
    async with aiomqtt.Client("127.0.0.1", port, identifier="aiomqtt-dict", clean_session=False) as client:
        await client.subscribe("hw/#", qos=1)
        print(0, flush=True)
        async for message in client.messages:
            said = json.loads(message.payload)
            window = said["t"] // 10_000_000
            pane = readings.setdefault(f"{message.topic}/{window}", [0.0, 0.0, said["v"], said["v"]])
            pane[0] += 1
            pane[1] += said["v"]
            pane[2] = min(pane[2], said["v"])
            pane[3] = max(pane[3], said["v"])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
