"""Line protocol, as InfluxDB 1, 2 and 3 read it: windows straight from columns, what was found a line at a time.

The text: https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/. A line ends with a newline and has
none within, so that a body can be split at them. Numbers are written by columns: msgspec writes a list of floats ten times
quicker than Python writes them one by one, and each is the shortest that reads back as the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, repeat

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud.merge import Windows
from headwater_cloud.quantiles import several
from headwater_shared.identity import ALL

Value = str | float | int | bool | None
"""Of a field: text, a float, an integer (with `i`), true or false; None is left out."""

_LARGEST = float(np.finfo(np.float64).max)
_QUANTILES = (0.5, 0.95, 0.99)
_LOW = np.uint64(0xFFFF_FFFF)

_IN_TAG = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ ", "\\": "\uff3c"})
"""A backslash cannot be written in every place of a tag: the sign that looks like it stands for it."""
_IN_TEXT = str.maketrans({'"': r"\"", "\\": r"\\"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def database(prefix: str, level: str) -> str:
    """Return in which database, or bucket, the points of a level are: `headwater_1m`, `headwater_10m_1m`."""
    return f"{prefix}_{re.sub('[^A-Za-z0-9]', '_', level)}"


def window_head(series: str, level: str) -> bytes:
    """Return the beginning of each line of a series and level: measurement and tags."""
    site, device, metric, *_ = *series.split("/", 2), "", ""
    tags = _tags({"site": site, "device": device, "metric": metric, "level": level})
    return f"windows{tags} ".encode()


def window_lines(heads: Sequence[bytes], windows: Windows) -> bytes:
    """Write windows of one level as points; one of count 0 has 0 in all fields.

    Args:
        heads: of each window what `window_head` says.
        windows: all of a window is in its point: one that comes again writes over it whole.
    """
    a, there = windows.aggregates, windows.aggregates.count > 0
    count = a.count.astype(np.float64)
    count[~there] = 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        stddev = np.sqrt(a.m2 / count)
    digest = a.digest
    floats = {"mean": a.mean, "stddev": stddev, "min": a.min, "max": a.max, "first": a.first, "last": a.last}
    for q, found in zip(_QUANTILES, several(windows.sketches, _QUANTILES), strict=True):
        # The middle of the outermost bucket may lie beyond what was seen.
        floats[f"p{q * 100:g}"] = np.clip(np.where(there, found, 0.0), a.min, a.max)
    integers = {
        "digest_hi": (digest >> np.uint64(32)).view(np.int64),
        "digest_lo": (digest & _LOW).view(np.int64),
        "parts": windows.parts,
        "revision": windows.revision,
        "flags": windows.flags,
    }
    pieces: list[Sequence[bytes] | repeat[bytes]] = [heads, repeat(b"count="), _texts(a.count)]
    before = b"i"
    for name, column in floats.items():
        pieces += _float_field(before + b"," + name.encode() + b"=", before, column)
        before = b""
    for name, numbers in integers.items():
        pieces += [repeat(before + b"," + name.encode() + b"="), _texts(numbers)]
        before = b"i"
    pieces += [repeat(b"i "), _texts(windows.start), repeat(b"\n")]
    return b"".join(chain.from_iterable(zip(*pieces, strict=False)))


def line(measurement: str, tags: Mapping[str, str], fields: Mapping[str, Value], time: int) -> bytes:
    """Write one point; empty tags are left out, and so are fields that are None or NaN. At least one field is there."""
    written = ",".join(f"{name}={text}" for name, value in fields.items() if (text := _value(value)))
    return f"{measurement}{_tags(tags)} {written} {time}\n".encode()


def place_of(subject: str) -> tuple[str, str, str]:
    """Return site, device and metric of a series, of a device, or of a site; empty what it does not have, and of a cohort or an agent all."""
    if subject.startswith((ALL, "agent:")):
        return "", "", ""
    site, device, metric, *_ = *subject.split("/", 2), "", ""
    return site, device, metric


def _tags(tags: Mapping[str, str]) -> str:
    """Sorted, as InfluxDB wants them to be quick."""
    return "".join(
        f",{name}={_control_free(tags[name]).translate(_IN_TAG)}" for name in sorted(tags) if tags[name]
    )


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i"
    if isinstance(value, float):
        return "" if value != value else repr(min(max(value, -_LARGEST), _LARGEST))  # noqa: PLR0124 - NaN
    return "" if value is None else f'"{_control_free(value).translate(_IN_TEXT)}"'


def _control_free(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _float_field(
    name: bytes, between: bytes, column: NDArray[np.float64]
) -> list[Sequence[bytes] | repeat[bytes]]:
    """Return what a line has of a float field: its name and the value, or neither where it is NaN, which no store takes.

    What is infinite, as the square of large values, is written as the largest float.
    """
    missing = np.isnan(column)
    texts = _texts(np.clip(column, -_LARGEST, _LARGEST))
    if not missing.any():
        return [repeat(name), texts]
    return [[between if none else name + text for none, text in zip(missing.tolist(), texts, strict=True)]]


def _texts(column: NDArray[np.float64] | NDArray[np.int64]) -> list[bytes]:
    return msgspec.json.encode(column.tolist())[1:-1].split(b",") if len(column) else []
