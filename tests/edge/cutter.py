"""A proxy that breaks a connection at a packet: just before it arrives, or just after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.edge.mqtt import PUBCOMP, PUBLISH, PUBREC, PUBREL, length
from tests.edge.mqtt import cut as cut_packets

UPWARDS = {PUBLISH, PUBREL}
STEPS = {"PUBLISH": PUBLISH, "PUBREC": PUBREC, "PUBREL": PUBREL, "PUBCOMP": PUBCOMP}
"""The four steps of QoS 2."""


class Cut(NamedTuple):
    """Where the connection breaks: at the `nth` packet of a kind, which arrives or is lost; `away`: no other connection
    is passed on until `upstream` is set again.
    """

    kind: int
    arrives: bool
    away: bool = False
    nth: int = 3


class Cutter:
    """Passes connections on to `upstream`, a port; `done` once it has cut."""

    def __init__(self, upstream: int, cut: Cut) -> None:
        self.upstream = upstream
        self.done = False
        self._cut = cut
        self._seen = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a client's connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        try:
            try:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
            except OSError:
                return
            self._writers.append(up_writer)
            both = [
                asyncio.ensure_future(self._pump(reader, up_writer, upwards=True)),
                asyncio.ensure_future(self._pump(up_reader, writer, upwards=False)),
            ]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for pump in both:
                pump.cancel()
            up_writer.close()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upwards: bool
    ) -> None:
        rest = b""
        try:
            while data := await reader.read(65_536):
                packets, rest = cut_packets(rest + data)
                for packet in packets:
                    ends = self._ends(packet.kind, upwards=upwards)
                    if not ends or self._cut.arrives:
                        first = bytes((packet.kind << 4 | packet.flags,))
                        writer.write(first + length(len(packet.body)) + packet.body)
                    if ends:
                        return
        except OSError:
            return

    def _ends(self, kind: int, *, upwards: bool) -> bool:
        if self.done or kind != self._cut.kind or upwards != (kind in UPWARDS):
            return False
        self._seen += 1
        self.done = self._seen == self._cut.nth
        if self.done and self._cut.away:
            self.upstream = 0
        return self.done

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def cutter(upstream: int, cut: Cut) -> AsyncIterator[tuple[Cutter, int]]:
    """Run a proxy; gives it and its port."""
    made = Cutter(upstream, cut)
    server = await asyncio.start_server(made.connected, "127.0.0.1", 0)
    try:
        yield made, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        made.close()
