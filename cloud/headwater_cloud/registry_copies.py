"""Topic, shards and the box's own file hold one registry: what one of them has that is later, the others get.

A change goes into `hw-registry` first and from there into the shards; a crash between the two, a new file of the cloud side, a
log that was begun anew, an older record that came last: each is healed by looking again, for a change is idempotent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from headwater_cloud.registry_topic import RegistryTopic
from headwater_cloud.shard import Shard
from headwater_shared import logs, registry
from headwater_shared.bus import Bus
from headwater_shared.crash import reached
from headwater_shared.errors import BusUnavailable, SettingsError
from headwater_shared.identity import SHARDS
from headwater_shared.registry import rank
from headwater_shared.spread import Spread

log = logs.get_logger()

_LOOK_S = 1.0
_AGAIN_S = 60.0
"""After a trouble, such as a topic that was not made yet: nothing else is to wait for it."""


class RegistryCopies:
    """What one process of the cloud side does for the registry, once a second; all state can be read again."""

    def __init__(self, bus: Bus, file: Path | None = None, spread: Iterable[Spread] = ()) -> None:
        """Begin with all that there is.

        Args:
            bus: holds the topic.
            file: `registry.json` of the box; None: there is none.
            spread: sites that are on more shards than their own (R25): each of them gets their devices.
        """
        self._topic = RegistryTopic(bus, spread)
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._unwritten: dict[str, None] = {}
        """Devices whose latest change may not be the topic's last record."""
        self._uncopied: dict[int, dict[str, None]] = {}
        """Devices whose latest change may not be in their shard, by shard."""
        self._asked: set[int] = set()
        """Shards that were asked once what they know."""
        self._look_at = 0.0

    def look(self, shards: Mapping[int, Shard], held: Collection[int], now_s: float) -> None:
        """Do a step if one is due, by monotonic time; a bus that does not answer is asked again a minute later."""
        if now_s < self._look_at:
            return
        try:
            self.step(shards, held)
            self._look_at = now_s + _LOOK_S
        except BusUnavailable as error:
            self._look_at = now_s + _AGAIN_S
            log.warning(
                "the registry waits", error=error, hint="on Kafka: headwater-cloud topics --apply makes its topic"
            )  # fmt: skip

    def step(self, shards: Mapping[int, Shard], held: Collection[int] = range(SHARDS)) -> int:
        """Look at the topic, at the file, and once at each shard; append what is missing. Returns how many copies.

        Args:
            shards: the operators' state, which is only read.
            held: the shards that this process works on now; one of them that is not in `shards` knows nothing yet.

        Raises:
            BusUnavailable: call again; what is missing is still known.
        """
        for device in self._topic.read():
            self._note(device)
        self._read_file()
        for number in held:
            if number not in self._asked:
                self._ask(number, shards)
        self._topic.write(list(self._unwritten))
        self._unwritten.clear()
        reached("cloud.registry")
        copies = 0
        for number in held:
            missing = [one for one in self._uncopied.get(number, ()) if self._lacks(one, shards.get(number))]
            self._topic.copy(missing, number)
            self._uncopied.pop(number, None)
            copies += len(missing)
        return copies

    def _note(self, device: str) -> None:
        """Something was said of a device: whether all have it is looked at in this step."""
        self._unwritten[device] = None
        for shard in self._topic.map.shards(device):
            self._uncopied.setdefault(shard, {})[device] = None

    def _ask(self, number: int, shards: Mapping[int, Shard]) -> None:
        if number in shards:
            for change in list(shards[number].registered.values()):  # another thread may work on it
                if self._topic.learn(change):
                    self._note(change.device)
        self._asked.add(number)

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
                self._note(change.device)

    def _lacks(self, device: str, shard: Shard | None) -> bool:
        known = shard.registered.get(device) if shard is not None else None
        return known is None or rank(known) < rank(self._topic.latest[device])
