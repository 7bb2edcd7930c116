"""A baseline: an asyncio server that reads PUBLISHes and acknowledges them at once, and does nothing else."""

from __future__ import annotations

import asyncio


class _Bare(asyncio.Protocol):
    """One connection, one callback a read, as anybody would write it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        at = 0
        out = []
        while at + 2 <= len(self.buffer):
            length = self.buffer[at + 1]
            if at + 2 + length > len(self.buffer):
                break
            kind = self.buffer[at] & 0xF0
            if kind == 0x10:
                out.append(b"\x20\x02\x00\x00")
            elif kind == 0x30:
                topic = int.from_bytes(self.buffer[at + 2 : at + 4], "big")
                out.append(b"\x40\x02" + self.buffer[at + 4 + topic : at + 6 + topic])
            at += 2 + length
        self.buffer = self.buffer[at:]
        if out:
            self.transport.write(b"".join(out))  # type: ignore[attr-defined]


async def main() -> None:
    """Serve until ended; the first line printed is the port."""
    server = await asyncio.get_running_loop().create_server(_Bare, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
