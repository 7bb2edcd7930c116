"""The records between the stages of a comparison: what a shard has of a cohort, as columns, and what was found of a device."""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_shared import avro
from headwater_shared.avro_columns import Cut, NameLists, array_bytes, column_bytes, long_bytes, text_bytes

PEERS, FINDING = "peers", "finding"
"""Kinds of record: the end of `ce_type`."""
PEERS_SCHEMA, FINDING_SCHEMA = "peers-1", "finding-1"

_FAR_US = 2**61

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class PeersHead(msgspec.Struct, frozen=True):
    """Of which window of which cohort, by which rule. Times in microseconds."""

    rule: str
    cohort: str
    metric: str
    level: str
    start_us: int
    length_us: int
    shard: int
    clock_us: int
    """The shard's clock when it was made: of a shard's records of a window the latest count."""
    piece: int
    """Which of the records that were made together, from 0,"""
    pieces: int
    """and how many of them there are."""
    readings: int
    """In all of them: of two that were made at one clock the one with more counts."""
    rules_us: int
    """When the rules were put in that hold this one."""
    away: float
    least: float
    peers: int
    severity: str
    text: str


_TEXTS = ("rule", "cohort", "metric", "level")
_LONGS = ("start_us", "length_us", "shard", "clock_us", "piece", "pieces", "readings", "rules_us")


class Peers(msgspec.Struct, frozen=True):
    """The devices that one shard has of a cohort, in one metric and window; n rows."""

    head: PeersHead
    devices: list[str]
    """`site/device`, n of them."""
    agents: list[str]
    agent: Ints
    """Of each device, an index into `agents`: whose windows these are."""
    count: Ints
    """Readings."""
    mean: Floats
    body: bytes = b""
    """As it came; empty if it was made here."""


class Finding(msgspec.Struct, frozen=True):
    """How a device stands among its peers in one window. Times in microseconds, values in the metric's unit."""

    id: str
    """Of one id the record with the latest `made_us` counts."""
    rule: str
    cohort: str
    device: str
    """`site/device`."""
    metric: str
    level: str
    start_us: int
    length_us: int
    shard: int
    agent: str
    made_us: int
    """The second stage's clock, grown by one where it stood."""
    outlier: bool
    """False: what was found before holds no longer."""
    value: float
    median: float
    spread: float
    away: float
    """How many spreads the value is from the median."""
    peers: int
    """How many other devices it was compared with."""
    severity: str
    text: str

    @property
    def series(self) -> str:
        return f"{self.device}/{self.metric}"


def encode(peers: Peers) -> bytes:
    """Encode in Avro single-object encoding."""
    head = peers.head
    out = [avro.MARKER, avro.fingerprint(PEERS_SCHEMA)]
    out += [text_bytes(getattr(head, name)) for name in _TEXTS]
    out += [long_bytes(getattr(head, name)) for name in _LONGS]
    out.append(np.array([head.away, head.least], "<f8").tobytes())
    out += [long_bytes(head.peers), text_bytes(head.severity), text_bytes(head.text)]
    out += [_NAMES.encoded(peers.devices), array_bytes(list(map(text_bytes, peers.agents)))]
    out += map(column_bytes, (peers.agent, peers.count, peers.mean))
    return b"".join(out)


def decode(body: bytes) -> Peers:
    """Decode a record of any known version.

    Raises:
        ValueError: no such record, a version unknown here, or damaged.
    """
    avro.written_as((PEERS_SCHEMA,), body)
    cut = Cut(body, 10)
    try:
        found = _decoded(cut, body)
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a damaged {PEERS_SCHEMA} record: {error}") from error
    if cut.at != len(body):
        raise ValueError(f"a damaged {PEERS_SCHEMA} record: {len(body) - cut.at} bytes too many")
    _check(found)
    return found


def encode_finding(finding: Finding) -> bytes:
    """Encode in Avro single-object encoding."""
    return avro.encode(FINDING_SCHEMA, msgspec.structs.asdict(finding))


def decode_finding(body: bytes) -> Finding:
    """Decode a record of any known version.

    Raises:
        ValueError: no such record, a version unknown here, or damaged.
    """
    found = Finding(**avro.decode((FINDING_SCHEMA,), body)[1])
    numbers = (found.value, found.median, found.spread, found.away)
    if (
        not _of_time(found.start_us, found.length_us)
        or "/" not in found.device
        or not all(map(isfinite, numbers))
    ):
        raise ValueError(f"a damaged {FINDING_SCHEMA} record: no window, device or number")
    return found


def _decoded(cut: Cut, body: bytes) -> Peers:
    known: dict[str, Any] = {name: cut.text() for name in _TEXTS}
    known |= {name: cut.long() for name in _LONGS}
    away, least = np.frombuffer(cut.raw(16), "<f8").tolist()
    head = PeersHead(**known, away=away, least=least, peers=cut.long(), severity=cut.text(), text=cut.text())
    devices = _NAMES.cut((head.cohort, head.shard, head.piece), cut)
    agents = _NAMES.cut((head.shard, "agents"), cut)
    agent, count, mean = cut.columns(3)
    return Peers(head, devices, agents, agent, count, mean.view(np.float64), body)


_NAMES = NameLists()


def _check(found: Peers) -> None:
    """Refuse columns that do not fit each other."""
    n, head = len(found.devices), found.head
    fits = n == len(found.mean) and 0 <= head.piece < head.pieces and _of_time(head.start_us, head.length_us)
    fits = fits and bool(np.isfinite([head.away, head.least]).all() and np.isfinite(found.mean).all())
    if n:
        fits = fits and 0 <= int(found.agent.min()) <= int(found.agent.max()) < len(found.agents)
    if not fits:
        raise ValueError(f"a damaged {PEERS_SCHEMA} record: columns that do not fit each other")


def _of_time(start_us: int, length_us: int) -> bool:
    """Tell whether a window can be: sums of its times must not overflow."""
    return abs(start_us) < _FAR_US and 0 < length_us < _FAR_US
