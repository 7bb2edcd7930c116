"""The bus interface: topics, partitions, offsets and keys; the SQLite log is one (size S), Kafka the other (sizes M and L).

Who calls what: any thread may hold its own bus object; calls on one object never overlap. `append` returns when the
records are durable (the delivery report), or raises `BusUnavailable`, after which their fate is unknown and the caller
appends the same records again. Readers carry their own offsets: what a group has read for good is its own state's
business (R27), and `read_up_to` tells the bus only what retention may let go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec


class Record(msgspec.Struct, frozen=True):
    """What is appended. `headers` follow the CloudEvents Kafka binding (`ce_id`, `ce_type`, ...)."""

    topic: str
    partition: int
    key: str
    headers: Mapping[str, str]
    body: bytes


class Stored(msgspec.Struct, frozen=True):
    """What is read: a record at its offset, with the append time of the bus (microseconds, wall)."""

    topic: str
    partition: int
    offset: int
    time_us: int
    key: str
    headers: Mapping[str, str]
    body: bytes


class Bus(Protocol):
    """A durable log of topics. One contract suite runs on every implementation (`tests/contracts/`)."""

    @property
    def identity(self) -> str:
        """Which log this is: another one, if it was replaced; the same, whoever asks.

        Raises:
            BusUnavailable: it cannot be asked now.
        """

    def append(self, records: Sequence[Record]) -> None:
        """Append in the order given, durable on return. A process that is killed inside leaves all, nothing, or on Kafka the first
        ones of each partition.

        Raises:
            BusUnavailable: nothing is known of the records; append them again later.
        """

    def append_once(self, producer: str, first_id: int, records: Sequence[Record]) -> None:
        """Append records that bear the ids first_id, first_id + 1, ...; those up to the producer's last id are skipped.

        All or none, whatever happens; on Kafka they are seen a moment after the return.

        Raises:
            BusUnavailable: nothing is known of the records; append the same ones under the same ids later.
        """

    def read(self, topic: str, offsets: Mapping[int, int], limit: int) -> list[Stored]:
        """Return up to `limit` records of the partitions named, each from its offset on, in order within a partition.

        Returns at once, with nothing if there is nothing. Offsets that retention has passed begin at the oldest kept.
        """

    def ends(self, topic: str) -> dict[int, int]:
        """Return, for each partition that holds or held records, the offset that its next record will have, at least."""

    def read_up_to(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Register what a group has read for good: retention keeps everything from there on (R27)."""

    def retain(self, now_us: int) -> int:
        """Delete what its topic no longer keeps (`topics`), where the bus does not do that by itself; return how many records."""

    def close(self) -> None: ...
