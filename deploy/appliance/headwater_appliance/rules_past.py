"""`headwater rules`: which series are known, and what rules would have found in the agent's journal and the cloud side's windows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from headwater_cloud.history import History
from headwater_cloud.settings import CloudSettings, in_data
from headwater_edge import journal
from headwater_edge.known_series import known_series
from headwater_edge.on_desk import opened
from headwater_edge.places import FILE
from headwater_edge.rule_trial import Episode, Looked, over_journal, over_windows
from headwater_edge.settings import StepSettings
from headwater_shared.errors import Refused, StateError
from headwater_shared.parts import level_of
from headwater_shared.series_patterns import Patterns

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Box:
    """Where the stored past is: the agent's file and the cloud side's."""

    agent: Path
    cloud: Path


def box_of(data: str, cloud: CloudSettings) -> Box:
    """Return where the files of a data folder are."""
    return Box(Path(data) / FILE, in_data(data, cloud.file))


def series_known(box: Box) -> list[str]:
    """Return all series that the agent or the cloud side has ever heard of; none where neither has a file."""
    names: set[str] = set()
    if box.agent.is_file():
        try:
            with opened(box.agent) as connection:
                names |= set(known_series(connection))
        except (journal.Damaged, ValueError, sqlite3.DatabaseError):
            pass  # what the cloud side knows will do
    if box.cloud.is_file():
        history = History(box.cloud)
        names |= set(history.series())
        history.close()
    return sorted(names)


@dataclass(slots=True)
class Tried:
    """What would have fired, and what was looked at, in words."""

    looked: list[str]
    episodes: list[Episode]


def tried(box: Box, settings: StepSettings, from_us: int, to_us: int) -> Tried:
    """Run rules over the stored past: the journal as far back as it goes, windows before that.

    Raises:
        Refused: neither file is there, or neither holds anything of that time.
    """
    found = Tried([], [])
    before_us = to_us
    if box.agent.is_file():
        try:
            with opened(box.agent) as connection:
                episodes, looked = over_journal(connection, settings, known_series(connection), from_us)
        except (journal.Damaged, ValueError, sqlite3.DatabaseError) as error:
            raise StateError(
                f"{box.agent} cannot be read: {error}", hint="look at it with: headwater-edge file check"
            ) from None
        if looked.ticks:
            found.looked.append(_of_journal(box.agent, looked))
            found.episodes += episodes
            before_us = min(before_us, looked.first_us - level_of(settings.levels[0]).length_us)
    if from_us < before_us and box.cloud.is_file():
        _in_windows(box.cloud, settings, from_us, before_us, found)
    if not found.looked:
        raise Refused(
            f"nothing of that time is stored in {box.agent} or {box.cloud}",
            hint="name an earlier --from, or the data folder's settings with --settings",
        )
    found.episodes = sorted(
        (one for one in found.episodes if from_us <= one.found_us < to_us), key=lambda one: one.found_us
    )
    return found


def _in_windows(path: Path, settings: StepSettings, from_us: int, to_us: int, found: Tried) -> None:
    history = History(path)
    try:
        levels = [level for level in history.levels() if level in settings.levels]
        patterns = Patterns([rule.series for rule in all_rules(settings)])
        names = [name for name in history.series() if patterns.of(name)] if levels else []
        windows = [(name, history.windows(name, levels[0], from_us, to_us).aggregates) for name in names]
    finally:
        history.close()
    count = sum(len(of) for _, of in windows)
    if not count:
        return
    found.looked.append(
        f"{count:,} window{'s' * (count > 1)} of {levels[0]} in {path}, {iso(from_us)} to {iso(to_us)}: first, least, largest, last and mean "
        "value of each, so what begins and ends within one may be missed"
    )
    found.episodes += over_windows(settings, windows)


def all_rules(settings: StepSettings) -> list[Any]:
    """Return the rules of all kinds."""
    more = settings.more_rules
    return [*settings.rules, *more.ranges, *more.rates, *more.stuck, *more.missing, *more.jumps]


def _of_journal(path: Path, looked: Looked) -> str:
    return (
        f"every reading of {looked.ticks:,} ticks of the journal in {path}, {iso(looked.first_us)} to "
        f"{iso(looked.last_us)}: {looked.readings:,} readings"
    )


def told(one: Episode) -> dict[str, Any]:
    """Return an episode for a program."""
    return {
        "rule": one.rule.name,
        "series": one.series,
        "severity": one.rule.severity,
        "text": one.rule.text,
        "began": iso(one.begin_us),
        "found": iso(one.found_us),
        "ended": iso(one.end_us) if one.end_us is not None else None,
        "value": one.value,
        "limit": one.limit,
    }


def lines(found: Tried, rules: list[str]) -> Iterator[str]:
    """Yield what a person reads."""
    for looked in found.looked:
        yield f"looked at {looked}"
    for one in found.episodes:
        end = f"over {iso(one.end_us)}" if one.end_us is not None else "not over"
        yield (
            f"{iso(one.found_us)}  {one.rule.severity:8}  {one.rule.name}: {one.series} "
            f"{one.value:.6g} (limit {one.limit:.6g}), since {iso(one.begin_us)}, {end}"
            f"{': ' * bool(one.rule.text)}{one.rule.text}"
        )
    counts = {name: sum(one.rule.name == name for one in found.episodes) for name in rules}
    never = [name for name, count in counts.items() if not count]
    for name, count in counts.items():
        if count:
            yield f"{name} would have fired {count} time{'s' * (count > 1)}"
    if never:
        yield f"never: {', '.join(never)}"


def for_program(found: Tried) -> dict[str, Any]:
    """Return all of it for a program."""
    return {"looked_at": found.looked, "would_have_fired": [told(one) for one in found.episodes]}


def iso(time_us: int) -> str:
    """Write a time."""
    try:
        moment = _BEGINNING + timedelta(microseconds=time_us)
    except OverflowError:
        return f"{time_us} us"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
