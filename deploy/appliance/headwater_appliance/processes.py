"""Processes as the kernel shows them (/proc): who holds a file of ours, since when, with how much memory. Only looked at."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

_PROC = Path("/proc")


class Running(msgspec.Struct, frozen=True):
    """A process at one moment."""

    pid: int
    uptime_s: float
    memory_bytes: int
    """Resident."""
    cpu_s: float
    """Since its start."""
    files_limit: int
    """Descriptors that it may have; 0: not known."""


def writer_of(file: Path) -> int | None:
    """Return the pid of the process that holds the lock of a file of ours, as the kernel lists it; None: nobody does."""
    lock = file.with_name(file.name + ".lock")
    try:
        inode = lock.stat().st_ino
    except OSError:
        return None
    said = _text(lock).strip()
    for line in _text(_PROC / "locks").splitlines():
        # 1: FLOCK  ADVISORY  WRITE 4711 fe:01:131105 0 EOF
        fields = line.split()
        # The device of an overlay is another one there than stat says, so who it is must fit instead.
        if fields[1:5:2] == ["FLOCK", "WRITE"] and fields[4] == said and fields[5].endswith(f":{inode}"):
            return int(said)
    return None


def running(pid: int | None) -> Running | None:
    """Return what is known of a process; None: it is gone."""
    if pid is None:
        return None
    stat = _text(_PROC / str(pid) / "stat")
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 22 or fields[0] == "Z":
        return None
    hertz, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Running(
        pid,
        max(since_boot_s - int(fields[19]) / hertz, 0.0),
        int(fields[21]) * page,
        (int(fields[11]) + int(fields[12])) / hertz,
        _files_limit(pid),
    )


def listener_of(port: int) -> tuple[bool, int | None]:
    """Tell whether a TCP port of this machine is listened on, and by which process, as far as this user may see."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in _text(_PROC / "net" / table).splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # LISTEN
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return False, None
    for pid, _, target in open_files():
        if target in inodes:
            return True, pid
    return True, None


def writers_of(file: Path) -> list[int]:
    """Return all processes that have a file open for writing, as far as this user may see."""
    target = str(file.resolve())
    found = set()
    for pid, handle, opened in open_files():
        if opened == target:
            flags = next((line for line in _text(_PROC / str(pid) / "fdinfo" / handle).splitlines() if line.startswith("flags:")), "flags: 0")  # fmt: skip
            if int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY:
                found.add(pid)
    return sorted(found)


def open_files() -> list[tuple[int, str, str]]:
    """Return (pid, descriptor, what it leads to) of all processes that this user may look into."""
    found = []
    for process in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            for handle in (process / "fd").iterdir():
                with suppress(OSError):
                    found.append((int(process.name), handle.name, str(handle.readlink())))
    return found


def name_of(pid: int) -> str:
    """Return what a process was started as, shortened."""
    words = _text(_PROC / str(pid) / "cmdline").split("\0")
    return " ".join(Path(word).name if n == 0 else word for n, word in enumerate(words) if word)[:60]


def _files_limit(pid: int) -> int:
    for line in _text(_PROC / str(pid) / "limits").splitlines():
        if line.startswith("Max open files"):
            value = line.split()[3]
            return int(value) if value.isdecimal() else 2**31
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def memory_below(pid: int) -> int:
    """Return the resident bytes of a process and all that stand below it."""
    children: dict[int, list[int]] = {}
    for stat in _PROC.glob("[0-9]*/stat"):
        fields = _text(stat).rpartition(")")[2].split()
        if len(fields) > 1:
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    taken, left = 0, [pid]
    while left:
        one = left.pop()
        found = running(one)
        taken += found.memory_bytes if found is not None else 0
        left += children.get(one, [])
    return taken
