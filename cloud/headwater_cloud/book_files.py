"""The cloud side's rules in files: those of the settings file and of the file that it names, and what is wrong there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headwater_cloud import rule_records
from headwater_cloud.book_faults import faults
from headwater_cloud.book_settings import (
    AlertsSettings,
    BookTables,
    CompareSettings,
    InhibitSettings,
    PatternSettings,
    book_of,
)
from headwater_shared import rule_files
from headwater_shared.errors import SettingsError
from headwater_shared.rule_files import OF_EDGE, File, Kinds, Mistake, parsed, twice
from headwater_shared.settings import Section

S = TypeVar("S", bound=Section)

LISTS: dict[str, type[Section]] = {
    "pattern": PatternSettings,
    "compare": CompareSettings,
    "inhibit": InhibitSettings,
}
OURS = Kinds(LISTS, BookTables, faults, OF_EDGE, {"alerts": AlertsSettings})
SETTING = "cloud.rules"


def read_tables(path: Path) -> BookTables:
    """Read a file of rules; those of agents are not looked at.

    Raises:
        SettingsError: naming file and line.
    """
    text, data = parsed(path, SETTING)
    for mistake in mistakes(path, text, data, ""):
        raise mistake.error()
    ours = {kind: data[kind] for kind in (*LISTS, "alerts") if kind in data}
    return msgspec.convert(ours, BookTables, strict=True)


def with_rules(settings: S, path: Path) -> S:
    """Return settings with the rules of the file that they name.

    Raises:
        SettingsError: naming file and line of a rule that is wrong, in the settings file or the file of rules.
    """
    name = getattr(settings, "rules", "")
    if name:
        other = path.parent / name
        tables = read_tables(other)
        more: dict[str, Any] = {kind: (*getattr(settings, kind), *getattr(tables, kind)) for kind in LISTS}
        if tables.alerts != AlertsSettings():
            if getattr(settings, "alerts") != AlertsSettings():  # noqa: B009 - of any settings that have it
                from headwater_shared.settings_faults import line_of

                line = line_of(parsed(other, SETTING)[0], ("alerts",))
                raise SettingsError(
                    f"{other}:{line}: [alerts] stands in {path}, too", hint="write it in one of the two"
                )
            more["alerts"] = tables.alerts
        settings = msgspec.structs.replace(settings, **more)
    tables = tables_of(settings)
    for wrong in _wrong(tables):
        raise _with_line(path, name, wrong)
    size = len(rule_records.packed(book_of(tables)))
    if size > rule_records.LARGEST:
        raise SettingsError(
            f"the rules of {path} take {size:,} bytes, packed",
            hint=f"at most {rule_records.LARGEST:,}: write fewer",
        )
    return settings


def _wrong(tables: BookTables) -> Iterator[SettingsError]:
    """Tell what is wrong with rules, without lines."""
    names = set[str]()
    for kind in (*LISTS, "alerts"):
        some = getattr(tables, kind)
        for one in some if isinstance(some, tuple) else (some,):
            name = getattr(one, "name", "")
            if name in names and name:
                what, hint = twice(name)
                yield SettingsError(what, hint=hint)
            names.add(name)
            for fault in faults(kind, one):
                yield SettingsError(fault.what, hint=fault.remedy)


def _with_line(path: Path, name: str, error: SettingsError) -> SettingsError:
    """Find the line of what is wrong; what the environment set has none."""
    names = set[str]()
    if path.is_file():
        text, data = parsed(path, SETTING)
        for mistake in mistakes(path, text, data.get("cloud", {}), "cloud", names):
            return mistake.error()
    if name:
        text, data = parsed(path.parent / name, SETTING)
        for mistake in mistakes(path.parent / name, text, data, "", names):
            return mistake.error()
    return error


def tables_of(settings: Any) -> BookTables:
    """Return the rules of settings of the cloud side."""
    return BookTables(settings.pattern, settings.compare, settings.inhibit, settings.alerts)


def mistakes(
    path: Path, text: str, data: Any, section: str, taken: set[str] | None = None
) -> Iterator[Mistake]:
    """Tell every mistake in a file's rules.

    Args:
        data: the tables of `section` ("cloud", or "" for the top of a file that holds only rules).
        taken: names of rules of other files; those of this one are added.
    """
    return rule_files.mistakes(File(path, text, section, data if isinstance(data, dict) else {}), OURS, taken)
