"""The device registry: what people know of devices, in one file of the data folder, written whole or not at all.

A file of its own and no table in the agent's or the cloud's: each of those has one writer, which runs (R32), and both sides
read this one. The cloud side puts what changes in it into the compacted topic `hw-registry`, where several boxes meet: so the file keeps
when each device was changed, also of those that are removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headwater_shared import kept_file
from headwater_shared.errors import SettingsError
from headwater_shared.identity import valid_name
from headwater_shared.records import RegistryChange

FILE = "registry.json"
_VERSION = 3
_LONGEST = 256
_METRICS = 256
"""Of one device: its entry stays below what an engine keeps as one value (R24)."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of one device; empty where nothing is."""

    model: str = ""
    place: str = ""
    owner: str = ""
    cohort: str = ""
    """Its peers, where they are not those of its model."""
    metrics: dict[str, str] = {}
    """Unit by metric."""
    runbook: str = ""
    """Where it says what to do when it fails: a link or a sentence."""


FIELDS = ("model", "place", "owner", "cohort", "runbook")


def cohort_of(entry: Entry) -> str:
    """Return whose peer a device is: its cohort, else its model; "": nobody's."""
    return entry.cohort or entry.model


def change_of(device: str, entry: Entry | None, time_us: int) -> RegistryChange:
    """Return the change that makes an entry what is known of a device; None: that nothing is."""
    if entry is None:
        return RegistryChange(device, time_us, removed=True)
    return RegistryChange(
        device,
        time_us,
        False,
        entry.model,
        entry.place,
        entry.owner,
        entry.cohort,
        entry.metrics,
        entry.runbook,
    )


def entry_of(change: RegistryChange) -> Entry | None:
    """Return what is known of a device after a change; None: nothing."""
    if change.removed:
        return None
    return Entry(change.model, change.place, change.owner, change.cohort, change.metrics, change.runbook)


def rank(change: RegistryChange) -> tuple[int, bool, str, str, str, str, str, str]:
    """Order the changes of a device: the latest counts; of one time whichever says more, so that all who read them agree."""
    metrics = metrics_text(change.metrics)
    return (
        change.time_us, change.removed, change.model, change.place, change.owner, change.cohort, metrics, change.runbook
    )  # fmt: skip


def metrics_text(metrics: Mapping[str, str]) -> str:
    """Write units by metric as JSON, the same for the same."""
    return msgspec.json.encode(dict(sorted(metrics.items()))).decode()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    devices: dict[str, Entry]
    changed_us: dict[str, int] = {}
    """When each was changed or, if it is no device any more, removed; version 1 had no times."""


def read(path: Path) -> dict[str, Entry]:
    """Read the file, by `site/device`; none is no devices.

    Raises:
        SettingsError: it cannot be read, or something in it is wrong.
    """
    return _read(path).devices


def changes(path: Path) -> list[RegistryChange]:
    """Read the latest change of each device, also of those that are removed; time 0 where none is known.

    Raises:
        SettingsError: as `read`.
    """
    found = _read(path)
    names = {**found.devices, **found.changed_us}
    return [change_of(name, found.devices.get(name), found.changed_us.get(name, 0)) for name in sorted(names)]


def wrong(device: str, entry: Entry) -> str:
    """Return what is wrong with an entry, "" if nothing is."""
    names = device.split("/")
    if len(names) != 2 or not all(map(valid_name, names)):
        return f"{device!r} is no device: write SITE/DEVICE, each 1 to 128 characters without / + #"
    if len(entry.metrics) > _METRICS:
        return f"{device}: {len(entry.metrics)} metrics are more than {_METRICS}"
    for metric, unit in entry.metrics.items():
        if not valid_name(metric):
            return f"{device}: {metric!r} is no name of a metric"
        if len(unit) > 32:
            return f"{device}: the unit of {metric} is longer than 32 characters"
    for field in FIELDS:
        if len(getattr(entry, field)) > _LONGEST:
            return f"{device}: {field} is longer than {_LONGEST} characters"
    return ""


@contextmanager
def changed(path: Path, now_us: int) -> Iterator[dict[str, Entry]]:
    """Give the devices to change; what they are at the end of the block is written. One at a time, others wait.

    Args:
        path: the file.
        now_us: the time of the change, by Headwater's clock; a clock that went back counts on from the time before.

    Raises:
        SettingsError: as `read`; nothing is written then, nor if the block raises.
    """
    with kept_file.locked(path) as folder:
        before = _read(path)
        devices = dict(before.devices)
        yield devices
        refuse_wrong(devices)
        times = dict(before.changed_us)
        for device in differing(before.devices, devices):
            times[device] = max(now_us, times.get(device, 0) + 1)
        kept_file.write(
            path, folder, _File(_VERSION, dict(sorted(devices.items())), dict(sorted(times.items()))), 0o644
        )


def refuse_wrong(devices: Mapping[str, Entry]) -> None:
    """Check what is to be written.

    Raises:
        SettingsError: naming the first entry that is wrong.
    """
    for device, entry in devices.items():
        why = wrong(device, entry)
        if why:
            raise SettingsError(why, hint="nothing was changed")


def differing(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[str]:
    """Return the devices of which something else is known after than before, sorted."""
    return sorted(name for name in {**before, **after} if before.get(name) != after.get(name))


def _read(path: Path) -> _File:
    found = kept_file.read(path, _File, _VERSION, writes="headwater registry")
    if found is None:
        return _File(_VERSION, {})
    for device, entry in found.devices.items():
        why = wrong(device, entry)
        if why:
            raise SettingsError(f"{path}: {why}", hint="`headwater registry` writes it")
    return found
