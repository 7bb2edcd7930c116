"""One payload at a time: what a message says, in any of the shapes that are read; the slow and complete way."""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec

from headwater_edge.decoded import Refused
from headwater_edge.stamps import stamp_us
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Unreadable

Said = tuple[str | None, int, float]
"""Metric (None: that of the topic), time as sent in microseconds or NO_TIME, value."""

_TIMES = ("t", "ts", "time", "timestamp")
_VALUES = ("v", "value")
_MANY = ("values",)
WORDS = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0}
"""Text that is a number, in any case of its letters."""

NOT_PARSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot parse: text that is no UTF-8 and deep nesting have errors of their own."""

_json = msgspec.json.Decoder()


def read(payload: bytes, *, metric_in_topic: bool) -> tuple[list[Said], list[Refused], int]:
    """Read one payload.

    A bare number (metric in the topic); an object with a time, and a value (`v`, `value`), `values`, or values named
    beside the time; a list of such objects. true, false, ON and OFF are 1 and 0; other strings are skipped.

    Returns:
        what it says; what of it cannot be taken: such readings are dead letters, the others count; and how many of
        its values are no readings.

    Raises:
        Unreadable: nothing of it can be taken.
    """
    try:
        said = _json.decode(payload)
    except NOT_PARSED as error:
        said = _bare(payload, error)
    out: list[Said] = []
    refused: list[Refused] = []
    skipped = 0
    for item in said if isinstance(said, list) else [said]:
        skipped += _take(item, metric_in_topic, out, refused)
    return out, refused, skipped


def _bare(payload: bytes, error: Exception) -> Any:
    """Read what is no JSON: ON, off, a padded number."""
    text = payload[:64].decode("ascii", "replace").strip().lower() if len(payload) <= 64 else ""
    if text in WORDS:
        return WORDS[text]
    try:
        return float(text) if text[:1] in "+-.0123456789" and "_" not in text else _not_read(payload, error)
    except ValueError:
        return _not_read(payload, error)


def _not_read(payload: bytes, error: Exception) -> Any:
    raise Unreadable(
        str(error) if payload else "an empty payload", reason="unreadable" if payload else "empty"
    )


def _take(item: Any, metric_in_topic: bool, out: list[Said], refused: list[Refused]) -> int:
    """Take one object or bare value; return how many of its values are no readings."""
    if not isinstance(item, dict):
        if not metric_in_topic:
            raise Unreadable("a value without a name, on a topic without a metric", reason="no-metric")
        return _put(None, NO_TIME, item, out, refused)
    time = NO_TIME
    for key in _TIMES:
        if item.get(key) is not None:
            time = stamp_us(item[key])
            break
    named = {key: value for key, value in item.items() if key not in _TIMES}
    for key in _MANY:
        if isinstance(named.get(key), dict):
            named |= named.pop(key)
    skipped = 0
    for key in _VALUES:
        if metric_in_topic and key in named:
            skipped += _put(None, time, named.pop(key), out, refused)
    for metric, value in named.items():
        skipped += _put(metric, time, value, out, refused)
    return skipped


def _put(metric: str | None, time: int, value: Any, out: list[Said], refused: list[Refused]) -> int:
    match value:
        case bool():
            out.append((metric, time, float(value)))
        case int() | float():
            try:
                number = float(value)
            except OverflowError:
                number = float("inf")
            if isfinite(number):
                out.append((metric, time, number))
            else:
                refused.append(Refused(metric or "value", "no finite number"))
        case str() if value.lower() in WORDS:
            out.append((metric, time, WORDS[value.lower()]))
        case _:
            return 1  # other strings, null and nested objects are no readings
    return 0
