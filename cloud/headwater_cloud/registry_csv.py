"""The device registry as CSV: whose columns are guessed, and whose mistakes are named by line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from headwater_shared.errors import Refused
from headwater_shared.registry import FIELDS, Entry, wrong

_NAMES = {
    "device": ("device", "device id", "deviceid", "id", "name", "sensor", "gerät", "geraet", "appareil"),
    "site": ("site", "plant", "factory", "building", "standort", "werk", "location"),
    "model": ("model", "type", "product", "hardware", "typ", "modell", "modèle"),
    "place": ("place", "room", "area", "position", "hall", "ort", "raum", "lieu"),
    "owner": ("owner", "contact", "responsible", "person", "besitzer", "verantwortlich"),
    "cohort": ("cohort", "group", "peers", "gruppe"),
    "runbook": ("runbook", "instructions", "what to do", "anleitung", "handbuch"),
    "metrics": ("metrics", "units", "metric", "unit", "einheiten"),
}
"""How a column may be called, whatever its case, for what it is taken."""
_UNIT = re.compile(
    r"(?:unit|metric)[ :_.](?P<metric>.+)|(?P<named>.+?) ?[\[(](?P<unit>[^\])]*)[\])]", re.IGNORECASE
)
COLUMNS = ("device", *FIELDS, "metrics")
"""What `export` writes."""


class Read(NamedTuple):
    """What a CSV file says."""

    columns: dict[str, str]
    """For what each column is taken; "" for none."""
    devices: dict[str, Entry]
    """Only what the file says: empty cells say nothing."""
    mistakes: list[str]
    """Each with its line."""


def read(text: str, chosen: Mapping[str, str], site: str) -> Read:
    """Read a file.

    Args:
        text: comma, semicolon or tab between the columns, the first line their names.
        chosen: columns by what they are for, where a person says so: device, site, model, place, owner, cohort, runbook, metrics.
        site: of devices of which no column and no name says it.

    Raises:
        Refused: there is no line, or no column is taken for the device.
    """
    rows = csv.reader(io.StringIO(text.lstrip("\ufeff")), _dialect(text))
    header = [name.strip() for name in next(rows, [])]
    if not header:
        raise Refused("the file is empty", hint="its first line names the columns: device,model,place")
    columns = _columns(header, chosen)
    if "device" not in columns.values():
        raise Refused(
            f"no column is taken for the device; there are {', '.join(header)}",
            hint=f"say which it is: --map device={header[0]!r}",
        )
    found: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    mistakes: list[str] = []
    for cells in rows:
        line = rows.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(header):
            mistakes.append(f"line {line}: {len(cells)} cells, and {len(header)} columns")
            continue
        said = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        device, entry, why = _entry(said, columns, site)
        why = why or wrong(device, entry)
        if not why and device in lines:
            why = f"{device} stands on line {lines[device]} already"
        if why:
            mistakes.append(f"line {line}: {why}")
        else:
            found[device], lines[device] = entry, line
    return Read(columns, found, mistakes)


def written(devices: Mapping[str, Entry]) -> str:
    """Write devices as a file that `read` reads."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    for device, entry in sorted(devices.items()):
        metrics = ";".join(f"{metric}={unit}" for metric, unit in sorted(entry.metrics.items()))
        rows.writerow([device, *(getattr(entry, field) for field in FIELDS), metrics])
    return out.getvalue()


def joined(before: Entry | None, said: Entry) -> Entry:
    """Add what is said to what is known: a cell that is empty changes nothing."""
    if before is None:
        return said
    fields = {field: getattr(said, field) or getattr(before, field) for field in FIELDS}
    return Entry(**fields, metrics=before.metrics | said.metrics)


def metrics_of(text: str) -> dict[str, str]:
    """Read `temp=°C; vibration=mm/s`; a metric without a unit may stand alone.

    Raises:
        ValueError: it is none.
    """
    found = {}
    for item in filter(None, (item.strip() for item in re.split(r"[;,|]", text))):
        metric, _, unit = item.partition("=")
        if not metric.strip():
            raise ValueError(f"{item!r} names no metric: write temp=°C; flow=l/s")
        found[metric.strip()] = unit.strip()
    return found


def _columns(header: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    unknown = [name for what, name in chosen.items() if what not in _NAMES or name not in header]
    if unknown:
        raise Refused(
            f"--map {unknown[0]!r}: no such column, or nothing that there is a column for",
            hint=f"write WHAT=COLUMN, of {', '.join(_NAMES)} and {', '.join(header)}",
        )
    taken = {name: what for what, name in chosen.items()}
    for name in header:
        for what, names in _NAMES.items():
            if name not in taken and what not in taken.values() and name.lower() in names:
                taken[name] = what
    for name in header:
        match = _UNIT.fullmatch(name)
        if name not in taken and match is not None:
            taken[name] = f"unit of {match['metric'] or match['named']}"
    return {name: taken.get(name, "") for name in header}


def _entry(said: Mapping[str, str], columns: Mapping[str, str], site: str) -> tuple[str, Entry, str]:
    """Return a line's device and entry, and what is wrong with it."""
    of = {what: said.get(name, "") for name, what in columns.items() if what}
    device = of.get("device", "")
    if "/" not in device:
        place = of.get("site", "") or site
        if not place:
            return device, Entry(), f"nothing says the site of {device!r}: a column, SITE/DEVICE, or --site"
        device = f"{place}/{device}"
    try:
        metrics = metrics_of(of.get("metrics", ""))
    except ValueError as error:
        return device, Entry(), str(error)
    for name, what in columns.items():
        if what.startswith("unit of ") and said.get(name):
            match = _UNIT.fullmatch(name)
            metric = what.removeprefix("unit of ")
            metrics[metric] = match["unit"] if match is not None and match["unit"] else said[name]
    entry = Entry(**{field: of.get(field, "") for field in FIELDS}, metrics=metrics)
    return device, entry, ""


def _dialect(text: str) -> type[csv.Dialect]:
    first = text.split("\n", 1)[0]

    class Found(csv.excel):
        delimiter = max(",;\t", key=first.count)

    return Found


def as_json(devices: Mapping[str, Entry]) -> list[dict[str, Any]]:
    """Devices as objects, by name."""
    return [{"device": device, **msgspec.to_builtins(entry)} for device, entry in sorted(devices.items())]
