"""What records of `hw-in` led to, whatever runner took them in: free of numbers, of the order of shards and of the cut into batches.

Read from the consumer's file and from the topics of the bus. Two outcomes are equal as R31 says: all exact, mean and M2
to 1e-9. What depends on when a runner looked (times by the shard's clock, gaps that closed) is left out.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from hashlib import blake2b
from math import isclose, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headwater_cloud.intervals import holds
from headwater_shared import frame, peers, records, topics
from headwater_shared.alert_records import Alert
from headwater_shared.bus import Stored
from headwater_shared.peers import Finding
from headwater_shared.records import Have
from headwater_shared.topics import Topic

Read = Callable[[Topic], Sequence[Stored]]
"""Gives all that lies on a topic, each partition in its order."""


class Window(NamedTuple):
    """A window, or a part of one, by names; `parts` is 0 for a part."""

    series: str
    level: str
    start: int
    agent: str
    epoch: str
    tick: int
    revision: int
    flags: int
    parts: int
    readings: int
    digest: int
    mean: float
    m2: float
    min: float
    max: float
    first: float
    first_time: int
    last: float
    last_time: int
    sketch: str
    """A hash of it."""


class Dead(NamedTuple):
    """What was not taken: why, and what it was; without where it lay, which another bus numbers otherwise."""

    reason: str
    was: str
    identity: str
    body: bytes


class Late(NamedTuple):
    """A part that came when its window was no longer revised (R28)."""

    series: str
    level: str
    start: int
    agent: str
    epoch: str
    tick: int
    revision: int
    readings: int
    digest: int


Row = tuple[str | int | float | None, ...]


class Outcome(msgspec.Struct, kw_only=True):
    """Each list sorted. Of alerts without those of silent agents: since when one is silent depends on when a runner looked."""

    windows: list[Window]
    parts: list[Window] | None = None
    """Of windows of several parts, and of those that were taken away; None: of a runner that does not keep them as rows."""
    rollups: list[Window] | None = None
    """Of sites, cohorts and the fleet, without whose rows they were made of, and when; None as for `gaps`."""
    anomalies: list[Row]
    commands: list[Row]
    devices: list[Row]
    device_changes: list[Row]
    alerts: list[Row]
    changes: dict[str, list[Row]]
    """What `hw-alert-events` holds last, by alert."""
    latest: dict[str, Row]
    """What `hw-alerts` holds in the end."""
    complete: list[Row]
    """Shard, agent, up to when its windows are complete, and whether a heartbeat waits."""
    reports: list[Row]
    """But gaps."""
    dead: list[Dead]
    late: list[Late]
    haves: dict[str, list[int]]
    """By key."""
    gaps: list[Row] | None = None
    """Reported, and still missing at the end, by the first seq; None: it was not waited until the clock was far enough."""
    findings: list[Row] | None = None
    """Who is an outlier among its peers in the end; None as for `gaps`."""
    silent: list[Row] | None = None
    """Agents that are not heard any more; None as for `gaps`."""


_SUMS = "count, digest, mean, m2, min, max, first, first_time, last, last_time, sketch"
_OF = "s.name, l.name, x.start, o.agent, o.epoch, x.tick, x.revision, x.flags"
_NAMES = "JOIN series s ON s.id = x.series JOIN level l ON l.id = x.level JOIN opener o ON o.id = x.opener"
_OWN = "instr(s.name, '+') = 0"
"""Not a rollup: no device may be called so."""
_REPORTED = ("state-went-back", "identity-twice")
"""Rules of alerts that reports become: their times are those at which a runner looked."""
_GAP = re.compile(r"seqs (\d+) to \d+ are missing")


def read(
    file: Path, topic: Read, *, patient: bool, keeps_parts: bool = True, second_stages: bool = True
) -> Outcome:
    """Read what a run came to.

    Args:
        file: the consumer's, which nobody writes any more.
        topic: gives what is on the bus.
        patient: whether clocks went on until gaps and silence must have been reported.
        keeps_parts: whether the file holds parts, and not the state.
        second_stages: whether the runner works on them, too.
    """
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        ask = connection.execute
        haves = _haves(topic(topics.HAVE))
        reports = ask("SELECT kind, shard, agent, epoch, text FROM report").fetchall()
        sums = ", ".join(f"x.{name}" for name in _SUMS.split(", "))
        windows = ask(f"SELECT {_OF}, x.parts, {sums} FROM window x {_NAMES} WHERE {_OWN}")
        rollups = ask(
            f"SELECT s.name, l.name, x.start, '', '', 0, 0, 0, x.parts, {sums} FROM window x {_NAMES} WHERE NOT {_OWN}"
        )
        parts = ask(
            f"SELECT {_OF}, 0, {sums} FROM part x {_NAMES}"
            " LEFT JOIN window w ON w.level = x.level AND w.start = x.start AND w.series = x.series"
            f" WHERE (w.parts IS NULL OR w.parts > 1) AND {_OWN}"
        )
        letters = topic(topics.DEAD_LETTERS)
        return Outcome(
            windows=sorted(map(_window, windows)),
            parts=sorted(map(_window, parts)) if keeps_parts else None,
            rollups=sorted(map(_window, rollups)) if patient and second_stages else None,
            anomalies=_sorted(ask("SELECT * FROM anomaly")),
            commands=_sorted(ask("SELECT * FROM command")),
            devices=_sorted(ask("SELECT * FROM device")),
            device_changes=_sorted(ask("SELECT * FROM device_change")),
            alerts=_alerts(connection),
            changes=_changes(topic(topics.ALERT_EVENTS)),
            latest={key: rows[-1] for key, rows in _changes(topic(topics.ALERTS)).items()},
            complete=_sorted(ask("SELECT shard, agent, epoch, complete_us, waiting > 0 FROM progress")),
            reports=_sorted({row[:4] for row in reports if row[0] not in {"gap", "late"}}),
            dead=sorted(_dead(one) for one in letters if one.headers["reason"] != "late"),
            late=sorted(
                part for one in letters if one.headers["reason"] == "late" for part in _late(one.body)
            ),
            haves=haves,
            gaps=_gaps(reports, haves) if patient else None,
            findings=_findings(topic(topics.IN)) if patient and second_stages else None,
            silent=_sorted(ask("SELECT shard, agent FROM progress WHERE silent")) if patient else None,
        )


def difference(found: Outcome, wanted: Outcome) -> str:
    """Say in what two outcomes differ, "" if they are equal (R31); what `wanted` does not know is not asked for."""
    for name in Outcome.__struct_fields__:
        mine, theirs = getattr(found, name), getattr(wanted, name)
        if theirs is None or (name in {"parts", "rollups", "findings"} and mine is None):
            continue
        if name in {"windows", "parts", "rollups"}:
            said = _windows_differ(mine, theirs)
        elif mine != theirs:
            said = _rows_differ(mine, theirs)
        else:
            continue
        if said:
            return f"{name}: {said}"
    return ""


def equal(found: Outcome, wanted: Outcome) -> bool:
    """Tell whether two runs came to the same (R31)."""
    return not difference(found, wanted)


def _windows_differ(found: list[Window], wanted: list[Window]) -> str:
    mine, theirs = ({row[:6]: row for row in rows} for rows in (found, wanted))
    if mine.keys() != theirs.keys():
        missing, more = sorted(theirs.keys() - mine.keys()), sorted(mine.keys() - theirs.keys())
        return f"{len(missing)} missing, {len(more)} too many: {(missing + more)[:4]}"
    for key, want in theirs.items():
        have = mine[key]
        for name in Window._fields:
            a, b = getattr(have, name), getattr(want, name)
            if a != b and not (name in {"mean", "m2"} and _close(a, b, want)):
                return f"{key}: {name} is {a!r}, must be {b!r}"
    return ""


def _close(a: float, b: float, of: Window) -> bool:
    """Where all values are alike, M2 is 0 up to the rounding of the values themselves."""
    size = max(abs(of.min), abs(of.max))
    least = 1e-15 * size * size * of.readings
    return isclose(a, b, rel_tol=1e-9, abs_tol=least if isfinite(least) else 0.0)


def _rows_differ(found: Any, wanted: Any) -> str:
    if isinstance(found, dict):
        found, wanted = sorted(found.items()), sorted(wanted.items())
    missing = [row for row in wanted if row not in found]
    more = [row for row in found if row not in wanted]
    return f"{len(found)} instead of {len(wanted)}; missing {missing[:3]}, too many {more[:3]}"


def _findings(found: Iterable[Stored]) -> list[Row]:
    """The latest of each, without when it was made."""
    latest: dict[str, Finding] = {}
    for one in found:
        if records.kind_of(one.headers) == peers.FINDING:
            finding = peers.decode_finding(one.body)
            if finding.id not in latest or finding.made_us >= latest[finding.id].made_us:
                latest[finding.id] = finding
    return _sorted(
        (one.id, one.rule, one.cohort, one.series, one.start_us, one.shard, one.agent, one.value, one.peers, one.severity, one.text)
        for one in latest.values()
        if one.outlier
    )  # fmt: skip


def _window(row: tuple[Any, ...]) -> Window:
    *rest, sketch = row
    return Window._make([*rest, blake2b(sketch, digest_size=8).hexdigest()])


def _sorted(rows: Iterable[Any]) -> list[Row]:
    return sorted((tuple(row) for row in rows), key=repr)


def _alerts(connection: sqlite3.Connection) -> list[Row]:
    rows = connection.execute(
        "SELECT id, rule, subject, state, severity, text, episode_us, time_us, value, incident, acked FROM alert"
        " WHERE rule <> 'agent-silent' AND state <> 'withdrawn'"
    )
    return _sorted(row[:5] if row[1] in _REPORTED else row for row in rows)


def _changes(found: Sequence[Stored]) -> dict[str, list[Row]]:
    """The last one of each alert: how many there are before depends on what came in one batch."""
    out: dict[str, list[Row]] = {}
    for one in found:
        a = records.decode(Alert, one.body)
        row: Row = (a.id, a.rule, a.subject, a.state, a.severity)
        if a.rule not in _REPORTED:
            row += (a.text, a.episode_us, a.time_us, a.value, a.anomaly)
        out[one.key] = [row]
        if a.rule == "agent-silent" or a.state == "withdrawn":
            del out[one.key]
    return out


def _haves(found: Sequence[Stored]) -> dict[str, list[int]]:
    return {one.key: records.decode(Have, one.body).intervals for one in found}


def _dead(one: Stored) -> Dead:
    return Dead(one.headers["reason"], one.headers["was"], one.headers.get("was-ce_id", ""), one.body)


def _late(body: bytes) -> list[Late]:
    found = frame.decode(body)
    parts = found.parts
    rows = zip(
        parts.series.tolist(), parts.level.tolist(), parts.start.tolist(), parts.epoch.tolist(), parts.tick.tolist(),
        parts.revision.tolist(), parts.aggregates.count.tolist(), parts.aggregates.digest.tolist(), strict=True,
    )  # fmt: skip
    return [
        Late(
            parts.names[series], parts.levels[level], start, found.agent, f"{parts.epochs[epoch]:016x}", *rest
        )
        for series, level, start, epoch, *rest in rows
    ]


def _gaps(reports: Iterable[Row], haves: dict[str, list[int]]) -> list[Row]:
    """Gaps that stayed: one that closed may have been seen, or not, as a runner looked."""
    found = set()
    for kind, shard, agent, epoch, text in reports:
        match = _GAP.fullmatch(str(text))
        if kind == "gap" and match and not holds(haves.get(f"{agent}/{epoch}/{shard}", []), int(match[1])):
            found.add((shard, agent, epoch, int(match[1])))
    return _sorted(found)
