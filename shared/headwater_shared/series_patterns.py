"""Which rules are for a series: patterns found by their plain parts, so that many rules do not each look at every series."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

Matches = Callable[[str], object]
_WILD = re.compile(r"[*?\[]")


class Patterns:
    """Patterns site/device/metric, in which * and ? match any text; each numbered by its place in the sequence given.

    A part without wildcards must be a part of the series' name as it is: a pattern is looked at only for series that have it.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._plain: dict[str, list[int]] = {}
        self._by_part: dict[str, list[tuple[Matches, list[int]]]] = {}
        self._loose: list[tuple[Matches, list[int]]] = []
        """Patterns of which no part is plain."""
        numbers: dict[str, list[int]] = {}
        for number, pattern in enumerate(patterns):
            numbers.setdefault(pattern, []).append(number)
        for pattern, those in numbers.items():
            if not _WILD.search(pattern):
                self._plain[pattern] = those
                continue
            entry = re.compile(translate(pattern)).match, those
            whole = "[" not in pattern  # between brackets a / may be a character like others
            parts = [part for part in pattern.split("/") if whole and not _WILD.search(part)]
            if parts:
                self._by_part.setdefault(max(parts, key=len), []).append(entry)
            else:
                self._loose.append(entry)

    def of(self, name: str) -> list[int]:
        """Return the numbers of the patterns that a series' name matches, ascending."""
        found = list(self._plain.get(name, ()))
        candidates = self._loose
        if self._by_part:
            candidates = [*candidates]
            for part in set(name.split("/")):
                candidates += self._by_part.get(part, ())
        for matches, those in candidates:
            if matches(name):
                found += those
        return sorted(found)
