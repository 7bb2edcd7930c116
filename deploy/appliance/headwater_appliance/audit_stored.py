"""What the stores hold, as the audit needs it: windows of each level as columns, and the agents' dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit_sent import index_of
from headwater_shared.aggregates import Aggregates
from headwater_shared.parts import Level, tumbling

Ints = NDArray[np.int64]

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

    def __len__(self) -> int:
        return len(self.start)

    def take(self, at: NDArray[np.bool_] | Ints) -> Windows:
        """Return the windows at a mask or indices."""
        return Windows(self.level, self.series[at], self.start[at], self.rows.take(at), self.kept_from)


class DeadLetter(NamedTuple):
    """A dead letter of an agent."""

    reason: str
    detail: str
    topic: str
    body: bytes

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

    def renamed(self, names: Sequence[str]) -> list[Windows]:
        """Return the levels, the shortest first, sorted by (series, start), with series as indices into sorted `names`."""
        index = index_of(self.names, names)
        out = []
        for windows in sorted(self.levels, key=lambda windows: windows.level.length_us):
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
    from headwater_cloud.columns import aggregates_of
    from headwater_cloud.store import APPLICATION, VERSION
    from headwater_shared.aggregates import COLUMNS
    from headwater_shared.sqlite_file import open_reader

    connection = open_reader(history, application=APPLICATION, version=VERSION)
    try:
        connection.execute("BEGIN")  # one look: names, levels and windows of the same moment
        names = [name for (name,) in connection.execute("SELECT name FROM series ORDER BY id")]
        numbers = [number for (number,) in connection.execute("SELECT id FROM series ORDER BY id")]
        of_number = {number: at for at, number in enumerate(numbers)}
        levels = []
        for number, name, kept_from in connection.execute("SELECT id, name, kept_from FROM level").fetchall():
            wanted = ("start", "series", *COLUMNS)
            rows = connection.execute(
                f"SELECT {', '.join(wanted)} FROM window WHERE level = ?", (number,)
            ).fetchall()
            columns = dict(zip(wanted, zip(*rows, strict=True) if rows else [()] * len(wanted), strict=True))
            levels.append(
                Windows(
                    tumbling(name),
                    np.array([of_number[series] for series in columns["series"]], np.int64),
                    np.array(columns["start"], np.int64),
                    aggregates_of(columns),
                    EVER if kept_from is None else kept_from,
                )
            )
    finally:
        connection.close()
    return Stored(names, levels, [letter for agent in agents for letter in dead_letters(agent)])


def dead_letters(agent: Path) -> list[DeadLetter]:
    """Read the dead letters of an agent's file.

    Raises:
        StateError: it is not there, or is something else.
    """
    from headwater_edge.store import APPLICATION, VERSION
    from headwater_shared.sqlite_file import open_reader

    connection = open_reader(agent, application=APPLICATION, version=VERSION)
    try:
        rows = connection.execute("SELECT reason, detail, topic, bytes FROM dead_letter ORDER BY tick, n")
        return [
            DeadLetter(reason, detail or "", bytes(topic).decode(errors="replace"), bytes(body))
            for reason, detail, topic, body in rows
        ]
    finally:
        connection.close()
