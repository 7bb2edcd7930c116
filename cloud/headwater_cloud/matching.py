"""Which evidence can be which step of which rule: looked up once for all evidence that is alike, whatever the number of rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.book import Book, Pattern, Step
from headwater_cloud.evidence import Evidence
from headwater_cloud.patterns import SEVERITIES
from headwater_cloud.spans import steps_of
from headwater_shared.identity import is_rollup
from headwater_shared.series_patterns import Patterns

_MOST = 200_000
"""Looked-up answers that are kept."""
_HOUR_US = 3_600_000_000


@lru_cache(8_192)
def glob(pattern: str) -> Callable[[str], object]:
    """Return what tells whether a text matches, * and ? being any text."""
    return re.compile(translate(pattern)).match


def window_name(step: Step) -> str:
    """Return the name of the evidence that windows are which a step asks for."""
    if step.above is not None:
        return f"{step.level} above {step.above!r}"
    return f"{step.level} below {step.below!r}"


def can_be(step: Step, one: Evidence) -> bool:
    """Tell whether an evidence is of the kind that a step asks for; how long it lasted is another question."""
    return _is_named(step, one) and bool(glob(step.series)(one.subject))


def _is_named(step: Step, one: Evidence) -> bool:
    """Tell all that does not ask for the series."""
    if step.kind != one.kind:
        return False
    if step.kind == "window":
        return one.name == window_name(step)
    return bool(
        glob(step.name)(one.name)
        and (step.status == "*" or glob(step.status)(one.status))
        and (step.severity == "info" or _rank(one.severity) >= _rank(step.severity))
    )


def _rank(severity: str) -> int:
    return next((at for at, known in enumerate(SEVERITIES) if known == severity), 1)


class Use(NamedTuple):
    """That an evidence can be steps of a pattern."""

    per: Literal["device", "site", "cohort"]
    pattern: int
    """Its number in the book."""
    steps: tuple[int, ...]


class _Alike(NamedTuple):
    """Steps of all patterns that ask for evidence of one kind, name, status and severity, by the series that they ask for."""

    series: Patterns
    steps: list[tuple[int, int]]
    """Pattern and step."""


class Index:
    """A book of rules, as evidence asks it."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.patterns = book.patterns
        self.numbers = {pattern.name: number for number, pattern in enumerate(book.patterns)}
        self.windows = _windows(book)
        self.keep_us = _HOUR_US + max((_reach_us(one) for one in book.patterns), default=book.alerts.calm_us)
        """How much older than the newest of its key evidence may be."""
        self._alike: dict[tuple[str, str, str, str], _Alike] = {}
        self._uses: dict[tuple[str, str, str, str, str], tuple[Use, ...]] = {}
        self._own: dict[str, bool] = {}
        self._asks: dict[str, list[bool]] = {}
        self._series: list[str] = []

    def pattern(self, name: str) -> Pattern | None:
        """Return the pattern of a name."""
        number = self.numbers.get(name)
        return None if number is None else self.patterns[number]

    def uses(self, one: Evidence) -> tuple[Use, ...]:
        """Return which patterns an evidence can be a step of."""
        key = one.kind, one.name, one.status, one.severity, one.subject
        found = self._uses.get(key)
        if found is None:
            if len(self._uses) >= _MOST:
                self._uses.clear()
            found = self._uses[key] = self._looked_up(one)
        return found

    def is_own(self, one: Evidence) -> bool:
        """Tell whether an evidence is an alert by itself."""
        if one.kind not in {"anomaly", "peer"}:
            return one.kind == "agent"
        known = self._own.get(one.name)
        if known is None:
            known = self._own[one.name] = any(glob(own)(one.name) for own in self.book.alerts.own)
        return known

    def asks(self, window: str, series: list[str]) -> NDArray[np.bool_]:
        """Return of which series a step asks for windows.

        Args:
            window: name of the evidence.
            series: all names, a list that only grows.
        """
        if series is not self._series:
            self._series = series
            self._asks.clear()
        known = self._asks.setdefault(window, [])
        globs = [glob(step.series) for step in self.windows[window]]
        known += [not is_rollup(one) and any(of(one) for of in globs) for one in series[len(known) :]]
        return np.array(known, np.bool_)

    def _looked_up(self, one: Evidence) -> tuple[Use, ...]:
        named = one.kind, one.name, one.status, one.severity
        alike = self._alike.get(named)
        if alike is None:
            steps = [
                (number, at)
                for number, pattern in enumerate(self.patterns)
                for at, step in enumerate(steps_of(pattern))
                if _is_named(step, one)
            ]
            series = Patterns([steps_of(self.patterns[number])[at].series for number, at in steps])
            if len(self._alike) >= _MOST:
                self._alike.clear()
            alike = self._alike[named] = _Alike(series, steps)
        of: dict[int, list[int]] = {}
        for place in alike.series.of(one.subject):
            number, at = alike.steps[place]
            of.setdefault(number, []).append(at)
        return tuple(Use(self.patterns[number].per, number, tuple(steps)) for number, steps in of.items())


def _reach_us(pattern: Pattern) -> int:
    """Return how far back from its newest evidence a match of a pattern may reach."""
    longest = max(step.for_us for step in steps_of(pattern))
    return 2 * pattern.within_us + pattern.for_us + pattern.calm_us + longest


def _windows(book: Book) -> dict[str, list[Step]]:
    """Return the steps that ask for windows, by the name of the evidence."""
    out: dict[str, list[Step]] = {}
    for pattern in book.patterns:
        for step in steps_of(pattern):
            if step.kind == "window":
                out.setdefault(window_name(step), []).append(step)
    return out


_INDEXES: list[Index] = []


def index_of(book: Book) -> Index:
    """Return the index of a book; shards that go by the same one share it, and what was looked up in it."""
    for index in _INDEXES:
        if index.book is book:
            return index
    _INDEXES.insert(0, Index(book))
    del _INDEXES[4:]
    return _INDEXES[0]
