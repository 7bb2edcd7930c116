"""Hot shards: a site whose devices are spread over several shards, from a time on (R25).

A row's shard is `(crc32(site) + crc32(device) % over) % 64`, where `over` is what rules the time of the row: a window's start, the
begin of an anomaly or a command, the moment of a change of a device's status. Until the first entry of a site it is 1, which is
the plain shard of the site. So of one window every part, every revision, before and after a change of the map and a restart, from
whatever agent with the same map, goes to the same shard, and its parts meet where they are merged.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from zlib import crc32

import msgspec

from headwater_shared.identity import SHARDS, shard_of


class Spread(msgspec.Struct, frozen=True, order=True):
    """From `from_us` on, microseconds of event time, a site is on so many shards; 1 is back on its own."""

    site: str
    from_us: int
    over: int


class SpreadMap:
    """All that is said of the shards of sites."""

    def __init__(self, entries: Iterable[Spread] = ()) -> None:
        self._of_site: dict[str, tuple[list[int], list[int]]] = {}
        """From when on, rising, and over how many; the second begins with the 1 of before."""
        for entry in sorted(entries):
            since, over = self._of_site.setdefault(entry.site, ([], [1]))
            since.append(entry.from_us)
            over.append(entry.over)

    @property
    def sites(self) -> list[str]:
        """The sites that are not on their own shard for ever."""
        return list(self._of_site)

    def ruled(self, site: str) -> tuple[list[int], list[int]]:
        """Return from when on, rising, and over how many shards: first that of before."""
        return self._of_site.get(site, ([], [1]))

    def shard(self, name: str, time_us: int) -> int:
        """Return the shard of a series or a device (`site/device` and what may follow) at a time."""
        site, device = place_of(name)
        since, over = self.ruled(site)
        return shard_at(site, device, over[bisect_right(since, time_us)])

    def shards(self, name: str) -> set[int]:
        """Return all shards that a series or a device is ever on, first of all that of its site."""
        site, device = place_of(name)
        return {shard_at(site, device, over) for over in self.ruled(site)[1]}


def place_of(name: str) -> tuple[str, str]:
    """Return site and device of a series or a device."""
    site, _, rest = name.partition("/")
    return site, rest.partition("/")[0]


def shard_at(site: str, device: str, over: int) -> int:
    """Return the shard of a device of a site that is over so many."""
    return (shard_of(site) + crc32(device.encode()) % over) % SHARDS
