"""What a time series store holds, as the audit needs it: `headwater audit --store` judges InfluxDB as it does cloud.db.

    SHOW DATABASES ▶ a level a database ▶ SELECT ... GROUP BY * ▶ columns ▶ Windows of devices, rows of rollups

A point of count 0 is a window that was taken back. Dead letters are those of the agents' files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit_findings import Finding, Findings, iso
from headwater_appliance.audit_influxql import Chunk, Source, chunks, names, quoted, retention_us
from headwater_appliance.audit_rollups import compare_rows
from headwater_appliance.audit_stored import EVER, Stored, Windows, kept_from_of, with_agents
from headwater_cloud.influx_lines import database
from headwater_cloud.settings import CloudSettings
from headwater_shared.aggregates import Aggregates
from headwater_shared.errors import Refused
from headwater_shared.identity import is_rollup
from headwater_shared.parts import level_of
from headwater_shared.settings import secret

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_FIELDS = ("count", "digest_hi", "digest_lo", "mean", "min", "max", "first", "last", "flags")
_LEVEL = re.compile("_(?:[0-9]+[smhd](?:_[0-9]+[smhd])?|session_[0-9]+[smhd])(?:_arrival)?")
"""What a level's database is called, after the prefix: not so that of what was found, nor those of a longer prefix."""
_TAGS = ("site", "device", "metric")
BACKSLASH = "\uff3c"


@dataclass(slots=True)
class InStore:
    """What was read."""

    windows: Stored
    """Of devices' series, and the agents' dead letters."""
    rollups: list[Windows] = field(default_factory=list)
    """By level, of the rollups that it has; `series` indexes `windows.names`."""
    wrong: list[Finding] = field(default_factory=list)
    """What no store may hold, whatever was sent."""
    twice: int = 0
    """Readings of windows that are there more than once."""
    missing: list[str] = field(default_factory=list)
    """Levels that must be there, of which the database is not."""
    prefix: str = ""


def read(
    source: Source, levels: Iterable[str], history: Path, agents: Iterable[Path], now_us: int
) -> InStore:
    """Read the windows of all levels that the store has.

    Args:
        source: the store.
        levels: names of those that must be there.
        history: the cloud side's file; of it only from when on levels are kept.
        agents: the agents' files, which have the dead letters.
        now_us: the real time, by which stores delete what is old.

    Raises:
        TryAgain: the store does not answer; StateError: it will not, or one of the files is not there.
    """
    found = InStore(Stored([], []), prefix=source.prefix)
    there, wanted = set(names(source)), list(levels)
    found.missing = [level for level in wanted if database(source.prefix, level) not in there]
    kept = kept_from_of(history)
    series = _Names(found.windows.names)
    for name in sorted(there):
        if name.startswith(source.prefix) and _LEVEL.fullmatch(name.removeprefix(source.prefix)):
            of = [level for level in wanted if database(source.prefix, level) == name]
            _read_database(source, name, of, kept, now_us, series, found)
    with_agents(found.windows, agents)
    return found


def source_of(cloud: CloudSettings, url: str | None = None) -> Source:
    """Return the store that the sink writes into, or one at another address as the same user.

    Raises:
        Refused: no address is known. SettingsError: a secret is not to be had.
    """
    influx = cloud.influx
    if not (url or influx.url):
        raise Refused(
            "no store is known", hint="set url in [cloud.influx], or give --store-url http://127.0.0.1:8086"
        )
    token, password = (secret(text) if text else "" for text in (influx.token, influx.password))
    source = Source(url or influx.url, token, influx.user, password, influx.prefix)
    return source._replace(kept=cloud.kept().of) if influx.api == "2" else source


def judge(found: InStore, findings: Findings) -> None:
    """Add to an audit of `found.windows` what else is wrong with the store."""
    findings.twice += found.twice
    findings.altered += sum(one.kind == "altered" for one in found.wrong)
    if findings.lost:
        for level in found.missing:
            text = f"the store has no database {database(found.prefix, level)}, or does not show it to us"
            findings.findings.insert(0, Finding("lost", text, level=level))
    for one in found.wrong:
        findings.add(one)
    if findings.good:  # of windows that are wrong rollups say nothing
        for rollups in found.rollups:
            _rollups(found.windows, rollups, findings)


