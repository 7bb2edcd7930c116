"""Writing a ledger, and taking it up again: it is the resend store of the devices whose truth it keeps."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import time
from binascii import crc32
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from headwater_shared.errors import StateError, StateInUse
from headwater_shared.ledger import (
    ACKNOWLEDGED,
    CLOSED,
    HEADER,
    MAGIC,
    PACKED,
    READING,
    RECORD,
    REFUSED,
    RESENT,
    SENT,
    SUPERSEDED,
    UNREADABLE,
    VERSION,
    WRITE_END,
    Executed,
    Message,
    Messages,
    Names,
    Reading,
    lines_path,
    records,
)

_pack = PACKED.pack
_FLAGS_OF_LAST = 1 - RECORD.itemsize


class Progress(NamedTuple):
    """How far a device is: the number of its next message, and how many it sent that were not `RESENT`."""

    next_message: int
    own: int


class Ledger:
    """A ledger open for writing, by one process.

    Nothing that was added may be sent before `commit` returned. Calls never overlap.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the ledger; cut off what a kill tore.

        Raises:
            StateInUse: another fleet writes it.
            StateNewer: a newer version wrote it.
            StateError: it is no ledger, or cannot be opened.
        """
        self._path = path
        self._fd = self._lines_fd = -1
        self._records = bytearray()
        self._lines: list[str] = []
        try:
            self._open()
        except BlockingIOError:
            self._let_go()
            raise StateInUse(
                f"{path} is being written by another fleet", hint="end that one, or name another ledger"
            ) from None
        except OSError as error:
            self._let_go()
            raise StateError(f"{path} cannot be opened: {error.strerror}", hint="name another path") from None
        except BaseException:
            self._let_go()
            raise
        names = Names.read(path)
        self.run = names.run
        """What `begin` was told, or None in a new ledger."""
        self.were_executed = names.executed
        """Commands, as of when it was opened."""
        self._devices = {name: index for index, name in enumerate(names.devices)}
        self._metrics = {name: index for index, name in enumerate(names.metrics)}

    def begin(self, run: Mapping[str, Any], faults: Iterable[Mapping[str, Any]]) -> None:
        """Write what the run is, and its fault intervals; whoever opens the ledger next finds them."""
        self.run = dict(run)
        self._lines.append(json.dumps({"run": self.run}))
        self._lines += [json.dumps({"fault": dict(fault)}) for fault in faults]

    def device(self, site: str, name: str) -> int:
        """Return the index of a device, which is given one at its first mention."""
        if (site, name) not in self._devices:
            self._devices[site, name] = index = len(self._devices)
            self._lines.append(json.dumps({"device": {"index": index, "site": site, "name": name}}))
        return self._devices[site, name]

    def metric(self, name: str) -> int:
        """Return the index of a metric."""
        if name not in self._metrics:
            self._metrics[name] = index = len(self._metrics)
            self._lines.append(json.dumps({"metric": {"index": index, "name": name}}))
        return self._metrics[name]

    def sent(self, message: Message) -> None:
        """Add a message that is about to be sent for the first time."""
        device, number, readings, topic, payload, flags = message
        for metric, time_us, value in readings:
            self._records += _pack(READING, flags, metric, device, number, time_us, value)
        if not readings:
            text = base64.b64encode(payload).decode()
            body = {"device": device, "message": number, "topic": topic, "payload": text}
            self._lines.append(json.dumps({"unreadable": body}))
            self._records += _pack(UNREADABLE, flags, 0xFFFF, device, number, crc32(payload), len(payload))

    def acknowledged(self, device: int, number: int) -> None:
        self._records += _pack(ACKNOWLEDGED, 0, 0, device, number, 0, 0.0)

    def superseded(self, device: int, number: int) -> None:
        """Add that its session is lost: the device sends what it holds as another message."""
        self._records += _pack(SUPERSEDED, 0, 0, device, number, 0, 0.0)

    def refused(self, device: int, number: int) -> None:
        """Add that the server answered that it does not take it."""
        self._records += _pack(REFUSED, 0, 0, device, number, 0, 0.0)

    def executed(self, command: Executed) -> None:
        """Add that a device executes a command: after `commit` it is to have an effect, and to be answered."""
        self._lines.append(json.dumps({"executed": command._asdict()}))

    def commit(self) -> None:
        """Write what was added: it outlives the process from here on.

        Raises:
            StateError: the disk did not take it; nothing of it may be sent.
        """
        if self._lines:
            _append(self._lines_fd, ("\n".join(self._lines) + "\n").encode(), lines_path(self._path))
            self._lines.clear()
        if self._records:
            data = self._records.copy()
            data[_FLAGS_OF_LAST] |= WRITE_END
            _append(self._fd, data, self._path)
            self._records.clear()

    def progress(self) -> dict[int, Progress]:
        """Return how far each device is that sent anything, as of the last commit."""
        rows = records(self._path)
        messages = Messages([rows], len(self._devices))
        own = messages.having(rows[np.isin(rows["kind"], SENT) & ((rows["flags"] & RESENT) == 0)])
        counts = np.diff(np.append(0, np.cumsum(own))[messages.first])
        return {
            device: Progress(int(messages.following[device]), int(counts[device]))
            for device in np.flatnonzero(messages.following).tolist()
        }

    def unacknowledged(self) -> list[Message]:
        """Return what the devices still hold, as of the last commit: by device, and in the order first sent."""
        rows = records(self._path)
        messages = Messages([rows], len(self._devices))
        sent = rows[np.isin(rows["kind"], SENT)]
        left = sent[~messages.with_kind(*CLOSED)[messages.index(sent)]]
        payloads = Names.read(self._path).payloads if (left["kind"] == UNREADABLE).any() else {}
        held: dict[tuple[int, int], Message] = {}
        for kind, flags, metric, device, number, time_us, value in left.tolist():
            own = flags & ~WRITE_END
            if kind == UNREADABLE:
                held[device, number] = Message(device, number, (), *payloads[device, number], own)
                continue
            before = held[device, number].readings if (device, number) in held else ()
            readings = (*before, Reading(metric, time_us, value))
            held[device, number] = Message(device, number, readings, flags=own)
        return [held[key] for key in sorted(held)]

    def close(self) -> None:
        """Write what is left, and let go of the file."""
        if self._fd < 0:
            return
        try:
            self.commit()
            os.fsync(self._fd)
            os.fsync(self._lines_fd)
        finally:
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        how = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, how, 0o644)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(self._fd).st_size
        if size < HEADER.size:
            if not MAGIC.startswith(os.pread(self._fd, len(MAGIC), 0)):
                records(self._path)  # raises: another's short file is not ours to overwrite
            os.ftruncate(self._fd, 0)
            made = time.time_ns() // 1000  # for people who look at the file; nothing reads it
            _append(self._fd, HEADER.pack(MAGIC, VERSION, RECORD.itemsize, 0, made, b""), self._path)
        whole = RECORD.itemsize * (1 + len(records(self._path)))
        self._lines_fd = os.open(lines_path(self._path), how, 0o644)
        os.ftruncate(self._fd, whole)
        os.ftruncate(self._lines_fd, lines_path(self._path).read_bytes().rfind(b"\n") + 1)

    def _let_go(self) -> None:
        for fd in (self._fd, self._lines_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lines_fd = -1


def _append(fd: int, data: bytes | bytearray, path: Path) -> None:
    """Append all of it or none."""
    size = os.fstat(fd).st_size
    try:
        written = 0
        while written < len(data):
            written += os.write(fd, data[written:])
    except OSError as error:
        os.ftruncate(fd, size)
        raise StateError(
            f"{path} cannot be written: {error.strerror}", hint="make room on its disk"
        ) from error
