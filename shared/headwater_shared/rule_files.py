"""Files of rules, and what is wrong in one: each mistake with its line and what to do, not only the first."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headwater_shared.errors import SettingsError
from headwater_shared.settings import Section

OF_EDGE = frozenset({"limit", "range", "rate", "stuck", "missing", "jump"})
OF_CLOUD = frozenset({"pattern", "compare", "inhibit", "alerts"})
"""Tables of rules: a file may hold those of both sides, each reads its own."""


class Fault(NamedTuple):
    """What is wrong with a rule that reads well; `key` is the key that it is about, or empty."""

    key: str
    what: str
    remedy: str


class Mistake(NamedTuple):
    """One thing that is wrong in a file."""

    file: str
    line: int
    what: str
    remedy: str

    def error(self) -> SettingsError:
        return SettingsError(f"{self.file}:{self.line}: {self.what}", hint=self.remedy)


@dataclass(slots=True)
class Checked:
    """What a file of rules, or a settings file, is found to be."""

    rules: list[str] = field(default_factory=list)
    """The names of all that read well."""
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)


class Kinds(NamedTuple):
    """The tables of rules of one side."""

    tables: Mapping[str, type[Section]]
    """Lists of tables, by name."""
    whole: type[Section]
    """All of them, as a file holds them."""
    faults: Callable[[str, Any], Iterator[Fault]]
    """Tells what is wrong with a table of a kind that reads well."""
    others: frozenset[str] = frozenset()
    """Tables of the other side."""
    single: Mapping[str, type[Section]] = {}
    """Tables that are there once."""


def twice(name: str) -> tuple[str, str]:
    """Say that a name is taken, and what to do."""
    return f"two rules are called {name!r}", "give each a name of its own: alerts are told apart by it"


def of_pattern(who: str, pattern: str) -> Iterator[Fault]:
    """Tell what is wrong with a pattern of series."""
    what = f"{who}: no series can match {pattern!r}"
    if "+" in pattern or "#" in pattern:
        yield Fault("series", what, "the wildcards are * and ?, not MQTT's: */temp is temp of every device")
    elif pattern.count("/") < 2 and "*" not in pattern:
        yield Fault("series", what, f"a series is site/device/metric: write */{pattern.strip('/') or 'temp'}")
    elif re.search(r"^/|//|/$", pattern) or (pattern.count("/") > 2 and "[" not in pattern):
        yield Fault("series", what, "a series is site/device/metric, three names with / between them")


def parsed(path: Path, setting: str = "edge.rules") -> tuple[str, dict[str, Any]]:
    """Read a file of rules as TOML: its text, and its tables.

    Raises:
        SettingsError: it is not there, or no TOML.
    """
    from headwater_shared.settings_faults import syntax

    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise SettingsError(
            f"the rules {path} cannot be read: {error.strerror}",
            hint=f"{setting} names a file, relative to the settings file",
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise syntax(path, text, str(error)) from None


class File(NamedTuple):
    """A file that is looked through."""

    path: Path
    text: str
    section: str
    """Of the settings in which the rules stand; "": they are all that the file holds."""
    data: dict[str, Any]
    """The tables of the section."""

    def place(self, *key: str | int) -> tuple[str | int, ...]:
        """Return the whole key of something in the section."""
        return (*((self.section,) if self.section else ()), *key)

    def line(self, *key: str | int) -> int:
        """Return the line of something in the section."""
        from headwater_shared.settings_faults import line_of

        return line_of(self.text, self.place(*key))


def mistakes(file: File, kinds: Kinds, taken: set[str] | None = None) -> Iterator[Mistake]:
    """Tell every mistake in a file's rules.

    Args:
        taken: names of rules of other files; those of this one are added.
    """
    from headwater_shared.settings_faults import nearest

    names = set[str]() if taken is None else taken
    data = file.data
    if not file.section:
        known = kinds.tables.keys() | kinds.single.keys() | kinds.others
        for key in data.keys() - known:
            what = f"unknown key {key!r} in a file of rules"
            yield Mistake(str(file.path), file.line(key), what, nearest(key, known, "keys"))
    for kind, table in kinds.tables.items():
        rules = data.get(kind, [])
        if not isinstance(rules, list):
            yield _fault(file, kinds, f"Expected `array`, got `object` - at `$.{kind}`")
            continue
        for number, rule in enumerate(rules):
            found = yield from _of_table(file, kinds, (kind, number), rule, table)
            if found is None:
                continue
            name = getattr(found, "name", "")
            if name in names and name:
                yield Mistake(str(file.path), file.line(kind, number, "name"), *twice(name))
            names.add(name)
            yield from _faults(file, kinds, (kind, number), rule, found)
    for kind, table in kinds.single.items():
        found = yield from _of_table(file, kinds, (kind,), data.get(kind, {}), table)
        if found is not None:
            yield from _faults(file, kinds, (kind,), data.get(kind, {}), found)


def _faults(
    file: File, kinds: Kinds, place: tuple[str | int, ...], given: dict[str, Any], found: Any
) -> Iterator[Mistake]:
    for fault in kinds.faults(str(place[0]), found):
        at = (*place, fault.key) if fault.key in given else place
        yield Mistake(str(file.path), file.line(*at), fault.what, fault.remedy)


def _of_table(
    file: File, kinds: Kinds, place: tuple[str | int, ...], rule: Any, table: type[Section]
) -> Generator[Mistake, None, Any]:
    """Tell every mistake of one table; return the rule if there is none."""
    left = copy.copy(rule)
    clean = True
    while True:
        try:
            made = msgspec.convert(left, table, strict=True)
        except msgspec.ValidationError as error:
            clean = False
            said = str(error)
            inner = re.search(r" - at `\$\.(\w+)", said)
            key = re.search(r"unknown field `(.*)`|missing required field `(.*)`", said)
            where = "`$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
            said = said.replace("`$", where) if " - at `$" in said else f"{said} - at {where}`"
            yield _fault(file, kinds, said)
            wrong = inner[1] if inner else key[1] if key else None
            if (
                wrong is None
                or not isinstance(left, dict)
                or wrong not in left
                or (key and key[2] and not inner)
            ):
                return None
            del left[wrong]
        else:
            return made if clean else None


def _fault(file: File, kinds: Kinds, message: str) -> Mistake:
    from headwater_shared.settings_faults import Fault as Explained

    error = Explained(file.path, file.text, file.section, file.data, kinds.whole, message).explain()
    place, what = error.message.removeprefix(f"{file.path}:").split(": ", 1)
    return Mistake(str(file.path), int(place), what, error.hint)
