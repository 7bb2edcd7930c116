"""What tests share: waiting for a condition, free ports, parts of the system, a real Mosquitto."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import pytest

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

PARTS = {
    "mosquitto": ("mosquitto", "mosquitto_pub", "mosquitto_sub"),
    "node": ("node", "npm"),
    "go": ("go",),
    "power": ("mkfs.xfs", "mkfs.ext4", "unshare", "mount", "losetup"),
    "mounts": ("mount", "umount", "mkfs.ext4", "e2fsck"),
    "cc": ("cc",),
    "kafka": ("java", "mvn"),
    "influxdb": ("influxd",),
    "victoria-metrics": ("victoria-metrics",),
    "prometheus": ("prometheus", "promtool"),
    "alertmanager": ("prometheus-alertmanager", "amtool"),
}
"""Parts of the system that tests use, each with its programs; tests/parts.sh installs the first, the last four, xfsprogs, Java and
Maven, and clients for those of node and go where they are there.
"""

T = TypeVar("T")


def until(condition: Callable[[], T], deadline: float = 10.0, what: str = "") -> T:
    """Wait until `condition()` is true, at most `deadline` seconds, and return what it gave.

    The only way to wait in a test: it ends as soon as the fact is there, and says what was missing where it is not.
    An AssertionError in the condition counts as "not yet", and is the cause of the failure at the deadline.
    """
    end = time.monotonic() + deadline
    pause = threading.Event()
    while True:
        found, last = _look(condition)
        if found:
            return found
        if time.monotonic() >= end:
            raise AssertionError(_late(condition, deadline, what, found)) from last
        pause.wait(0.005)


async def until_async(condition: Callable[[], T], deadline: float = 10.0, what: str = "") -> T:
    """Wait as `until` does, inside a running event loop, which goes on meanwhile."""
    end = time.monotonic() + deadline
    while True:
        found, last = _look(condition)
        if found:
            return found
        if time.monotonic() >= end:
            raise AssertionError(_late(condition, deadline, what, found)) from last
        turn = asyncio.Event()
        asyncio.get_running_loop().call_later(0.005, turn.set)
        await turn.wait()


def _look(condition: Callable[[], T]) -> tuple[T | None, AssertionError | None]:
    try:
        return condition(), None
    except AssertionError as not_yet:
        return None, not_yet


def _late(condition: Callable[[], T], deadline: float, what: str, found: T | None) -> str:
    name = what or getattr(condition, "__name__", "the condition")
    return f"not within {deadline:g} s: {name} (last seen: {found!r})"


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str) -> str | None:
    """Where a program of the system is; Debian keeps daemons out of a user's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def part_required(name: str) -> None:
    """Skip the test where a part of the system is missing, or fail it where HEADWATER_REQUIRE lists the part."""
    missing = [wanted for wanted in PARTS[name] if program(wanted) is None]
    if missing:
        lacking(name, f"{', '.join(missing)} not installed: run tests/parts.sh as root")


def lacking(name: str, reason: str) -> NoReturn:
    """Skip the test, or fail it where HEADWATER_REQUIRE lists the part that it lacks."""
    if name in os.environ.get("HEADWATER_REQUIRE", "").replace(",", " ").split():
        pytest.fail(reason)
    pytest.skip(reason)


class Mosquitto(NamedTuple):
    """A running broker of the test's own."""

    port: int
    pid: int


@contextmanager
def mosquitto_broker(folder: Path, config: str = "") -> Iterator[Mosquitto]:
    """Run a real Mosquitto on a free port of the loopback; `config` is added to its settings. Ended by pid."""
    part_required("mosquitto")
    process, port = _start_mosquitto(folder, config)
    try:
        yield Mosquitto(port, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _start_mosquitto(folder: Path, config: str) -> tuple[subprocess.Popen[bytes], int]:
    executable = program("mosquitto")
    assert executable is not None
    said = ""
    for _ in range(5):  # between our look for a free port and the start another program may take it
        port = free_port()
        settings, log = folder / f"mosquitto-{port}.conf", folder / f"mosquitto-{port}.log"
        settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n{config}\n")
        with log.open("wb") as out:
            process = subprocess.Popen([executable, "-c", str(settings)], stdout=out, stderr=out)
        if _runs(process, log):
            return process, port
        said = log.read_text()
    raise AssertionError(f"mosquitto does not start: {said}")


def _runs(process: subprocess.Popen[bytes], log: Path) -> bool:
    """Wait until it either says that it is running or ended."""
    running = b" running\n"
    until(lambda: process.poll() is not None or running in log.read_bytes(), what="mosquitto runs or ends")
    return process.poll() is None
