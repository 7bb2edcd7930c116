"""What one step puts out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from headwater_edge.evicted import Former
from headwater_edge.idempotency import Verdict
from headwater_shared.frame import Frame
from headwater_shared.records import Anomaly, Command, Device


@dataclass(slots=True)
class Output:
    """What one step puts out; it aliases no state."""

    tick: int
    epoch: int
    anomalies: list[Anomaly] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    """What became of commands to devices; those that are open are in the state."""
    frames: list[Frame] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    """Devices whose status changed."""
    sessions: dict[int, bool] = field(default_factory=dict)
    """Whether a session was present, by connection that connected."""
    unknown: frozenset[tuple[int, int]] = frozenset()
    """(connection, packet id) of PUBRELs that released nothing."""
    repeated: frozenset[int] = frozenset()
    """Messages that repeated one before, by transport; their dead letters are not written again."""
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    """By number, what became of requests whose idempotency key was known."""
    warnings: list[str] = field(default_factory=list)
    beyond: list[tuple[int, int]] = field(default_factory=list)
    """(message, reading) of what cannot be told from a resend: dead letters (R4)."""
    age_us: int = 0
    coverage: bytes = b""
    """What every series was heard in, now and then: it stands for the journal's rows up to this tick once they go."""
    evicted: list[Former] = field(default_factory=list)
    """Series that were let go."""
    devices_gone: list[str] = field(default_factory=list)
    """Devices that went with the last of their series."""

    @property
    def rows(self) -> int:
        """How many rows of the outbox it is."""
        return len(self.frames) + len(self.anomalies) + len(self.commands)


class Completeness(NamedTuple):
    """What heartbeats say."""

    epoch: int
    shards: dict[int, tuple[int, int]]
    """By shard: every window of every device up to this time is out, and the last seq."""
    previous: tuple[int, dict[int, int]] | None
    """The epoch before this one and its last seqs."""
