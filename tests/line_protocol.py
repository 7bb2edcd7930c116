"""Line protocol as InfluxDB reads it, and stricter: what two versions of it read differently is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

Value = float | int | str | bool

_UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
PRECISIONS = tuple(_UNITS_NS)
_MOST_KEY = 65_535
"""Bytes of measurement and tags, and of a string."""

# What stands before a separator decides: a backslash that is no escape is itself, also before another one.
_WORD = r"(?:\\[,= ]|[^,= \n\\]|\\(?![,= ]))+"
_MEASUREMENT = r"(?:\\[, ]|[^, \n\\]|\\(?![, ]))+"
_STRING = r'"(?:\\["\\]|[^"\\]|\\(?!["\\]))*"'
_FIELD = rf"({_WORD})=({_STRING}|[^ ,\"]+)"
_LINE = re.compile(
    rf"(?P<measurement>{_MEASUREMENT})(?P<tags>(?:,{_WORD}={_WORD})*) "
    rf"(?P<fields>{_WORD}=(?:{_STRING}|[^ ,\"]+)(?:,{_WORD}=(?:{_STRING}|[^ ,\"]+))*) (?P<time>-?[0-9]+)",
    re.DOTALL,
)
_TAG = re.compile(rf",({_WORD})=({_WORD})")
_ONE_FIELD = re.compile(_FIELD, re.DOTALL)
_ESCAPE = re.compile(r"\\([,= ])")
_IN_STRING = re.compile(r'\\(["\\])')
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_INT = re.compile(r"(-?[0-9]+)i")
_BOOLS = {"t": True, "T": True, "true": True, "True": True, "TRUE": True,
          "f": False, "F": False, "false": False, "False": False, "FALSE": False}  # fmt: skip


class Malformed(Exception):
    """A line that is none; says why."""


class Point(NamedTuple):
    """One point."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    """Sorted."""
    fields: dict[str, Value]
    time_ns: int


def kind(value: Value) -> str:
    """Name the type of a field as InfluxDB does."""
    return {bool: "boolean", int: "integer", float: "float", str: "string"}[type(value)]


def lines(body: str) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, from 1; a newline within a string ends none."""
    start, quoted, number, escaped = 0, False, 1, False
    if '"' not in body:
        yield from ((n, line) for n, line in enumerate(body.split("\n"), 1) if line)
        return
    for at, char in enumerate(body):
        if char == '"' and not escaped:
            quoted = not quoted
        elif char == "\n" and not quoted:
            if at > start:
                yield number, body[start:at]
            start, number = at + 1, number + 1
        escaped = char == "\\" and not escaped and quoted
    if len(body) > start:
        yield number, body[start:]


def parse(line: str, precision: str) -> Point:
    """Read one line.

    Raises:
        Malformed: it is none, or InfluxDB takes it for something else than it says.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        raise Malformed(_why(line))
    measurement = found["measurement"].replace("\\,", ",").replace("\\ ", " ")
    tags = [(_plain(key), _plain(value)) for key, value in _TAG.findall(found["tags"])]
    fields = {}
    for key, value in _ONE_FIELD.findall(found["fields"]):
        if (name := _plain(key)) in fields:
            raise Malformed(f"duplicate field {name!r}")
        fields[name] = _value(value)
    names = [name for name, _ in tags]
    if len(set(names)) < len(names):
        raise Malformed("duplicate tags")
    for name in (measurement, *names, *fields):
        if name == "time" or name.startswith("_"):
            raise Malformed(f"{name!r} is reserved")
    if set(names) & set(fields):
        raise Malformed(f"{sorted(set(names) & set(fields))} are tags and fields")
    if any(value.endswith("\\") for _, value in tags):
        raise Malformed("a tag's value ends with a backslash")
    if len((found["measurement"] + found["tags"]).encode()) > _MOST_KEY:
        raise Malformed("max key length exceeded")
    time_ns = int(found["time"]) * _UNITS_NS[precision]
    if not -(2**63) + 2 <= time_ns <= 2**63 - 2:
        raise Malformed("time outside range")
    return Point(measurement, tuple(sorted(tags)), fields, time_ns)


def _plain(word: str) -> str:
    return _ESCAPE.sub(r"\1", word)


def _value(text: str) -> Value:
    if text.startswith('"'):
        if len(text.encode()) > _MOST_KEY:
            raise Malformed("a string of more than 64 KB")
        return _IN_STRING.sub(r"\1", text[1:-1])
    if text in _BOOLS:
        return _BOOLS[text]
    whole = _INT.fullmatch(text)
    if whole:
        value = int(whole[1])
        if not -(2**63) <= value < 2**63:
            raise Malformed(f"unable to parse integer {text}: value out of range")
        return value
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in {float("inf"), float("-inf")}:
            raise Malformed(f"unable to parse float {text}: value out of range")
        return number
    raise Malformed(f"invalid number {text}")  # NaN and infinities, too


def _why(line: str) -> str:
    if line.startswith(("#", ",", " ")):
        return "missing measurement"
    if " " not in line:
        return "missing fields"
    if re.search(r"=(?:[, ]|$)", line):
        return "missing field value or tag value"
    if re.fullmatch(r".*[ ]-?[0-9]+", line, re.DOTALL) is None:
        return "invalid field format, or no timestamp"
    return "invalid tag or field format"
