"""What the stores hold, as the audit needs it: windows of each level as columns, and the agents' dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit_sent import index_of
from headwater_shared.aggregates import Aggregates
from headwater_shared.parts import Level, level_of
from headwater_shared.sqlite_file import open_reader

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

EVER = -(2**63)


@dataclass(slots=True)
class Windows:
    """The windows of one level, n rows."""

    level: Level
    series: Ints
    """Index into the names of the history; of the audit after `renamed`."""
    start: Ints
    """Microseconds."""
    rows: Aggregates
    kept_from: int = EVER
    """Windows that start before may have been deleted."""
    fits: Flags | None = None
    """Which of the audit's names have the level, if not all."""
    flags: Ints | None = None
    """Those of the windows' parts, where they are known."""

    def __len__(self) -> int:
        return len(self.start)

    def of(self, series: Ints) -> Flags:
        """Tell of which of some series the level is; shape of `series`."""
        return np.ones(len(series), np.bool_) if self.fits is None else self.fits[series]

    def between(self, first: int, end: int) -> slice:
        """Return where the windows of the series first, ..., end - 1 are; they are sorted by series."""
        return slice(*np.searchsorted(self.series, [first, end]).tolist())

    def take(self, at: Flags | Ints | slice) -> Windows:
        """Return the windows at a mask, indices or a slice."""
        flags = None if self.flags is None else self.flags[at]
        return replace(
            self, series=self.series[at], start=self.start[at], rows=self.rows.take(at), flags=flags
        )


class DeadLetter(NamedTuple):
    """A dead letter of an agent."""

    reason: str
    detail: str
    topic: str
    body: bytes
    readings: list[tuple[str, int, float]] | None = None
    """Those that were not taken (series, time as sent, value), where it says so."""

    @property
    def key(self) -> tuple[str, int]:
        """What a ledger knows of an unreadable message: topic and crc32."""
        return self.topic, crc32(self.body)


@dataclass(slots=True)
class Stored:
    """All that the audit looks at besides the ledger."""

    names: list[str]
    """Series."""
    levels: list[Windows]
    dead: list[DeadLetter] = field(default_factory=list)
    waiting: int = 0
    """Rows of the agents' outboxes: the cloud side does not have them, or they do not know it yet."""

    def renamed(self, names: Sequence[str]) -> list[Windows]:
        """Return the levels, each sorted by (series, start), with series as indices into sorted `names`."""
        index = index_of(self.names, names)
        out = []
        for windows in self.levels:
            series = index[windows.series]
            order = np.lexsort((windows.start, series))
            moved = windows.take(order)
            moved.series = series[order]
            out.append(moved)
        return out


def read(history: Path, agents: Iterable[Path]) -> Stored:
    """Read the cloud side's file and the agents' files, which may be in use.

    Raises:
        StateError: one of them is not there, or is something else.
    """
    from headwater_cloud.history import History

    stored = Stored([], [])
    reader = History(history)
    try:
        kept_from = kept_from_of(history)
        for name in reader.levels():
            found = reader.level(name)
            stored.names = found.names  # a series is never given up, and gets its number once
            stored.levels.append(
                Windows(
                    level_of(name),
                    found.series,
                    found.start,
                    found.aggregates,
                    kept_from.get(name, EVER),
                    flags=found.flags,
                )
            )
    finally:
        reader.close()
    with_agents(stored, agents)
    return stored


def with_agents(stored: Stored, agents: Iterable[Path]) -> None:
    """Add the agents' dead letters, and what waits in their outboxes; errors as `read`."""
    for agent in agents:
        letters, waiting = _agent(agent)
        stored.dead += letters
        stored.waiting += waiting


def kept_from_of(history: Path) -> dict[str, int]:
    """Return, of the levels of which windows were deleted, when those that are kept begin; errors as `read`."""
    from headwater_cloud.store import APPLICATION, VERSION

    connection = open_reader(history, application=APPLICATION, version=VERSION)
    try:
        return dict(
            connection.execute("SELECT name, kept_from FROM level WHERE kept_from IS NOT NULL").fetchall()
        )
    finally:
        connection.close()


def _agent(agent: Path) -> tuple[list[DeadLetter], int]:
    """Read the dead letters of an agent's file, and how many rows of it the cloud side does not have yet."""
    from headwater_edge.dead_letters import latest
    from headwater_edge.store import read_store

    connection = read_store(agent)
    try:
        found = latest(connection, -1)
        (waiting,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
    finally:
        connection.close()
    letters = [
        DeadLetter(a.reason, a.detail, a.topic.decode(errors="replace"), a.body, a.readings)
        for a in reversed(found)
    ]
    return letters, int(waiting)
