"""What agents tell of themselves: status frames become rows of `agent_status`, the latest of each agent."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from headwater_shared import records
from headwater_shared.agent_status import MOST_VALUES, AgentStatus, known
from headwater_shared.bus import Stored
from headwater_shared.identity import agent_shard, valid_name

KEPT_US = 7 * 86_400_000_000
"""How long it is known that there was an agent."""
MOST_AGENTS = 10_000
"""Kept at most, the ones that were heard last: whoever may write on the bus cannot fill the file."""


class Told(NamedTuple):
    """A row of `agent_status`."""

    agent: str
    shard: int
    site: str
    time_us: int
    """What the agent's clock showed."""
    heard_us: int
    """When the frame was appended, by the bus."""
    offset_us: int
    """The agent's clock less the bus's, both as the machine's wall time."""
    shape: bytes
    """msgpack: names and labels of the values, as the frame has them."""
    numbers: bytes
    """The values: float64, little-endian."""
    unknown: int
    """Values that this version does not know."""


def told_of(stored: Stored, wall_of: Callable[[int], int]) -> Told:
    """Read a status frame.

    Args:
        stored: the record.
        wall_of: the machine's wall time for a time of Headwater's clock, in microseconds.

    Raises:
        ValueError: it is none, or of a version that is not known here.
    """
    status = records.decode(AgentStatus, stored.body)
    if not valid_name(status.agent) or not (valid_name(status.site) or not status.site):
        raise ValueError(f"no names of an agent and a site: {status.agent!r}, {status.site!r}")
    shape = status.names[:MOST_VALUES], status.labels[:MOST_VALUES]
    values = status.values[:MOST_VALUES]
    unknown = sum(known(name, labels) is None for name, labels in zip(*shape, strict=True))
    return Told(
        status.agent, agent_shard(status.agent), status.site, status.time_us, stored.time_us,
        wall_of(status.time_us) - stored.time_us, msgspec.msgpack.encode(shape),
        struct.pack(f"<{len(values)}d", *values), unknown,
    )  # fmt: skip


def write_told(connection: sqlite3.Connection, statuses: Iterable[Told]) -> None:
    """Write them, of each agent the latest, and let go of agents that were not heard for long."""
    rows = [one[:-1] for one in statuses]
    if not rows:
        return
    connection.executemany(
        """
        INSERT INTO agent_status VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT(agent) DO UPDATE SET shard = excluded.shard, site = excluded.site, time_us = excluded.time_us,
            heard_us = excluded.heard_us, offset_us = excluded.offset_us, shape = excluded.shape, numbers = excluded.numbers
        WHERE excluded.heard_us >= heard_us
        """,
        rows,
    )
    newest = max(row[4] for row in rows)
    connection.execute("DELETE FROM agent_status WHERE heard_us < ?", (newest - KEPT_US,))
    connection.execute(
        "DELETE FROM agent_status WHERE heard_us < (SELECT heard_us FROM agent_status ORDER BY heard_us DESC LIMIT 1 OFFSET ?)",
        (MOST_AGENTS - 1,),
    )
