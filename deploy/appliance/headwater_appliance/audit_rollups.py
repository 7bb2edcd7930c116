"""Rollups against the windows that they are made of: each must hold their count and their digest, of a site and of all sites (R25).

Rollups follow their windows by seconds: those that the cloud side still has to make, or to take in, are looked at again, and left
out if it says so. Of a cohort it is known only that all sites are the sum of the sites: which devices were in it when is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit_findings import Finding, Findings, iso
from headwater_appliance.audit_windows import paired
from headwater_shared.identity import ALL, is_rollup

Ints = NDArray[np.int64]

_LOOKS = 30
_WAIT_S = 0.5
_CHUNK = 50_000


class _Rows(NamedTuple):
    """Windows of one level; n rows."""

    series: Ints
    start: Ints
    kind: Ints
    number: Ints
    """Of readings."""
    digest: Ints

    def take(self, at: Any) -> _Rows:
        return _Rows(*(column[at] for column in self))


_WINDOW, _OLD, _ROLLUP, _FINAL = range(4)
"""Kinds of rows: windows, those that were written before there were rollups, rollups, and rollups of which parts are gone (R28): these stay
as they are, whatever becomes of their windows."""

_QUERY = f"""
    SELECT series, start, CASE WHEN shard IS NULL THEN {_OLD} WHEN shard >= 0 THEN {_WINDOW} WHEN parts = 1 OR ?2 OR EXISTS
        (SELECT 1 FROM part p WHERE p.level = w.level AND p.start = w.start AND p.series = w.series) THEN {_ROLLUP} ELSE {_FINAL} END,
        count, digest
    FROM window w WHERE level = ?1
    """
"""?2: the file is one that workers share, which have the parts."""


def compare(
    file: Path, findings: Findings, sleep: Callable[[float], None] = time.sleep, looks: int = _LOOKS
) -> None:
    """Compare the rollups of the cloud side's file with its windows; what differs is added to `findings`.

    Raises:
        StateError: there is no such file.
    """
    for look in range(looks):
        found = Findings()
        _compare(file, found)
        if not found.findings:
            break
        if look < looks - 1:
            sleep(_WAIT_S)
    findings.rollups = found.rollups
    findings.altered += found.altered
    for finding in found.findings:
        findings.add(finding)


def _compare(file: Path, findings: Findings) -> None:
    from headwater_cloud import dirty
    from headwater_cloud.store import APPLICATION, VERSION
    from headwater_shared.sqlite_file import open_reader

    connection = open_reader(file, application=APPLICATION, version=VERSION)
    try:
        connection.execute("BEGIN")
        names = [name for (name,) in connection.execute("SELECT name FROM series ORDER BY id")]
        pieces = connection.execute("SELECT name, body FROM state").fetchall()
        waiting = {key for name, body in pieces if name == "dirty" for key in dirty.decoded(body)}
        for number, name in connection.execute("SELECT id, name FROM level").fetchall():
            cursor = connection.execute(_QUERY, (number, not pieces))
            rows = [np.zeros((0, 5), np.int64)]
            while some := cursor.fetchmany(_CHUNK):
                rows.append(np.array(some, np.int64))
            columns = _Rows(*np.concatenate(rows).T)
            starts = np.array(sorted(start for of, start in waiting if of == name), np.int64)
            _level(name, columns.take(~np.isin(columns.start, starts)), names, findings)
    finally:
        connection.close()


def compare_rows(
    level: str, series: Ints, start: Ints, count: Ints, digest: Ints, names: Sequence[str], findings: Findings
) -> None:
    """Compare the rollups among windows with the others; shape (n,) each, `series` indexes `names`; what differs is added."""
    rolled = np.array([is_rollup(name) for name in names], np.bool_)[series]
    kind = np.where(rolled, _ROLLUP, _WINDOW)
    _level(level, _Rows(series, start, kind, count, digest), names, findings)


def _level(level: str, rows: _Rows, names: Sequence[str], findings: Findings) -> None:
    rolled = rows.kind >= _ROLLUP
    if not rolled.any():
        return  # sessions have none; nor has a version of before; or no clock has come yet
    groups = _Groups(names)
    found, windows = rows.take(rolled), rows.take(~rolled)
    of_sites = groups.is_cohort[found.series]
    cohorts, found = found.take(of_sites), found.take(~of_sites)
    must = _summed([
        windows._replace(series=groups.of_site[windows.series]),
        windows._replace(series=groups.of_all[windows.series]),
        cohorts._replace(series=groups.of_all[cohorts.series]),
    ])  # fmt: skip
    has = found._replace(series=groups.of_rollup[found.series])
    findings.rollups[level] = len(has.series)
    must_at, has_at = paired(must.series, must.start, has.series, has.start)
    missing, surplus = has_at < 0, must_at < 0
    wrong = missing | surplus
    both = np.flatnonzero(~wrong)
    one, other = must.take(must_at[both]), has.take(has_at[both])
    wrong[both] = (one.number != other.number) | (one.digest != other.digest)
    wrong[missing] &= must.kind[must_at[missing]] != _OLD
    wrong[~missing] &= has.kind[has_at[~missing]] != _FINAL
    for at in np.flatnonzero(wrong).tolist():
        one, other = (
            rows.take(index[[at]][index[[at]] >= 0]) for rows, index in ((must, must_at), (has, has_at))
        )
        _add(findings, level, groups.names, one, other)


class _Groups:
    """Numbers of rollups' series, by the number of a series: whose windows are in it, or which it is itself; -1 for none."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names: list[str] = []
        numbers: dict[str, int] = {}

        def number(name: str) -> int:
            at = numbers.setdefault(name, len(numbers))
            if at == len(self.names):
                self.names.append(name)
            return at

        of_site, of_all, of_rollup, is_cohort = [], [], [], []
        for name in names:
            device, _, metric = name.rpartition("/")
            site, _, what = device.partition("/")
            rollup = is_rollup(name)
            of_rollup.append(number(name) if rollup else -1)
            of_site.append(-1 if rollup else number(f"{site}/{ALL}/{metric}"))
            of_all.append(number(f"{ALL}/{what if rollup else ALL}/{metric}"))
            is_cohort.append(rollup and ALL not in (what, site))
        self.of_site, self.of_all = np.array(of_site, np.int64), np.array(of_all, np.int64)
        self.of_rollup, self.is_cohort = np.array(of_rollup, np.int64), np.array(is_cohort, np.bool_)


