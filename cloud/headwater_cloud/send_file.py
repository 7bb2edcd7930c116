"""A route that is a file: one JSON object a line, synced (R29)."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from headwater_cloud.notify import iso
from headwater_cloud.outputs import Notification
from headwater_cloud.sending import Failed, Message
from headwater_shared.crash import reached


class JsonLines:
    """A file of one JSON object a line; it is opened for each message, so that it may be moved away at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, message: Message) -> None:
        """Append a line for each notification, durable on return.

        Raises:
            Failed: none is in the file, or perhaps some are.
        """
        lines = b"".join(line(one) for one in message.some)
        begun = False
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                if _torn(fd):
                    lines = b"\n" + lines
                begun = True
                while lines:
                    lines = lines[os.write(fd, lines) :]
                reached("cloud.notify.written")
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise Failed(
                f"notifications cannot be written to {self._path}: {error.strerror}",
                hint="check the path, its owner and the free space; they are kept and sent later",
                certain=not begun,
            ) from error


def line(notification: Notification) -> bytes:
    """The JSON line of a notification, with times for people."""
    return msgspec.json.encode(fields(notification)) + b"\n"


def fields(notification: Notification) -> dict[str, object]:
    """What a program reads of a notification: those that say nothing are left out."""
    found: dict[str, object] = msgspec.to_builtins(notification)
    for name in ("begin", "time", "known"):
        if f"{name}_us" in found:
            found[name] = iso(getattr(notification, f"{name}_us"))
            del found[f"{name}_us"]
    return found


def _torn(fd: int) -> bool:
    """Whether the last line has no end: the process before was killed inside it."""
    size = os.fstat(fd).st_size
    return size > 0 and os.pread(fd, 1, size - 1) != b"\n"