def _rollups(stored: Stored, rollups: Windows, findings: Findings) -> None:
    of = [windows for windows in stored.levels if windows.level == rollups.level]
    pieces = [piece.take(piece.start >= piece.kept_from) for piece in (*of, rollups)]
    compare_rows(
        rollups.level.name,
        np.concatenate([piece.series for piece in pieces]),
        np.concatenate([piece.start for piece in pieces]),
        np.concatenate([piece.rows.count for piece in pieces]),
        np.concatenate([piece.rows.digest for piece in pieces]).view(np.int64),
        stored.names,
        findings,
    )


class _Names:
    """The numbers of series, in the order in which they come."""

    def __init__(self, names: list[str]) -> None:
        self._names, self._numbers = names, {name: at for at, name in enumerate(names)}

    def __getitem__(self, name: str) -> int:
        at = self._numbers.setdefault(name, len(self._numbers))
        if at == len(self._names):
            self._names.append(name)
        return at


def _read_database(
    source: Source,
    name: str,
    wanted: Iterable[str],
    kept: dict[str, int],
    now_us: int,
    series: _Names,
    found: InStore,
) -> None:
    """Read the levels of a database, those that are wanted of it though it is empty: it may keep nothing any more."""
    length = retention_us(source, name)
    columns = ", ".join(map(quoted, _FIELDS))
    query = f'SELECT {columns} FROM {quoted(name)}.."windows" WHERE "count" > 0 GROUP BY *'
    levels: dict[str, list[tuple[int, Floats]]] = {level: [] for level in wanted}
    for chunk in chunks(source, query, name):
        level = chunk.tags.get("level", "")
        if database(source.prefix, level) != name:
            found.wrong.append(_stray(name, chunk))
            continue
        of = _name(chunk.tags)
        levels.setdefault(level, []).append((series[of], chunk.rows))
    for level, pieces in sorted(levels.items()):
        length_us = length or source.kept(level)
        oldest = now_us - length_us if length_us else EVER
        windows = _windows(level, pieces, max(oldest, kept.get(level, EVER)))
        windows = _once(windows, found)
        rollup = np.array([is_rollup(one) for one in found.windows.names], np.bool_)[windows.series]
        found.windows.levels.append(windows.take(~rollup))
        if rollup.any():
            found.rollups.append(windows.take(rollup))


def _windows(level: str, pieces: Sequence[tuple[int, Floats]], kept_from: int) -> Windows:
    """Make columns of points; a field that is not there is 0, or NaN."""
    rows = np.concatenate([np.zeros((0, len(_FIELDS) + 1)), *(rows for _, rows in pieces)])
    whole = np.nan_to_num(rows, nan=0.0)
    by_name: dict[str, Any] = {name: rows[:, at] for at, name in enumerate(("time", *_FIELDS))}
    ints = {name: whole[:, at].astype(np.int64) for at, name in enumerate(("time", *_FIELDS))}
    out = Aggregates.empty(len(rows))
    out.count[:] = ints["count"]
    out.digest[:] = (ints["digest_hi"] << 32 | ints["digest_lo"]).view(np.uint64)
    for name in ("mean", "min", "max", "first", "last"):
        getattr(out, name)[:] = by_name[name]
    # Which of two readings was first no store knows; of windows that do not overlap, their starts say it.
    out.first_time[:] = out.last_time[:] = ints["time"]
    series = np.repeat([of for of, _ in pieces], [len(rows) for _, rows in pieces]).astype(np.int64)
    return Windows(level_of(level), series, ints["time"], out, kept_from, flags=ints["flags"])


def _once(windows: Windows, found: InStore) -> Windows:
    """Return each window once; those that more tags made of one are named."""
    windows = windows.take(np.lexsort((windows.start, windows.series)))
    again = np.zeros(len(windows), np.bool_)
    again[1:] = (np.diff(windows.series) == 0) & (np.diff(windows.start) == 0)
    for at in np.flatnonzero(again).tolist():
        count = int(windows.rows.count[at])
        found.twice += count
        text = f"the store has this window once more, with other tags: {count} counted too often"
        name = found.windows.names[int(windows.series[at])]
        found.wrong.append(Finding("twice", text, name, windows.level.name, iso(int(windows.start[at]))))
    return windows.take(~again)


def _name(tags: dict[str, str]) -> str:
    """Return a series; tags cannot end with a backslash, so another character stands for it."""
    return "/".join(tags.get(tag, "") for tag in _TAGS).replace(BACKSLASH, "\\")


def _stray(name: str, chunk: Chunk) -> Finding:
    level = chunk.tags.get("level", "")
    text = f"{len(chunk.rows)} windows of this level lie in the database {name}"
    return Finding(
        "altered", text, _name(chunk.tags), level, iso(int(chunk.rows[0, 0])) if len(chunk.rows) else ""
    )
