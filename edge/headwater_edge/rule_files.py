"""Rules of the agent in files: those of the settings file and of the file that it names; what both sides do is `shared`'s `rule_files`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headwater_edge.rule_settings import KINDS, RuleTables, faults, rules_of
from headwater_shared import rule_files
from headwater_shared.errors import SettingsError
from headwater_shared.rule_files import OF_CLOUD, File, Kinds, Mistake, parsed
from headwater_shared.settings import Section

S = TypeVar("S", bound=Section)

OURS = Kinds(KINDS, RuleTables, faults, OF_CLOUD)


def read_rules(path: Path) -> RuleTables:
    """Read a file of rules; those of the cloud side are not looked at.

    Raises:
        SettingsError: naming file and line.
    """
    text, data = parsed(path)
    for mistake in mistakes(path, text, data, ""):
        raise mistake.error()
    return msgspec.convert({kind: data.get(kind, []) for kind in KINDS}, RuleTables, strict=True)


def with_rules(settings: S, path: Path) -> S:
    """Return settings with the rules of the file that they name.

    Raises:
        SettingsError: naming file and line of a rule that is wrong, in the settings file or the file of rules.
    """
    name, other = getattr(settings, "rules", ""), RuleTables()
    if name:
        other = read_rules(path.parent / name)
    whole = {kind: (*getattr(settings, kind), *getattr(other, kind)) for kind in KINDS}
    try:
        rules_of(RuleTables(**whole), 1)
    except SettingsError as error:
        raise _with_line(path, name, error) from None
    return msgspec.structs.replace(settings, **whole) if name else settings


def _with_line(path: Path, name: str, error: SettingsError) -> SettingsError:
    """Find the line of what is wrong with the rules of a settings file and the file that it names."""
    text, data = parsed(path)
    names = set[str]()
    for mistake in mistakes(path, text, data.get("edge", {}), "edge", names):
        return mistake.error()
    if name:
        text, data = parsed(path.parent / name)
        for mistake in mistakes(path.parent / name, text, data, "", names):
            return mistake.error()
    return error


def mistakes(
    path: Path, text: str, data: dict[str, Any], section: str, taken: set[str] | None = None
) -> Iterator[Mistake]:
    """Tell every mistake in a file's rules.

    Args:
        data: the tables of `section` ("edge", or "" for the top of a file that holds only rules, in which nothing else may be).
        taken: names of rules of other files; those of this one are added.
    """
    return rule_files.mistakes(File(path, text, section, data), OURS, taken)
