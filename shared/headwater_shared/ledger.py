"""The ledger's format, and reading it: what a fleet of simulated devices sent, and what of it was acknowledged.

`PATH` holds records of 32 bytes, little-endian, the first one the header; `PATH.jsonl` holds what they refer to, a JSON
object a line: the run, devices, metrics, fault intervals, payloads that nobody can read. What is to be sent is
written, by one write, before the socket is; acknowledgements come after. The last record of each write bears `WRITE_END`,
so what a kill tore off is known and cut off, and none of it can have reached a socket. `ledger_writer` writes it, and
is the devices' resend store too. Its unit is the reading (R30); an unreadable message is one.

    kind u8 | flags u8 | metric u16 | device u32 | message u64 | time i64 | value f64

A message is named by its device and a number that the device counts up; a message sent again with DUP keeps its number.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_shared.errors import StateError, StateNewer
from headwater_shared.identity import series_name

VERSION = 1

READING, UNREADABLE, ACKNOWLEDGED, SUPERSEDED, REFUSED = 1, 2, 3, 4, 5
"""Kinds of record. An unreadable message has its payload's crc32 for a time. A superseded message was given up when its
session was lost, a refused one because the server said no: whether they count is not known."""
SENT = (READING, UNREADABLE)
CLOSED = (ACKNOWLEDGED, SUPERSEDED, REFUSED)

COPY, RESENT, WRITE_END = 0x1, 0x2, 0x4
"""Flags. A copy is a reading that an earlier record of its series, time and value names already. Resent: the device sent it
again by itself, as a new message, after its session was lost."""

RECORD = np.dtype(
    [
        ("kind", "u1"),
        ("flags", "u1"),
        ("metric", "<u2"),
        ("device", "<u4"),
        ("message", "<u8"),
        ("time", "<i8"),
        ("value", "<f8"),
    ]
)
PACKED = struct.Struct("<BBHIQqd")
"""A record, for one at a time."""
HEADER = struct.Struct("<8sHHIq8s")
"""Magic, version, size of a record, 0, when it was made (us; for people), zeros."""
MAGIC = b"HWLEDGER"

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Records = NDArray[np.void]


class Reading(NamedTuple):
    """One reading of a device: `metric` is the ledger's index, `time_us` as sent, `NO_TIME` if it is sent without."""

    metric: int
    time_us: int
    value: float


class Message(NamedTuple):
    """One message of a device: readings, or a topic and a payload that nobody can read."""

    device: int
    number: int
    readings: tuple[Reading, ...]
    topic: str = ""
    payload: bytes = b""
    flags: int = 0


class Unreadable(NamedTuple):
    """An unreadable message, by what its dead letter must show."""

    device: int
    message: int
    topic: str
    crc: int
    acknowledged: bool


@dataclass(slots=True)
class Truth:
    """All that a ledger says, readings as columns of one length n, in the order written."""

    run: dict[str, Any]
    faults: list[dict[str, Any]]
    devices: list[tuple[str, str]]
    """(site, device)."""
    metrics: list[str]
    series: list[str]
    """site/device/metric, only those with readings."""
    series_of: Ints
    """Which of `series`."""
    time: Ints
    """As sent, microseconds; `NO_TIME` where the device sent none."""
    value: NDArray[np.float64]
    flags: NDArray[np.uint8]
    acknowledged: Flags
    """Whether the message that carried it was."""
    unreadable: list[Unreadable]
    open_messages: int
    """Neither acknowledged nor given up: a device would still send them."""


