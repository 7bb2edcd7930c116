"""A real agent on a real file with a real bus, fed by a source that a test scripts; no sockets."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Container, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.device_settings import DeviceSettings
from headwater_edge.events import Connect, Event
from headwater_edge.pipeline import Agent
from headwater_edge.settings import EdgeSettings, WindowSettings
from headwater_edge.source import DUP, QOS1, Burst
from headwater_edge.store import read_store
from headwater_shared import frame, records
from headwater_shared.bus import Record, Stored
from headwater_shared.clock import SetClock
from headwater_shared.errors import BusUnavailable
from headwater_shared.identity import SHARDS
from headwater_shared.records import Anomaly, Command
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import IN
from tests.support import until_async

FILE, LOG = "edge.db", "log.db"


class Publish(NamedTuple):
    """One PUBLISH of a script."""

    topic: str
    payload: bytes
    packet_id: int = 0
    dup: bool = False
    connection: int = 1


class AwayBus(SqliteLog):
    """The real log, that can be told to be away."""

    away = False
    lost_answers = 0
    """So many appends succeed and do not say so."""

    def append(self, records: Sequence[Record]) -> None:
        self._look()
        super().append(records)
        if self.lost_answers:
            self.lost_answers -= 1
            raise BusUnavailable("no answer")

    def read(self, topic: str, offsets: Mapping[int, int], limit: int) -> list[Stored]:
        self._look()
        return super().read(topic, offsets, limit)

    def _look(self) -> None:
        if self.away:
            raise BusUnavailable("away")


class ScriptedSource:
    """A source whose bursts a test makes; remembers what the agent told it."""

    def __init__(self, deliver: Callable[[Burst], None]) -> None:
        self._deliver = deliver
        self.acknowledged: list[Burst] = []
        self.sessions: dict[int, bool] = {}
        self.refused: set[int] = set()
        self.published: list[tuple[bytes, bytes]] = []
        self.there: dict[bytes, list[int]] = {}
        self.commands: list[tuple[bytes, bytes, int]] = []
        self.held = 0
        self.paused = 0
        self.resumed = 0

    def acknowledge(self, bursts: Sequence[Burst], sessions: Mapping[int, bool]) -> None:
        self.acknowledged += bursts
        self.sessions |= sessions

    def refuse(self, connections: Iterable[int]) -> None:
        self.refused.update(connections)

    def publish(self, topic: bytes, payload: bytes) -> bool:
        self.published.append((topic, payload))
        return True

    def command(self, topic: bytes, payload: bytes, left_s: int, but: Container[int]) -> list[int]:
        """Take commands to the topics of those that `there` names, each over its connection."""
        over = [number for number in self.there.get(topic, ()) if number not in but]
        self.commands += [(topic, payload, left_s)] * len(over)
        return over

    def hold(self) -> None:
        self.held += 1

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        self.resumed += 1

    async def close(self) -> None:
        pass

    def send(
        self, *messages: Publish, events: Sequence[Event] = (), arrived_us: int = 1_800_000_000_000_000
    ) -> Burst:
        """Deliver a burst; the events come before its messages."""
        burst = Burst(arrived_us)
        burst.events = [(0, event) for event in events]
        for at, message in enumerate(messages, 1):
            burst.topics.append(message.topic.encode())
            burst.payloads.append(message.payload)
            burst.packet_ids.append(message.packet_id)
            burst.flags.append((QOS1 if message.packet_id else 0) | (DUP if message.dup else 0))
            if burst.runs and burst.runs[-1][0] == message.connection:
                burst.runs.pop()
            burst.runs.append((message.connection, at))
        burst.size = sum(len(message.payload) for message in messages)
        self._deliver(burst)
        return burst

    def connect(self, connection: int, client: str, *, clean: bool = False, expiry_s: int = 3600) -> Burst:
        return self.send(events=[Connect(connection, client, "", clean, expiry_s)])


class Running:
    """An agent that runs, with what is around it."""

    def __init__(
        self, folder: Path, agent: Agent, source: ScriptedSource, clock: SetClock, bus: AwayBus
    ) -> None:
        self.folder = folder
        self.agent = agent
        self.source = source
        self.clock = clock
        self.bus = bus

    async def acknowledged(self, burst: Burst) -> None:
        """Wait until a burst was acknowledged."""
        await until_async(
            lambda: any(done is burst for done in self.source.acknowledged), what="acknowledged"
        )

    async def publish(self, *messages: Publish) -> None:
        """Send one burst, and wait for its acknowledgement."""
        await self.acknowledged(self.source.send(*messages))

    async def connect(
        self, connection: int, client: str, *, clean: bool = False, expiry_s: int = 3600
    ) -> bool:
        """Connect a client; tell whether a session was present."""
        await self.acknowledged(self.source.connect(connection, client, clean=clean, expiry_s=expiry_s))
        return self.source.sessions[connection]

    async def forwarded(self) -> None:
        """Wait until the bus has every row of the outbox."""
        forward = self.agent.forward
        await until_async(lambda: unsent(self.agent) == 0 and forward.mode == "live", what="forwarded")


def full(box: Running) -> Callable[[], None]:
    """Make the disk full for the agent's file, as SQLite says it; return what makes space again."""
    connection = box.agent._writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (before,) = connection.execute("PRAGMA max_page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}").fetchone()
    connection.execute("CREATE TEMP TABLE none(x)")  # the cap counts from the next transaction on

    def space() -> None:
        connection.execute(f"PRAGMA max_page_count={before}").fetchone()

    return space


