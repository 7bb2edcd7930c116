"""Influx line protocol: `measurement,tag=value field=1.5,other=2i 1556813561098000000`, any number of lines a message."""

from __future__ import annotations

import re
from collections.abc import Sequence

from headwater_edge.decoded import Refused
from headwater_edge.format_settings import FormatSettings
from headwater_edge.patterns import Where
from headwater_edge.source import Burst
from headwater_edge.stamps import stamp_us
from headwater_edge.taking import Taking
from headwater_edge.topics import Place, SeriesIndex, our_name
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Unreadable
from headwater_shared.identity import valid_name

_HEADS = 1024
"""Heads of lines (measurement and tags) that are remembered a topic."""

_HEAD = re.compile(r"((?:[^,\\ ]|\\.)+)((?:,(?:[^,=\\ ]|\\.)+=(?:[^,=\\ ]|\\.)+)*) +", re.DOTALL)
_TAG = re.compile(r",((?:[^,=\\ ]|\\.)+)=((?:[^,=\\ ]|\\.)+)", re.DOTALL)
_FIELD = re.compile(
    r'((?:[^,=\\ ]|\\.)+)=(?:"((?:[^"\\]|\\.)*)"|([^," ]+))(,| +|$)',
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\([,= ])")
_BOOLEANS = {
    word: float(word[0] in "tT")
    for word in ("t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE")
}


class InfluxPlace:
    """A topic with lines: what it says of site and device, and for each head of a line its device and metric's begin."""

    __slots__ = ("codec", "device", "heads", "metric", "site")

    def __init__(self, codec: Influx, where: Where) -> None:
        self.codec = codec
        self.site = where.site
        self.device = where.device
        self.metric = where.metric
        self.heads: dict[str, tuple[Place, str]] = {}


class Influx:
    """Reads lines. Tags that do not name the device are part of the metric, so that no two series meet in one."""

    def __init__(self, settings: FormatSettings, index: SeriesIndex) -> None:
        self._settings = settings
        self._index = index

    def place(self, where: Where) -> InfluxPlace:
        """Make the place of a topic."""
        return InfluxPlace(self, where)

    def take(self, burst: Burst, which: Sequence[int], places: Sequence[InfluxPlace], taking: Taking) -> None:
        """Decode messages one after the other, each line of them by itself (R16)."""
        for message in which:
            topic, payload = burst.topics[message], burst.payloads[message]
            refused: list[Refused] = []
            try:
                try:
                    text = payload.decode()
                except UnicodeDecodeError as error:
                    raise Unreadable(str(error), reason="unreadable") from None
                if not text.strip():
                    raise Unreadable("an empty payload", reason="empty")
                for line in text.split("\n"):
                    bare = line.strip("\r ")
                    if bare and bare[0] != "#":
                        self._line(bare, places[message], taking, refused)
            except Unreadable as error:
                taking.refuse(message, error, topic, payload)
            else:
                taking.took_but(message, refused, topic, payload)

    def _line(self, line: str, place: InfluxPlace, taking: Taking, refused: list[Refused]) -> None:
        head = _HEAD.match(line)
        if head is None:
            raise Unreadable(f"no line of measurement, fields and time: {line[:80]!r}", reason="unreadable")
        device, begin = place.heads.get(head[0]) or self._head(head, place)
        before, at, last = len(taking.series), head.end(), ","
        while last == ",":
            field = _FIELD.match(line, at)
            if field is None:
                raise Unreadable(f"no field: {line[at : at + 80]!r}", reason="unreadable")
            at, last = field.end(), field[4]
            if field[3] is None:
                taking.skipped += 1  # text
                continue
            value = _value(field[3])
            metric = begin + our_name(_plain(field[1]))
            number = device.number(self._index, metric)
            if isinstance(number, Unreadable):
                refused.append(Refused(metric, number.message, number.reason))
            else:
                taking.series.append(number)
                taking.values.append(value)
        time = NO_TIME if at == len(line) else _time(line[at:])
        taking.sent += [time] * (len(taking.series) - before)

    def _head(self, head: re.Match[str], place: InfluxPlace) -> tuple[Place, str]:
        """Find the device of lines that begin so, and how their metrics do."""
        tags = [(_plain(key), _plain(value)) for key, value in _TAG.findall(head[2])]
        device = place.device
        if device is None:
            names = self._settings.device or "host"
            device = next((our_name(value) for key, value in tags if key == names), None)
            tags = [(key, value) for key, value in tags if key != names]
        if device is None or not valid_name(device):
            raise Unreadable(
                f"neither topic nor tag {self._settings.device or 'host'} says which device",
                reason="no-device",
            )
        begin = "".join(
            [our_name(_plain(head[1])), *(f",{our_name(k)}={our_name(v)}" for k, v in sorted(tags))]
        )
        prefix = f"{place.metric}." if place.metric else ""
        found = Place(place.site or self._settings.site, device), f"{prefix}{begin}."
        if len(place.heads) >= _HEADS:
            place.heads.clear()
        place.heads[head[0]] = found
        return found


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _value(text: str) -> float:
    known = _BOOLEANS.get(text)
    if known is not None:
        return known
    number = text[:-1] if text[-1] in "iu" else text
    try:
        if "_" not in number:
            return float(number)
    except ValueError:
        pass
    raise Unreadable(f"{text[:80]!r} is no value", reason="unreadable")


def _time(text: str) -> int:
    if not text.lstrip("-").isdecimal() or len(text) > 32:
        raise Unreadable(f"{text[:80]!r} is no time", reason="bad-time")
    return stamp_us(int(text))
