"""Writes the commented default settings file from the settings structs, whose descriptions are its comments.

What has a default is written with it. What has none (None, an empty list of tables) is written commented out, with the
first of `msgspec.Meta(examples=[...])` or a value of the right kind, so that taking the `#` away gives a file that loads.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from headwater_shared.settings import DURATION, SECRET, SIZE

Value = Any  # what a settings field may hold

_WIDTH = 100
_HEAD = """\
Settings of Headwater. Every key stands here with its default; a line that begins with "#" and a key
shows one that is not set. An unknown key is an error. Secrets are written "env:NAME" or "file:/path".
"""


def default_file(sections: Mapping[str, type[Any]]) -> str:
    """TOML text with a table for each section; parsing it gives exactly the defaults of the structs."""
    lines = _comment(_HEAD)
    for name, kind in sections.items():
        described = inspect.type_info(kind)
        if not isinstance(described, inspect.StructType):
            raise TypeError(f"the section {name} is no struct")
        lines += ["", *_table(name, described, kind(), f"[{name}]", "")]
    return "\n".join(lines) + "\n"


def _table(path: str, kind: inspect.StructType, default: Value, header: str, off: str) -> Iterator[str]:
    """One table: its comment, its keys, then its tables; `off` is "# " where it is commented out, else nothing.

    `default` is a struct, or None where only the struct's own defaults and examples can be shown.
    """
    yield from _comment(_first_paragraph(kind.cls))
    yield off + header
    if kind.tag_field is not None:
        yield f"{off}{kind.tag_field} = {_written(kind.tag)}"
    deeper: list[str] = []
    for field in kind.fields:
        value = _default(field) if default is None else getattr(default, field.name)
        tables = list(_tables_below(f"{path}.{field.encode_name}", field, value, off))
        deeper += ["", *_comment(_meta(field, "description"))] if tables else []
        for table in tables:
            deeper += [*([""] if table is not tables[0] else []), *table]
        if not tables:
            yield from _comment(_meta(field, "description"))
            yield _line(field, value, off)
    yield from deeper


def _line(field: inspect.Field, value: Value, off: str) -> str:
    if value is None:
        return f"# {field.encode_name} = {_written(_example(field))}"
    if value is NODEFAULT:
        return f"{off}{field.encode_name} = {_written(_example(field))}"
    return f"{off}{field.encode_name} = {_written(value)}"


def _tables_below(path: str, field: inspect.Field, value: Value, off: str) -> Iterator[list[str]]:
    """The tables that a field is written as; none if it is a plain value."""
    for kind in _plain(field.type):
        if isinstance(kind, inspect.StructType):
            shown = None if value is None or value is NODEFAULT else value
            if shown is None or isinstance(shown, kind.cls):
                yield list(_table(path, kind, shown, f"[{path}]", "# " if shown is None else off))
        elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
            some = () if value is None or value is NODEFAULT else value
            yield from _entries(f"[[{path}]]", path, kind.item_type, some, off)
        elif isinstance(kind, inspect.DictType):
            named: dict[str, Sequence[Value]] = {
                f"{path}.{_name(name)}": (entry,)
                for name, entry in (value if isinstance(value, Mapping) else {}).items()
            }
            for inner, entries in (named or {f"{path}.NAME": ()}).items():
                yield from _entries(f"[{inner}]", inner, kind.value_type, entries, off)


def _entries(
    header: str, path: str, item: inspect.Type, values: Sequence[Value], off: str
) -> Iterator[list[str]]:
    """Tables of a list or dict: one a default value, or one commented out a struct that it may hold."""
    kinds = {kind.cls: kind for kind in _plain(item) if isinstance(kind, inspect.StructType)}
    for value in values:
        if type(value) not in kinds:
            return  # it is written in one line, and so are all
        yield list(_table(path, kinds[type(value)], value, header, off))
    for kind in () if values else kinds.values():
        yield list(_table(path, kind, None, header, "# "))


def _plain(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _plain(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [member for one in kind.types for member in _plain(one)]
    return [kind]


def _default(field: inspect.Field) -> Value:
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return field.default


def _meta(field: inspect.Field, word: str) -> Value:
    if isinstance(field.type, inspect.Metadata):
        return (field.type.extra_json_schema or {}).get(word, "")
    return ""


def _example(field: inspect.Field) -> Value:
    """A value of the right kind for a key that has no default."""
    examples = _meta(field, "examples")
    if examples:
        return examples[0]
    for kind in _plain(field.type):
        if isinstance(kind, inspect.LiteralType):
            return kind.values[0]
        if isinstance(kind, inspect.StrType) and kind.pattern in _OF_A_PATTERN:
            return _OF_A_PATTERN[kind.pattern]
        for plain, value in _OF_A_KIND:
            if isinstance(kind, plain):
                return value
    raise TypeError(f"the settings key {field.encode_name} needs msgspec.Meta(examples=[...])")


_OF_A_PATTERN = {DURATION: "10s", SECRET: "env:NAME", SIZE: "64MB"}
_OF_A_KIND: list[tuple[type[inspect.Type], Value]] = [
    (inspect.BoolType, True),
    (inspect.IntType, 1),
    (inspect.FloatType, 1.0),
    (inspect.StrType, "..."),
    (inspect.ListType, []),
    (inspect.VarTupleType, []),
    (inspect.DictType, {}),
]


def _written(value: Value) -> str:
    """A value as TOML writes it."""
    plain = msgspec.to_builtins(value)
    if isinstance(plain, Mapping):
        inner = ", ".join(f"{_name(str(name))} = {_written(entry)}" for name, entry in plain.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(plain, list | tuple | set | frozenset):
        return f"[{', '.join(_written(entry) for entry in plain)}]"
    if isinstance(plain, float):
        return repr(plain)  # inf and nan are words of TOML too
    return json.dumps(plain, ensure_ascii=False)  # a JSON string, number or boolean is one of TOML


def _name(name: str) -> str:
    bare = name.replace("-", "").replace("_", "")
    return name if bare.isascii() and bare.isalnum() else json.dumps(name, ensure_ascii=False)


def _comment(text: str) -> list[str]:
    wrapped = textwrap.wrap(" ".join(text.split()), _WIDTH - 2)
    return [f"# {line}" for line in wrapped]


def _first_paragraph(kind: type[Any]) -> str:
    own = kind.__dict__.get("__doc__") or ""  # not inherited: the parent describes something else
    return textwrap.dedent(own).strip().split("\n\n")[0]
