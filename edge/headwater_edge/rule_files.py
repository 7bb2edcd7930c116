"""Files of rules, and what is wrong in one: each mistake with its line and what to do, not only the first."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from headwater_edge.rule_settings import KINDS, OneRule, RuleTables, faults, rules_of, twice
from headwater_shared.errors import SettingsError
from headwater_shared.settings import Section

S = TypeVar("S", bound=Section)


class Mistake(NamedTuple):
    """One thing that is wrong in a file."""

    file: str
    line: int
    what: str
    remedy: str

    def error(self) -> SettingsError:
        return SettingsError(f"{self.file}:{self.line}: {self.what}", hint=self.remedy)


def read_rules(path: Path) -> RuleTables:
    """Read a file that holds nothing but rules.

    Raises:
        SettingsError: naming file and line.
    """
    text, data = parsed(path)
    for mistake in mistakes(path, text, data, ""):
        raise mistake.error()
    return msgspec.convert(data, RuleTables, strict=True)


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


def parsed(path: Path) -> tuple[str, dict[str, Any]]:
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
            hint="edge.rules names a file, relative to the settings file",
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise syntax(path, text, str(error)) from None


def mistakes(
    path: Path, text: str, data: dict[str, Any], section: str, taken: set[str] | None = None
) -> Iterator[Mistake]:
    """Tell every mistake in a file's rules.

    Args:
        data: the tables of `section` ("edge", or "" for the top of a file that holds only rules, in which nothing else may be).
        taken: names of rules of other files; those of this one are added.
    """
    from headwater_shared.settings_faults import line_of

    names = set[str]() if taken is None else taken
    if not section:
        for key in data.keys() - KINDS.keys():
            yield _fault(
                path, text, section, {key: data[key]}, RuleTables, f"Object contains unknown field `{key}`"
            )
    for kind, table in KINDS.items():
        rules = data.get(kind, [])
        if not isinstance(rules, list):
            yield _fault(
                path, text, section, data, RuleTables, f"Expected `array`, got `object` - at `$.{kind}`"
            )
            continue
        for number, rule in enumerate(rules):
            found = yield from _of_table(path, text, section, data, kind, number, rule, table)
            if found is None:
                continue
            place = (*((section,) if section else ()), kind, number)
            if found.name in names:
                yield Mistake(str(path), line_of(text, (*place, "name")), *twice(found.name))
            names.add(found.name)
            for fault in faults(kind, found):
                given = fault.key in rule
                line = line_of(text, (*place, fault.key) if given else place)
                yield Mistake(str(path), line, fault.what, fault.remedy)


def _of_table(
    path: Path, text: str, section: str, data: dict[str, Any], kind: str, number: int, rule: Any,
    table: type[Section],
) -> Generator[Mistake, None, OneRule | None]:  # fmt: skip
    """Tell every mistake of one table; return the rule if there is none."""
    left = copy.copy(rule)
    clean = True
    while True:
        try:
            made = msgspec.convert(left, table, strict=True)
        except msgspec.ValidationError as error:
            clean = False
            said = str(error)
            key = re.search(r"unknown field `(.*)`|missing required field `(.*)`| - at `\$\.(\w+)", said)
            where = f"`$.{kind}[{number}]"
            said = said.replace("`$", where) if " - at `$" in said else f"{said} - at {where}`"
            yield _fault(path, text, section, data, RuleTables, said)
            wrong = (key[1] or key[3]) if key else None
            if wrong is None or wrong not in left or (key and key[2]):
                return None
            del left[wrong]
        else:
            return cast("OneRule", made) if clean else None


def _fault(
    path: Path, text: str, section: str, data: dict[str, Any], kind: type[Section], message: str
) -> Mistake:
    from headwater_shared.settings_faults import Fault

    error = Fault(path, text, section, data, kind, message).explain()
    place, what = error.message.removeprefix(f"{path}:").split(": ", 1)
    return Mistake(str(path), int(place), what, error.hint)
