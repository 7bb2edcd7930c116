"""Checks of the machine: folder, disk, memory, clock, limits, and who may read what is secret."""

from __future__ import annotations

import os
import resource
import stat
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from headwater_appliance.box import Box
from headwater_appliance.findings import Bad, Good, Note, Verdict
from headwater_appliance.processes import running, writer_of
from headwater_appliance.shown import ago, size_of
from headwater_edge import words
from headwater_edge.ballast import free_at
from headwater_edge.certificates import Certificates
from headwater_edge.disk_settings import disk_limits
from headwater_shared import logs
from headwater_shared.clock import SYNCHRONISED, kernel_synchronised
from headwater_shared.errors import Refused, SettingsError
from headwater_shared.settings import duration

_IN_MEMORY = {"tmpfs", "ramfs"}
_OF_OTHERS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs"}
"""File systems that lose all at a reboot; and those over a network, on which SQLite's locks are not to be relied on."""
_SYNCS = 12
_SLOW_MS, _TOO_SLOW_MS = 50.0, 200.0
"""A commit waits for one sync; a tick lasts 250 ms."""
_LEAST_MEMORY = 100_000_000
_BESIDE = 100
"""Descriptors for all that is no device: files, the bus, metrics."""
_SOON_DAYS = 30
_TIME_SERVER = (
    "see that this machine reaches a time server: timedatectl set-ntp true, then timedatectl status"
)


def data_folder(box: Box) -> Verdict:
    """Is it there, can this user write to it, and on what kind of disk does it lie?"""
    folder = box.data.absolute()
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        return Bad(f"{there} is no folder", "name another one: common.data in the settings")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        owner = there.stat().st_uid
        return Bad(
            f"{there} cannot be written to: {error.strerror}",
            f"chown it to the user that runs Headwater (it is user {owner}'s, this is {os.geteuid()}), or mount it writable",
        )
    kind, device = _mount_of(there)
    if kind in _IN_MEMORY:
        return Bad(
            f"{there} lies in memory ({kind}): a reboot loses all", "set common.data to a folder on a disk"
        )
    if kind in _OF_OTHERS:
        return Bad(
            f"{there} lies on another machine ({kind}): SQLite's locks are not to be relied on there",
            "set common.data to a folder on a disk of this machine",
        )
    new = "" if folder.exists() else f"; {folder} will be made"
    return Good(f"{there} can be written to, on {device} ({kind}){new}")


def free_space(box: Box) -> Verdict:
    """Is there as much free as the settings leave to others, and can the agent take its whole quota?"""
    there = next(one for one in (box.data.absolute(), *box.data.absolute().parents) if one.exists())
    free, limits = free_at(there / "x"), disk_limits(box.edge.disk)
    if free < limits.free:
        return Bad(
            f"{size_of(free)} are free, less than edge.disk.free = {box.edge.disk.free!r}: the agent holds back",
            "free space on the disk, or set a smaller edge.disk.free",
        )
    try:
        taken = int(words.say(box.edge_socket, "status", timeout_s=3)["disk_taken"])
    except Refused:
        taken = 0
    if free - limits.free < limits.quota - taken:
        return Note(
            f"{size_of(free)} are free: the agent cannot take its whole quota of {size_of(limits.quota)}",
            "free space, or set a smaller edge.disk.quota, so that what it does when it is full comes as planned",
        )
    return Good(
        f"{size_of(free)} free; the quota is {size_of(limits.quota)}, {size_of(limits.free)} are left to others"
    )


def disk_speed(box: Box) -> Verdict:
    """How long does the disk take to have something for good?"""
    there = next(one for one in (box.data.absolute(), *box.data.absolute().parents) if one.exists())
    took = []
    with tempfile.TemporaryFile(dir=there) as file:
        for _ in range(_SYNCS):
            began = time.monotonic()
            file.write(os.urandom(4096))
            file.flush()
            os.fsync(file.fileno())
            took.append((time.monotonic() - began) * 1e3)
    middle, worst = statistics.median(took), max(took)
    said = f"a sync takes {middle:.1f} ms, {worst:.1f} at most"
    if middle >= _TOO_SLOW_MS:
        return Bad(
            f"{said}: each commit waits for one, so devices wait that long for each acknowledgement",
            "put common.data on a faster disk (an SSD, or a card of class A2); look whether another program writes much (iotop)",
        )
    if middle >= _SLOW_MS:
        return Note(
            f"{said}: slow, acknowledgements come that much later", "a faster disk or card, if that matters"
        )
    return Good(said)


