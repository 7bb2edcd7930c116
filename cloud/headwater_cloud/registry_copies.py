"""Topic, shards and the box's own file hold one registry: what one of them has that is later, the others get.

A change goes into `hw-registry` first and from there into the shards; a crash between the two, a new file of the cloud side, a
log that was begun anew, an older record that came last: each is healed by looking again, for a change is idempotent.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

from headwater_cloud.registry_topic import RegistryTopic
from headwater_cloud.shard import Shard
from headwater_shared import logs, registry
from headwater_shared.bus import Bus
from headwater_shared.crash import reached
from headwater_shared.errors import SettingsError
from headwater_shared.identity import SHARDS, shard_of, site_of
from headwater_shared.registry import rank

log = logs.get_logger()


class RegistryCopies:
    """What one process of the cloud side does for the registry, once a second; all state can be read again."""

    def __init__(self, bus: Bus, file: Path | None = None) -> None:
        """Begin with all that there is.

        Args:
            bus: holds the topic.
            file: `registry.json` of the box; None: there is none.
        """
        self._topic = RegistryTopic(bus)
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._pending: dict[str, None] = {}
        """Devices whose latest change may not be everywhere."""
        self._begun = False

    def step(self, shards: Mapping[int, Shard], owned: Container[int] = range(SHARDS)) -> int:
        """Look at the topic, at the file, and at first at the shards; append what is missing. Returns how many copies.

        Args:
            shards: the operators' state, which is only read.
            owned: the shards that this process looks after: one that is not in `shards` knows nothing yet.

        Raises:
            BusUnavailable: call again; what is missing is still known.
        """
        self._pending |= dict.fromkeys(self._topic.read())
        self._read_file()
        if not self._begun:
            for number, shard in shards.items():
                if number in owned:
                    for change in shard.registered.values():
                        self._topic.learn(change)
                        self._pending[change.device] = None
            self._begun = True
        self._topic.write(list(self._pending))
        reached("cloud.registry")
        missing = [device for device in self._pending if self._lacks(device, shards, owned)]
        self._topic.copy(missing)
        self._pending.clear()
        return len(missing)

    def _read_file(self) -> None:
        if self._file is None:
            return
        try:
            stat = self._file.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            changes = registry.changes(self._file)
        except FileNotFoundError:
            return
        except (OSError, SettingsError) as error:
            log.error("the registry's file cannot be read; what was known stays", error=error)
            return
        for change in changes:
            if self._topic.learn(change):
                self._pending[change.device] = None

    def _lacks(self, device: str, shards: Mapping[int, Shard], owned: Container[int]) -> bool:
        number = shard_of(site_of(device))
        if number not in owned:
            return False
        known = shards[number].registered.get(device) if number in shards else None
        return known is None or rank(known) < rank(self._topic.latest[device])
