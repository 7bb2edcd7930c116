"""One log file for all parts, which `headwater up` alone writes and rotates: whole lines only, none lost or torn by that.

The parts write to pipes. A line that a part had not finished when it died is ended for it. A full disk stops nobody: what
cannot be written is counted, and said once there is room again.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import msgspec

_LONGEST = 1_000_000
"""Bytes of one line; a longer one is cut into several."""


class LogFile:
    """Not for several threads."""

    def __init__(self, path: Path, size: int, files: int) -> None:
        """Go on with the file, or make it.

        Args:
            size: bytes at which it is rotated.
            files: how many are kept, this one among them.
        """
        self._path, self._size, self._files = path, size, files
        self._lost = 0
        self._fd = -1
        self._open()

    def write(self, lines: bytes) -> None:
        """Write lines, each with its end; rotate before one that no longer fits."""
        begin = 0
        while begin < len(lines):
            room = max(self._size - self._written, 0)
            end = len(lines)
            if end - begin > room:
                end = lines.rfind(b"\n", begin, begin + room) + 1
                if end <= begin:
                    if self._written:
                        self._rotate()
                        continue
                    end = lines.find(b"\n", begin) + 1 or len(lines)  # longer than a file: alone in one
            self._put(lines[begin:end])
            begin = end

    def stream(self) -> TextIO:
        """Return a text stream that writes to this file, for the process's own log."""
        return io.TextIOWrapper(_Raw(self), "utf-8", line_buffering=True)  # type: ignore[type-var]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._written, self._torn = 0, False
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            self._written = os.fstat(self._fd).st_size
            # What a power cut left of the last line must not become part of the next.
            self._torn = self._written > 0 and os.pread(self._fd, 1, self._written - 1) != b"\n"

    def _rotate(self) -> None:
        """The oldest goes, each other gets the next number: a rename is whole or not at all."""
        self.close()
        with suppress(OSError):
            for number in range(self._files - 1, 0, -1):
                before = self._numbered(number - 1)
                if before.exists():
                    before.replace(self._numbered(number))
            if self._files == 1:
                self._path.unlink(missing_ok=True)
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _put(self, data: bytes) -> None:
        if self._fd < 0:
            self._open()
        if self._torn:
            data = b"\n" + data
        if self._lost:
            said = {"event": "the log could not be written, and lacks lines", "level": "warning", "part": "up",
                    "bytes": self._lost}  # fmt: skip
            data = (
                (b"\n" if self._torn else b"") + msgspec.json.encode(said) + b"\n" + data.removeprefix(b"\n")
            )
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError:
            self._lost += len(data) - done
            self.close()  # what is there is looked at when it is opened again
        else:
            self._torn, self._lost = False, 0
            self._written += done


class Lines:
    """Puts what one part writes together to whole lines."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take what came out of the pipe, wherever it was cut."""
        whole, end, rest = (self._rest + data).rpartition(b"\n")
        self._file.write(whole + end)
        self._rest = rest
        if len(rest) > _LONGEST:
            self.end()

    def end(self) -> None:
        """The part is gone: what it had begun is a line."""
        if self._rest:
            self._file.write(self._rest + b"\n")
            self._rest = b""


class _Raw(io.RawIOBase):
    def __init__(self, file: LogFile) -> None:
        self._lines = Lines(file)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._lines.feed(bytes(data))
        return len(data)
