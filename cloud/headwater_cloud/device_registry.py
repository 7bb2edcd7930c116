"""The device registry of a shard: of each device the latest change, whatever order and however often they come."""

from __future__ import annotations

from collections.abc import Sequence

from headwater_shared.records import RegistryChange
from headwater_shared.registry import Entry, entry_of, rank

Changes = dict[str, RegistryChange]
"""The latest by `site/device`. Removed ones stay: else an older copy would bring the device back. That is a hundred bytes a device
that ever was, and no time is known after which no copy can come: the topic `hw-registry` keeps the latest for ever."""


def step(changes: Changes, entries: dict[str, Entry], arrived: Sequence[RegistryChange]) -> list[str]:
    """Take changes up into both, in place. Returns the devices of which something else is known now."""
    changed: dict[str, None] = {}
    for change in arrived:
        known = changes.get(change.device)
        if known is None or rank(change) > rank(known):
            put(changes, entries, change)
            changed[change.device] = None
    return list(changed)


def put(changes: Changes, entries: dict[str, Entry], change: RegistryChange) -> None:
    """Make a change what is known of its device."""
    changes[change.device] = change
    entry = entry_of(change)
    if entry is None:
        entries.pop(change.device, None)
    else:
        entries[change.device] = entry
