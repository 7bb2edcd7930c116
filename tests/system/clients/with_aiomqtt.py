"""aiomqtt: publish COUNT messages, wait for a command, say goodbye."""

from __future__ import annotations

import asyncio
import sys

import aiomqtt


async def main(port: int, version: str, qos: int, count: int, name: str) -> None:
    """Run; raises what goes wrong."""
    protocol = aiomqtt.ProtocolVersion.V5 if version == "5" else aiomqtt.ProtocolVersion.V311
    async with aiomqtt.Client("127.0.0.1", port, identifier=name, protocol=protocol) as client:
        await client.subscribe(f"hw/clients/{name}/cmd", qos)
        await asyncio.gather(
            *(client.publish(f"hw/clients/{name}/data/m{n}", b"%d" % n, qos) for n in range(count))
        )
        print("acknowledged", count, flush=True)
        async with asyncio.timeout(20):
            async for message in client.messages:
                print("command", bytes(message.payload).decode(), flush=True)
                break


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