def read(path: Path) -> Truth:
    """Read a ledger, which a fleet may be writing.

    Raises:
        StateNewer: a newer version wrote it.
        StateError: it is no ledger, is damaged, or cannot be read.
    """
    try:
        rows = records(path)
        names = Names.read(path)
    except OSError as error:
        raise StateError(
            f"{path} cannot be read: {error.strerror}", hint="name the ledger of a fleet"
        ) from None
    if len(rows) and int(rows["device"].max()) >= len(names.devices):
        raise StateError(f"{path} is damaged: {path}.jsonl lacks devices", hint="keep both files together")
    messages = Messages(rows, len(names.devices))
    acknowledged = messages.with_kind(ACKNOWLEDGED)
    readings = rows[rows["kind"] == READING]
    metrics = max(1, len(names.metrics))
    key = readings["device"].astype(np.int64) * metrics + readings["metric"]
    found, series_of = np.unique(key, return_inverse=True)
    pairs = [(names.devices[k // metrics], names.metrics[k % metrics]) for k in found.tolist()]
    unreadable = rows[rows["kind"] == UNREADABLE]
    sure = acknowledged[messages.index(unreadable)].tolist()
    return Truth(
        names.run or {},
        names.faults,
        names.devices,
        names.metrics,
        [series_name(site, device, metric) for (site, device), metric in pairs],
        series_of.reshape(-1),
        readings["time"].astype(np.int64),
        readings["value"].astype(np.float64),
        readings["flags"].copy(),
        acknowledged[messages.index(readings)],
        [
            Unreadable(device, number, names.payloads[device, number][0], crc, yes)
            for (_, _, _, device, number, crc, _), yes in zip(unreadable.tolist(), sure, strict=True)
        ],
        int((messages.with_kind(*SENT) & ~messages.with_kind(*CLOSED)).sum()),
    )


class Names:
    """The lines beside the records."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.run: dict[str, Any] | None = None
        self.faults: list[dict[str, Any]] = []
        self.devices: list[tuple[str, str]] = []
        self.metrics: list[str] = []
        self.payloads: dict[tuple[int, int], tuple[str, bytes]] = {}
        """(device, message) of each unreadable one: its topic and payload."""
        for line in lines:
            ((kind, body),) = json.loads(line).items()
            if kind == "run":
                self.run = body
            elif kind == "fault":
                self.faults.append(body)
            elif kind == "device":
                self.devices.append((body["site"], body["name"]))
            elif kind == "metric":
                self.metrics.append(body["name"])
            elif kind == "unreadable":
                key = body["device"], body["message"]
                self.payloads[key] = body["topic"], base64.b64decode(body["payload"])

    @classmethod
    def read(cls, path: Path) -> Names:
        """Read the lines of the ledger at `path`; one that a kill tore is left out."""
        lines = lines_path(path)
        raw = lines.read_bytes() if lines.exists() else b""
        return cls(raw[: raw.rfind(b"\n") + 1].splitlines())


class Messages:
    """The messages of a ledger numbered through: message m of device d is at `first[d] + m`."""

    def __init__(self, rows: Records, devices: int) -> None:
        self._rows = rows
        self.following: Ints = np.zeros(devices, np.int64)
        """The number of each device's next message."""
        np.maximum.at(self.following, rows["device"], rows["message"].astype(np.int64) + 1)
        self.first: Ints = np.append(0, np.cumsum(self.following))

    def index(self, rows: Records) -> Ints:
        """The message of each row."""
        at: Ints = self.first[rows["device"]] + rows["message"].astype(np.int64)
        return at

    def having(self, rows: Records) -> Flags:
        """Which messages have one of the rows; one flag a message."""
        found = np.zeros(int(self.first[-1]), np.bool_)
        found[self.index(rows)] = True
        return found

    def with_kind(self, *kinds: int) -> Flags:
        """Which messages have a record of these kinds."""
        return self.having(self._rows[np.isin(self._rows["kind"], kinds)])


def records(path: Path) -> Records:
    """Return the records of all whole writes, without the header.

    Raises:
        StateNewer, StateError: as `read`.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        raise StateError(f"{path} is no ledger", hint="name a new file, or the ledger of a fleet")
    _, version, size, *_ = HEADER.unpack(head)
    if version > VERSION or size != RECORD.itemsize:
        raise StateNewer(
            f"{path} is a ledger of version {version}", hint="use the Headwater that wrote it, or newer"
        )
    found = np.fromfile(path, RECORD)[1:]
    tail = len(found)
    while tail and not found["flags"][tail - 1] & WRITE_END:
        tail -= 1
    return found[:tail]


def lines_path(path: Path) -> Path:
    return path.with_name(path.name + ".jsonl")
