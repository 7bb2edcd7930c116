"""SenML (RFC 8428) in JSON and CBOR: records are resolved against the base fields before them, in the order of the pack."""

from __future__ import annotations

import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from headwater_edge.decoded import Refused
from headwater_edge.format_settings import FormatSettings
from headwater_edge.patterns import Where
from headwater_edge.payloads import NOT_PARSED
from headwater_edge.source import Burst
from headwater_edge.stamps import FARTHEST_US, from_arrival
from headwater_edge.taking import Taking
from headwater_edge.topics import Place, SeriesIndex, our_name
from headwater_shared import extras
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Unreadable
from headwater_shared.identity import valid_name

_VERSION = 10
"""The newest version of SenML that is understood (RFC 8428, 4.4)."""
_ABSOLUTE_S = 2**28
"""Times from here on are seconds since 1970, below it they are relative to now (RFC 8428, 4.5.3)."""
_LABELS = {
    -1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
"""CBOR's labels (RFC 8428, table 4)."""


class _Record(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    n: str = ""
    v: float | None = None
    t: float = 0.0
    bn: str | None = None
    bt: float | None = None
    bv: float | None = None
    bs: float | None = None
    bver: int = 0
    bu: str = ""
    u: str = ""
    vb: bool | None = None
    vs: str | None = None
    vd: str | None = None
    s: float | None = None
    ut: float = 0.0


_FIELDS = frozenset(_Record.__struct_fields__)
_json = msgspec.json.Decoder(list[_Record])
_any_json = msgspec.json.Decoder(list[dict[str, Any]])


_FARTHEST_S = FARTHEST_US / 1e6
_BASES = 1024
"""Base names that are remembered a topic; more empty the memory."""
_BY_UNIT = "\0"
_NO_NUMBERS: dict[str, int] = {}


class _InEffect:
    """The base fields in effect."""

    __slots__ = ("changes_values", "name", "sum", "time", "value")

    def __init__(self) -> None:
        self.name, self.time = "", 0.0
        self.value: float | None = None
        self.sum: float | None = None
        self.changes_values = False

    def take(self, record: _Record) -> None:
        if record.bn is not None:
            self.name = record.bn
        if record.bt is not None:
            self.time = record.bt
        if record.bv is not None:
            self.value = record.bv
        if record.bs is not None:
            self.sum = record.bs
        self.changes_values = self.value is not None or self.sum is not None


class SenMLPlace:
    """A topic with SenML packs: what it says of site and device, and the series of each resolved name."""

    __slots__ = ("codec", "device", "numbers", "site")

    def __init__(self, codec: SenML, site: str | None, device: str | None) -> None:
        self.codec = codec
        self.site = site
        self.device = device
        self.numbers: dict[str, dict[str, int]] = {}
        """By base name and name; those of sums end with `.sum`."""


class SenML:
    """Reads packs."""

    def __init__(self, settings: FormatSettings, index: SeriesIndex) -> None:
        self._settings = settings
        self._index = index
        self._site = settings.site

    def place(self, where: Where) -> SenMLPlace:
        """Make the place of a topic."""
        return SenMLPlace(self, where.site, where.device or self._settings.device or None)

    def take(self, burst: Burst, which: Sequence[int], places: Sequence[SenMLPlace], taking: Taking) -> None:
        """Decode packs one after the other: each is parsed by itself, so that none forges another's reading (R16)."""
        decode = _json.decode
        taking.in_seconds = True
        for message in which:
            payload, place = burst.payloads[message], places[message]
            refused: list[Refused] = []
            try:
                try:
                    records = decode(payload)
                except NOT_PARSED:
                    records = _records(payload)
                self._resolve(records, place, taking, refused)
            except Unreadable as error:
                taking.refuse(message, error, burst.topics[message], payload)
            else:
                taking.took_but(message, refused, burst.topics[message], payload)

    def _resolve(
        self, records: list[_Record], place: SenMLPlace, taking: Taking, refused: list[Refused]
    ) -> None:
        """Resolve records (RFC 8428, 4.6) and append their readings."""
        series, sent, values = taking.series, taking.sent, taking.values
        base = _InEffect()
        numbers = place.numbers.get("", _NO_NUMBERS)
        for record in records:
            if (
                record.bn is not None
                or record.bt is not None
                or record.bv is not None
                or record.bs is not None
            ):
                base.take(record)
                numbers = place.numbers.get(base.name, _NO_NUMBERS)
            if record.bver > _VERSION:
                raise Unreadable(f"SenML of version {record.bver}", reason="senml-version")
            value = record.v
            if (
                value is None
                or base.changes_values
                or record.s is not None
                or record.vb is not None
                or record.vs is not None
                or record.vd is not None
            ):
                value = self._other(record, base, place, taking, refused)
                if value is None:
                    continue
            own = record.n or _own(record)
            number = numbers.get(own)
            if number is None:
                number = self._number(place, base.name, own, refused)
                if number < 0:
                    continue
                numbers = place.numbers[base.name]
            time = base.time + record.t
            if not _ABSOLUTE_S <= time < _FARTHEST_S:
                taking.odd[len(sent)] = _not_absolute(time)
            series.append(number)
            sent.append(time)
            values.append(value)

    def _other(
        self, record: _Record, base: _InEffect, place: SenMLPlace, taking: Taking, refused: list[Refused]
    ) -> float | None:
        """Take the sum of a record, if it has one, and return its value, None if it has none that is a reading.

        Raises:
            Unreadable: it has two values, or a name and neither value nor sum.
        """
        has_sum = base.sum is not None or record.s is not None
        if has_sum:
            number = self._number(place, base.name, record.n or _own(record), refused, ".sum")
            if number >= 0:
                time = base.time + record.t
                if not _ABSOLUTE_S <= time < _FARTHEST_S:
                    taking.odd[len(taking.sent)] = _not_absolute(time)
                taking.series.append(number)
                taking.sent.append(time)
                taking.values.append((base.sum or 0.0) + (record.s or 0.0))
        said = [value for value in (record.v, record.vb, record.vs, record.vd) if value is not None]
        if len(said) > 1:
            raise Unreadable("a record with two values", reason="unreadable")
        if record.v is not None:
            return record.v + (base.value or 0.0)
        if record.vb is not None:
            return float(record.vb)
        if said:
            taking.skipped += 1  # text or data
            return None
        if has_sum or not record.n:  # or base fields alone
            return None
        if base.value is None:
            raise Unreadable(f"a record without a value: {record.n[:80]!r}", reason="unreadable")
        return base.value  # a value that is missing beside a base value counts as 0 (RFC 8428, 4.5.4)

    def _number(
        self, place: SenMLPlace, base: str, own: str, refused: list[Refused], suffix: str = ""
    ) -> int:
        """Return the number of a resolved name's series; -1 if it gets none."""
        known = place.numbers.setdefault(base, {}).get(own + suffix) if suffix else None
        if known is not None:
            return known
        unit = own[1:] if own.startswith(_BY_UNIT) else ""
        site, device, metric = self._named(place, base if unit else base + own)
        if unit:
            metric = our_name(unit) if metric == "value" else f"{metric}.{our_name(unit)}"
        metric += suffix
        number: int | Unreadable = Unreadable("no name for a site or a device", reason="not-taken")
        if valid_name(site) and valid_name(device):
            number = Place(site, device).number(self._index, metric)
        if isinstance(number, Unreadable):
            refused.append(Refused(metric, number.message, number.reason))
            return -1
        if len(place.numbers) > _BASES:
            place.numbers.clear()
        place.numbers.setdefault(base, {})[own + suffix] = number
        return number

    def _named(self, place: SenMLPlace, name: str) -> tuple[str, str, str]:
        """Split a resolved name: what the topic says rules, what it leaves open comes from the name, read from its end.

        A device that begins the name, or ends the part before the last `:` or `/`, is not said again in the metric.
        """
        site, device = place.site, place.device
        cut = max(name.rfind("/"), name.rfind(":"))
        before, last = name[: max(cut, 0)], name[cut + 1 :]
        if device is None:
            if site is None and before.count("/") >= 1:
                site, before = before.split("/", 1)
            if not before:
                raise Unreadable(
                    f"neither topic nor name {name[:80]!r} says which device", reason="no-device"
                )
            metric, device = last, our_name(before)
        elif before in ("", device) or before.endswith((f"/{device}", f":{device}")):
            metric = last
        elif name == device or name.endswith((f"/{device}", f":{device}")):
            metric = "value"
        else:
            metric = name
        return our_name(site or self._site), device, our_name(metric) or "value"


def _own(record: _Record) -> str:
    """Name a record that has no name of its own: by its own unit, if it has one (RFC 8428, 5.1.3: %RH, lon and lat)."""
    return _BY_UNIT + record.u if record.u else ""


def _not_absolute(time: float) -> int:
    """Write down a resolved time in seconds that is not one since 1970.

    Raises:
        Unreadable: it is no time, or too far off.
    """
    if time == 0:
        return NO_TIME
    if -_ABSOLUTE_S < time < _ABSOLUTE_S:
        return from_arrival(round(time * 1e6))
    raise Unreadable(f"{time!r} is no time", reason="bad-time")


def _records(payload: bytes) -> list[_Record]:
    """Read a pack that is CBOR, or JSON with fields that RFC 8428 does not know.

    Raises:
        Unreadable: it is neither, or must not be used by who does not understand it.
    """
    if not payload:
        raise Unreadable("an empty payload", reason="empty")
    try:
        raw = _cbor(payload) if 0x80 <= payload[0] <= 0x9F else _any_json.decode(payload)
        for record in raw:
            for label in [label for label in record if label not in _FIELDS]:
                if label.endswith("_"):  # must be understood (RFC 8428, 4.4)
                    raise Unreadable(f"SenML with the field {label[:80]!r}", reason="senml-version")
                del record[label]
        return msgspec.convert(raw, list[_Record])
    except (*NOT_PARSED, msgspec.ValidationError, OverflowError) as error:
        raise Unreadable(str(error), reason="unreadable") from None


def _cbor(payload: bytes) -> list[dict[str, Any]]:
    cbor2 = extras.load("cbor2", "edge")
    stream = io.BytesIO(payload)
    try:
        said = cbor2.CBORDecoder(stream, semantic_decoders=_REFUSED_TAGS, max_depth=8).decode()
    except Exception as error:  # noqa: BLE001 - a tag's own reader may raise what it likes
        raise Unreadable(f"no CBOR: {error}"[:200], reason="unreadable") from None
    if stream.tell() != len(payload):
        raise Unreadable("more than one CBOR item", reason="unreadable")
    if not isinstance(said, list) or not all(isinstance(record, dict) for record in said):
        raise Unreadable("no list of records", reason="unreadable")
    return [{_label(label): _plain(value) for label, value in record.items()} for record in said]


def _label(label: Any) -> str:
    if isinstance(label, int):
        return _LABELS.get(label, "unknown")
    return label if isinstance(label, str) else "unknown"


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _refuse_tag(_: Any) -> Any:
    raise ValueError("a tag that SenML has no use for")


_REFUSED_TAGS = dict.fromkeys(
    (0, 1, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000), _refuse_tag
)
"""All that cbor2 reads but big integers and decimal fractions: some of it costs more than its bytes (patterns, mail)."""
