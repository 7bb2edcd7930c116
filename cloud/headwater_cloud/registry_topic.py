"""The topic `hw-registry`: the latest change of each device, and the copies of it in `hw-in`, which shards read (R24)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headwater_cloud.outputs import SOURCE
from headwater_shared import logs, records, registry, topics
from headwater_shared.bus import Bus, Record, Stored
from headwater_shared.identity import agent_partition
from headwater_shared.records import RegistryChange
from headwater_shared.registry import rank
from headwater_shared.spread import Spread, SpreadMap

log = logs.get_logger()

_AT_ONCE = 500


class RegistryTopic:
    """What the topic says, as far as it was read; each use of the bus may raise `BusUnavailable`, and can be done again."""

    def __init__(self, bus: Bus, spread: Iterable[Spread] = ()) -> None:
        """Begin to read; `spread`: sites that are on more shards than their own (R25)."""
        self._bus = bus
        self.map = SpreadMap(spread)
        self._offsets = dict.fromkeys(range(topics.REGISTRY.partitions), 0)
        self._last: dict[str, RegistryChange] = {}
        """The last record of each device: what a compaction keeps."""
        self.latest: dict[str, RegistryChange] = {}
        """The latest change of each device that is known, in the topic or not."""

    def read(self) -> list[str]:
        """Read on to the end of the topic. Returns the devices of which there was a record."""
        found: dict[str, None] = {}
        while some := self._bus.read(topics.REGISTRY.name, self._offsets, _AT_ONCE):
            for stored in some:
                self._offsets[stored.partition] = stored.offset + 1
                change = _change(stored)
                if change is not None:
                    self._last[change.device] = change
                    self.learn(change)
                    found[change.device] = None
        return list(found)

    def learn(self, change: RegistryChange) -> bool:
        """Take up what is known from elsewhere; tell whether it is the latest of its device."""
        known = self.latest.get(change.device)
        if known is not None and rank(change) <= rank(known):
            return False
        self.latest[change.device] = change
        return True

    def write(self, devices: Sequence[str]) -> int:
        """Append the latest of the devices, where the topic's last record is another. Returns how many."""
        some = [self.latest[device] for device in devices if self.latest[device] != self._last.get(device)]
        self._append([_record(change) for change in some])
        self._last.update((change.device, change) for change in some)
        return len(some)

    def copy(self, devices: Sequence[str], only: int | None = None) -> None:
        """Append the latest of the devices to `hw-in`, to all of their shards or to one of them: as often as one likes, the shards
        see what is new.
        """
        to = {device: sorted(self.map.shards(device)) for device in devices}
        self._append(
            [
                copy_of(self.latest[device], shard)
                for device, shards in to.items()
                for shard in shards
                if only in (None, shard)
            ]
        )

    def _append(self, some: Sequence[Record]) -> None:
        for at in range(0, len(some), _AT_ONCE):
            self._bus.append(some[at : at + _AT_ONCE])


def copy_of(change: RegistryChange, shard: int) -> Record:
    """For `hw-in`: to a shard that the device is on."""
    return Record(topics.IN.name, shard, change.device, _headers(change), records.encode(change))


def _record(change: RegistryChange) -> Record:
    topic = topics.REGISTRY
    partition = agent_partition(change.device, topic.partitions)
    return Record(topic.name, partition, change.device, _headers(change), records.encode(change))


def _headers(change: RegistryChange) -> dict[str, str]:
    return records.headers(
        records.REGISTRY, f"registry/{change.device}/{change.time_us}", SOURCE, change.time_us
    )


def _change(stored: Stored) -> RegistryChange | None:
    """Read a record; None if it is none, which stays where it is until its key is written again."""
    try:
        change = records.decode(RegistryChange, stored.body)
        why = registry.wrong(change.device, registry.entry_of(change) or registry.Entry())
    except ValueError as error:
        why = str(error)
    if why:
        log.warning("a record of the registry cannot be read", key=stored.key, why=why)
        return None
    return change
