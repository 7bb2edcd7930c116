"""An agent's file whose outbox a test fills by hand, the forwarder beside it, and a real bus that can be told to misbehave."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

from headwater_edge import journal
from headwater_edge.events import OrdersRead
from headwater_edge.forward import Forward
from headwater_edge.forward_settings import ForwardSettings
from headwater_edge.order_reader import OrderReader
from headwater_edge.orders import Taken
from headwater_edge.rows import body_hash
from headwater_edge.store import ANOMALIES, WINDOWS, Chores, Commit, OutboxRow, open_store, write
from headwater_edge.tick import quiet_tick
from headwater_shared import records
from headwater_shared.bus import Record, Stored
from headwater_shared.clock import SetClock
from headwater_shared.identity import agent_partition
from headwater_shared.records import Have
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import HAVE, IN
from tests.edge.running import AwayBus

AGENT, EPOCH, SHARD = "a1", 0xFEED, 7
ANOMALY, WINDOW = ANOMALIES, WINDOWS


class HangingBus(AwayBus):
    """The real log, in which an append can hang: until it is told to go on, as a network file system or a broker may."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.hangs = threading.Event()

    def append(self, records: Sequence[Record]) -> None:
        if not self.goes_on.is_set():
            self.hangs.set()
            self.goes_on.wait(60)
        super().append(records)


class Desk:
    """Outbox, forwarder, bus; each step by hand."""

    def __init__(self, folder: Path, settings: ForwardSettings | None = None) -> None:
        self.folder = folder
        self.path = folder / "edge.db"
        self.settings = settings
        self.connection, self.lock = open_store(self.path)
        self.bus: AwayBus = AwayBus(folder / "log.db")
        self.clock = SetClock()
        self.left: list[Chores] = []
        self.ordered: list[OrdersRead] = []
        """What was read of `hw-commands`; `taken` of it is what the test says."""
        self.taken = Taken("", 0, "")
        self.tick = 0
        self.seq = 0
        self.forward = self.opened()

    def monotonic(self) -> float:
        return self.clock.mono_us / 1e6

    def opened(self) -> Forward:
        orders = OrderReader(AGENT, lambda: self.taken, self.ordered.append)
        leave, monotonic = self.left.append, self.monotonic
        return Forward(
            self.path, lambda: self.bus, AGENT, self.clock, leave, orders, self.settings, monotonic
        )

    def open_again(self) -> None:
        """A process killed after its last transaction, and the next one."""
        self.forward.close()
        self.bus = type(self.bus)(self.folder / "log.db")
        self.left.clear()
        self.forward = self.opened()

    def put(self, lane: int = WINDOWS, rows: int = 1, size: int = 0, shard: int = SHARD) -> None:
        """Commit a tick with rows."""
        self.tick += 1
        out = []
        for _ in range(rows):
            self.seq += 1
            body = b"row %d" % self.seq
            kind = records.FRAME if lane == WINDOWS else records.ANOMALY
            packed = zlib.compress(body + b" ", 0) if not size else zlib.compress(body + bytes(size), 0)
            out.append(OutboxRow(lane, EPOCH, shard, self.seq, kind, body_hash(body), packed))
        row = journal.encode(quiet_tick(self.clock.now()))
        write(self.connection, Commit(self.tick, row, out), Chores())

    def do_chores(self) -> None:
        """Let the writer's next transaction take along what was left."""
        for chores in self.left:
            write(self.connection, None, chores)
        self.left.clear()

    def have(self, *intervals: int, shard: int = SHARD) -> None:
        """The cloud says what it has."""
        body = records.encode(Have(AGENT, EPOCH, shard, list(intervals)))
        self.bus.append([have_record(body, shard)])

    def once(self, seconds: float = 0.0) -> str:
        """Let time pass, and do one turn; return the mode that follows."""
        self.clock.advance(seconds)
        self.forward.once()
        return self.forward.mode

    def drained(self) -> None:
        """Do turns a second apart, with the writer's transactions between, until it is live again."""
        for _ in range(1000):
            if self.once(1.0) == "live":
                return
            self.do_chores()
        raise AssertionError("it never became live")

    def on_bus(self, shard: int = SHARD) -> list[Stored]:
        """What lies on the bus of now, heartbeats too, also while it is away."""
        return SqliteLog.read(self.bus, IN.name, {shard: 0}, 100_000)

    def stored(self, shard: int = SHARD) -> list[Stored]:
        """The rows of it."""
        return [stored for stored in self.on_bus(shard) if stored.body.startswith(b"row ")]

    def outbox(self) -> list[int]:
        """The seqs of the rows that are still in the file."""
        return [seq for (seq,) in self.connection.execute("SELECT seq FROM outbox ORDER BY n")]

    def arrived(self, shard: int = SHARD) -> list[int]:
        """Which rows are on the bus, in order."""
        return [int(stored.body[4:].strip(b"\0 ")) for stored in self.stored(shard)]

    def replayed(self) -> list[int]:
        """Which of them are marked as replayed."""
        marked = [stored.headers.get("replayed") == "true" for stored in self.stored()]
        return [n for n, yes in zip(self.arrived(), marked, strict=True) if yes]

    def close(self) -> None:
        self.forward.close()
        self.connection.close()
        self.lock.release()


def have_record(body: bytes, shard: int = SHARD) -> Record:
    """A record on the topic of what the cloud has of the agent's."""
    headers = records.headers(records.HAVE, "h", "cloud", 0)
    partition, key = agent_partition(AGENT, HAVE.partitions), f"{AGENT}/{EPOCH:016x}/{shard}"
    return Record(HAVE.name, partition, key, headers, body)
