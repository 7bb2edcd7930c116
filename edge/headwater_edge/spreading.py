"""Which shard the rows of each series go to, by time: the map of `headwater_shared.spread` in columns (R25).

It follows from names and settings, so no snapshot holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headwater_shared.identity import SHARDS, shard_of, site_of
from headwater_shared.spread import Spread, SpreadMap, place_of

Ints = NDArray[np.int64]

_NONE = -1


class Spreading:
    """The map, and by series which site's it is and the hash of its device."""

    def __init__(
        self, entries: Sequence[Spread], names: Sequence[str] = (), devices: Iterable[str] = ()
    ) -> None:
        self.map = SpreadMap(entries)
        self._sites = {site: number for number, site in enumerate(self.map.sites)}
        self._site: Ints = np.full(0, _NONE)
        self._hash: Ints = np.zeros(0, np.int64)
        self._more: list[frozenset[int]] = []
        """By device: the shards that it is ever on besides that of its site."""
        self._elsewhere: dict[int, Ints] | None = None
        self.take_up(range(len(names)), names)
        for device in devices:
            self.add_device(device)

    def take_up(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """Learn what series these numbers are now."""
        if not self._sites or not len(numbers):
            return
        more = max(numbers) + 1 - len(self._site)
        if more > 0:
            self._site = np.append(self._site, np.full(more, _NONE))
            self._hash = np.append(self._hash, np.zeros(more, np.int64))
        for number, name in zip(numbers, names, strict=True):
            site, device = place_of(name)
            self._site[number] = self._sites.get(site, _NONE)
            self._hash[number] = crc32(device.encode())

    def add_device(self, device: str) -> None:
        """Take up the next device, `site/device`."""
        self._more.append(frozenset(self.map.shards(device) - {shard_of(site_of(device))}))
        self._elsewhere = None

    def keep_devices(self, kept: NDArray[np.bool_]) -> None:
        """Forget the others; those that stay are numbered anew, in the same order."""
        self._more = [more for more, stays in zip(self._more, kept.tolist(), strict=True) if stays]
        self._elsewhere = None

    @property
    def elsewhere(self) -> dict[int, Ints]:
        """The devices that are ever on a shard which is not that of their site, by shard."""
        if self._elsewhere is None:
            found: dict[int, list[int]] = {}
            for device, more in enumerate(self._more):
                for shard in more:
                    found.setdefault(shard, []).append(device)
            self._elsewhere = {shard: np.array(found[shard]) for shard in sorted(found)}
        return self._elsewhere

    def shards(self, plain: Ints, series: Ints, start: Ints) -> Ints:
        """Return the shards of rows.

        Args:
            plain: that of the site, by series.
            series, start: of the rows; microseconds.
        """
        found: Ints = plain[series]
        if not self._sites:
            return found
        of_row = self._site[series]
        for site, number in self._sites.items():
            (rows,) = np.nonzero(of_row == number)
            if len(rows):
                since, over = (np.array(column, np.int64) for column in self.map.ruled(site))
                ruling = over[np.searchsorted(since, start[rows], side="right")]
                found[rows] = (found[rows] + self._hash[series[rows]] % ruling) % SHARDS
        return found
