"""What the commands of the registry do, wherever it is kept: import, list, set, remove, export."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from headwater_cloud import registry_csv
from headwater_shared.errors import Refused
from headwater_shared.registry import FIELDS, Entry

_SHOWN = 20
"""Mistakes and changes that are shown one by one."""


class Kept(Protocol):
    """Where a registry is kept: a file of one box, or the bus."""

    commands: str
    """How its commands begin, for hints: "headwater registry"."""

    def read(self) -> dict[str, Entry]:
        """Return all devices."""

    def changed(self, named: Collection[str] | None = None) -> AbstractContextManager[dict[str, Entry]]:
        """Give the devices to change; what they are at the end of the block is kept, nothing if the block raises.

        Args:
            named: what the command is about; None: all. On the bus it reaches the cloud side once more, even if it is as it was.
        """


def import_(
    kept: Kept,
    file: Path,
    *,
    maps: Sequence[str],
    site: str,
    dry_run: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Take devices from a CSV file, or from standard input for `-`; say what is taken for what, and what changes.

    Raises:
        Refused: something in it is wrong; nothing was changed.
    """
    found = registry_csv.read(_text(file), _chosen(maps), site)
    if found.mistakes or dry_run:
        before = kept.read()
        after = _after(before, found.devices, replace=replace)
    else:
        with kept.changed() as devices:
            before = dict(devices)
            after = _after(before, found.devices, replace=replace)
            devices.clear()
            devices.update(after)
    changes = _changes(before, after)
    done = not (found.mistakes or dry_run)
    if as_json:
        print(json.dumps({"columns": found.columns, "mistakes": found.mistakes, "changed": done, **changes}))
    else:
        _say_import(found, changes, done=done)
    if found.mistakes:
        raise Refused(
            f"{len(found.mistakes)} lines of {file} are wrong; nothing was changed",
            hint="mend them, and import it again",
        )


def list_(kept: Kept, pattern: str, statuses: Mapping[str, str] | None, *, as_json: bool) -> None:
    """Show devices; with their status, "" for none, where statuses are kept."""
    found = {name: one for name, one in kept.read().items() if fnmatchcase(name, pattern)}
    if as_json:
        print(json.dumps({"devices": _objects(found, statuses)}))
    elif found:
        _say(found, statuses)
    else:
        print(f"no device; `{kept.commands} import FILE.csv` or `{kept.commands} set SITE/DEVICE` adds some")


def set_(
    kept: Kept, device: str, said: Mapping[str, str | None], metrics: Sequence[str], *, as_json: bool
) -> None:
    """Add a device or change what is said of it: None leaves a field as it is, an empty text takes it away."""
    units = {name: unit for one in metrics for name, unit in _metric(one).items()}
    with kept.changed([device]) as devices:
        entry = devices.get(device, Entry())
        fields: dict[str, Any] = {
            name: getattr(entry, name) if said[name] is None else said[name] for name in FIELDS
        }
        wanted = {name: unit for name, unit in (entry.metrics | units).items() if unit}
        made = devices[device] = Entry(**fields, metrics=wanted)
    if as_json:
        print(json.dumps(_objects({device: made}, None)[0]))
    else:
        _say({device: made}, None)


def remove(kept: Kept, devices: Sequence[str], *, as_json: bool) -> None:
    """Forget devices.

    Raises:
        Refused: one is not there; nothing was changed.
    """
    with kept.changed(devices) as known:
        missing = [device for device in devices if device not in known]
        if missing:
            raise Refused(
                f"there is no {missing[0]}", hint=f"`{kept.commands} list` shows all; nothing was changed"
            )
        for device in devices:
            known.pop(device, None)
    print(json.dumps({"removed": list(devices)}) if as_json else f"removed {', '.join(devices)}")


def export(kept: Kept, file: Path | None, *, as_json: bool) -> None:
    """Write all devices as CSV, which `import_` reads, to a file or standard output."""
    devices = kept.read()
    text = (
        json.dumps({"devices": _objects(devices, None)}) + "\n" if as_json else registry_csv.written(devices)
    )
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")
        print(f"wrote {len(devices)} devices to {file}")


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}", hint="check its path") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{file} is not UTF-8 text (byte {error.start})", hint="save it as CSV UTF-8") from None


def _chosen(maps: Sequence[str]) -> dict[str, str]:
    for one in maps:
        if "=" not in one:
            raise Refused(f"--map {one!r} names no column", hint="write --map device=Name")
    return {what: column for what, _, column in (one.partition("=") for one in maps)}


def _metric(text: str) -> dict[str, str]:
    metric, _, unit = text.partition("=")
    if not metric:
        raise Refused(f"--metric {text!r} names none", hint="write --metric temp=°C")
    return {metric: unit}


def _after(before: Mapping[str, Entry], said: Mapping[str, Entry], *, replace: bool) -> dict[str, Entry]:
    if replace:
        return dict(said)
    return {
        **before,
        **{device: registry_csv.joined(before.get(device), entry) for device, entry in said.items()},
    }


def _changes(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> dict[str, list[str]]:
    return {
        "added": sorted(set(after) - set(before)),
        "altered": sorted(name for name in set(after) & set(before) if after[name] != before[name]),
        "removed": sorted(set(before) - set(after)),
    }


def _say_import(found: registry_csv.Read, changes: Mapping[str, list[str]], *, done: bool) -> None:
    for column, what in found.columns.items():
        print(f"column {column!r}: {what or 'not used'}")
    for mistake in found.mistakes[:_SHOWN]:
        print(mistake)
    if len(found.mistakes) > _SHOWN:
        print(f"... and {len(found.mistakes) - _SHOWN} mistakes more")
    would = "" if done else "would be "
    for what, names in changes.items():
        if names:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            print(f"{len(names)} {would}{what}: {shown}")
    if not any(changes.values()):
        print("nothing changes")


def _objects(devices: Mapping[str, Entry], statuses: Mapping[str, str] | None) -> list[dict[str, Any]]:
    found = registry_csv.as_json(devices)
    if statuses is None:
        return found
    return [{**one, "status": statuses.get(one["device"]) or None} for one in found]


def _say(devices: Mapping[str, Entry], statuses: Mapping[str, str] | None) -> None:
    columns = ("device", *(() if statuses is None else ("status",)), *FIELDS, "metrics")
    rows: list[tuple[str, ...]] = [columns]
    for name, entry in sorted(devices.items()):
        metrics = ", ".join(
            f"{metric} [{unit}]" if unit else metric for metric, unit in sorted(entry.metrics.items())
        )
        status = () if statuses is None else (statuses.get(name) or "-",)
        rows.append((name, *status, *(getattr(entry, field) or "-" for field in FIELDS), metrics or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
