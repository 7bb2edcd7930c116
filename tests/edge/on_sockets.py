"""A real listener on real sockets, in front of a test that commits when it likes, or of a real agent on a real file."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import cast

from headwater_edge.connection import ListenerBurst
from headwater_edge.events import Connect, Disconnect, Event, Release
from headwater_edge.listener import Listener
from headwater_edge.listener_settings import ListenerSettings
from headwater_edge.pipeline import Agent
from headwater_edge.settings import EdgeSettings
from headwater_edge.source import Burst
from headwater_edge.users import Users
from headwater_shared.clock import SetClock
from tests.edge import mqtt
from tests.edge.mqtt import CONNACK, V5, Client
from tests.edge.running import FILE, LOG, AwayBus, edge_settings, on_bus, unsent
from tests.support import until_async


class Bench:
    """A listener, what it delivered, and a clock for its time-outs."""

    def __init__(self, settings: ListenerSettings) -> None:
        self.seconds = 1_000.0
        self.bursts: list[Burst] = []
        self.uncommitted: list[Burst] = []
        self.sessions: dict[int, bool] = {}
        self.filters: dict[str, list[int]] = {}
        self.listener = Listener(
            settings, Users(), SetClock(), count(1), self._deliver, monotonic=lambda: self.seconds,
            connections_for=lambda *filters: [c for one in filters for c in self.filters.get(one, [])],
        )  # fmt: skip

    def _deliver(self, burst: Burst) -> None:
        self.bursts.append(burst)
        self.uncommitted.append(burst)

    def commit(self, *, present: bool = False, unknown: frozenset[tuple[int, int]] = frozenset()) -> None:
        """Say that all that was delivered is on disk."""
        bursts, self.uncommitted = self.uncommitted, []
        for burst in bursts:
            burst.unknown = unknown
            for _, event in burst.events:
                if isinstance(event, Connect):
                    self.sessions[event.connection] = present
        self.listener.acknowledge(bursts, self.sessions)

    async def delivered(self, messages: int = 0, events: int = 0) -> None:
        """Wait until so many messages or events in all were delivered."""
        await until_async(
            lambda: len(self.topics) >= messages and len(self.events) >= events, what="delivered"
        )

    @property
    def topics(self) -> list[bytes]:
        return [topic for burst in self.bursts for topic in burst.topics]

    @property
    def payloads(self) -> list[bytes]:
        return [payload for burst in self.bursts for payload in burst.payloads]

    @property
    def events(self) -> list[Event]:
        return [event for burst in self.bursts for _, event in burst.events]

    async def client(self, name: str = "c", version: int = mqtt.V311, **more: object) -> Client:
        """Connect a client, and commit that."""
        client = await Client.open(self.listener.port)
        before = len(self.events)
        client.send(mqtt.connect(name, version, **more))  # type: ignore[arg-type]
        await until_async(lambda: any(isinstance(event, Connect) for event in self.events[before:]))
        self.commit()
        (connack,) = await client.take(1)
        assert (connack.kind, connack.code) == (CONNACK, 0)
        return client

    async def ended(self, name: str) -> Disconnect:
        """Wait until a client's connection is over."""
        numbers = [e.connection for e in self.events if isinstance(e, Connect) and e.client == name]

        def over() -> Disconnect | None:
            return next(
                (e for e in self.events if isinstance(e, Disconnect) and e.connection == numbers[-1]), None
            )

        found = await until_async(over, what=f"{name} is gone")
        assert found is not None
        return found

    def released(self) -> list[int]:
        return [
            packet_id for event in self.events if isinstance(event, Release) for packet_id in event.packet_ids
        ]

    @property
    def replies(self) -> int:
        return sum(len(cast("ListenerBurst", burst).replies) for burst in self.bursts)


@asynccontextmanager
async def bench(**settings: object) -> AsyncIterator[Bench]:
    """Run a listener on a free port."""
    made = Bench(ListenerSettings(port=0, nap="1ms", **settings))  # type: ignore[arg-type]
    await made.listener.start()
    try:
        yield made
    finally:
        await made.listener.close()


class Served:
    """A real agent that devices connect to."""

    def __init__(self, agent: Agent, listener: Listener, clock: SetClock, log: Path, bus: AwayBus) -> None:
        self.agent = agent
        self.listener = listener
        self.clock = clock
        self.log = log
        self.bus = bus

    @property
    def accepted(self) -> int:
        return self.agent.state.counters.accepted

    async def client(
        self, name: str = "c", version: int = mqtt.V311, *, present: bool | None = None, **more: object
    ) -> Client:
        """Connect a client; `present`: whether it must have a session here."""
        if version == V5 and not more.get("clean", True):
            more["properties"] = b"\x11\x00\x00\x0e\x10"  # a session of an hour
        client = await Client.open(self.listener.port)
        client.send(mqtt.connect(name, version, **more))  # type: ignore[arg-type]
        (connack,) = await client.take(1)
        assert (connack.kind, connack.code) == (CONNACK, 0)
        assert present is None or bool(connack.body[0]) is present
        return client

    async def counted(self) -> dict[str, int]:
        """Close all windows; return how often each series was counted, as the bus has it."""
        await self.agent.flush()
        forward = self.agent.forward
        await until_async(lambda: unsent(self.agent) == 0 and forward.mode == "live", what="forwarded")
        found: dict[str, int] = {}
        for frame in on_bus(self.log)[0]:
            parts = frame.parts
            for row in range(len(parts)):
                if parts.levels[parts.level[row]] == "10s":
                    name = parts.names[parts.series[row]]
                    found[name] = found.get(name, 0) + int(parts.aggregates.count[row])
        return found


@asynccontextmanager
async def served(
    folder: Path, clock: SetClock | None = None, log: Path | None = None, settings: EdgeSettings | None = None
) -> AsyncIterator[Served]:
    """Run an agent with a listener in a folder that is there; ended as a signal ends it."""
    clock = clock or SetClock()
    log = log or folder / LOG
    bus = AwayBus(log)
    agent = Agent(settings or edge_settings(tick="1ms"), folder / FILE, clock, lambda: bus, "test")
    listener = agent.attach(
        lambda deliver: Listener(
            ListenerSettings(port=0, nap="1ms"),
            Users(),
            clock,
            count(1),
            deliver,
            connections_for=agent.state.sessions.connections_for,
            qos_of=agent.state.sessions.qos_of,
        )
    )
    await agent.start()
    await listener.start()
    try:
        yield Served(agent, listener, clock, log, bus)
    finally:
        await listener.close()
        await agent.close()


def run(test: Awaitable[None]) -> None:
    """Run a test, and close the connections that it leaves open."""

    async def whole() -> None:
        try:
            await test
        finally:
            for client in Client.opened:
                client.writer.close()
                with contextlib.suppress(OSError):
                    await client.writer.wait_closed()
            Client.opened.clear()

    asyncio.run(whole())
