"""Settings from the environment: `HEADWATER_EDGE__LISTENER__PORT=1883` goes before what the file says.

Names are those of the keys in capitals, with `__` between table and key. Values are written as in the file, text without
its quotes, a list of texts also as `10s,1m`. An entry of a list of tables has its number: `HEADWATER_EDGE__LIMIT__0__ABOVE`.
"""

from __future__ import annotations

import copy
import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import inspect

from headwater_shared.errors import SettingsError
from headwater_shared.settings_faults import Key, below, nearest, plain

PREFIX, BETWEEN = "HEADWATER_", "__"
_WHOLE = re.compile(r"0|[1-9][0-9]{0,5}")


class Variable(NamedTuple):
    """One that sets something."""

    name: str
    section: str
    words: tuple[str, ...]
    """Below the section, as written."""
    text: str


def variables(environment: Mapping[str, str], known: Sequence[str]) -> list[Variable]:
    """Find the variables that set something, entries of lists in their order.

    Raises:
        SettingsError: one begins as such a variable does, and names no table that there is.
    """
    found = []
    for name, text in environment.items():
        if not name.startswith(PREFIX):
            continue
        section, between, rest = name.removeprefix(PREFIX).partition(BETWEEN)
        if not between:
            continue  # none of these, unless `refuse_single` finds that it was meant so
        if section.lower() not in known:
            raise SettingsError(
                f"the environment variable {name} names the unknown table [{section.lower()}]",
                hint=nearest(section, known, "tables"),
            )
        found.append(Variable(name, section.lower(), tuple(rest.split(BETWEEN)), text))
    return sorted(found, key=lambda variable: [(len(word), word) for word in variable.words])


def refuse_single(environment: Mapping[str, str], section: str, kind: type[Any]) -> None:
    """Refuse `HEADWATER_EDGE_NAME`: whoever writes that means a setting, and would wonder why it does nothing.

    Raises:
        SettingsError: what follows the table's name begins as one of its keys does; others may be anybody's, such as passwords.
    """
    keys = [
        field.encode_name
        for one in plain(inspect.type_info(kind))
        if isinstance(one, inspect.StructType)
        for field in one.fields
    ]
    begin = f"{PREFIX}{section.upper()}_"
    for name in environment:
        rest = name.removeprefix(begin)
        if rest == name or rest.startswith("_"):
            continue
        if any(rest.lower() == key or rest.lower().startswith(f"{key}_") for key in keys):
            raise SettingsError(
                f"the environment variable {name} sets nothing",
                hint=f"between tables and keys there are two underscores: {begin}_{rest}",
            )


def overlaid(
    table: dict[str, Any], kind: type[Any], given: Sequence[Variable]
) -> tuple[dict[str, Any], dict[Key, str]]:
    """Put what variables say over a table; return the table and which variable set which key.

    Raises:
        SettingsError: a variable names no key, or an entry that cannot be.
    """
    table = copy.deepcopy(table)
    set_by: dict[Key, str] = {}
    for variable in given:
        key, types = _key(variable, kind)
        if _put(table, key, _value(variable.text, types), variable):
            set_by[key] = variable.name
    return table, set_by


def _key(variable: Variable, kind: type[Any]) -> tuple[Key, list[inspect.Type]]:
    types = plain(inspect.type_info(kind))
    key: Key = ()
    for at, word in enumerate(variable.words):
        structs = [one for one in types if isinstance(one, inspect.StructType)]
        part: str | int = word
        if structs:
            part = word.lower()
            names = {field.encode_name for struct in structs for field in struct.fields}
            names |= {struct.tag_field for struct in structs if struct.tag_field}
            if part not in names:
                where = BETWEEN.join((PREFIX + variable.section.upper(), *variable.words[:at]))
                near = nearest(part, names, "keys")
                raise SettingsError(
                    f"the environment variable {variable.name}: unknown key {part!r} below {where}",
                    hint=near,
                )
        elif any(isinstance(one, inspect.ListType | inspect.VarTupleType) for one in types):
            if not _WHOLE.fullmatch(word):
                raise SettingsError(
                    f"the environment variable {variable.name}: {'.'.join(map(str, key))} is a list, and {word!r} is no number of an entry",
                    hint="entries are numbered from 0; or give the whole list as TOML",
                )
            part = int(word)
        types = [deeper for one in types for deeper in below(one, part)] or _tag(structs, part)
        if not types:
            raise SettingsError(
                f"the environment variable {variable.name}: there is nothing below {'.'.join(map(str, key))}",
                hint="it is one value: leave out what follows its name",
            )
        key = (*key, part)
    return key, types


def _tag(structs: Sequence[inspect.StructType], part: str | int) -> list[inspect.Type]:
    """The word that tells apart what a table may be is text."""
    return [inspect.StrType()] if any(struct.tag_field == part for struct in structs) else []


def _value(text: str, types: Sequence[inspect.Type]) -> Any:
    lists = [one for one in types if isinstance(one, inspect.ListType | inspect.VarTupleType)]
    texts = [one for one in types if _is_text(one)]
    if texts and not lists:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if any(_is_text(inner) for one in lists for inner in plain(one.item_type)):
            return [part.strip() for part in text.split(",") if part.strip()]
        return text  # the type's own check says what is expected


def _is_text(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.LiteralType):
        return any(isinstance(value, str) for value in kind.values)
    return isinstance(kind, inspect.StrType)


def _put(table: Any, key: Key, value: Any, variable: Variable) -> bool:
    """Set a key; tell whether that could be done: a file that has something else in its way is told of by itself."""
    for part, after in itertools.pairwise(key):
        empty: Any = [] if isinstance(after, int) else {}
        if not _room(table, part, variable):
            return False
        if isinstance(table, list):
            table += [empty] * (part == len(table))
            table = table[part]  # type: ignore[index]
        else:
            table = table.setdefault(part, empty)
    if not _room(table, key[-1], variable):
        return False
    if isinstance(table, list):
        table += [None] * (key[-1] == len(table))
    table[key[-1]] = value
    return True


def _room(table: Any, part: str | int, variable: Variable) -> bool:
    if isinstance(part, str):
        return isinstance(table, dict)
    if isinstance(table, list) and part > len(table):
        raise SettingsError(
            f"the environment variable {variable.name} sets entry {part} of a list that has {len(table)}",
            hint=f"entries are numbered from 0; the next is {len(table)}",
        )
    return isinstance(table, list)
