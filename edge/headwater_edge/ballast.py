"""The ballast: a file that is given up when the disk is full, so that what makes room has room itself (R17).

On a full disk SQLite can neither delete nor checkpoint nor vacuum: each needs room in the write-ahead log first.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from headwater_shared.errors import StartAgain
from headwater_shared.logs import get_logger

log = get_logger()

_TO_START = 1_000_000
"""Bytes that must be free for a start."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class Ballast:
    """A file of allocated blocks beside the agent's. Any thread may give it up; one takes it."""

    def __init__(self, path: Path) -> None:
        """Look what a process before left of it; `path` is that of the agent's file."""
        self._path = path.with_name(path.name + ".ballast")
        self.size = 0
        """Bytes that it holds."""
        self.given_up = False
        """Whether it was needed since the start."""
        with suppress(FileNotFoundError):
            found = self._path.stat()
            self.size = found.st_size if found.st_blocks * 512 >= found.st_size else 0

    def give_up(self) -> bool:
        """Give its room to the disk; False if there was none."""
        held, self.size = self.size, 0
        self.given_up |= held > 0
        with suppress(OSError):
            self._path.unlink()
        return held > 0

    def take(self, size: int) -> bool:
        """Hold so many bytes; False if the disk has no room for them, and then it holds none.

        Raises:
            StartAgain: the disk does not work.
        """
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(fd, 0, size)
                os.ftruncate(fd, size)
            finally:
                os.close(fd)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            self.size = 0
            if error.errno in _NO_ROOM:
                return False
            raise StartAgain(
                f"{self._path} cannot be made: {error.strerror}", hint="check the disk, and its mount options"
            ) from error
        self.size = size
        return True


def for_start(path: Path) -> Ballast:
    """Return the ballast; given up at once if the disk has no room to start in: even to open the file takes some."""
    ballast = Ballast(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if ballast.size and free_at(path) < _TO_START:
        log.error(
            "the disk is full: the ballast is given up to start",
            file=str(path),
            hint="free space; nothing is lost",
        )
        ballast.give_up()
    return ballast


def free_at(path: Path) -> int:
    """Return the bytes that are free on the disk of a file."""
    found = os.statvfs(path.parent)
    return found.f_bavail * found.f_frsize
