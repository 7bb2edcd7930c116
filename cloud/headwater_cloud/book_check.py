"""All that is wrong with the cloud side's rules of a file, and what may be: for `headwater rules check`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headwater_cloud.book_files import LISTS, SETTING, mistakes
from headwater_cloud.book_settings import (
    CompareSettings,
    InhibitSettings,
    PatternSettings,
    StepOfPattern,
    kind_of,
)
from headwater_cloud.evidence import AGENT_SILENT
from headwater_shared.identity import device_of
from headwater_shared.rule_files import Checked, File, Mistake, parsed


class Around(NamedTuple):
    """What rules can refer to."""

    series: Sequence[str] = ()
    """That there are; none: it is not known which there are."""
    anomalies: Collection[str] = ()
    """Names of the rules of agents that stand in the same file; none: it has none."""
    levels: Collection[str] = ()
    """Of the agents' windows; none: not known."""


Rule = PatternSettings | CompareSettings | InhibitSettings


def check(path: Path, around: Around, *, in_settings: bool) -> Checked:
    """Look through a file of rules, or those of a settings file and of the file that it names.

    Raises:
        SettingsError: the file is not there or no TOML.
    """
    text, data = parsed(path, SETTING)
    files = [File(path, text, "", data)]
    if in_settings:
        cloud = data.get("cloud", {})
        cloud = cloud if isinstance(cloud, dict) else {}
        files = [File(path, text, "cloud", cloud)]
        if isinstance(cloud.get("rules"), str) and cloud["rules"]:
            other = path.parent / cloud["rules"]
            files.append(File(other, *parsed(other, SETTING)[:1], "", parsed(other, SETTING)[1]))
    checked, names = Checked(), set(around.anomalies)
    rules: list[tuple[File, str, int, Rule]] = []
    for file in files:
        checked.mistakes += mistakes(file.path, file.text, file.data, file.section, names)
        rules += _read(file)
    checked.rules += [one.name for _, _, _, one in rules if not isinstance(one, InhibitSettings)]
    compares = [one.name for _, _, _, one in rules if isinstance(one, CompareSettings)]
    known = {*checked.rules, *around.anomalies, AGENT_SILENT}
    for file, kind, number, one in rules:
        for key, what, remedy in _doubts(one, around, compares, known):
            checked.warnings.append(Mistake(str(file.path), file.line(kind, number, key), what, remedy))
    return checked


def _read(file: File) -> Iterator[tuple[File, str, int, Rule]]:
    for kind, table in LISTS.items():
        rules = file.data.get(kind, [])
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            try:
                made: Any = msgspec.convert(rule, table, strict=True)
            except msgspec.ValidationError:
                continue
            yield file, kind, number, made


def _doubts(
    one: Rule, around: Around, compares: Sequence[str], known: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield key, what may be wrong, and what to do."""
    if isinstance(one, PatternSettings):
        for key in ("sequence", "all", "of"):
            steps = getattr(one, key) or ()
            for step in steps if isinstance(steps, tuple) else (steps,):
                for what, remedy in _of_step(step, around, compares):
                    yield key, f"pattern {one.name!r}: {what}", remedy
    elif isinstance(one, CompareSettings):
        metrics = {series.rpartition("/")[2] for series in around.series}
        if metrics and one.metric not in metrics:
            yield "metric", f"compare {one.name!r}: no series known so far is of {one.metric!r}", _LOOK
        yield from (
            ("level", f"compare {one.name!r}: {what}", remedy)
            for what, remedy in _of_level(one.level, around)
        )
    else:
        for key, names in (("by", (one.by,)), ("rules", one.rules)):
            for name in names:
                if not _any(name, known):
                    yield (
                        key,
                        f"inhibit: no rule of this file is called {name!r}",
                        "it may be one of another agent",
                    )


def _of_step(step: StepOfPattern, around: Around, compares: Sequence[str]) -> Iterator[tuple[str, str]]:
    kind, name = kind_of(step)
    if kind == "anomaly" and around.anomalies and not _any(name, around.anomalies):
        rules = ", ".join(sorted(around.anomalies)[:10])
        yield f"no rule of an agent in this file makes the anomaly {name!r}", f"there are {rules}"
    if kind == "peer" and not _any(name, compares):
        yield f"no [[cloud.compare]] is called {name!r}", f"there are {', '.join(compares) or 'none'}"
    if kind == "window":
        yield from _of_level(step.window, around)
    of: Callable[[str], str] = device_of if kind in {"device", "command"} else str
    if around.series and not any(fnmatchcase(of(series), step.series) for series in around.series):
        yield f"none of the {len(around.series)} series known so far matches {step.series!r}", _LOOK


_LOOK = "look how they are called with: headwater query '*' --last 1"


def _of_level(level: str, around: Around) -> Iterator[tuple[str, str]]:
    if around.levels and level not in around.levels:
        yield (
            f"agents make no windows of {level}",
            f"there are {', '.join(around.levels)}; levels in [edge.windows]",
        )


def _any(pattern: str, names: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)
