"""The commands `headwater registry ...`: what is known of devices; a running agent reads it within a second."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater_appliance import registry_csv
from headwater_shared import registry
from headwater_shared.errors import Refused
from headwater_shared.registry import FIELDS, Entry
from headwater_shared.settings import Common, load

app = typer.Typer(
    no_args_is_help=True, help="What is known of devices: model, place, owner, cohort, metrics with units."
)

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]
Data = Annotated[Path | None, typer.Option(help="Data folder; that of the settings without it.")]
AsJson = Annotated[bool, typer.Option("--json", help="As one JSON object.")]
_SHOWN = 20
"""Mistakes and changes that are shown one by one."""


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="CSV, its first line the names of the columns; - for standard input.")
    ],
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="WHAT=COLUMN, where it is guessed wrong: device=Name, place=Room."),
    ] = None,
    site: Annotated[str, typer.Option(help="Site of devices of which the file says none.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Forget all that the file does not say; without, it is added to what is known."
        ),
    ] = False,
    settings: SettingsFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Take devices from a CSV file; the columns are guessed and shown. With a mistake in it nothing is changed."""
    found = registry_csv.read(_text(file), _chosen(map_ or []), site)
    path = _path(settings, data)
    if found.mistakes or dry_run:
        before = registry.read(path)
        after = _after(before, found.devices, replace=replace)
    else:
        with registry.changed(path) as devices:
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


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="SITE/DEVICE; * and ? match any text, quote them.")] = "*",
    settings: SettingsFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show devices."""
    found = {
        name: one for name, one in registry.read(_path(settings, data)).items() if fnmatchcase(name, pattern)
    }
    if as_json:
        print(json.dumps({"devices": list(registry_csv.as_json(found))}))
    elif found:
        for line in _table(found):
            print(line)
    else:
        print(
            "no device; `headwater registry import FILE.csv` or `headwater registry set SITE/DEVICE` adds some"
        )


@app.command("set")
def set_(
    device: Annotated[str, typer.Argument(help="SITE/DEVICE.")],
    model: Annotated[str | None, typer.Option(help="Its model.")] = None,
    place: Annotated[str | None, typer.Option(help="Where it is.")] = None,
    owner: Annotated[str | None, typer.Option(help="Whom to ask.")] = None,
    cohort: Annotated[
        str | None, typer.Option(help="Its peers, where they are not those of its model.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="METRIC=UNIT, such as temp=°C; METRIC= takes the unit away.")
    ] = None,
    settings: SettingsFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Add a device, or change what is said of it; what is not named stays, and an empty text takes it away."""
    said = {"model": model, "place": place, "owner": owner, "cohort": cohort}
    with registry.changed(_path(settings, data)) as devices:
        entry = devices.get(device, Entry())
        fields: dict[str, Any] = {
            name: getattr(entry, name) if said[name] is None else said[name] for name in FIELDS
        }
        metrics = entry.metrics | {name: unit for one in metric or [] for name, unit in _metric(one).items()}
        devices[device] = Entry(**fields, metrics={name: unit for name, unit in metrics.items() if unit})
        made = devices[device]
    if as_json:
        print(json.dumps(next(iter(registry_csv.as_json({device: made})))))
    else:
        for line in _table({device: made}):
            print(line)


@app.command()
def remove(
    devices: Annotated[list[str], typer.Argument(help="SITE/DEVICE, one or several.")],
    settings: SettingsFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Forget devices. With edge.devices.only = ["registry"] they may not speak any more."""
    with registry.changed(_path(settings, data)) as known:
        missing = [device for device in devices if device not in known]
        if missing:
            raise Refused(
                f"there is no {missing[0]}", hint="`headwater registry list` shows all; nothing was changed"
            )
        for device in devices:
            del known[device]
    print(json.dumps({"removed": devices}) if as_json else f"removed {', '.join(devices)}")


@app.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="Where to; standard output without it.")] = None,
    settings: SettingsFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write all devices as CSV, which `import` reads."""
    devices = registry.read(_path(settings, data))
    text = (
        json.dumps({"devices": list(registry_csv.as_json(devices))}) + "\n"
        if as_json
        else registry_csv.written(devices)
    )
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")
        print(f"wrote {len(devices)} devices to {file}")


def _path(settings: Path | None, data: Path | None) -> Path:
    common = load(settings, "common", Common) if settings else Common()
    return (data or Path(common.data)) / registry.FILE


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


def _table(devices: Mapping[str, Entry]) -> list[str]:
    rows: list[tuple[Any, ...]] = [("device", *FIELDS, "metrics")]
    for name, entry in sorted(devices.items()):
        metrics = ", ".join(
            f"{metric} [{unit}]" if unit else metric for metric, unit in sorted(entry.metrics.items())
        )
        rows.append((name, *(getattr(entry, field) or "-" for field in FIELDS), metrics or "-"))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
