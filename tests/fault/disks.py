"""File systems of a test's own, as root: an ext4 image in a file on XFS with reflinks, and copies of it at one moment (power cuts).

What runs here must be in a mount namespace of its own (see `in_namespace`): with the last process in it the mounts go, and the loop
devices with them, whatever the test did.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import lacking, part_required, program

NAMESPACE = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Of pids too: when its first process dies, however, all others in it die."""

_IMAGE_MB = 256
_XFS_MB = 2048


def disks_required() -> None:
    """Skip the test where images cannot be made and mounted, or fail it where HEADWATER_REQUIRE lists `power`."""
    part_required("power")
    reason = _trouble()
    if reason:
        lacking("power", reason)


@functools.cache
def _trouble() -> str:
    """Try all of it once; say what does not work."""
    if os.geteuid() != 0:
        return "power cuts need root, for loop devices and mounts"
    with tempfile.TemporaryDirectory() as folder:
        try:
            in_namespace(["python3", "-c", "pass"], timeout=20)
            script = f"set -e; cd {folder}; truncate -s 310m x; mkfs.xfs -q -m reflink=1 x; mkdir m; mount -o loop x m; echo > m/a; cp --reflink=always m/a m/b"
            in_namespace(["sh", "-c", script], timeout=30)
        except (subprocess.SubprocessError, OSError) as error:
            said = getattr(error, "stderr", "") or str(error)
            return f"images cannot be made and mounted here: {said.strip()[-300:]}"
    return ""


def in_namespace(command: Sequence[str], *, timeout: float, cwd: Path | None = None) -> str:
    """Run a command in namespaces of its own, and return what it printed.

    Raises:
        subprocess.SubprocessError: it failed, or took too long; everything that it started is gone.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        [str(program("unshare")), *NAMESPACE, *command], cwd=cwd, env={**os.environ, "PATH": path}, timeout=timeout,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


class Disk:
    """An ext4 file system in a file on XFS, mounted; the XFS is an image itself, in memory where there is enough."""

    def __init__(self, folder: Path) -> None:
        self._shelf = folder / "xfs"
        """Where the images lie: a reflink of one is a copy of that moment, taken at once."""
        self.mounted = folder / "disk"
        self._image = self._shelf / "disk.img"
        for made in (self._shelf, self.mounted):
            made.mkdir(parents=True)
        shelf = folder / "xfs.img"
        run("truncate", "-s", f"{_XFS_MB}M", str(shelf))
        run("mkfs.xfs", "-q", "-m", "reflink=1", str(shelf))
        run("mount", "-o", "loop", str(shelf), str(self._shelf))
        run("truncate", "-s", f"{_IMAGE_MB}M", str(self._image))
        run("mkfs.ext4", "-q", "-F", str(self._image))
        run("mount", "-o", "loop", str(self._image), str(self.mounted))

    def cut(self, name: str) -> Path:
        """Copy what the disk holds at this moment; what was not synced is in the memory of its file system only."""
        copy = self._shelf / name
        run("cp", "--reflink=always", str(self._image), str(copy))
        return copy


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    """Mount a copy as after the power came back: its file system plays its own journal first; then it is deleted."""
    at.mkdir(parents=True, exist_ok=True)
    run("mount", "-o", "loop", str(image), str(at))
    try:
        yield at
    finally:
        run("umount", str(at))
        image.unlink()


def run(*command: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
