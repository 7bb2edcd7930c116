"""Small disks of a test's own: a tmpfs or an ext4 image, mounted where its data lies, filled, failed, and taken away again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import lacking, part_required

MOUNTS = "mounts"

NO_FLOOR = '[edge.disk]\nfree = "0B"\n'
"""Settings for a disk on which there is never as much free as an agent leaves to others."""


@contextmanager
def tmpfs(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a tmpfs of a size; the test is skipped where that cannot be (or fails, where HEADWATER_REQUIRE names `mounts`)."""
    part_required(MOUNTS)
    folder.mkdir(parents=True, exist_ok=True)
    _mounted("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "headwater-test", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


class Ext4:
    """An ext4 file system in an image file."""

    def __init__(self, image: Path, folder: Path, megabytes: int) -> None:
        self._image, self.folder = image, folder
        folder.mkdir(parents=True, exist_ok=True)
        with image.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))

    def mount(self) -> None:
        _mounted("mount", "-o", "loop", str(self._image), str(self.folder))

    def abort(self) -> None:
        """Let the kernel do what it does after an error of the device: the file system is read-only from now on."""
        _run("mount", "-o", "remount,abort", str(self.folder))

    def mend(self) -> None:
        """Check it as a boot would, and mount it again."""
        self.unmount()
        code = subprocess.run(
            ["e2fsck", "-p", "-f", str(self._image)], check=False, capture_output=True
        ).returncode
        assert code in {0, 1}, code  # 1: mended
        self.mount()

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=False, capture_output=True)


@contextmanager
def ext4(image: Path, folder: Path, megabytes: int) -> Iterator[Ext4]:
    """Make an ext4 file system and mount it."""
    part_required(MOUNTS)
    disk = Ext4(image, folder, megabytes)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()


class Filler:
    """A file of somebody else that grows until nothing more fits, to the last byte."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "somebody-elses"

    def fill(self) -> int:
        """Take what is there; return how much that was."""
        taken = 0
        with self._path.open("ab", buffering=0) as file:
            for step in (1_048_576, 4096, 1):
                while True:
                    try:
                        taken += file.write(bytes(step))
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        break
        return taken

    def free(self) -> None:
        self._path.unlink()


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _mounted(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(MOUNTS, f"nothing can be mounted here: {done.stderr.strip()}")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
