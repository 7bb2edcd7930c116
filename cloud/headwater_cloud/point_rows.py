"""Rows of the cloud's file become points of databases: which level is where, whose tags they bear, and how many sets of tags there may be."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from headwater_cloud import followed_rows
from headwater_cloud.followed_rows import FoundLine, Wanted
from headwater_cloud.halves import made_of
from headwater_cloud.influx_file import Dead, Unmade, key_text
from headwater_cloud.influx_lines import database, window_head, window_lines
from headwater_cloud.influx_write import Points
from headwater_cloud.merge import Windows
from headwater_cloud.poison import text_of
from headwater_cloud.retention import Keep

FOUND = "found"
"""In the place of a level: anomalies, alerts, devices; for ever, for the last word on a device may be old."""

_TAGS = re.compile(rb"(?:\\.|[^ \\])+")


class PointRows:
    """Makes points; `fresh` are the sets of tags that were not known before, until `settled`.

    Args:
        known: the sets of tags that were written before.
        prefix, batch, most: see the settings.
        keep: how long a level is kept in the cloud's file, and by default in the store.
    """

    def __init__(self, known: set[str], prefix: str, batch: int, most: int, keep: Keep) -> None:
        self.fresh: list[str] = []
        self.left_out = 0
        """Points that were not written, for they have sets of tags beyond the most."""
        self.refused: set[str] = set()
        """Those sets of tags, some of them."""
        self.example = ""
        """The first of them."""
        self._known, self._prefix, self._batch, self._most, self._keep = known, prefix, batch, most, keep
        self._left_out = 0
        self._levels: dict[int, str] = {}
        self._series: dict[int, str] = {}
        self._heads: dict[tuple[int, int], bytes] = {}

    @property
    def tag_sets(self) -> int:
        """How many sets of tags there are."""
        return len(self._known)

    def settled(self) -> None:
        """All of `of` is written, and what was fresh is noted in the file."""
        self.fresh.clear()
        self.left_out += self._left_out

    def forget_names(self) -> None:
        """The file is another one: its numbers mean other names."""
        self._levels, self._series, self._heads = {}, {}, {}

    def of(self, db: sqlite3.Connection, wanted: Wanted, unmade: list[Unmade]) -> Iterator[Points]:
        """Read all that is wanted, and return its points, each of a request's size at most: they are made when the file is let go.

        Args:
            unmade: gets each row of which no point can be made.
        """
        self._left_out = 0
        lost: list[tuple[Any, Exception]] = []
        windows = followed_rows.windows_of(db, wanted.windows, lambda key, error: lost.append((key, error)))
        self._read_names(
            db,
            windows.level.tolist() + [key[0] for key, _ in lost],
            windows.series.tolist() + [key[2] for key, _ in lost],
        )
        unmade += [self._unmade(level, start, series, error) for (level, start, series), error in lost]

        def broken(key: tuple[Any, ...], error: Exception) -> None:
            unmade.append(Unmade(key_text(*key), database(self._prefix, FOUND), text_of(error)))

        return self._points(windows, list(followed_rows.found_of(db, wanted.found, broken)), unmade)

    def _unmade(self, level: int, start: int, series: int, error: Exception) -> Unmade:
        return Unmade(
            self._key(level, start, series), database(self._prefix, self._level_name(level)), text_of(error)
        )

    def _key(self, level: int, start: int, series: int) -> str:
        return key_text("window", self._level_name(level), self._series.get(series, f"#{series}"), start)

    def _level_name(self, level: int) -> str:
        return self._levels.get(level, f"#{level}")

    def _points(
        self, windows: Windows, lines_found: Sequence[FoundLine], unmade: list[Unmade]
    ) -> Iterator[Points]:
        for number in np.unique(windows.level).tolist():
            yield from self._level(number, windows.take(windows.level == number), unmade)
        some = [
            (found.line, key_text(found.kind, *found.key))
            for found in lines_found
            if self._may(self._tags_of(found.line))
        ]
        for at in range(0, len(some), self._batch):
            lines, keys = zip(*some[at : at + self._batch], strict=True)
            name = database(self._prefix, FOUND)
            yield Points(name, None, True, b"".join(lines), len(lines), keys.__getitem__)

    def again(self, dead: Dead) -> Points:
        """Return the point of a dead letter as it was, for its row is gone."""
        kind, level, *_ = msgspec.json.decode(dead.key)
        of_found = kind != "window"
        # The store may be another one by now, with another prefix.
        name = database(self._prefix, FOUND if of_found else level)
        return Points(name, None, of_found, dead.line, 1, lambda _: dead.key)

    def _level(self, number: int, windows: Windows, unmade: list[Unmade]) -> Iterator[Points]:
        level = self._level_name(number)

        def broken(at: int, error: Exception) -> None:
            unmade.append(self._unmade(number, int(windows.start[at]), int(windows.series[at]), error))

        heads = [b""] * len(windows)
        for at, series in enumerate(windows.series.tolist()):
            try:
                heads[at] = self._head(number, series)
            except (LookupError, ValueError) as error:  # its name is not there, or cannot be written
                broken(at, error)
        if not all(heads):
            windows = windows.take(np.array([bool(head) for head in heads]))
            heads = [head for head in heads if head]

        def points(some: Sequence[int]) -> Points:
            of = windows.take(np.array(some))
            lines = window_lines([heads[at] for at in some], of)
            return Points(
                database(self._prefix, level), self._keep.of(level), False, lines, len(of),
                lambda n: self._key(number, int(of.start[n]), int(of.series[n])),
            )  # fmt: skip

        for at in range(0, len(windows), self._batch):
            yield from made_of(range(at, min(at + self._batch, len(windows))), points, broken)

    def _head(self, level: int, series: int) -> bytes:
        """Return what lines of a series and level begin with; empty if there are too many such already."""
        head = self._heads.get((level, series))
        if head is None:
            head = window_head(self._series[series], self._levels[level])
            if not self._may(self._tags_of(head)):
                return b""
            self._heads[level, series] = head
        return head

    def _may(self, tags: str) -> bool:
        if tags in self._known:
            return True
        if len(self._known) >= self._most:
            self._left_out += 1
            self.example = self.example or tags
            if len(self.refused) < self._most:
                self.refused.add(tags)
            return False
        self._known.add(tags)
        self.fresh.append(tags)
        return True

    @staticmethod
    def _tags_of(line: bytes) -> str:
        match = _TAGS.match(line)
        return match[0].decode() if match else ""

    def _read_names(self, db: sqlite3.Connection, levels: Iterable[int], series: Iterable[int]) -> None:
        """Read names that are new: a number never means another one in one file."""
        for table, known, numbers in (("level", self._levels, levels), ("series", self._series, series)):
            if not known.keys() >= set(numbers):
                known.update(
                    db.execute(f"SELECT id, name FROM {table} WHERE id > ?", (max(known, default=-1),))
                )
