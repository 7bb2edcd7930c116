"""A real HTTP source on a real port, with a test in the agent's place; and clients that send exactly what a test wants."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

from headwater_edge.http_settings import HttpSettings
from headwater_edge.http_source import HttpSource
from headwater_edge.http_users import Check
from headwater_edge.source import Burst
from headwater_shared.clock import SetClock
from tests.support import until_async

TOPIC = "hw/s1/d1/data/temp"


class Answer(NamedTuple):
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    said: dict[str, Any]


def post(
    body: bytes, *headers: str, path: str = f"/{TOPIC}", method: str = "POST", version: str = "1.1"
) -> bytes:
    """A request as any client would write it; `headers` may name another length or host."""
    lines = list(headers)
    names = {line.partition(":")[0].lower() for line in lines}
    if "host" not in names:
        lines.insert(0, "Host: gateway")
    if not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""]).encode() + body


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        """Read one answer; 100 Continue is one, without a body."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")[:-2]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, json.loads(body) if body else {})

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.answer()

    async def ended(self) -> bytes:
        """Wait until the server has closed; return what still came."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def close(self) -> None:
        self.writer.close()


class Served:
    """The source, what it delivered, and the clock that its time-outs follow."""

    def __init__(self) -> None:
        self.source: HttpSource
        self.bursts: list[Burst] = []
        self.taken: list[Burst] = []
        """Those that were given back."""
        self.seconds = 1000.0
        self.acknowledging = True
        """Bursts are given back at once."""
        self.clock = SetClock()
        self._clients: list[Client] = []

    def deliver(self, burst: Burst) -> None:
        self.bursts.append(burst)
        if self.acknowledging:
            self.acknowledge()

    def acknowledge(self, *bursts: Burst) -> None:
        """Give bursts back, as after their commit; all there are if none is named."""
        self.source.acknowledge(bursts or self.bursts[:], {})
        for burst in bursts or self.bursts[:]:
            self.bursts.remove(burst)
            self.taken.append(burst)

    async def client(self, tls: ssl.SSLContext | None = None) -> Client:
        name = "gateway" if tls else None
        streams = await asyncio.open_connection("127.0.0.1", self.source.port, ssl=tls, server_hostname=name)
        made = Client(*streams)
        self._clients.append(made)
        return made

    async def ask(self, data: bytes) -> Answer:
        """Ask over a connection of its own."""
        client = await self.client()
        try:
            return await client.ask(data)
        finally:
            client.close()

    @property
    def payloads(self) -> list[bytes]:
        """All that was delivered, in order."""
        return [payload for burst in [*self.taken, *self.bursts] for payload in burst.payloads]

    async def gathered(self, messages: int) -> None:
        """Wait until so many messages were delivered and are not given back."""
        await until_async(
            lambda: sum(len(burst.topics) for burst in self.bursts) >= messages, what=f"{messages} messages"
        )

    async def later(self, seconds: float) -> None:
        """Let so much time pass for time-outs, and have the source look at them."""
        self.seconds += seconds
        self.source.sweep()

    def close(self) -> None:
        for client in self._clients:
            client.close()


@asynccontextmanager
async def served(
    check: Check | None = None,
    *,
    acknowledging: bool = True,
    tls: ssl.SSLContext | None = None,
    anyone: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> AsyncIterator[Served]:
    """Serve on a free port, with these settings."""
    made = Served()
    made.acknowledging = acknowledging
    made.source = HttpSource(
        HttpSettings(**({"port": 0} | settings)),
        check,
        made.clock,
        count(1),
        made.deliver,
        tls=tls,
        anyone=anyone,
        monotonic=lambda: made.seconds,
    )
    await made.source.start()
    try:
        yield made
    finally:
        made.close()
        await made.source.close()
        await until_async(lambda: not made.source.connected, what="all connections are over")
        # what was refused or not finished holds no memory; what was not given back still does
        assert made.source.waiting == sum(
            request.size
            for burst in [*made.bursts, made.source._burst]
            for request, _ in burst.requests  # type: ignore[attr-defined]
        )


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())
