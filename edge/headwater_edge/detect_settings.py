"""Rules of detection as a person writes them; checked, and resolved for the step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.make import made, pinned, placed
from headwater_edge.detection.rules import DetectRule
from headwater_edge.detection.specs import Spec, spec_of
from headwater_edge.rule_settings import Name, Pattern, Severity
from headwater_shared.errors import SettingsError
from headwater_shared.parts import level_of
from headwater_shared.rule_files import twice
from headwater_shared.settings import Section


class DetectSettings(Section, frozen=True, forbid_unknown_fields=True):
    """Detectors that judge each closed window of the series that match: an anomaly begins when one is unlike those before."""

    name: Name
    series: Pattern
    detectors: Annotated[
        tuple[str | Spec, ...],
        Meta(
            description='Which ones; "default" stands for a few that need no settings.',
            examples=[["default"]],
        ),
    ] = ("default",)
    level: Annotated[
        str, Meta(description="The windows that are judged: one of edge.windows.levels; the base by default.")
    ] = ""
    severity: Severity = "warning"
    text: Annotated[str, Meta(description="What a person is told, before the reason.")] = ""


def detect_rules(
    settings: Sequence[DetectSettings], levels: Sequence[str], rules: Iterable[str]
) -> tuple[DetectRule, ...]:
    """Check rules of detection and make them the step's.

    Args:
        levels: names of those that all series have, the base first.
        rules: the names of all other rules.

    Raises:
        SettingsError: one that cannot be, with what to change.
    """
    names = set(rules)
    found: list[DetectRule] = []
    for one in settings:
        where = f"[[edge.detect]] {one.name!r}"
        if one.name in names:
            message, hint = twice(one.name)
            raise SettingsError(message, hint=hint)
        names.add(one.name)
        if not one.name.strip():
            raise SettingsError(
                f"{where} has no name", hint="alerts are told apart by it: write a word or two"
            )
        if not one.detectors:
            raise SettingsError(f"{where} names no detector", hint='write detectors = ["default"]')
        try:
            specs = tuple(pinned(spec_of(each)) for each in one.detectors)
            level = _level(one.level, levels, where)
            _must_fit(made(specs), level)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error.message}", hint=error.hint) from None
        found.append(DetectRule(one.name, one.series, level, specs, one.severity, one.text))
    return tuple(found)


def _must_fit(detectors: Sequence[Detector], level: str) -> None:
    for one in detectors:
        if one.length_us not in {0, level_of(level).length_us}:
            raise SettingsError(
                f"{one.name} was made for windows of {one.length_us / 1e6:g} s, not of {level}",
                hint="set level to such windows, and have them in edge.windows.levels",
            )


def _level(level: str, levels: Sequence[str], where: str) -> str:
    for name in levels if level else levels[:1]:
        if not level or name == level or level_of(name) == level_of(level):
            return name
    raise SettingsError(f"{where}: there are no windows of {level!r}", hint=f"one of {', '.join(levels)}")


def with_files(settings: Sequence[DetectSettings], folder: Path) -> tuple[DetectSettings, ...]:
    """Return settings whose files are named from the root; `folder` is that of the settings file."""
    return tuple(
        msgspec.structs.replace(one, detectors=tuple(placed(spec_of(each), folder) for each in one.detectors))
        for one in settings
    )