def memory(box: Box) -> Verdict:
    """Is there memory left?"""
    found = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    free, total = found.get("MemAvailable", 0), found.get("MemTotal", 0)
    said = f"{size_of(free)} of {size_of(total)} available"
    if free < _LEAST_MEMORY:
        return Bad(
            f"{said}: the system may end Headwater at any moment",
            "end other programs, or take a machine with more; edge.max_series and edge.max_unacknowledged bound what the agent takes",
        )
    return Good(said)


def clock(box: Box) -> Verdict:
    """Is the clock right, and does something keep it so?"""
    now = box.clock().now()
    shown = datetime.fromtimestamp(now.wall_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now.quality != SYNCHRONISED:
        return Bad(
            f"the clock is not set ({shown}): readings without a time of their own wait for it", _TIME_SERVER
        )
    if not kernel_synchronised():
        return Note(f"{shown}, and no time server keeps it right", _TIME_SERVER)
    return Good(f"{shown}, kept right by a time server")


def file_limit(box: Box) -> Verdict:
    """May the agent have as many connections open as the settings allow?"""
    wanted = (
        box.edge.listener.max_connections
        + (box.edge.http.max_connections if box.edge.http.port is not None else 0)
        + _BESIDE
    )
    process = running(writer_of(box.edge_file))
    limit = process.files_limit if process else resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit in {resource.RLIM_INFINITY, 0} or limit >= wanted:
        return Good(f"{wanted:,} connections and files are allowed")
    return Bad(
        f"{limit:,} connections and files are allowed, and edge.listener.max_connections (and edge.http's) ask for {wanted:,}",
        f"LimitNOFILE={wanted} in the systemd unit, or 'ulimit -Hn {wanted}' before the start; or set a smaller max_connections",
    )


def permissions(box: Box) -> Verdict:
    """Can other users of this machine read keys and passwords, or write where only we may?"""
    secret = [
        box.data / box.edge.users_file,
        *map(Path, filter(None, (box.edge.listener.tls.key, *(broker.key for broker in box.edge.broker)))),
    ]
    secret += [
        Path(one.partition(":")[2])
        for one in (*box.edge.users.values(), *(b.password or "" for b in box.edge.broker))
        if one.startswith("file:")
    ]
    open_ones = [
        str(path)
        for path in secret
        if path.exists()
        and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH) & ~stat.S_IRGRP
    ]
    if open_ones:
        return Bad(
            f"other users of this machine may read {', '.join(open_ones)}", f"chmod 600 {' '.join(open_ones)}"
        )
    if box.data.exists() and box.data.stat().st_mode & stat.S_IWOTH:
        return Bad(f"any user of this machine may write to {box.data}", f"chmod o-w {box.data}")
    missing = [str(path) for path in secret[1:] if not path.exists()]
    if missing:
        return Bad(
            f"{', '.join(missing)}: named in the settings, and not there",
            "put it there, or name another file",
        )
    return Good("nobody else may read keys or passwords, or write to the data folder")


def certificate(box: Box) -> Verdict:
    """For how long do devices trust the agent?"""
    tls = box.edge.listener.tls
    if not tls.certificate:
        return Good("TLS is off: no certificate is set")
    logs.configure("text", "critical")  # it would say the same in the log
    try:
        ends_s = Certificates(tls, box.clock(), time.monotonic).ends_s
    except SettingsError as error:
        return Bad(error.message, error.hint)
    again = "make a new one ('headwater certs server HOST...', into another folder) and put it in its place: the agent reads it by itself"
    if ends_s is None:
        return Bad(f"devices will not accept {tls.certificate}: it is over, or not valid yet", again)
    left_s = ends_s - box.clock().now().wall_us / 1e6
    if left_s < _SOON_DAYS * 86_400:
        return Bad(f"{tls.certificate} ends in {ago(left_s)}", again)
    return Good(f"{tls.certificate} is good for {ago(left_s)}")


def seconds(text: str) -> float:
    """Read a length of time of the settings."""
    return duration(text) / 1e6


def _mount_of(folder: Path) -> tuple[str, str]:
    """Return the kind of file system, and the device, that a folder lies on."""
    best, found = "", ("unknown", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        device, point, kind, *_ = line.split()
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and folder.resolve().is_relative_to(point):
            best, found = point, (kind, device)
    return found