def _summed(pieces: list[_Rows]) -> _Rows:
    """Add up the rows of each series and start; of kind `_OLD` where any is."""
    rows = _Rows(*map(np.concatenate, zip(*pieces, strict=True)))
    rows = rows.take(np.lexsort((rows.start, rows.series)))
    first = np.ones(len(rows.series), np.bool_)
    first[1:] = (np.diff(rows.series) != 0) | (np.diff(rows.start) != 0)
    at = np.flatnonzero(first)
    if not len(at):
        return rows
    kind = np.where(np.logical_or.reduceat(rows.kind == _OLD, at), _OLD, _WINDOW)
    digest = np.add.reduceat(rows.digest.view(np.uint64), at).view(np.int64)
    return _Rows(rows.series[at], rows.start[at], kind, np.add.reduceat(rows.number, at), digest)


def _add(findings: Findings, level: str, names: Sequence[str], must: _Rows, has: _Rows) -> None:
    """Add a rollup that is wrong; `must` and `has` are one row or none."""
    findings.altered += 1
    either = must if len(must.series) else has
    shown = {
        name: {"expected": _shown(must, name), "found": _shown(has, name)} for name in ("count", "digest")
    }
    text = "this rollup is not what its windows add up to"
    where = (names[int(either.series[0])], level, iso(int(either.start[0])))
    findings.add(Finding("altered", text, *where, differences=shown))


def _shown(row: _Rows, name: str) -> int | str | None:
    if not len(row.series):
        return None
    return int(row.number[0]) if name == "count" else f"{int(row.digest[0]) % 2**64:016x}"
