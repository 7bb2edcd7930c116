"""Windows as a person writes them, and the levels that they become: checked, named, for all series or for some."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.parts import Level, length_name, level_of, tumbling
from headwater_shared.settings import Duration, Section, duration

MOST_AT_ONCE = 1000
"""Hopping windows that a reading may be in: each is a pane of its own in memory."""


TimeBase = Literal["event", "arrival"]


class SomeWindows(Section, frozen=True, forbid_unknown_fields=True):
    """Windows of the series that match, beside those that all series have."""

    series: Annotated[
        str, Meta(description="Series they are for: site/device/metric, * and ? match any text.")
    ]
    kind: Annotated[
        Literal["tumbling", "hopping", "session"],
        Meta(
            description="tumbling: one after the other. hopping: one begins every hop, so that they overlap. session: from "
            "a reading on, until none came for the gap."
        ),
    ]
    length: Annotated[
        Duration | None,
        Meta(description="Of tumbling and hopping windows: a multiple of the base, and of the hop."),
    ] = None
    hop: Annotated[Duration | None, Meta(description="Of hopping windows: a multiple of the base.")] = None
    gap: Annotated[
        Duration | None, Meta(description="Of sessions: the silence that ends one; at least the base.")
    ] = None


class SomeLevel(msgspec.Struct, frozen=True):
    """A level that only the series that match one of the patterns have; journaled with the settings."""

    name: str
    series: tuple[str, ...]


def levels_of(lengths: Sequence[str], time: TimeBase) -> tuple[str, ...]:
    """Return the names of the levels that all series have, the base first.

    Raises:
        SettingsError: there is none, or they do not fit each other.
    """
    levels = [tumbling(name) for name in lengths]
    if not levels:
        raise SettingsError(
            "edge.windows.levels is empty", hint='name at least the base window, such as ["10s"]'
        )
    for finer, level in pairwise(levels):
        if level.length_us <= finer.length_us or level.length_us % levels[0].length_us:
            raise SettingsError(
                f"edge.windows.levels: {level.name} is no multiple of {levels[0].name} above {finer.name}",
                hint="write the base first, then longer ones, each a multiple of the base",
            )
    return tuple(level.name + ("@arrival" if time == "arrival" else "") for level in levels)


def some_levels(tables: Sequence[SomeWindows], levels: Sequence[str]) -> tuple[SomeLevel, ...]:
    """Return the levels of `[[edge.window]]`, each once, in the order of first mention.

    Args:
        levels: names of those that all series have, the base first.

    Raises:
        SettingsError: a table that lacks a length or has one too many, or does not fit the base; a level that all have.
    """
    everybody = [level_of(name) for name in levels]
    found: dict[str, tuple[str, ...]] = {}
    for table in tables:
        level = _level(table, everybody[0])
        if any(level[1:] == other[1:] for other in everybody):
            raise SettingsError(
                f"edge.window for {table.series!r}: all series have {level.name} windows",
                hint="take the table out, or the length out of edge.windows.levels",
            )
        found[level.name] = (*found.get(level.name, ()), table.series)
    return tuple(SomeLevel(name, series) for name, series in found.items())


_TAKES = {"tumbling": ("length",), "hopping": ("length", "hop"), "session": ("gap",)}


def _level(table: SomeWindows, base: Level) -> Level:
    """Return the level of one table: over the time that the base is over."""
    for name in ("length", "hop", "gap"):
        wanted = name in _TAKES[table.kind]
        if (getattr(table, name) is None) == wanted:
            raise SettingsError(
                f"edge.window for {table.series!r}: a {table.kind} window {'needs a' if wanted else 'has no'} {name}",
                hint='tumbling: length = "1m"; hopping: length = "10m" and hop = "1m"; session: gap = "5m"',
            )
    of = [duration(getattr(table, name)) for name in _TAKES[table.kind]]
    if table.kind == "session":
        fits, must = of[0] >= base.length_us, f"a gap of at least the base window, {base.name}"
    elif table.kind == "hopping":
        length, hop = of
        fits = hop > 0 and not (hop % base.length_us or length % hop) and 1 < length // hop <= MOST_AT_ONCE
        must = f"a hop that is a multiple of the base window, {base.name}, and a length of 2 to {MOST_AT_ONCE} hops"
    else:
        fits, must = (
            of[0] % base.length_us == 0,
            f"a length that is a multiple of the base window, {base.name}",
        )
    if not fits:
        raise SettingsError(f"edge.window for {table.series!r}: a {table.kind} window needs {must}")
    name = "/".join(map(length_name, of))
    return level_of(
        f"{'session-' if table.kind == 'session' else ''}{name}{'@arrival' if base.arrival else ''}"
    )