def unsent(agent: Agent) -> int:
    """Return on how many lanes rows wait to be forwarded."""
    reader = read_store(agent.path)
    try:
        rows = reader.execute("SELECT lane, max(n) FROM outbox GROUP BY lane").fetchall()
        outbox = agent.forward.outbox
        return sum(1 for lane, n in rows if n > outbox.sent[lane]) + len(outbox.gaps)
    finally:
        reader.close()


def edge_settings(**more: object) -> EdgeSettings:
    """Settings under which every burst of readings is a tick of its own, and devices may be ahead of the test's clock.

    Device status is off: tests count the rows that readings make.
    """
    windows = more.pop("windows", {})
    made = WindowSettings(**({"future": "3650d", "clock_wait": "0s"} | windows))  # type: ignore[operator]
    given: dict[str, Any] = {
        "name": "a1",
        "tick_readings": 1,
        "windows": made,
        "devices": DeviceSettings(status=False),
    }
    return EdgeSettings(**(given | more))


@asynccontextmanager
async def running(
    folder: Path,
    settings: EdgeSettings | None = None,
    clock: SetClock | None = None,
    log: Path | None = None,
    seal: Seal = NO_KEY,
) -> AsyncIterator[Running]:
    """Run an agent in a folder that is there; ended as a signal ends it."""
    clock = clock or SetClock()
    bus = AwayBus(log or folder / LOG)
    agent = Agent(settings or edge_settings(), folder / FILE, clock, lambda: bus, "test", seal=seal)
    source = agent.attach(ScriptedSource)
    await agent.start()
    try:
        yield Running(folder, agent, source, clock, bus)
    finally:
        if not agent.failed.done():
            await agent.close()
        else:
            agent._idle_timer.cancel()
            await asyncio.get_running_loop().run_in_executor(None, agent._close_threads)


def as_after_a_kill(folder: Path, copy: Path) -> Path:
    """Copy an agent's file as it lies on the disk while the agent runs: what a kill would leave."""
    copy.mkdir()
    for name in (FILE, FILE + "-wal"):  # in this order: the log is only appended to meanwhile
        shutil.copyfile(folder / name, copy / name)
    return copy


def commands_on_bus(path: Path) -> list[Command]:
    """Read what a log holds of commands, each identity once, in the order of their seqs."""
    log = SqliteLog(path)
    found: dict[tuple[int, int, int], Command] = {}
    for stored in log.read(IN.name, dict.fromkeys(range(SHARDS), 0), 1_000_000):
        if records.kind_of(stored.headers) == records.COMMAND:
            one = records.decode(Command, stored.body)
            found.setdefault((one.epoch, one.shard, one.seq), one)
    log.close()
    return sorted(found.values(), key=lambda c: (c.tick, c.shard, c.seq))


def on_bus(path: Path) -> tuple[list[frame.Frame], list[Anomaly]]:
    """Read all frames and anomalies that a log holds, each identity once, in the order of their seqs."""
    log = SqliteLog(path)
    frames: dict[tuple[int, int, int], frame.Frame] = {}
    anomalies: dict[tuple[int, int, int], Anomaly] = {}
    for stored in log.read(IN.name, dict.fromkeys(range(SHARDS), 0), 1_000_000):
        if records.kind_of(stored.headers) == records.FRAME:
            one = frame.decode(stored.body)
            frames.setdefault((one.epoch, one.shard, one.seq), one)
        elif records.kind_of(stored.headers) == records.ANOMALY:
            found = records.decode(Anomaly, stored.body)
            anomalies.setdefault((found.epoch, found.shard, found.seq), found)
    log.close()
    by_tick = sorted(frames.values(), key=lambda f: (f.tick, f.shard, f.seq))
    return by_tick, sorted(anomalies.values(), key=lambda a: (a.tick, a.shard, a.seq))
