"""The ledger's format, and reading it: what a fleet of simulated devices sent, and what of it was acknowledged.

`PATH` holds records of 32 bytes, little-endian, the first one the header; `PATH.jsonl` holds what they refer to, a JSON
object a line: the run, devices, metrics, fault intervals, payloads that nobody can read, commands that were executed. What is to be sent is
written, by one write, before the socket is; acknowledgements come after. The last record of each write bears `WRITE_END`,
so what a kill tore off is known and cut off, and none of it can have reached a socket. `ledger_writer` writes it, and
is the devices' resend store too. Its unit is the reading (R30); an unreadable message is one.

    kind u8 | flags u8 | metric u16 | device u32 | message u64 | time i64 | value f64

A message is named by its device and a number that the device counts up; a message sent again with DUP keeps its number.
"""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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

_PIECE = 1 << 19
"""Records that are in memory at once."""
_TAIL = 1 << 12

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


class Executed(NamedTuple):
    """A command that a device executed: a line beside the records, once for each time that it did so."""

    device: int
    id: str
    name: str
    time_us: int


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
    series_of: NDArray[np.int32]
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
        pieces = Pieces(path)
        names = Names.read(path)
        return _truth(path, pieces, names)
    except OSError as error:
        raise StateError(
            f"{path} cannot be read: {error.strerror}", hint="name the ledger of a fleet"
        ) from None


def _truth(path: Path, pieces: Pieces, names: Names) -> Truth:
    """Read a ledger a piece at a time: of its records only the columns of readings are kept."""
    metrics = max(1, len(names.metrics))
    known = np.zeros(len(names.devices) * metrics, np.bool_)
    length = 0
    unreadable = [np.zeros(0, RECORD)]
    for rows in pieces:
        if int(rows["device"].max()) >= len(names.devices):
            raise StateError(
                f"{path} is damaged: {path}.jsonl lacks devices", hint="keep both files together"
            )
        is_reading = rows["kind"] == READING
        known[_pairs(rows[is_reading], metrics)] = True
        length += int(is_reading.sum())
        unreadable.append(rows[rows["kind"] == UNREADABLE])
    messages = Messages(pieces, len(names.devices))
    acknowledged = messages.with_kind(ACKNOWLEDGED)
    found = np.flatnonzero(known)
    number = np.cumsum(known, dtype=np.int32) - 1
    truth = Truth(
        names.run or {},
        names.faults,
        names.devices,
        names.metrics,
        [series_name(*names.devices[k // metrics], names.metrics[k % metrics]) for k in found.tolist()],
        np.empty(length, np.int32),
        np.empty(length, np.int64),
        np.empty(length, np.float64),
        np.empty(length, np.uint8),
        np.empty(length, np.bool_),
        [],
        int((messages.with_kind(*SENT) & ~messages.with_kind(*CLOSED)).sum()),
    )
    at = 0
    for rows in pieces:
        readings = rows[rows["kind"] == READING][: length - at]
        mine = slice(at, at + len(readings))
        at += len(readings)
        truth.series_of[mine] = number[_pairs(readings, metrics)]
        truth.time[mine], truth.value[mine] = readings["time"], readings["value"]
        truth.flags[mine] = readings["flags"]
        truth.acknowledged[mine] = acknowledged[messages.index(readings)]
    others = np.concatenate(unreadable)
    sure = acknowledged[messages.index(others)].tolist()
    truth.unreadable += [
        Unreadable(device, number, names.payloads[device, number][0], crc, yes)
        for (_, _, _, device, number, crc, _), yes in zip(others.tolist(), sure, strict=True)
    ]
    return truth


def _pairs(rows: Records, metrics: int) -> Ints:
    """Number device and metric of each row as one."""
    pairs: Ints = rows["device"].astype(np.int64) * metrics + rows["metric"]
    return pairs


class Names:
    """The lines beside the records."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.run: dict[str, Any] | None = None
        self.faults: list[dict[str, Any]] = []
        self.devices: list[tuple[str, str]] = []
        self.metrics: list[str] = []
        self.executed: list[Executed] = []
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
            elif kind == "executed":
                self.executed.append(Executed(**body))
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

    def __init__(self, pieces: Iterable[Records], devices: int) -> None:
        """Take the records in pieces, which are gone through several times."""
        self._pieces = pieces
        self.following: Ints = np.zeros(devices, np.int64)
        """The number of each device's next message."""
        for rows in pieces:
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
        found = np.zeros(int(self.first[-1]), np.bool_)
        for rows in self._pieces:
            found[self.index(rows[np.isin(rows["kind"], kinds)])] = True
        return found


class Pieces:
    """The records of all whole writes as they stood at first, without the header, some at a time."""

    def __init__(self, path: Path) -> None:
        """Look at the header, and for the end of the last whole write.

        Raises:
            StateNewer, StateError: as `read`.
            OSError: it cannot be read.
        """
        self._path = path
        with path.open("rb") as file:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size or not head.startswith(MAGIC):
                raise StateError(f"{path} is no ledger", hint="name a new file, or the ledger of a fleet")
            _, version, size, *_ = HEADER.unpack(head)
            if version > VERSION or size != RECORD.itemsize:
                raise StateNewer(
                    f"{path} is a ledger of version {version}",
                    hint="use the Headwater that wrote it, or newer",
                )
            self._end = file.seek(0, io.SEEK_END) // size
            while self._end > 1:
                begin = max(1, self._end - _TAIL)
                file.seek(begin * size)
                last = np.flatnonzero(_some(file, self._end - begin)["flags"] & WRITE_END)
                self._end = begin + (int(last[-1]) + 1 if len(last) else 0)
                if len(last):
                    break

    def __iter__(self) -> Iterator[Records]:
        with self._path.open("rb") as file:
            file.seek(RECORD.itemsize)
            for begin in range(1, self._end, _PIECE):
                yield _some(file, min(_PIECE, self._end - begin))


def _some(file: BinaryIO, count: int) -> Records:
    return np.frombuffer(file.read(count * RECORD.itemsize), RECORD)


def records(path: Path) -> Records:
    """Return the records of all whole writes, without the header.

    Raises:
        StateNewer, StateError: as `read`.
        OSError: it cannot be read.
    """
    return np.concatenate([np.zeros(0, RECORD), *Pieces(path)])


def lines_path(path: Path) -> Path:
    return path.with_name(path.name + ".jsonl")
