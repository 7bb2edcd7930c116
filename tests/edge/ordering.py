"""Orders on the bus, as the cloud side appends them."""

from __future__ import annotations

from pathlib import Path

from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.identity import agent_partition
from headwater_shared.orders import record_of
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import COMMANDS

AGENT = "a1"
WALL_US = 1_800_000_000_000_000


def order(
    number: int, device: str = "s/d", name: str = "shut", *, agent: str = AGENT, ttl_s: float = 60.0,
    time_us: int = WALL_US, arguments: str = '{"valve":2}',
) -> Record:  # fmt: skip
    """Make the record of one order, whose id is its number."""
    said = records.Order(agent, f"id-{number}", device, name, arguments, round(ttl_s * 1e6), time_us, "anna")
    return record_of(said, "tests")


def record(body: bytes, ce_id: str, device: str, agent: str = AGENT) -> Record:
    """Make a record on the agent's partition, whatever its body is."""
    headers = records.headers(records.ORDER, ce_id, "headwater-cloud", WALL_US, ce_subject=device)
    return Record(COMMANDS.name, agent_partition(agent, COMMANDS.partitions), agent, headers, body)


def append(log: Path, *orders: Record) -> None:
    """Append to a log, over a connection of its own."""
    bus = SqliteLog(log)
    bus.append(orders)
    bus.close()
