"""Says what is wrong in a settings file the way a person can act on it: file, line, key, what is expected, what was near.

Imported only once something is wrong, or where the environment sets something. msgspec says which key of the decoded tables it does not like; the line is
found by decoding growing prefixes of the file: the first one that holds the key ends with the statement that set it.
"""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import inspect

from headwater_shared.errors import SettingsError
from headwater_shared.settings import CLOCK, DURATION, SECRET, SIZE

Key = tuple[str | int, ...]
Decoded = Any  # what tomllib makes of a value

_NAMES = {
    "array": "a list [ ... ]",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "a table",
    "str": 'text in "quotes"',
}
_LANGUAGES = {
    CLOCK: '"real", "ntp" or "scaled:60"',
    DURATION: 'a length of time such as "250ms", "10s", "1h" or "7d"',
    SECRET: '"env:NAME" or "file:/path", never the secret itself',
    SIZE: 'a size such as "64MB"',
}


def syntax(path: Path, text: str, message: str) -> SettingsError:
    """What tomllib says, with the line in front as in every other message."""
    lines = text.splitlines()
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    line = int(found[1]) if found else _unfinished(lines)
    what = message[: found.start()] if found else message.removesuffix(" (at end of document)")
    return SettingsError(
        f"{path}:{line}: this is not TOML: {what[:1].lower()}{what[1:]}",
        hint=f"the line reads: {lines[line - 1].strip()}",
    )


def _unfinished(lines: list[str]) -> int:
    """The line on which the statement begins that the end of the file cuts off."""
    complete = 0
    for end in range(1, len(lines)):
        with suppress(tomllib.TOMLDecodeError):
            tomllib.loads("\n".join(lines[:end]))
            complete = end
    return complete + 1


def top_level(path: Path, text: str, data: dict[str, Any], known: Sequence[str]) -> SettingsError:
    """The first key outside the tables, or the first table that nobody knows."""
    wrong = [key for key, value in data.items() if key not in known or not isinstance(value, dict)]
    line, key = min((line_of(text, (key,)), key) for key in wrong)
    if isinstance(data[key], dict):
        return SettingsError(f"{path}:{line}: unknown table [{key}]", hint=nearest(key, known, "tables"))
    if key in known:
        return SettingsError(
            f"{path}:{line}: {key} must be a table", hint=f"write [{key}] on a line of its own"
        )
    return SettingsError(
        f"{path}:{line}: {key!r} stands outside every table",
        hint=f"put it below one of [{'], ['.join(known)}]",
    )


def line_of(text: str, key: Key) -> int:
    """The number of the line, from 1, on which `key` is set first, such as ("edge", "limits", 1, "high")."""
    lines = text.splitlines()
    begin = _before(lines, key)  # lines before it belong to statements that are complete
    for end in range(begin + 1, len(lines) + 1):
        try:
            data = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # in the middle of a statement of several lines
        if _holds(data, key):
            return _within(lines, begin, end, key)
        begin = end
    return max(1, len(lines))


def _before(lines: list[str], key: Key) -> int:
    """How many lines from the first on certainly do not hold the key: up to one that begins a table, found by halving."""
    tables = [0, *(at for at, line in enumerate(lines) if line.startswith("["))]
    low, high = 0, len(tables)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            holds = _holds(tomllib.loads("\n".join(lines[: tables[middle]])), key)
        except tomllib.TOMLDecodeError:
            return tables[low]  # a line within a list of several lines
        low, high = (low, middle) if holds else (middle, high)
    return tables[low]


def _within(lines: list[str], begin: int, end: int, key: Key) -> int:
    """The line of a statement that names the last word of the key; its first line where that is not plain."""
    while begin < end - 1 and not lines[begin].split("#")[0].strip():
        begin += 1
    word = next((part for part in reversed(key) if isinstance(part, str)), "")
    named = [n for n in range(begin, end) if re.search(rf"(?<![\w-]){re.escape(word)}[\"']?\s*=", lines[n])]
    return (named[0] if len(named) == 1 else begin) + 1


def _holds(data: Decoded, key: Key) -> bool:
    try:
        for part in key:
            data = data[part]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def nearest(word: str, known: Iterable[str], what: str) -> str:
    """Say what was near, and what there is."""
    names = sorted(known)
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    listed = f"{what} known here: {', '.join(names)}"
    return f"did you mean {near[0]!r}? {listed}" if near else listed


class Fault:
    """One thing that msgspec did not like in one table."""

    def __init__(
        self,
        path: Path | None,
        text: str,
        section: str,
        table: Decoded,
        kind: type[Any],
        message: str,
        set_by: Mapping[Key, str] = MappingProxyType({}),
    ) -> None:
        """`set_by`: the environment variable that set a key, where it was none of the file."""
        at = re.search(r" - at `(?:key` in `)?\$([^`]*)`$", message)
        self.what = message[: at.start()] if at else message
        self._path, self._text, self._section = path, text, section
        self._table, self._kind, self._message = table, kind, message
        self._set_by = set_by
        self.key = self._resolve(at[1] if at else "")

    def explain(self) -> SettingsError:
        """The error for the person."""
        if found := re.fullmatch(r"Object contains unknown field `(.*)`", self.what):
            known = {field.encode_name for struct in self._structs() for field in struct.fields}
            known |= {struct.tag_field for struct in self._structs() if struct.tag_field}
            where = self._line((*self.key, found[1]))
            return self._error(
                where, f"unknown key {found[1]!r} in {self._table_name()}", nearest(found[1], known, "keys")
            )
        if found := re.fullmatch(r"Object missing required field `(.*)`", self.what):
            message = f"{self._table_name()} lacks the key {found[1]!r}"
            return self._error(self._line(self.key), message, self._described((*self.key, found[1])))
        return self._wrong_value()

    def _wrong_value(self) -> SettingsError:
        value = self._value()
        types = list(self._types(self.key))
        choices = [
            choice for kind in types if isinstance(kind, inspect.LiteralType) for choice in kind.values
        ]
        choices += [struct.tag for _, struct in self._tagged() if struct.tag is not None]
        hint = self._described(self.key)
        if choices and self.what.startswith("Invalid"):
            near = nearest(str(value), filter(None, map(str, choices)), "values")
            return self._error(
                self._line(self.key), f"{self._dotted()}: {value!r} is not among its values", near
            )
        if found := re.fullmatch(r"Expected `(.*)`, got `(.*)`", self.what):
            expected = " or ".join(_NAMES.get(name, name) for name in found[1].split(" | ") if name != "null")
            message = f"expected {expected}, found {_NAMES.get(found[2], found[2])}"
        elif found := re.fullmatch(r"Expected `str` matching regex (['\"])(.*)\1", self.what):
            pattern = found[2].replace("\\\\", "\\")
            message = f"expected {_LANGUAGES.get(pattern, f'text that matches {pattern}')}"
            if pattern != SECRET:  # what stands there may be the secret itself
                message += f", found {value!r}"
        else:
            message = re.sub(r"`(\w+)`", lambda name: _NAMES.get(name[1], name[1]), self.what)
            message = f"{message[:1].lower()}{message[1:]}, found {value!r}"
        return self._error(self._line(self.key), f"{self._dotted()}: {message}", hint)

    def _error(self, where: str, message: str, hint: str) -> SettingsError:
        return SettingsError(f"{where}: {message}", hint=hint)

    def _line(self, key: Key) -> str:
        """Where a key was set: the environment variable, or file and line."""
        for end in range(len(key), 0, -1):
            if key[:end] in self._set_by:
                return f"the environment variable {self._set_by[key[:end]]}"
        for one, variable in self._set_by.items():  # a table that only variables made
            if one[: len(key)] == key and not _holds(self._file(), self._whole(key)):
                return f"the environment variable {variable}"
        return f"{self._path}:{line_of(self._text, self._whole(key))}"

    def _whole(self, key: Key) -> Key:
        return (*((self._section,) if self._section else ()), *key)

    def _file(self) -> Decoded:
        return tomllib.loads(self._text)

    def _dotted(self) -> str:
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.key)
        return (self._section + "".join(parts)).removeprefix(".")

    def _table_name(self) -> str:
        words = ".".join(str(part) for part in (self._section, *self.key) if isinstance(part, str) and part)
        return f"[[{words}]]" if self.key and isinstance(self.key[-1], int) else f"[{words}]"

    def _resolve(self, written: str) -> Key:
        """The key that msgspec means; it writes [...] for any key of a dict, so try which entry alone is not liked."""
        key: Key = ()
        for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", written):
            if index == "...":
                entries = self._value(key)
                key = (
                    *key,
                    next((entry for entry in entries if self._alone(key, entry)), next(iter(entries))),
                )
            else:
                key = (*key, int(index) if index else name)
        return key

    def _alone(self, key: Key, entry: str) -> bool:
        table = {"": copy.deepcopy(self._table)}
        parent: Decoded = table
        for part in ("", *key)[:-1]:
            parent = parent[part]
        last = ("", *key)[-1]
        parent[last] = {entry: parent[last][entry]}
        try:
            msgspec.convert(table[""], self._kind, strict=True)
        except msgspec.ValidationError as error:
            return str(error) == self._message
        return False

    def _value(self, key: Key | None = None) -> Decoded:
        value = self._table
        for part in self.key if key is None else key:
            value = value[part]
        return value

    def _structs(self) -> list[inspect.StructType]:
        """The structs that the table at the key may be; its tag decides where there are several."""
        structs = [kind for kind in self._types(self.key) if isinstance(kind, inspect.StructType)]
        value = self._value()
        tagged = [
            struct for struct in structs if struct.tag_field and value.get(struct.tag_field) == struct.tag
        ]
        return tagged or structs

    def _tagged(self) -> list[tuple[str, inspect.StructType]]:
        """The structs of which the key is the tag."""
        kinds = self._types(self.key[:-1]) if self.key else []
        structs = [kind for kind in kinds if isinstance(kind, inspect.StructType)]
        return [(struct.tag_field, struct) for struct in structs if struct.tag_field == self.key[-1]]

    def _described(self, key: Key) -> str:
        """The description of a key in its struct, which is also its comment in the default file."""
        while key and isinstance(key[-1], int):  # one of a list: what the list is
            key = key[:-1]
        for struct in self._types(key[:-1]) if key else []:
            for field in struct.fields if isinstance(struct, inspect.StructType) else ():
                if field.encode_name == key[-1] and isinstance(field.type, inspect.Metadata):
                    return str((field.type.extra_json_schema or {}).get("description", ""))
        return ""

    def _types(self, key: Key) -> list[inspect.Type]:
        types = plain(inspect.type_info(self._kind))
        for part in key:
            types = [deeper for kind in types for deeper in below(kind, part)]
        return types


def plain(kind: inspect.Type) -> list[inspect.Type]:
    """A type without metadata, and each member of a union by itself."""
    if isinstance(kind, inspect.Metadata):
        return plain(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [member for one in kind.types for member in plain(one)]
    return [kind]


def below(kind: inspect.Type, part: str | int) -> list[inspect.Type]:
    """What may stand under a part of a key."""
    if isinstance(kind, inspect.StructType):
        return [member for field in kind.fields if field.encode_name == part for member in plain(field.type)]
    if isinstance(kind, inspect.DictType):
        return plain(kind.value_type)
    if isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
        return plain(kind.item_type)
    if isinstance(kind, inspect.TupleType) and isinstance(part, int):
        return plain(kind.item_types[part])
    return []
